//! `warren import`: a CloudFormation stack as Warren's configuration, printed or written.

use super::{Context, init};
use crate::{
    args::Import as Options,
    config::commented_file,
    failure::{Exit, Outcome, Remedy},
    import::{Mapped, Template, import},
    print::{Format, Row},
};
use std::{io, path::PathBuf};

/// A template on AWS has 1 MiB at most.
const TEMPLATE_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read")]
pub(crate) struct Unreadable {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Remedy for Unreadable {
    fn hint(&self) -> Option<String> {
        Some("give the template's file, JSON or YAML".into())
    }
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

pub(crate) fn import_stack(
    context: &Context,
    Options { template: path, write }: Options,
) -> Outcome {
    let unreadable = |source| Unreadable { path: path.clone(), source };
    if std::fs::metadata(&path).map_err(unreadable)?.len() > TEMPLATE_BYTES_MAX {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()).into());
    }
    let text = std::fs::read_to_string(&path).map_err(unreadable)?;
    let settings = &context.settings;
    let template = Template::parse(&text, &settings.region, &settings.account)?;
    let import = import(&template);
    let printer = &context.printer;
    printer.rows(&import.mapped)?;
    if let Some(dir) = &write {
        let config = dir.join("warren.toml");
        init::write_new(&config, &commented_file(&import.settings))?;
        printer.note(config.display());
        for role in &import.roles {
            for path in init::write_role(&dir.join("iam"), role)? {
                printer.note(path.display());
            }
        }
    }
    if printer.format() == Format::Human {
        if write.is_none() && !import.settings.is_empty() {
            printer.line("\nwarren.toml:")?;
            for (section, key, value) in &import.settings {
                printer.line(format!("  {section}.{key} = {value}"))?;
            }
        }
        printer.line("\nLeft to do:")?;
        for line in &import.to_do {
            printer.line(format!("  {line}"))?;
        }
    } else {
        printer.record(&serde_json::json!({ "to_do": import.to_do }))?;
    }
    Ok(Exit::Success)
}

impl Row for Mapped {
    const HEADS: &'static [&'static str] = &["RESOURCE", "TYPE", "BECOMES"];

    fn cells(&self) -> Vec<String> {
        vec![self.resource.clone(), self.r#type.clone(), self.becomes.clone()]
    }
}
