//! Who is calling, and may they: [`Authenticator`], used by every service here and by Warren's own
//! (signing name `warren`).
//!
//! Long-lived keys belong to users of the configuration; short-lived ones carry a session token
//! that `control::Credentials` opens, so that nothing is stored for a session.

use crate::{
    iam::{
        Asker, Context, Decision, Directory, IamConfig, IamError, Identity, PolicyDocument,
        Request, Trust, decide,
    },
    s3::PresignedV2,
    sigv4::{Claim, Dialect, Expectation, Form, SignatureFault, verify, verify_head},
};
use control::{Clock, ControlError, Credentials, RoleArn, Session};
use http::request::Parts;
use ring::digest;
use std::{fmt, sync::Arc, time::Duration};

/// Difference between the clocks of client and server that AWS puts up with.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// S3 puts up with more than the other services.
const S3_CLOCK_SKEW: time::Duration = time::Duration::minutes(15);

/// What an [`Authenticator`] is made from.
#[derive(Clone)]
pub struct AuthSettings {
    pub region: String,
    /// 12 digits.
    pub account: String,
    /// How far a client's clock may be off; AWS's is [`CLOCK_SKEW`].
    pub clock_skew: Duration,
    pub clock: Arc<dyn Clock>,
    pub iam: IamConfig,
}

/// Authenticates requests and authorises actions.
pub struct Authenticator {
    region: String,
    account: String,
    skew: time::Duration,
    clock: Arc<dyn Clock>,
    directory: Directory,
    credentials: Arc<Credentials>,
}

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Principal {
    arn: String,
    account: String,
    user_id: String,
    kind: Kind,
    identity: Arc<Identity>,
    session_policy: Option<Arc<PolicyDocument>>,
}

#[derive(Clone, Debug)]
enum Kind {
    User {
        name: String,
    },
    /// The role's own ARN, beside that of the session.
    AssumedRole {
        role_arn: String,
    },
}

impl Principal {
    /// `arn:aws:iam::…:user/…` or `arn:aws:sts::…:assumed-role/…/…`.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Whether a decision about this caller may depend on the tags of what is asked for.
    pub(crate) fn reads_resource_tags(&self) -> bool {
        let own = self.identity.policies.iter();
        own.chain(self.session_policy.as_deref()).any(|policy| policy.reads_resource_tags)
    }

    /// `AIDA…`, or `AROA…:session`.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }
}

/// Why a request is not believed; Display says it in AWS's words.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct AuthError(#[from] pub(crate) SignatureFault);

impl AuthError {
    /// The code that AWS's JSON services give it, for example `InvalidSignatureException`.
    #[must_use]
    pub fn code(&self) -> String {
        let error = crate::error::ApiError::signature(&self.0, crate::protocol::Protocol::RestJson);
        error.code.into_owned()
    }
}

/// What a principal wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// `lambda:RunMicrovm`.
    pub action: &'a str,
    /// ARN or `*`. None: something that does not exist; allowed where the action is allowed on
    /// anything.
    pub resource: Option<&'a str>,
    /// Condition keys beyond those of every request.
    pub context: &'a Context,
}

/// A refusal in AWS's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "User: {principal} is not authorized to perform: {action} on resource: {resource} {because}"
)]
pub struct Denied {
    pub principal: String,
    pub action: String,
    pub resource: String,
    because: String,
}

impl Denied {
    /// As S3 words it: with the resource in quotation marks.
    pub(crate) fn quoted(&self) -> String {
        let Self { principal, action, resource, because } = self;
        format!(
            "User: {principal} is not authorized to perform: {action} on resource: \"{resource}\" \
             {because}"
        )
    }
}

impl Authenticator {
    /// # Errors
    /// [`IamError`] where a policy cannot be read.
    pub fn new(settings: AuthSettings, credentials: Arc<Credentials>) -> Result<Self, IamError> {
        Ok(Self {
            region: settings.region,
            account: settings.account,
            skew: time::Duration::try_from(settings.clock_skew).unwrap_or(time::Duration::MAX / 4),
            clock: settings.clock,
            directory: Directory::build(settings.iam)?,
            credentials,
        })
    }

    /// Checks the signature of a request to the service with this signing name.
    ///
    /// # Errors
    /// [`AuthError`]: no signature, an unknown key, a wrong one, a clock that is off…
    pub fn authenticate(
        &self,
        parts: &Parts,
        body: &[u8],
        signing_name: &str,
    ) -> Result<Principal, AuthError> {
        let claim = Claim::parse(parts)?;
        let (principal, secret) =
            self.look_up(&claim.access_key, claim.session_token.as_deref())?;
        verify(&claim, parts, body, &self.expectation(signing_name), &secret)?;
        Ok(principal)
    }

    /// As [`Authenticator::authenticate`] for S3, before the body has come; the answer says what the
    /// body will be held against.
    ///
    /// `host_bucket`: the bucket that the host names.
    pub(crate) fn authenticate_s3(
        &self,
        parts: &Parts,
        host_bucket: Option<&str>,
    ) -> Result<(Principal, Form), AuthError> {
        if let Some(presigned) = PresignedV2::read(parts) {
            let token = presigned.session_token.as_deref();
            let (principal, secret) = self.look_up(&presigned.access_key, token)?;
            presigned.verify(parts, host_bucket, &secret, self.clock.now().utc())?;
            return Ok((principal, Form::Whole { sha256: None }));
        }
        let claim = Claim::parse(parts)?;
        let (principal, secret) =
            self.look_up(&claim.access_key, claim.session_token.as_deref())?;
        let mut expected = self.expectation("s3");
        expected.skew = expected.skew.max(S3_CLOCK_SKEW);
        let form = verify_head(&claim, parts, &expected, &secret)?;
        Ok((principal, form))
    }

    fn expectation<'a>(&'a self, service: &'a str) -> Expectation<'a> {
        Expectation {
            region: &self.region,
            service,
            dialect: Dialect::of(service),
            now: self.clock.now().utc(),
            skew: self.skew,
        }
    }

    /// Decides by the principal's policies and its session's.
    ///
    /// # Errors
    /// [`Denied`] with action and resource.
    pub fn authorize(&self, principal: &Principal, access: &Access<'_>) -> Result<(), Denied> {
        let mut context = self.context_of(principal);
        context.extend(access.context);
        let request =
            Request { action: access.action, resource: access.resource, context: &context };
        let denied = |because: String| Denied {
            principal: principal.arn.clone(),
            action: access.action.to_owned(),
            resource: access.resource.unwrap_or("*").to_owned(),
            because,
        };
        let refusal = |decision: Decision, kind: &str| match decision {
            Decision::Allowed => Ok(()),
            Decision::ExplicitDeny => {
                Err(denied(format!("with an explicit deny in {kind} policy")))
            }
            Decision::ImplicitDeny => {
                let kind = kind.split_once(' ').map_or(kind, |(_article, kind)| kind);
                Err(denied(format!("because no {kind} policy allows the {} action", access.action)))
            }
        };
        refusal(decide(&principal.identity.policies, &request), "an identity-based")?;
        match &principal.session_policy {
            Some(policy) => refusal(decide([policy.as_ref()], &request), "a session"),
            None => Ok(()),
        }
    }

    /// Whether `principal` may assume the role: its trust policy must name it, or its
    /// account, and then the principal's own policies must allow it too.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn authorize_assume(
        &self,
        principal: &Principal,
        role: &RoleArn,
        more: &Context,
    ) -> Result<(), Denied> {
        let mut context = self.context_of(principal);
        context.extend(more);
        let own_arn = match &principal.kind {
            Kind::User { .. } => &principal.arn,
            Kind::AssumedRole { role_arn } => role_arn,
        };
        let asker = Asker::Principal { arn: own_arn, account: &principal.account };
        let access =
            Access { action: "sts:AssumeRole", resource: Some(role.as_str()), context: &context };
        let denied = |because: &str| Denied {
            principal: principal.arn.clone(),
            action: access.action.to_owned(),
            resource: role.to_string(),
            because: because.to_owned(),
        };
        match self.directory.trust(role.name(), asker, &context) {
            Trust::Named => Ok(()),
            Trust::Account => self.authorize(principal, &access),
            Trust::Denied => Err(denied("with an explicit deny in the role trust policy")),
            Trust::None => {
                Err(denied("because no role trust policy allows the sts:AssumeRole action"))
            }
        }
    }

    /// Whether the role's trust policy lets this service (`lambda.amazonaws.com`) assume it on behalf
    /// of `source`, an ARN of this account.
    pub(crate) fn service_is_trusted(&self, role_name: &str, service: &str, source: &str) -> bool {
        let context = Context::default()
            .with("aws:SourceAccount", self.account.clone())
            .with("aws:SourceArn", source);
        let trust = self.directory.trust(role_name, Asker::Service(service), &context);
        matches!(trust, Trust::Named)
    }

    /// Whether a role's own policies let it do this: for what a service does with a role that it
    /// was given. A role that does not exist may do nothing.
    pub(crate) fn role_may(&self, role_name: &str, action: &str, resource: &str) -> bool {
        let context = Context::default();
        let request = Request { action, resource: Some(resource), context: &context };
        let identity = self.directory.role(role_name);
        identity.is_some_and(|role| decide(&role.policies, &request) == Decision::Allowed)
    }

    pub(crate) fn role_exists(&self, role_name: &str) -> bool {
        self.directory.role(role_name).is_some()
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    /// What acts in a role's name within this process: the principal that the role's session would
    /// be. None: there is no such role, or it does not trust the service.
    pub(crate) fn role_principal(
        &self,
        role: &RoleArn,
        service: &str,
        session_name: &str,
    ) -> Option<Principal> {
        let name = role.name();
        // Which resource it acts for is not known here; that it is one of this account is.
        let source = format!("arn:aws:lambda:{}:{}:*", self.region, self.account);
        if !self.service_is_trusted(name, service, &source) {
            return None;
        }
        let identity = self.directory.role(name)?;
        let account = role.account();
        Some(Principal {
            arn: format!("arn:aws:sts::{account}:assumed-role/{name}/{session_name}"),
            account: account.to_owned(),
            user_id: format!("{}:{session_name}", role_id(&self.account, name)),
            kind: Kind::AssumedRole { role_arn: role.as_str().to_owned() },
            identity,
            session_policy: None,
        })
    }

    /// The caller that the claim names, unproven, and the secret that would prove it.
    fn look_up(
        &self,
        access_key: &str,
        session_token: Option<&str>,
    ) -> Result<(Principal, String), SignatureFault> {
        if let Some(token) = session_token {
            let session = self.credentials.open_session_token(access_key, token);
            let session = session.map_err(|error| match error {
                ControlError::ExpiredSessionToken => SignatureFault::TokenExpired,
                _ => SignatureFault::UnknownKey,
            })?;
            return self.session_principal(&session);
        }
        if let Some(owner) = self.directory.key(access_key) {
            let principal = self.user_principal(&owner.user)?;
            return Ok((principal, owner.secret.secret.clone()));
        }
        let operator = self.credentials.operator();
        if operator.access_key_id == access_key {
            let principal = self.user_principal(&operator.user)?;
            return Ok((principal, operator.secret_access_key.expose().to_owned()));
        }
        Err(SignatureFault::UnknownKey)
    }

    fn user_principal(&self, name: &str) -> Result<Principal, SignatureFault> {
        let identity = self.directory.user(name).ok_or(SignatureFault::UnknownKey)?;
        Ok(Principal {
            arn: format!("arn:aws:iam::{}:user/{name}", self.account),
            account: self.account.clone(),
            user_id: unique_id("AIDA", &self.account, name),
            kind: Kind::User { name: name.to_owned() },
            identity,
            session_policy: None,
        })
    }

    fn session_principal(&self, session: &Session) -> Result<(Principal, String), SignatureFault> {
        let role = session.role.name();
        let identity = self.directory.role(role).ok_or(SignatureFault::UnknownKey)?;
        // It was read when the session began; a policy that no longer parses allows nothing.
        let session_policy = match &session.session_policy {
            Some(text) => {
                let policy = PolicyDocument::parse(text).map_err(|_| SignatureFault::UnknownKey)?;
                Some(Arc::new(policy))
            }
            None => None,
        };
        let principal = Principal {
            arn: format!(
                "arn:aws:sts::{}:assumed-role/{role}/{}",
                session.role.account(),
                session.session_name
            ),
            account: session.role.account().to_owned(),
            user_id: format!("{}:{}", role_id(&self.account, role), session.session_name),
            kind: Kind::AssumedRole { role_arn: session.role.as_str().to_owned() },
            identity,
            session_policy,
        };
        Ok((principal, session.secret_access_key.expose().to_owned()))
    }

    /// The condition keys that every request has.
    fn context_of(&self, principal: &Principal) -> Context {
        let mut context = Context::default();
        let now = self.clock.now();
        context.set("aws:CurrentTime", now.to_string());
        context.set("aws:EpochTime", now.utc().unix_timestamp().to_string());
        context.set("aws:SecureTransport", "false");
        context.set("aws:RequestedRegion", self.region.clone());
        context.set("aws:PrincipalAccount", principal.account.clone());
        context.set("aws:userid", principal.user_id.clone());
        match &principal.kind {
            Kind::User { name } => {
                context.set("aws:PrincipalArn", principal.arn.clone());
                context.set("aws:PrincipalType", "User");
                context.set("aws:username", name.clone());
            }
            Kind::AssumedRole { role_arn } => {
                context.set("aws:PrincipalArn", role_arn.clone());
                context.set("aws:PrincipalType", "AssumedRole");
            }
        }
        context
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// `AROA…`: the id of a role, the same for its whole life.
pub(crate) fn role_id(account: &str, role: &str) -> String {
    unique_id("AROA", account, role)
}

/// 21 characters as AWS's ids have, made from the name, so that nothing need be stored.
fn unique_id(prefix: &str, account: &str, name: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = digest::digest(&digest::SHA256, format!("{prefix}{account}/{name}").as_bytes());
    let letters =
        digest.as_ref().iter().take(17).filter_map(|byte| {
            ALPHABET.get(usize::from(byte % 32)).map(|letter| char::from(*letter))
        });
    prefix.chars().chain(letters).collect()
}
