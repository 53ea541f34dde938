//! What a service is made of: a table of operations, each a name, a route, the shape of its input,
//! and one function.
//!
//! To add an operation: a file in the service's folder with a `pub(crate) static OPERATION`, and a
//! line in the table of its `mod.rs`.

use crate::{
    AwsState,
    auth::{Access, Principal},
    error::ApiError,
    iam::Context,
    protocol::{Protocol, Reply},
    shape::Shape,
};
use control::RoleArn;
use futures::future::BoxFuture;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// The service that roles are passed to.
const LAMBDA: &str = "lambda.amazonaws.com";

/// A service behind one signing name.
pub(crate) struct Service {
    /// As in the scope of signatures, and as prefix of IAM actions.
    pub(crate) signing_name: &'static str,
    pub(crate) protocol: Protocol,
    /// What `X-Amz-Target` begins with, before the dot; empty where that is not used.
    pub(crate) target_prefix: &'static str,
    /// First segments of its paths; empty where paths say nothing.
    pub(crate) path_prefixes: &'static [&'static str],
    pub(crate) xml_namespace: &'static str,
    pub(crate) message_member: &'static str,
    /// Code of an answer to what breaks a constraint of the model.
    pub(crate) validation_code: &'static str,
    pub(crate) operations: &'static [&'static Operation],
    /// Operations of the model that are not here yet: method, path (empty: by name), name.
    pub(crate) unavailable: &'static [(Method, &'static str, &'static str)],
}

/// One operation.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// Method and path template (`/2025-09-09/microvms/{microvmIdentifier}`); none: found by name.
    pub(crate) route: Option<(Method, &'static str)>,
    pub(crate) input: &'static Shape,
    pub(crate) run: fn(Call) -> BoxFuture<'static, Result<Reply, ApiError>>,
}

/// An authenticated call whose input fits its shape.
pub(crate) struct Call {
    pub(crate) state: Arc<AwsState>,
    pub(crate) service: &'static Service,
    pub(crate) operation: &'static Operation,
    pub(crate) principal: Principal,
    pub(crate) input: Value,
    /// Condition keys that come from the connection, such as `aws:SourceIp`.
    pub(crate) context: Context,
}

impl Call {
    /// The input as the handler's own type.
    ///
    /// # Errors
    /// `SerializationException`; the shape was checked, so a type that says less than its shape is
    /// the only cause.
    pub(crate) fn input<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        T::deserialize(&self.input).map_err(|error| ApiError::serialization(error.to_string()))
    }

    /// Whether the caller may perform this operation on `resource` (an ARN, or `*`).
    ///
    /// # Errors
    /// AccessDenied in the service's form.
    pub(crate) fn authorize(&self, resource: &str) -> Result<(), ApiError> {
        self.authorize_action(&self.action(), Some(resource), &Context::default())
    }

    /// As [`Call::authorize`], with condition keys that this request or its resource brings.
    ///
    /// # Errors
    /// As [`Call::authorize`].
    pub(crate) fn authorize_with(&self, resource: &str, more: &Context) -> Result<(), ApiError> {
        self.authorize_action(&self.action(), Some(resource), more)
    }

    /// Whether the caller may perform this operation on anything at all: for an answer about what
    /// does not exist.
    ///
    /// # Errors
    /// As [`Call::authorize`].
    pub(crate) fn authorize_any(&self) -> Result<(), ApiError> {
        self.authorize_action(&self.action(), None, &Context::default())
    }

    /// # Errors
    /// As [`Call::authorize`].
    pub(crate) fn authorize_action(
        &self,
        action: &str,
        resource: Option<&str>,
        more: &Context,
    ) -> Result<(), ApiError> {
        let mut context = self.context.clone();
        context.extend(more);
        let access = Access { action, resource, context: &context };
        self.state.authenticator.authorize(&self.principal, &access).map_err(|denied| {
            let access_denied = self.access_denied(denied.to_string());
            // For programs that look for the cause: which role lacks which action.
            tracing::info!(%denied.principal, %denied.action, %denied.resource, "denied");
            access_denied
        })
    }

    /// The caller may give this role to Lambda, and Lambda may take it. Where it may not, AWS names
    /// the caller's right all the same.
    ///
    /// # Errors
    /// AccessDenied that names `iam:PassRole` and the role.
    /// `source` is the ARN of what the role is for.
    pub(crate) fn authorize_pass_role(&self, role: &RoleArn, source: &str) -> Result<(), ApiError> {
        self.authorize_to_pass(role)?;
        let authenticator = &self.state.authenticator;
        let exists = authenticator.role_exists(role.name()) && role.account() == self.account();
        let problem = if !exists {
            "because the role does not exist"
        } else if !authenticator.service_is_trusted(role.name(), LAMBDA, source) {
            "because the role's trust policy does not let lambda.amazonaws.com assume it"
        } else {
            return Ok(());
        };
        Err(self.access_denied(format!(
            "User: {} is not authorized to perform: iam:PassRole on resource: {role} {problem}",
            self.principal.arn()
        )))
    }

    /// The caller may give this role to Lambda.
    ///
    /// # Errors
    /// As [`Call::authorize`].
    pub(crate) fn authorize_to_pass(&self, role: &RoleArn) -> Result<(), ApiError> {
        let context = Context::default().with("iam:PassedToService", LAMBDA);
        self.authorize_action("iam:PassRole", Some(role.as_str()), &context)
    }

    /// AccessDenied in the service's form.
    pub(crate) fn access_denied(&self, message: String) -> ApiError {
        use http::StatusCode;
        match self.service.protocol {
            Protocol::RestJson => {
                ApiError::new("AccessDeniedException", StatusCode::FORBIDDEN, message)
            }
            Protocol::Json => ApiError::bad("AccessDeniedException", message),
            Protocol::Query => ApiError::new("AccessDenied", StatusCode::FORBIDDEN, message),
        }
    }

    fn action(&self) -> String {
        format!("{}:{}", self.service.signing_name, self.operation.name)
    }

    pub(crate) fn region(&self) -> &str {
        self.state.authenticator.region()
    }

    pub(crate) fn account(&self) -> &str {
        self.state.authenticator.account()
    }
}
