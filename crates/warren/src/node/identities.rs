//! Who may call: the built-in identities, those of the operator's files, and the launcher's own
//! credentials.

use super::iam_directory;
use crate::failure::{Exit, Remedy};
use aws::{AccessKey, IamConfig, RoleConfig, UserConfig};
use aws_credential_types::{
    Credentials as Signing,
    provider::{ProvideCredentials, future},
};
use control::{Credentials, IssueRequest, RoleArn};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

pub(super) const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Lifetime of the launcher's credentials; the SDK asks again before they end.
const LAUNCHER_CREDENTIALS: Duration = Duration::from_secs(3600);

#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentitiesError {
    #[error("iam.files: {path} cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("iam.files: {path}, line {line}, {field}: {reason}")]
    Malformed { path: PathBuf, line: usize, field: String, reason: String },
}

impl Remedy for IdentitiesError {
    fn hint(&self) -> Option<String> {
        Some(
            "such a file is {\"users\":[{\"name\",\"access_keys\":[{\"id\",\"secret\"}],\
             \"policies\":[…]}],\"roles\":[{\"name\",\"trust_policy\":{…},\"policies\":[{…}]}]}"
                .into(),
        )
    }
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    users: Vec<User>,
    #[serde(default)]
    roles: Vec<Role>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    #[serde(default)]
    access_keys: Vec<Key>,
    #[serde(default)]
    policies: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    id: String,
    secret: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    name: String,
    trust_policy: Value,
    #[serde(default)]
    policies: Vec<Value>,
}

/// The built-in identities with those of `files` after them: of one name, the last one counts.
pub(crate) fn identities(
    region: &str,
    account: &str,
    files: &[PathBuf],
) -> Result<IamConfig, IdentitiesError> {
    let mut iam = IamConfig::standard(region, account);
    for path in files {
        if path.is_dir() {
            let (users, roles) = iam_directory::read(path)?;
            iam.users.extend(users);
            iam.roles.extend(roles);
            continue;
        }
        let File { users, roles } = read(path)?;
        let texts = |policies: Vec<Value>| policies.iter().map(Value::to_string).collect();
        iam.users.extend(users.into_iter().map(|user| {
            UserConfig {
                name: user.name,
                access_keys: user
                    .access_keys
                    .into_iter()
                    .map(|key| AccessKey { id: key.id, secret: key.secret })
                    .collect(),
                policies: texts(user.policies),
            }
        }));
        iam.roles.extend(roles.into_iter().map(|role| RoleConfig {
            name: role.name,
            trust_policy: role.trust_policy.to_string(),
            policies: texts(role.policies),
        }));
    }
    Ok(iam)
}

fn read(path: &Path) -> Result<File, IdentitiesError> {
    let unreadable = |source| IdentitiesError::Unreadable { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let mut json = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut json).map_err(|e| IdentitiesError::Malformed {
        path: path.to_owned(),
        line: e.inner().line(),
        field: e.path().to_string(),
        reason: e.inner().to_string(),
    })
}

/// Lets the launcher and the worker read the secrets of these names too: the demo has its own, so
/// that it leaves those of the user alone.
pub(crate) fn allow_secrets(iam: &mut IamConfig, region: &str, account: &str, prefix: &str) {
    let resource = format!("arn:aws:secretsmanager:{region}:{account}:secret:{prefix}*");
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": resource,
    }]})
    .to_string();
    for role in &mut iam.roles {
        if role.name == LAUNCHER_ROLE || role.name == EXECUTION_ROLE {
            role.policies.push(policy.clone());
        }
    }
}

/// Where the host polls, it reads the environment key, and no VM does: not even one whose session asks
/// Secrets Manager for it by name.
pub(crate) fn keep_key_on_host(iam: &mut IamConfig, region: &str, account: &str, key: &str) {
    let resource = format!("arn:aws:secretsmanager:{region}:{account}:secret:{key}-??????");
    let policy = |effect: &str| {
        json!({"Version": "2012-10-17", "Statement": [{
            "Effect": effect, "Action": "secretsmanager:GetSecretValue", "Resource": resource,
        }]})
        .to_string()
    };
    for role in &mut iam.roles {
        match role.name.as_str() {
            LAUNCHER_ROLE => role.policies.push(policy("Allow")),
            EXECUTION_ROLE => role.policies.push(policy("Deny")),
            _ => {}
        }
    }
}

pub(crate) const LAUNCHER_ROLE: &str = "warren-launcher";
pub(crate) const EXECUTION_ROLE: &str = "warren-execution";

/// ARN of a role of this account.
pub(crate) fn role_arn(account: &str, role: &str) -> String {
    format!("arn:aws:iam::{account}:role/{role}")
}

/// Gives the launcher short-lived credentials of its own role, as a service on AWS has them.
pub(crate) struct LauncherCredentials {
    pub(crate) role: RoleArn,
    pub(crate) credentials: Arc<Credentials>,
}

impl fmt::Debug for LauncherCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LauncherCredentials").field("role", &self.role).finish_non_exhaustive()
    }
}

impl ProvideCredentials for LauncherCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let issued = self.credentials.issue(IssueRequest {
            role: self.role.clone(),
            session_name: "warren-launcher".into(),
            duration: LAUNCHER_CREDENTIALS,
            session_policy: None,
        });
        future::ProvideCredentials::ready(Ok(Signing::new(
            issued.access_key_id,
            issued.secret_access_key.expose(),
            Some(issued.session_token),
            Some(SystemTime::now() + LAUNCHER_CREDENTIALS),
            "warren",
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("iam.json");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn where_the_host_polls_the_vms_role_may_not_read_the_key() {
        let mut iam = identities("us-east-1", "000000000000", &[]).unwrap();
        keep_key_on_host(&mut iam, "us-east-1", "000000000000", "warren/environment-key");
        for (role, effect) in [(LAUNCHER_ROLE, "Allow"), (EXECUTION_ROLE, "Deny")] {
            let role = iam.roles.iter().find(|found| found.name == role).unwrap();
            let policy: Value = serde_json::from_str(role.policies.last().unwrap()).unwrap();
            assert_eq!(policy["Statement"][0]["Effect"], effect);
        }
    }

    #[test]
    fn a_file_adds_to_the_built_in_identities() {
        let (_dir, path) =
            written(r#"{"roles":[{"name":"mine","trust_policy":{"Version":"2012-10-17"}}]}"#);
        let iam = identities("us-east-1", "000000000000", &[path]).unwrap();
        let names: Vec<&str> = iam.roles.iter().map(|r| r.name.as_str()).collect();
        assert!(names.contains(&LAUNCHER_ROLE) && names.contains(&EXECUTION_ROLE));
        assert_eq!(names.last(), Some(&"mine"));
    }

    #[test]
    fn a_fault_in_a_file_is_named_with_its_place() {
        let (_dir, path) = written("{\"roles\":[\n{\"nam\":1}]}");
        let error = identities("r", "a", &[path]).unwrap_err().to_string();
        assert!(error.contains("iam.json, line 2, roles[0].nam: unknown field `nam`"), "{error}");
    }

    #[test]
    fn the_demos_secrets_are_open_to_the_two_roles_only() {
        let mut iam = identities("us-east-1", "000000000000", &[]).unwrap();
        allow_secrets(&mut iam, "us-east-1", "000000000000", "warren/demo/");
        for role in &iam.roles {
            let open = role.policies.iter().any(|p| p.contains("secret:warren/demo/*"));
            assert_eq!(open, [LAUNCHER_ROLE, EXECUTION_ROLE].contains(&role.name.as_str()));
        }
    }
}
