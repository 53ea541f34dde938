//! A CloudFormation template as far as an import needs it: resources, parameters with their defaults,
//! and the intrinsic functions that make texts.
//!
//! JSON (also what `aws cloudformation get-template` prints around it) and YAML. A YAML reader drops
//! tags such as `!Ref`; a text that is the name of a parameter or of a resource's attribute is taken
//! for what the tag would have given.

use crate::failure::{Exit, Remedy};
use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("it is neither JSON nor YAML")]
    Syntax(#[source] yaml_rust2::ScanError),
    #[error("it has no Resources: it is not a CloudFormation template")]
    NoResources,
}

impl Remedy for TemplateError {
    fn hint(&self) -> Option<String> {
        Some(
            "`aws cloudformation get-template --template-stage Processed --stack-name NAME` prints one"
                .into(),
        )
    }
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

#[derive(Debug)]
pub(crate) struct Template {
    parameters: Map<String, Value>,
    resources: Map<String, Value>,
    region: String,
    account: String,
}

impl Template {
    /// # Errors
    /// [`TemplateError`].
    pub(crate) fn parse(text: &str, region: &str, account: &str) -> Result<Self, TemplateError> {
        let whole = match serde_json::from_str::<Value>(text) {
            Ok(value) => value,
            Err(_) => yaml(text)?,
        };
        // What `get-template` prints has the template inside, as an object or as a text.
        let whole = match whole.get("TemplateBody") {
            Some(Value::String(inner)) => return Self::parse(inner, region, account),
            Some(inner) => inner.clone(),
            None => whole,
        };
        let object = |name: &str| whole.get(name).and_then(Value::as_object).cloned();
        Ok(Self {
            parameters: object("Parameters").unwrap_or_default(),
            resources: object("Resources").ok_or(TemplateError::NoResources)?,
            region: region.to_owned(),
            account: account.to_owned(),
        })
    }

    /// Name, type and properties of each.
    pub(crate) fn resources(&self) -> impl Iterator<Item = (String, String, Value)> + '_ {
        self.resources.iter().map(|(name, resource)| {
            let kind = resource.get("Type").and_then(Value::as_str).unwrap_or_default();
            let properties = resource.get("Properties").cloned().unwrap_or_default();
            (name.clone(), kind.to_owned(), properties)
        })
    }

    /// A value that is to be a text.
    pub(crate) fn text(&self, value: &Value) -> String {
        match self.resolved(value) {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }

    /// The value with its intrinsic functions done; what cannot be known stays as `${…}`.
    pub(crate) fn resolved(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.substituted(&self.named(text))),
            Value::Array(items) => items.iter().map(|item| self.resolved(item)).collect(),
            Value::Object(members) => self.function(members).unwrap_or_else(|| {
                let members = members.iter();
                Value::Object(members.map(|(k, v)| (k.clone(), self.resolved(v))).collect())
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn function(&self, members: &Map<String, Value>) -> Option<Value> {
        let (name, argument) = members.iter().next().filter(|_| members.len() == 1)?;
        let text = match (name.as_str(), argument) {
            ("Ref", Value::String(what)) => self.variable(what),
            ("Fn::Sub", Value::String(text)) => self.substituted(text),
            ("Fn::Sub", Value::Array(parts)) => self.substituted(parts.first()?.as_str()?),
            ("Fn::GetAtt", Value::String(what)) => self.variable(what),
            ("Fn::GetAtt", Value::Array(parts)) => {
                let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
                self.variable(&parts.join("."))
            }
            ("Fn::Join", Value::Array(arguments)) => {
                let [Value::String(between), Value::Array(parts)] = arguments.as_slice() else {
                    return None;
                };
                let parts: Vec<String> = parts.iter().map(|part| self.text(part)).collect();
                parts.join(between)
            }
            _ => return None,
        };
        Some(Value::String(text))
    }

    /// A text of YAML whose tag is gone: `!Ref Name` and `!GetAtt Name.Arn` are such.
    fn named(&self, text: &str) -> String {
        let resource = text.split('.').next().unwrap_or_default();
        let attribute = text.contains('.') && self.resources.contains_key(resource);
        if self.parameters.contains_key(text) || self.resources.contains_key(text) || attribute {
            return self.variable(text);
        }
        text.to_owned()
    }

    /// `text` with each `${…}` in it replaced by what is known of it.
    fn substituted(&self, text: &str) -> String {
        let mut done = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else { break };
            done.push_str(before);
            done.push_str(&self.variable(name));
            rest = after;
        }
        done + rest
    }

    fn variable(&self, name: &str) -> String {
        let unknown = || format!("${{{name}}}");
        match name {
            "AWS::Region" => return self.region.clone(),
            "AWS::AccountId" => return self.account.clone(),
            "AWS::Partition" => return "aws".to_owned(),
            "AWS::URLSuffix" => return "amazonaws.com".to_owned(),
            _ => {}
        }
        if let Some(parameter) = self.parameters.get(name) {
            return match parameter.get("Default") {
                Some(Value::String(text)) if !text.is_empty() => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => unknown(),
            };
        }
        let (resource, attribute) = name.split_once('.').unwrap_or((name, ""));
        self.resource_text(resource, attribute).unwrap_or_else(unknown)
    }

    /// What `Ref` or `GetAtt` gives of the resources that roles speak of.
    fn resource_text(&self, name: &str, attribute: &str) -> Option<String> {
        let resource = self.resources.get(name)?;
        let own = |member: &str| {
            resource.pointer(&format!("/Properties/{member}")).map(|value| self.text(value))
        };
        match (resource.get("Type")?.as_str()?, attribute) {
            ("AWS::S3::Bucket", "") => Some(own("BucketName").unwrap_or(name.to_lowercase())),
            ("AWS::S3::Bucket", "Arn") => {
                Some(format!("arn:aws:s3:::{}", own("BucketName").unwrap_or(name.to_lowercase())))
            }
            ("AWS::IAM::Role", "") => Some(own("RoleName").unwrap_or(name.to_owned())),
            ("AWS::IAM::Role", "Arn") => {
                let role = own("RoleName").unwrap_or(name.to_owned());
                Some(format!("arn:aws:iam::{}:role/{role}", self.account))
            }
            _ => None,
        }
    }
}

fn yaml(text: &str) -> Result<Value, TemplateError> {
    let documents = YamlLoader::load_from_str(text).map_err(TemplateError::Syntax)?;
    Ok(documents.first().map(json).unwrap_or_default())
}

fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::String(text) => Value::String(text.clone()),
        Yaml::Real(number) => {
            number.parse::<f64>().map_or_else(|_| Value::String(number.clone()), Value::from)
        }
        Yaml::Integer(number) => Value::from(*number),
        Yaml::Boolean(truth) => Value::Bool(*truth),
        Yaml::Array(items) => items.iter().map(json).collect(),
        Yaml::Hash(members) => {
            let text = |key: &Yaml| match json(key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Value::Object(members.iter().map(|(key, value)| (text(key), json(value))).collect())
        }
        Yaml::Alias(_) | Yaml::Null | Yaml::BadValue => Value::Null,
    }
}
