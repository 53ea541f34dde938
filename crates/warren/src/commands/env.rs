//! `warren env`: what a shell needs so that the AWS CLI and SDKs speak to this Warren.

use super::Context;
use crate::{
    failure::{Exit, Outcome},
    print::Format,
};

pub(crate) fn env(context: &Context) -> Outcome {
    let operator = context.operator()?;
    let client = context.client()?;
    let endpoint = format!("http://{}", client.address());
    let region = &context.settings.region;
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_REGION", region),
        ("AWS_DEFAULT_REGION", region),
        ("AWS_ACCESS_KEY_ID", &operator.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", &operator.secret_access_key),
    ];
    match context.printer.format() {
        Format::Json => {
            let object: serde_json::Map<String, serde_json::Value> =
                variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            context.printer.record(&object)?;
        }
        Format::Human => {
            for (name, value) in variables {
                context.printer.line(format!("export {name}={}", quoted(value)))?;
            }
            // A token left over from another account would be sent along with these.
            context.printer.line("unset AWS_SESSION_TOKEN AWS_PROFILE")?;
        }
    }
    Ok(Exit::Success)
}

/// `value` as one word of a POSIX shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_word_of_the_shell() {
        assert_eq!(quoted("http://127.0.0.1:7420"), "http://127.0.0.1:7420");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
