//! `warren init`: a commented warren.toml, and the built-in roles as documents that can be narrowed.

use super::Context;
use crate::{
    args::Init,
    config::commented_file,
    failure::{Exit, Outcome, Remedy},
};
use aws::{IamConfig, RoleConfig};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("{0} is there already")]
    Exists(PathBuf),
    #[error("{path} cannot be written")]
    Unwritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Remedy for WriteError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Exists(_) => Some("remove it, or name another directory".into()),
            Self::Unwritable { .. } => Some("run this as the user of `warren up`".into()),
        }
    }
}

pub(crate) fn init(context: &Context, Init { dir }: Init) -> Outcome {
    let settings = &context.settings;
    let dir = dir.unwrap_or_else(|| settings.data_dir.clone());
    let config = dir.join("warren.toml");
    write_new(&config, &commented_file(&[]))?;
    context.printer.line(config.display())?;
    let standard = IamConfig::standard(&settings.region, &settings.account);
    for role in &standard.roles {
        for path in write_role(&dir.join("iam"), role)? {
            context.printer.line(path.display())?;
        }
    }
    context.printer.note("`warren up` reads these; `warren --config FILE up` from elsewhere");
    Ok(Exit::Success)
}

/// `roles/NAME/trust.json` and its policies, in a directory as `iam.files` reads it.
pub(super) fn write_role(iam: &Path, role: &RoleConfig) -> Result<Vec<PathBuf>, WriteError> {
    let dir = iam.join("roles").join(&role.name);
    let mut written = vec![dir.join("trust.json")];
    write_new(&dir.join("trust.json"), &pretty(&role.trust_policy))?;
    for (index, policy) in role.policies.iter().enumerate() {
        let name = match index {
            0 => "policy.json".to_owned(),
            more => format!("policy-{}.json", more + 1),
        };
        write_new(&dir.join(&name), &pretty(policy))?;
        written.push(dir.join(name));
    }
    Ok(written)
}

fn pretty(document: &str) -> String {
    let parsed = serde_json::from_str::<Value>(document);
    parsed.map_or_else(|_| document.to_owned(), |document| format!("{document:#}\n"))
}

/// Never over what somebody has written.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), WriteError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => WriteError::Exists(path.to_owned()),
        _ => WriteError::Unwritable { path: path.to_owned(), source },
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut file = File::create_new(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_built_in_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let standard = IamConfig::standard("eu-west-1", "111111111111");
        for role in &standard.roles {
            write_role(dir.path(), role).unwrap();
        }
        let policy = dir.path().join("roles/warren-execution/policy.json");
        let text = fs::read_to_string(&policy).unwrap();
        assert!(text.contains("arn:aws:secretsmanager:eu-west-1:111111111111:"), "{text}");
        let again = write_role(dir.path(), &standard.roles[0]);
        assert!(matches!(again, Err(WriteError::Exists(_))), "{again:?}");
    }
}
