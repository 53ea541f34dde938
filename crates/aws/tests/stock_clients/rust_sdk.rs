//! The AWS SDK for Rust, as the launcher and the worker use it.

use super::world::World;
use aws_sdk_lambdamicrovms::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    error::ProvideErrorMetadata,
    types::MicrovmState,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use control::{IssueRequest, RoleArn};
use std::time::Duration;

const IMAGE: &str = "arn:aws:lambda:us-east-1:000000000000:microvm-image:claude-worker";

/// A client with the credentials of the launcher's role, issued as Warren issues them.
fn launcher(world: &World) -> Client {
    let issued = world.control.credentials().issue(IssueRequest {
        role: RoleArn::parse("arn:aws:iam::000000000000:role/warren-launcher").unwrap(),
        session_name: "launcher".into(),
        duration: Duration::from_secs(900),
        session_policy: None,
    });
    let tls = TlsContext::builder().with_trust_store(TrustStore::empty()).build().unwrap();
    let http = Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https();
    let config = aws_sdk_lambdamicrovms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(&world.endpoint)
        .http_client(http)
        .retry_config(RetryConfig::disabled())
        .credentials_provider(Credentials::new(
            issued.access_key_id,
            issued.secret_access_key.expose(),
            Some(issued.session_token),
            None,
            "test",
        ))
        .build();
    Client::from_conf(config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_launchers_client_runs_finds_and_ends_a_vm() {
    let world = World::start().await;
    let client = launcher(&world);
    let run = || {
        client
            .run_microvm()
            .image_identifier(IMAGE)
            .execution_role_arn("arn:aws:iam::000000000000:role/warren-execution")
            .run_hook_payload("{}")
            .client_token("session-1")
    };
    let ran = run().send().await.unwrap();
    let again = run().send().await.unwrap();
    assert_eq!(ran.microvm_id(), again.microvm_id(), "one token is one VM");
    assert_eq!(again.state(), &MicrovmState::Pending, "a replay gives the first answer");

    let listed = client.list_microvms().image_identifier(IMAGE).send().await.unwrap();
    assert_eq!(listed.items().len(), 1);
    assert_eq!(listed.items()[0].microvm_id(), ran.microvm_id());
    client.terminate_microvm().microvm_identifier(ran.microvm_id()).send().await.unwrap();

    let denied = client.get_microvm_image().image_identifier(IMAGE).send().await.unwrap_err();
    assert_eq!(denied.code(), Some("AccessDeniedException"));
    assert_eq!(
        denied.message(),
        Some(
            "User: arn:aws:sts::000000000000:assumed-role/warren-launcher/launcher is not authorized \
             to perform: lambda:GetMicrovmImage on resource: arn:aws:lambda:us-east-1:000000000000:\
             microvm-image:claude-worker because no identity-based policy allows the \
             lambda:GetMicrovmImage action"
        )
    );
    let missing = client.get_microvm().microvm_identifier("x").send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
    world.stop().await;
}
