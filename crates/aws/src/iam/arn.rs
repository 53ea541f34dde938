//! Amazon Resource Names: parsed once, compared by part.

use std::{fmt, str::FromStr};

/// `arn:partition:service:region:account:resource`; the resource may hold further colons.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Arn {
    pub partition: String,
    pub service: String,
    pub region: String,
    pub account: String,
    pub resource: String,
}

/// Not six parts with `arn` first.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an ARN: arn:partition:service:region:account:resource")]
pub struct BadArn(String);

impl Arn {
    /// The name of the role that this names. None: it names something else.
    #[must_use]
    pub fn role_name(&self) -> Option<&str> {
        let path = (self.service == "iam").then(|| self.resource.strip_prefix("role/"))??;
        path.rsplit('/').next()
    }
}

impl FromStr for Arn {
    type Err = BadArn;

    fn from_str(text: &str) -> Result<Self, BadArn> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, region, account, resource] = parts.as_slice() else {
            return Err(BadArn(text.to_owned()));
        };
        if partition.is_empty() || service.is_empty() || resource.is_empty() {
            return Err(BadArn(text.to_owned()));
        }
        Ok(Self {
            partition: (*partition).to_owned(),
            service: (*service).to_owned(),
            region: (*region).to_owned(),
            account: (*account).to_owned(),
            resource: (*resource).to_owned(),
        })
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, service, region, account, resource } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}
