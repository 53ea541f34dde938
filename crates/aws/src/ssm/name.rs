//! Which parameter, and which version of it, a caller means: `name`, `name:3`, `name:label`, or any
//! of these in an ARN.

use super::error::{from_control, not_found, validation};
use crate::{error::ApiError, iam::Arn, service::Call};
use control::{ControlError, Parameter, ParameterName, VersionSelector};

/// A parameter and a version.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) name: ParameterName,
    pub(super) version: VersionSelector,
    /// `:3`, as it was given.
    pub(super) selector: Option<String>,
}

impl Asked {
    /// # Errors
    /// ValidationException.
    pub(super) fn parse(call: &Call, text: &str) -> Result<Self, ApiError> {
        let local = match text.parse::<Arn>() {
            Ok(arn) if arn.service == "ssm" && arn.account == call.account() => {
                let path = arn.resource.strip_prefix("parameter").unwrap_or_default().to_owned();
                // The slash that an ARN puts before a name without levels is not the name's.
                let levels = path.matches('/').count();
                if levels == 1 { path.trim_start_matches('/').to_owned() } else { path }
            }
            Ok(_) => return Err(not_found(text)),
            Err(_) => text.to_owned(),
        };
        let (name, selector) = match local.split_once(':') {
            Some((name, selector)) => (name, Some(selector)),
            None => (local.as_str(), None),
        };
        let version = match selector {
            None => VersionSelector::Newest,
            Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                VersionSelector::Number(number.parse().map_err(|_| not_found(text))?)
            }
            Some(label) => VersionSelector::Label(label.to_owned()),
        };
        let name = ParameterName::parse(name).map_err(from_control)?;
        Ok(Self { name, version, selector: selector.map(|selector| format!(":{selector}")) })
    }

    /// The version, once the caller is known to have the operation's right on the parameter.
    ///
    /// # Errors
    /// AccessDenied, ParameterNotFound, ParameterVersionNotFound.
    pub(super) async fn get(&self, call: &Call) -> Result<Parameter, ApiError> {
        let parameters = call.state.control.parameters();
        call.authorize(&parameters.arn(self.name.as_str()))?;
        match parameters.get(&self.name, &self.version).await {
            // `name` and `/name` have one ARN.
            Err(ControlError::ParameterNotFound(_)) if !self.name.as_str().contains('/') => {
                let other =
                    ParameterName::parse(&format!("/{}", self.name)).map_err(from_control)?;
                let found = parameters.get(&other, &self.version).await;
                found.map_err(|_| not_found(self.name.as_str()))
            }
            other => other.map_err(from_control),
        }
    }
}

/// A name without a version, once the caller is known to have the operation's right on it.
///
/// # Errors
/// AccessDenied, ValidationException.
pub(super) fn authorized_name(call: &Call, text: &str) -> Result<ParameterName, ApiError> {
    let asked = Asked::parse(call, text)?;
    if asked.selector.is_some() {
        return Err(validation(format!("{text}: a version cannot be given here.")));
    }
    call.authorize(&call.state.control.parameters().arn(asked.name.as_str()))?;
    Ok(asked.name)
}
