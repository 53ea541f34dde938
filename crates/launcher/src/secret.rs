//! A secret's text, read from Secrets Manager with the launcher's own role.

use crate::aws::{code_of, full_message};
use agents::webhook::BadSecret;

/// A secret that the launcher needs cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the secret {secret_id} cannot be read: {code}: {message}")]
    Unreadable { secret_id: String, code: String, message: String },
    #[error("the secret {secret_id} has no text")]
    NotText { secret_id: String },
    #[error("the signing secret {secret_id} is of no use")]
    Bad {
        secret_id: String,
        #[source]
        source: BadSecret,
    },
}

impl SecretError {
    /// What the operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { secret_id, code, .. } if code == "ResourceNotFoundException" => {
                format!("store the platform's secret: warren secret put {secret_id}")
            }
            Self::Unreadable { secret_id, code, .. } if code == "AccessDeniedException" => {
                format!("allow the launcher's role secretsmanager:GetSecretValue on {secret_id}")
            }
            Self::Unreadable { .. } => "see whether the AWS API runs and is reachable".into(),
            Self::NotText { secret_id } => {
                format!("store it as text: warren secret put {secret_id}")
            }
            Self::Bad { secret_id, .. } => format!(
                "store it as whsec_<base64>, several separated by white space: warren secret put {secret_id}"
            ),
        }
    }
}

pub(crate) async fn secret_text(
    client: &aws_sdk_secretsmanager::Client,
    secret_id: &str,
) -> Result<String, SecretError> {
    let answer = client.get_secret_value().secret_id(secret_id).send().await;
    let secret_id = secret_id.to_owned();
    match answer {
        Ok(answer) => match answer.secret_string {
            Some(text) => Ok(text),
            None => Err(SecretError::NotText { secret_id }),
        },
        Err(error) => {
            let (code, message) = (code_of(&error), full_message(&error));
            Err(SecretError::Unreadable { secret_id, code, message })
        }
    }
}
