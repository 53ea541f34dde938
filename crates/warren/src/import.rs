//! From a CloudFormation stack like that of AWS's reference sample to Warren's configuration: what
//! each resource becomes here. docs/migrating-from-aws.md tells the same in prose.

mod template;

pub(crate) use template::Template;

use aws::RoleConfig;
use serde::Serialize;
use serde_json::Value;

/// What becomes of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Mapped {
    pub(crate) resource: String,
    pub(crate) r#type: String,
    pub(crate) becomes: String,
}

/// Everything that an import gives.
#[derive(Debug, Default)]
pub(crate) struct Import {
    pub(crate) mapped: Vec<Mapped>,
    pub(crate) roles: Vec<RoleConfig>,
    /// Keys of warren.toml: section, key, value.
    pub(crate) settings: Vec<(&'static str, &'static str, toml::Value)>,
    /// What only a person can do.
    pub(crate) to_do: Vec<String>,
}

/// Where the sample's launcher reads what it needs, and the key here that says the same.
const LAUNCHER_VARIABLES: [(&str, &str); 3] = [
    ("ANTHROPIC_ENVIRONMENT_ID", "environment_id"),
    ("MICROVM_IMAGE_IDENTIFIER", "image"),
    ("MAX_LIFETIME_SECONDS", "max_duration_s"),
];

pub(crate) fn import(template: &Template) -> Import {
    let mut import = Import::default();
    for (name, kind, properties) in template.resources() {
        let becomes = match kind.as_str() {
            "AWS::Serverless::Function" | "AWS::Lambda::Function" => {
                function(&mut import, template, &properties)
            }
            "AWS::IAM::Role" => role(&mut import, template, &name, &properties),
            "AWS::S3::Bucket" => bucket(&mut import, template, &name, &properties),
            "AWS::SSM::Parameter" => secret(&mut import, "SSM parameter", &name, &properties),
            "AWS::SecretsManager::Secret" => secret(&mut import, "secret", &name, &properties),
            "AWS::Lambda::MicrovmImage" => {
                import.to_do.push(format!(
                    "build the image {name}: `warren image build DIR`, or `aws lambda-microvms \
                     create-microvm-image` with the same arguments"
                ));
                "an image".to_owned()
            }
            "AWS::Lambda::NetworkConnector" => {
                import.to_do.push(format!(
                    "make the connector {name}: `aws lambda-core create-network-connector`"
                ));
                "a network connector".to_owned()
            }
            other => fixed(other).to_owned(),
        };
        import.mapped.push(Mapped { resource: name, r#type: kind, becomes });
    }
    import.to_do.extend(standing());
    import
}

/// Resources that need nothing of what they say.
fn fixed(kind: &str) -> &'static str {
    if kind.starts_with("AWS::WAFv2::") {
        return "nothing: signatures are checked before anything else; filter addresses in front of Warren";
    }
    if kind.starts_with("AWS::ApiGateway")
        || kind == "AWS::Serverless::Api"
        || kind == "AWS::Serverless::HttpApi"
    {
        return "the route POST /webhooks/managed-agents at api.listen";
    }
    match kind {
        "AWS::DynamoDB::Table" | "AWS::Serverless::SimpleTable" => {
            "nothing: the launcher keeps one row a session itself"
        }
        "AWS::Logs::LogGroup" => "nothing: log groups are made when something is written",
        "AWS::S3::BucketPolicy" => "nothing: rights come from the roles' policies",
        "AWS::Lambda::Permission" => "nothing: the webhook calls the launcher in the same process",
        "AWS::KMS::Key" | "AWS::KMS::Alias" => {
            "nothing: secrets are sealed with the data directory's key"
        }
        _ => "not mapped",
    }
}

/// The launcher is the function whose environment has the sample's variables.
fn function(import: &mut Import, template: &Template, properties: &Value) -> String {
    let variables = properties.pointer("/Environment/Variables").unwrap_or(&Value::Null);
    let text = |name: &str| variables.get(name).map(|value| template.text(value));
    if text("MICROVM_IMAGE_IDENTIFIER").is_none() && text("ANTHROPIC_ENVIRONMENT_ID").is_none() {
        return "not mapped: it is not the launcher".to_owned();
    }
    for (variable, key) in LAUNCHER_VARIABLES {
        let Some(value) = text(variable).filter(|value| !value.is_empty()) else { continue };
        let value = match key {
            // The ARN's last part.
            "image" => value.rsplit(':').next().unwrap_or_default().to_owned(),
            _ => value,
        };
        if value.contains("${") {
            import.to_do.push(format!("set launcher.{key}: the stack makes it of {value}"));
            continue;
        }
        let value = match value.parse::<i64>() {
            Ok(number) if key == "max_duration_s" => toml::Value::Integer(number),
            Ok(_) | Err(_) => toml::Value::String(value),
        };
        import.settings.push(("launcher", key, value));
    }
    for (variable, here) in [
        ("ENVIRONMENT_KEY_PARAM_NAME", "warren/environment-key"),
        ("SIGNING_PARAM_NAME", "warren/webhook-signing-secret"),
    ] {
        if let Some(parameter) = text(variable) {
            import.to_do.push(format!(
                "aws ssm get-parameter --with-decryption --name {parameter} --query Parameter.Value \
                 --output text | warren secret put {here}"
            ));
        }
    }
    "the launcher in `warren up`: [launcher] of warren.toml".to_owned()
}

fn role(import: &mut Import, template: &Template, name: &str, properties: &Value) -> String {
    let own = properties.get("RoleName").map(|value| template.text(value));
    let role_name = own.filter(|own| !own.contains("${")).unwrap_or_else(|| name.to_owned());
    let document = |value: &Value| template.resolved(value).to_string();
    let trust = properties.get("AssumeRolePolicyDocument").map(document).unwrap_or_default();
    let policies: Vec<String> = properties
        .get("Policies")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|policy| policy.get("PolicyDocument").map(document))
        .collect();
    for text in policies.iter().filter(|text| text.contains("${")) {
        let what = text.split("${").nth(1).and_then(|rest| rest.split('}').next()).unwrap_or("?");
        import.to_do.push(format!("role {role_name}: put in what ${{{what}}} stands for"));
    }
    if let Some(managed) = properties.get("ManagedPolicyArns").and_then(Value::as_array) {
        for arn in managed {
            import.to_do.push(format!(
                "role {role_name}: there are no managed policies here; write what it needs of {}",
                template.text(arn)
            ));
        }
    }
    let becomes = format!("the role {role_name}: iam/roles/{role_name}/");
    import.roles.push(RoleConfig { name: role_name, trust_policy: trust, policies });
    becomes
}

fn bucket(import: &mut Import, template: &Template, name: &str, properties: &Value) -> String {
    let own = properties.get("BucketName").map(|value| template.text(value));
    let bucket = own.filter(|own| !own.contains("${")).unwrap_or_else(|| name.to_lowercase());
    import.to_do.push(format!("aws s3 mb s3://{bucket}"));
    format!("the bucket {bucket} in Warren's S3")
}

fn secret(import: &mut Import, kind: &str, name: &str, properties: &Value) -> String {
    let own = properties.get("Name").and_then(Value::as_str).unwrap_or(name);
    import.to_do.push(format!("copy the {kind} {own}: its value is not in the template"));
    format!("the {kind} {own}")
}

/// What every migration ends with.
fn standing() -> [String; 2] {
    [
        "point the platform's webhook at http://HOST:7420/webhooks/managed-agents".to_owned(),
        "warren verify".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
Parameters:
  EnvironmentId: {Type: String, Default: env_01}
Resources:
  WebhookApi:
    Type: AWS::Serverless::Api
  Launcher:
    Type: AWS::Serverless::Function
    Properties:
      Environment:
        Variables:
          ANTHROPIC_ENVIRONMENT_ID: !Ref EnvironmentId
          MICROVM_IMAGE_IDENTIFIER: !Sub "arn:aws:lambda:${AWS::Region}:${AWS::AccountId}:microvm-image:worker"
          SIGNING_PARAM_NAME: /cma/signing
          MAX_LIFETIME_SECONDS: "28800"
  Dedupe: {Type: "AWS::DynamoDB::Table"}
  Artifacts:
    Type: AWS::S3::Bucket
    Properties: {BucketName: !Sub "cma-${AWS::AccountId}"}
  BuildRole:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: "sts:AssumeRole"}]
      Policies:
        - PolicyName: artifacts
          PolicyDocument:
            Version: "2012-10-17"
            Statement: [{Effect: Allow, Action: "s3:GetObject", Resource: !Sub "${Artifacts.Arn}/*"}]
  Odd: {Type: "AWS::Some::Thing"}
"#;

    #[test]
    fn the_samples_kind_of_stack_becomes_configuration_and_a_list_of_what_is_left_to_do() {
        let template = Template::parse(SAMPLE, "us-east-1", "000000000000").unwrap();
        let import = import(&template);
        let becomes = |resource: &str| {
            let found = import.mapped.iter().find(|mapped| mapped.resource == resource);
            found.map(|mapped| mapped.becomes.clone()).unwrap_or_default()
        };
        assert!(becomes("WebhookApi").contains("/webhooks/managed-agents"));
        assert!(becomes("Dedupe").starts_with("nothing"));
        assert_eq!(becomes("Odd"), "not mapped");
        assert_eq!(becomes("Artifacts"), "the bucket cma-000000000000 in Warren's S3");
        let set = |key: &str| {
            import.settings.iter().find(|(_, k, _)| *k == key).map(|(_, _, value)| value.clone())
        };
        assert_eq!(set("environment_id"), Some("env_01".into()));
        assert_eq!(set("image"), Some("worker".into()));
        assert_eq!(set("max_duration_s"), Some(toml::Value::Integer(28_800)));
        let [role] = import.roles.as_slice() else { panic!("{:?}", import.roles) };
        assert!(role.policies[0].contains("arn:aws:s3:::cma-000000000000/*"), "{role:?}");
        let mut iam = aws::IamConfig::standard("us-east-1", "000000000000");
        iam.roles.push(role.clone());
        assert!(import.to_do.iter().any(|line| line.contains("--name /cma/signing")));
    }
}
