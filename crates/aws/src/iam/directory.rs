//! Users and roles: from configuration, parsed once, looked up by name.

use super::{
    Context, PolicyDocument, PolicyError,
    decision::{Asker, Trust, trusts},
    defaults,
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Everyone who may be authenticated. [`IamConfig::standard`] holds Warren's own; of two entries
/// with one name the later one counts.
#[derive(Clone, Debug)]
pub struct IamConfig {
    pub users: Vec<UserConfig>,
    pub roles: Vec<RoleConfig>,
}

/// An IAM user. The user `operator` has the key of `control::Credentials` besides those given here.
#[derive(Clone, Debug)]
pub struct UserConfig {
    pub name: String,
    pub access_keys: Vec<AccessKey>,
    /// JSON policy documents.
    pub policies: Vec<String>,
}

/// A long-lived access key.
#[derive(Clone)]
pub struct AccessKey {
    pub id: String,
    pub secret: String,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An IAM role.
#[derive(Clone, Debug)]
pub struct RoleConfig {
    pub name: String,
    /// JSON: who may assume it.
    pub trust_policy: String,
    /// JSON policy documents.
    pub policies: Vec<String>,
}

impl IamConfig {
    /// The user `operator` and the four roles of Warren with least privilege.
    #[must_use]
    pub fn standard(region: &str, account: &str) -> Self {
        let fill = |text: &str| text.replace("ACCOUNT", account).replace("REGION", region);
        let (operator, policy) = defaults::OPERATOR;
        Self {
            users: vec![UserConfig {
                name: operator.to_owned(),
                access_keys: Vec::new(),
                policies: vec![fill(policy)],
            }],
            roles: defaults::ROLES
                .iter()
                .map(|(name, trust, policies)| RoleConfig {
                    name: (*name).to_owned(),
                    trust_policy: fill(trust),
                    policies: policies.iter().map(|policy| fill(policy)).collect(),
                })
                .collect(),
        }
    }
}

/// What is wrong with the configured identities.
#[derive(Debug, thiserror::Error)]
pub enum IamError {
    #[error("policy {number} of {owner} cannot be used")]
    Policy {
        owner: String,
        number: usize,
        #[source]
        source: PolicyError,
    },
    #[error("the trust policy of role {role} cannot be used")]
    Trust {
        role: String,
        #[source]
        source: PolicyError,
    },
    #[error("access key {0} is given to two users")]
    KeyTwice(String),
}

/// A user's or role's policies.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) policies: Vec<PolicyDocument>,
}

#[derive(Debug)]
struct Role {
    identity: Arc<Identity>,
    trust: PolicyDocument,
}

/// Who has an access key.
#[derive(Clone, Debug)]
pub(crate) struct KeyOwner {
    pub(crate) user: String,
    pub(crate) secret: AccessKey,
}

/// The parsed configuration.
#[derive(Debug)]
pub(crate) struct Directory {
    users: BTreeMap<String, Arc<Identity>>,
    roles: BTreeMap<String, Role>,
    keys: BTreeMap<String, KeyOwner>,
}

impl Directory {
    /// # Errors
    /// [`IamError`] with the owner of the document that cannot be read.
    pub(crate) fn build(config: IamConfig) -> Result<Self, IamError> {
        let identity = |owner: String, policies: &[String]| {
            let policies = policies.iter().enumerate().map(|(index, text)| {
                PolicyDocument::parse(text).map_err(|source| IamError::Policy {
                    owner: owner.clone(),
                    number: index + 1,
                    source,
                })
            });
            Ok::<_, IamError>(Arc::new(Identity { policies: policies.collect::<Result<_, _>>()? }))
        };
        let mut directory =
            Self { users: BTreeMap::new(), roles: BTreeMap::new(), keys: BTreeMap::new() };
        for user in config.users {
            let owner = identity(format!("user {}", user.name), &user.policies)?;
            directory.users.insert(user.name.clone(), owner);
            for secret in user.access_keys {
                let id = secret.id.clone();
                let owner = KeyOwner { user: user.name.clone(), secret };
                if directory.keys.insert(id.clone(), owner).is_some() {
                    return Err(IamError::KeyTwice(id));
                }
            }
        }
        for role in config.roles {
            let trust = PolicyDocument::parse(&role.trust_policy)
                .map_err(|source| IamError::Trust { role: role.name.clone(), source })?;
            let identity = identity(format!("role {}", role.name), &role.policies)?;
            directory.roles.insert(role.name, Role { identity, trust });
        }
        Ok(directory)
    }

    pub(crate) fn user(&self, name: &str) -> Option<Arc<Identity>> {
        self.users.get(name).cloned()
    }

    pub(crate) fn role(&self, name: &str) -> Option<Arc<Identity>> {
        self.roles.get(name).map(|role| role.identity.clone())
    }

    pub(crate) fn key(&self, access_key: &str) -> Option<&KeyOwner> {
        self.keys.get(access_key)
    }

    /// Whether the role's trust policy lets `asker` assume it; a role that does not exist trusts
    /// nobody.
    pub(crate) fn trust(&self, role: &str, asker: Asker<'_>, context: &Context) -> Trust {
        self.roles
            .get(role)
            .map_or(Trust::None, |role| trusts(&role.trust, asker, "sts:AssumeRole", context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iam::{Decision, Request, decide};

    fn check(role: &str, action: &str, resource: &str, expected: Decision) {
        let config = IamConfig::standard("us-east-1", "000000000000");
        let directory = Directory::build(config).unwrap();
        let context = Context::default();
        let request = Request { action, resource: Some(resource), context: &context };
        let identity = directory.role(role).unwrap();
        assert_eq!(decide(&identity.policies, &request), expected, "{role} {action} {resource}");
    }

    #[test]
    fn the_launcher_runs_vms_and_passes_one_role() {
        let image = "arn:aws:lambda:us-east-1:000000000000:microvm-image:claude-worker";
        check("warren-launcher", "lambda:RunMicrovm", image, Decision::Allowed);
        check("warren-launcher", "lambda:DeleteMicrovmImage", image, Decision::ImplicitDeny);
        let role = "arn:aws:iam::000000000000:role/warren-";
        check("warren-launcher", "iam:PassRole", &format!("{role}execution"), Decision::Allowed);
        check("warren-launcher", "iam:PassRole", &format!("{role}build"), Decision::ImplicitDeny);
        let connector = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:";
        let (action, ingress) = ("lambda:PassNetworkConnector", format!("{connector}HTTP_INGRESS"));
        check("warren-launcher", action, &ingress, Decision::Allowed);
    }

    #[test]
    fn a_worker_reads_the_environment_key_and_no_other_secret() {
        let secret = "arn:aws:secretsmanager:us-east-1:000000000000:secret:warren/";
        let get = "secretsmanager:GetSecretValue";
        let key = format!("{secret}environment-key-AbCdEf");
        check("warren-execution", get, &key, Decision::Allowed);
        let signing = format!("{secret}webhook-signing-secret-AbCdEf");
        check("warren-execution", get, &signing, Decision::ImplicitDeny);
        check("warren-launcher", get, &signing, Decision::Allowed);
        check("warren-launcher", get, &key, Decision::ImplicitDeny);
    }
}
