//! The life of a worker: hooks, then one run, then its end.

use std::sync::Arc;

use agents::Secret;
use agents::client::{Client, Transport};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::aws::{Aws, AwsError};
use crate::config::Config;
use crate::hooks::{self, HookEvents};
use crate::payload::{AtEnd, CredentialSource, RunRequest};
use crate::session::{
    ClaimedItem, ItemEnd, KeptResults, QueueEnd, SessionContext, SessionError, serve_item,
    serve_queue,
};
use crate::tools::ToolsetOptions;

/// Why a worker ended other than by plan.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The hooks' port cannot be had.
    #[error("the hooks cannot be served on port {port}")]
    Hooks {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No environment key.
    #[error("the environment key cannot be read from {reference}")]
    Key {
        /// Which secret or parameter.
        reference: String,
        /// Why.
        #[source]
        source: AwsError,
    },
    /// The session cannot be served.
    #[error("session {session}")]
    Session {
        /// The session.
        session: agents::SessionId,
        /// Why.
        #[source]
        source: SessionError,
    },
}

/// Serves the hooks and the one run, to the end of either; `stop` is SIGTERM.
///
/// # Errors
/// [`WorkerError`]; the program exits with 1 then.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), WorkerError> {
    let (sender, mut runs) = mpsc::channel(1);
    let events = HookEvents {
        run: sender,
        resumed: Arc::new(watch::Sender::new(0)),
        drain: stop.clone(),
        drained: CancellationToken::new(),
    };
    let hooks_stop = CancellationToken::new();
    let hooks = hooks::serve(config.hook_port, events.clone(), hooks_stop.clone());
    let mut hooks = AbortOnDropHandle::new(tokio::spawn(hooks));
    let request = tokio::select! {
        served = &mut hooks => return Err(hooks_failed(&config, served)),
        () = stop.cancelled() => None,
        request = runs.recv() => request,
    };
    let mut next = request;
    let mut result = Ok(());
    while let Some(request) = next.take() {
        tokio::select! {
            served = &mut hooks => return Err(hooks_failed(&config, served)),
            // This VM is a copy of the one that the run before was for, and which goes on with it.
            copied = runs.recv() => next = copied,
            served = serve_run(&config, request, &events) => result = served,
        }
    }
    events.drained.cancel();
    hooks_stop.cancel();
    // All that is left of it are answers that are being written.
    let _ = hooks.await;
    result
}

fn hooks_failed(
    config: &Config,
    served: Result<std::io::Result<()>, tokio::task::JoinError>,
) -> WorkerError {
    let source = match served {
        Ok(Err(error)) => error,
        Ok(Ok(())) => std::io::Error::other("the hooks ended by themselves"),
        Err(error) => std::io::Error::other(error),
    };
    WorkerError::Hooks { port: config.hook_port, source }
}

async fn serve_run(
    config: &Config,
    request: RunRequest,
    events: &HookEvents,
) -> Result<(), WorkerError> {
    tracing::info!(session = %request.session, platform = %request.base_url, "a run begins");
    let transport = Transport::new();
    let aws = Aws::new(transport.clone(), config, request.region.as_deref());
    let context = |key: Secret| SessionContext {
        client: Client::new(transport.clone(), request.base_url.clone(), key),
        session: request.session.clone(),
        environment: request.environment.clone(),
        tools: ToolsetOptions {
            workdir: config.workdir.clone(),
            roots: Vec::new(),
            search_path: config.search_path.clone(),
            room: config.room.clone(),
        },
        max_idle: config.max_idle,
        resumed: events.resumed.clone(),
        drain: events.drain.clone(),
    };
    let session_failed = |source| WorkerError::Session { session: request.session.clone(), source };
    let end = match &request.credential {
        CredentialSource::Claimed(work, secret) => {
            let mut context = context(secret.sessions_token.clone());
            // A new item would come with a new VM: this one is kept for as long as this VM would wait
            // for another, and the files of the session with it.
            context.max_idle = config.max_idle.max(config.idle_exit);
            let token = Some(secret.sessions_token.clone());
            let item = ClaimedItem { work: work.clone(), token };
            let end = serve_item(&context, &item, &mut KeptResults::default()).await;
            end_of_one_item(end).map_err(session_failed)?
        }
        CredentialSource::SecretsManager(_) | CredentialSource::Parameter(_) => {
            let key = tokio::select! {
                biased;
                () = events.drain.cancelled() => return Ok(()),
                key = environment_key(&aws, &request.credential) => key?,
            };
            let worker_id = worker_id(&request);
            let context = context(key);
            loop {
                let mut resumed = events.resumed.subscribe();
                let served = serve_queue(&context, &worker_id, config.idle_exit).await;
                let end = served.map_err(session_failed)?;
                let sleeps = end == QueueEnd::OutOfWork && request.at_end == AtEnd::Suspend;
                if !sleeps || !suspend_vm(&aws, request.microvm_id.as_deref()).await {
                    break end;
                }
                tokio::select! {
                    () = events.drain.cancelled() => break QueueEnd::Drained,
                    // The sender is ours.
                    _ = resumed.changed() => tracing::info!("resumed: there may be work again"),
                }
            }
        }
    };
    match end {
        QueueEnd::Drained => tracing::info!("drained"),
        QueueEnd::OutOfWork | QueueEnd::SessionEnded => {
            tracing::info!(?end, "this VM has done its work");
            end_vm(&aws, request.microvm_id.as_deref()).await;
        }
    }
    Ok(())
}

fn end_of_one_item(end: ItemEnd) -> Result<QueueEnd, SessionError> {
    match end {
        ItemEnd::Idle | ItemEnd::LeaseEnded => Ok(QueueEnd::OutOfWork),
        ItemEnd::SessionEnded => Ok(QueueEnd::SessionEnded),
        ItemEnd::Drained => Ok(QueueEnd::Drained),
        ItemEnd::Failed(error) => Err(SessionError::Item(Box::new(error))),
    }
}

async fn environment_key(aws: &Aws, source: &CredentialSource) -> Result<Secret, WorkerError> {
    let (reference, result) = match source {
        CredentialSource::SecretsManager(id) => {
            (format!("the secret {id} of Secrets Manager"), aws.secret(id).await)
        }
        CredentialSource::Parameter(name) => {
            (format!("the parameter {name} of SSM"), aws.parameter(name).await)
        }
        CredentialSource::Claimed(_, secret) => return Ok(secret.sessions_token.clone()),
    };
    result.map_err(|source| WorkerError::Key { reference, source })
}

/// Tells workers apart in the queue's statistics.
fn worker_id(request: &RunRequest) -> String {
    match &request.microvm_id {
        Some(id) => format!("{id}-{}", Uuid::new_v4()),
        None => Uuid::new_v4().to_string(),
    }
}

/// Suspends the VM that this runs in; whether that is under way.
async fn suspend_vm(aws: &Aws, id: Option<&str>) -> bool {
    let Some(id) = id else { return false };
    match aws.suspend_microvm(id).await {
        Ok(()) => true,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(microvm = id, error, "SuspendMicrovm; the VM is terminated instead");
            false
        }
    }
}

/// Ends the VM that this runs in. Where that fails, the end of this program does it.
async fn end_vm(aws: &Aws, id: Option<&str>) {
    let Some(id) = id else { return };
    match aws.terminate_microvm(id).await {
        Ok(()) => tracing::info!(microvm = id, "the VM is being terminated"),
        Err(error) => {
            tracing::warn!(
                microvm = id,
                error = &error as &dyn std::error::Error,
                "TerminateMicrovm"
            );
        }
    }
}
