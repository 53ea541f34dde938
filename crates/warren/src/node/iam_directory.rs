//! A directory of IAM documents, as people have them from AWS:
//!
//! ```text
//! roles/NAME/trust*.json     who may assume it; what `aws iam get-role` prints will do
//! roles/NAME/*.json          policies; what `aws iam get-role-policy` prints will do
//! users/NAME/access-key*.json   what `aws iam create-access-key` prints
//! users/NAME/*.json          policies
//! ```

use super::identities::{FILE_BYTES_MAX, IdentitiesError};
use aws::{AccessKey, RoleConfig, UserConfig};
use serde_json::Value;
use std::{
    io,
    path::{Path, PathBuf},
};

/// # Errors
/// [`IdentitiesError`] with the file that cannot be read.
pub(super) fn read(
    directory: &Path,
) -> Result<(Vec<UserConfig>, Vec<RoleConfig>), IdentitiesError> {
    let (users, roles) = (entries(&directory.join("users"))?, entries(&directory.join("roles"))?);
    let users = users.iter().map(|path| user(path)).collect::<Result<_, _>>()?;
    Ok((users, roles.iter().map(|path| role(path)).collect::<Result<_, _>>()?))
}

fn role(path: &Path) -> Result<RoleConfig, IdentitiesError> {
    let (mut trust_policy, mut policies) = (None, Vec::new());
    for (file, document) in documents(path)? {
        if file.starts_with("trust") {
            trust_policy = Some(document.to_string());
        } else {
            policies.push(document.to_string());
        }
    }
    let trust_policy = trust_policy.ok_or_else(|| IdentitiesError::Malformed {
        path: path.to_owned(),
        line: 0,
        field: "trust.json".to_owned(),
        reason: "it is missing: who may assume the role?".to_owned(),
    })?;
    Ok(RoleConfig { name: name(path), trust_policy, policies })
}

fn user(path: &Path) -> Result<UserConfig, IdentitiesError> {
    let (mut access_keys, mut policies) = (Vec::new(), Vec::new());
    for (file, document) in documents(path)? {
        if !file.starts_with("access-key") {
            policies.push(document.to_string());
            continue;
        }
        let key = document.get("AccessKey").unwrap_or(&document);
        let text = |member: &str| key.get(member).and_then(Value::as_str).map(str::to_owned);
        let (Some(id), Some(secret)) = (text("AccessKeyId"), text("SecretAccessKey")) else {
            return Err(IdentitiesError::Malformed {
                path: path.join(file),
                line: 0,
                field: "AccessKey".to_owned(),
                reason: "AccessKeyId or SecretAccessKey is missing".to_owned(),
            });
        };
        access_keys.push(AccessKey { id, secret });
    }
    Ok(UserConfig { name: name(path), access_keys, policies })
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is in a directory, in order; nothing where there is none.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, IdentitiesError> {
    let unreadable = |source| IdentitiesError::Unreadable { path: directory.to_owned(), source };
    let listed = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(unreadable)?,
    };
    let mut paths = listed
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<PathBuf>>>()
        .map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

/// The JSON files of a directory with their names, each without what `aws iam get-…` puts around it.
fn documents(directory: &Path) -> Result<Vec<(String, Value)>, IdentitiesError> {
    let mut documents = Vec::new();
    for path in entries(directory)? {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let unreadable = |source| IdentitiesError::Unreadable { path: path.clone(), source };
        if std::fs::metadata(&path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
            return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
        }
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        let document: Value =
            serde_json::from_str(&text).map_err(|error| IdentitiesError::Malformed {
                path: path.clone(),
                line: error.line(),
                field: "the document".to_owned(),
                reason: error.to_string(),
            })?;
        documents.push((name(&path), unwrapped(document)));
    }
    Ok(documents)
}

fn unwrapped(document: Value) -> Value {
    let inner = [
        "/PolicyDocument",
        "/PolicyVersion/Document",
        "/Role/AssumeRolePolicyDocument",
        "/AssumeRolePolicyDocument",
    ];
    inner.iter().find_map(|path| document.pointer(path)).cloned().unwrap_or(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_taken_as_aws_prints_them() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("roles/r/trust.json", r#"{"Role":{"AssumeRolePolicyDocument":{"Statement":[]}}}"#);
        write("roles/r/a.json", r#"{"RoleName":"r","PolicyDocument":{"Statement":{"Sid":"a"}}}"#);
        write("roles/r/b.json", r#"{"PolicyVersion":{"Document":{"Statement":{"Sid":"b"}}}}"#);
        write("roles/r/notes.txt", "not read");
        write(
            "users/u/access-key.json",
            r#"{"AccessKey":{"AccessKeyId":"A","SecretAccessKey":"s"}}"#,
        );
        write("users/u/all.json", r#"{"Statement":{"Sid":"c"}}"#);
        let (users, roles) = read(dir.path()).unwrap();
        assert_eq!((roles[0].name.as_str(), users[0].name.as_str()), ("r", "u"));
        assert_eq!(roles[0].trust_policy, r#"{"Statement":[]}"#);
        let sids = [r#"{"Statement":{"Sid":"a"}}"#, r#"{"Statement":{"Sid":"b"}}"#];
        assert_eq!(roles[0].policies, sids);
        assert_eq!((users[0].access_keys[0].id.as_str(), users[0].policies.len()), ("A", 1));

        write("roles/s/policy.json", "{}");
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("roles/s") && error.contains("trust.json"), "{error}");
    }
}
