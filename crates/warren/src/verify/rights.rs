//! What the launcher's role may do, asked of the authoriser itself.
//!
//! Short-lived credentials of the role sign a request that is never sent; whoever it is found to
//! come from is the launcher, with all of its policies.

use crate::{
    client::{Call, Client},
    config::Credentials,
    node::{EXECUTION_ROLE, LAUNCHER_ROLE, role_arn},
    protocol::Check,
    service::Service,
};
use aws::{Access, Context, Principal};
use bytes::Bytes;
use control::{ImageName, IssueRequest, RoleArn};
use hyper::Method;
use std::time::Duration;

const RIGHTS: &str = "launcher's rights";
/// What signs the request that is never sent; any name does.
const SIGNING_NAME: &str = "sts";
const LIFETIME: Duration = Duration::from_secs(900);

pub(crate) fn launcher_rights(service: &Service) -> Vec<Check> {
    let principal = match principal(service) {
        Ok(principal) => principal,
        Err(reason) => {
            return vec![Check::broken(
                RIGHTS,
                reason,
                format!("is there a role {LAUNCHER_ROLE} in the files of iam.files?"),
            )];
        }
    };
    let settings = &service.settings;
    let (region, account) = (&settings.region, &settings.account);
    let image = match ImageName::parse(&settings.launcher.image) {
        Ok(name) => service.control.image_arn(&name).to_string(),
        Err(_) => settings.launcher.image.clone(),
    };
    let connector = format!(
        "arn:aws:lambda:{region}:aws:network-connector:aws-network-connector:INTERNET_EGRESS"
    );
    let secret = format!(
        "arn:aws:secretsmanager:{region}:{account}:secret:{}-a1b2c3",
        launcher::SIGNING_SECRET_ID_DEFAULT
    );
    let passed = Context::default().with("iam:PassedToService", "lambda.amazonaws.com");
    let plain = Context::default();
    let wanted = [
        ("lambda:RunMicrovm", image.clone(), &plain),
        ("lambda:GetMicrovm", image, &plain),
        ("lambda:PassNetworkConnector", connector, &plain),
        ("iam:PassRole", role_arn(account, EXECUTION_ROLE), &passed),
        ("secretsmanager:GetSecretValue", secret, &plain),
    ];
    let denied: Vec<Check> = wanted
        .iter()
        .filter_map(|(action, resource, context)| {
            let access = Access { action, resource: Some(resource), context };
            let denied = service.authenticator.authorize(&principal, &access).err()?;
            let remedy = format!("allow {action} on {resource} in a policy of {LAUNCHER_ROLE}");
            Some(Check::broken(RIGHTS, denied.to_string(), remedy))
        })
        .collect();
    if denied.is_empty() {
        return vec![Check::ok(RIGHTS, format!("{} actions of {LAUNCHER_ROLE}", wanted.len()))];
    }
    denied
}

fn principal(service: &Service) -> Result<Principal, String> {
    let settings = &service.settings;
    let role =
        RoleArn::parse(&role_arn(&settings.account, LAUNCHER_ROLE)).map_err(|e| e.to_string())?;
    let issued = service.control.credentials().issue(IssueRequest {
        role,
        session_name: "warren-verify".into(),
        duration: LIFETIME,
        session_policy: None,
    });
    let credentials = Credentials {
        access_key_id: issued.access_key_id,
        secret_access_key: issued.secret_access_key.expose().to_owned(),
        session_token: Some(issued.session_token),
    };
    let client = Client::new(settings.api_listen, &settings.region, credentials);
    let call = Call {
        service: SIGNING_NAME,
        method: Method::GET,
        path: "/",
        headers: &[],
        body: Bytes::new(),
    };
    let (parts, _) = client.signed(call).map_err(|e| e.to_string())?.into_parts();
    service.authenticator.authenticate(&parts, &[], SIGNING_NAME).map_err(|e| e.to_string())
}
