//! `warren secret`: the Secrets Manager of this Warren, by its own API.

use super::Context;
use crate::{
    args,
    client::{Client, ClientError},
    failure::{Exit, Outcome, Remedy},
    print::Row,
    terminal,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Read};

const SERVICE: &str = "secretsmanager";
/// As in Secrets Manager.
const VALUE_BYTES_MAX: u64 = 65_536;

#[derive(Debug, thiserror::Error)]
enum SecretError {
    #[error("the secret's value cannot be read from standard input")]
    Unreadable(#[source] io::Error),
    #[error("the secret's value is empty")]
    Empty,
    #[error("the secret's value is longer than {VALUE_BYTES_MAX} bytes")]
    TooLong,
}

impl Remedy for SecretError {
    fn hint(&self) -> Option<String> {
        Some("printf %s \"$VALUE\" | warren secret put NAME; it must be UTF-8 text".into())
    }
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

#[derive(Serialize)]
struct Listed {
    name: String,
    arn: String,
}

impl Row for Listed {
    const HEADS: &'static [&'static str] = &["NAME", "ARN"];
    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.arn.clone()]
    }
}

pub(crate) async fn secret(context: &Context, secret: args::Secret) -> Outcome {
    let client = context.client()?;
    match secret {
        args::Secret::Put { name } => {
            let value = read_value(context, &name)?;
            put(&client, &name, &value).await?;
            context.printer.note(format!("stored {name}"));
        }
        args::Secret::Ls => context.printer.rows(&list(&client).await?)?,
        args::Secret::Get { name } => {
            let value = get(&client, &name).await?;
            context.printer.line(value)?;
        }
    }
    Ok(Exit::Success)
}

async fn call(client: &Client, operation: &str, input: Value) -> Result<Value, ClientError> {
    client.json_rpc(SERVICE, &format!("secretsmanager.{operation}"), &input).await
}

/// Creates the secret, or gives it a new value.
pub(crate) async fn put(client: &Client, name: &str, value: &str) -> Result<(), ClientError> {
    let token = uuid::Uuid::new_v4().to_string();
    let created = json!({"Name": name, "SecretString": value, "ClientRequestToken": token});
    match call(client, "CreateSecret", created).await {
        Ok(_) => Ok(()),
        Err(ClientError::Refused { code, .. }) if code.ends_with("ResourceExistsException") => {
            let value =
                json!({"SecretId": name, "SecretString": value, "ClientRequestToken": token});
            call(client, "PutSecretValue", value).await.map(|_| ())
        }
        Err(e) => Err(e),
    }
}

pub(crate) async fn get(client: &Client, name: &str) -> Result<String, ClientError> {
    let answer = call(client, "GetSecretValue", json!({"SecretId": name})).await?;
    answer.get("SecretString").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| {
        ClientError::BadAnswer {
            path: "GetSecretValue".into(),
            reason: format!("{name} holds bytes, not text"),
        }
    })
}

async fn list(client: &Client) -> Result<Vec<Listed>, ClientError> {
    let mut listed = Vec::new();
    let mut token = Value::Null;
    loop {
        let input = if token.is_null() { json!({}) } else { json!({"NextToken": token}) };
        let page = call(client, "ListSecrets", input).await?;
        let text = |s: &Value, member: &str| {
            s.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        for secret in page.get("SecretList").and_then(Value::as_array).into_iter().flatten() {
            listed.push(Listed { name: text(secret, "Name"), arn: text(secret, "ARN") });
        }
        token = page.get("NextToken").cloned().unwrap_or_default();
        if token.is_null() {
            return Ok(listed);
        }
    }
}

/// Without the line's end that `echo` and a keyboard add.
fn read_value(context: &Context, name: &str) -> Result<String, SecretError> {
    let mut value = String::new();
    if io::stdin().is_terminal() {
        context.printer.note(format!("value of {name} (not shown):"));
        value = terminal::read_hidden_line().map_err(SecretError::Unreadable)?;
    } else {
        io::stdin()
            .take(VALUE_BYTES_MAX + 1)
            .read_to_string(&mut value)
            .map_err(SecretError::Unreadable)?;
    }
    if value.len() as u64 > VALUE_BYTES_MAX {
        return Err(SecretError::TooLong);
    }
    let value =
        value.strip_suffix('\n').map_or(value.as_str(), |v| v.strip_suffix('\r').unwrap_or(v));
    if value.is_empty() { Err(SecretError::Empty) } else { Ok(value.to_owned()) }
}
