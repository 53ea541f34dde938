//! `warren run`, `suspend`, `resume`, `fork` and `checkpoint`.

use super::Context;
use crate::{
    args::{self, CheckpointCommand},
    client::{Client, ClientError},
    failure::{Exit, Outcome, Remedy},
    print::Format,
    protocol::{
        Begun, CHECKPOINTS, Checkpoint, CheckpointRequest, FileChange, ForkRequest, Idle, Origin,
        RunRequest, VMS,
    },
};
use hyper::Method;

/// The VM did not come to where it was sent.
#[derive(Debug, thiserror::Error)]
#[error("{id} is {state}{}", .reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
struct Elsewhere {
    id: String,
    state: String,
    reason: Option<String>,
}

impl Remedy for Elsewhere {
    fn hint(&self) -> Option<String> {
        Some(format!("`warren inspect {0}` and `warren logs {0}` tell more", self.id))
    }
}

pub(crate) async fn run(context: &Context, run: args::Run) -> Outcome {
    let origin = match (run.from, run.image) {
        (Some(name), _) => Origin::Checkpoint { name },
        (None, image) => Origin::Image {
            // One of the two is there: see the arguments.
            name: image.unwrap_or_default(),
            version: run.version,
            role: Some(run.role).filter(|role| !role.is_empty()),
            idle: run.idle.map(|max_idle_s| Idle {
                max_idle_s,
                suspended_s: run.suspended,
                auto_resume: run.auto_resume,
            }),
        },
    };
    let request = RunRequest { origin, payload: run.payload, max_duration_s: run.max_duration };
    let begun: Begun = context.client()?.own_post(VMS, &request).await?;
    told(context, &begun, "RUNNING")
}

pub(crate) async fn suspend(context: &Context, vms: args::Vms) -> Outcome {
    change(context, &vms.vms, "suspend", "SUSPENDED").await
}

pub(crate) async fn resume(context: &Context, vms: args::Vms) -> Outcome {
    change(context, &vms.vms, "resume", "RUNNING").await
}

async fn change(context: &Context, names: &[String], action: &str, goal: &str) -> Outcome {
    let client = context.client()?;
    for name in names {
        let id = client.vm(name).await?.microvm_id;
        let path = format!("{VMS}/{id}/{action}");
        let begun: Begun = client.own_post(&path, &serde_json::json!({})).await?;
        told(context, &begun, goal)?;
    }
    Ok(Exit::Success)
}

/// Prints the id of a VM that is where it should be.
fn told(context: &Context, begun: &Begun, goal: &str) -> Outcome {
    if context.printer.format() == Format::Json {
        context.printer.record(begun)?;
    }
    if begun.state != goal {
        let Begun { microvm_id: id, state, state_reason: reason } = begun.clone();
        return Err(Elsewhere { id, state, reason }.into());
    }
    if context.printer.format() == Format::Human {
        context.printer.line(&begun.microvm_id)?;
    }
    Ok(Exit::Success)
}

pub(crate) async fn fork(context: &Context, fork: args::Fork) -> Outcome {
    let client = context.client()?;
    let id = client.vm(&fork.vm).await?.microvm_id;
    let payloads = if fork.payload.is_empty() {
        vec![None; usize::from(fork.n)]
    } else {
        fork.payload.into_iter().map(Some).collect()
    };
    let path = format!("{VMS}/{id}/forks");
    let forks: Vec<Begun> = client.own_post(&path, &ForkRequest { payloads }).await?;
    // All are told of before the first that failed ends this.
    let told: Vec<Outcome> = forks.iter().map(|fork| told(context, fork, "RUNNING")).collect();
    told.into_iter().find(Result::is_err).unwrap_or(Ok(Exit::Success))
}

pub(crate) async fn checkpoint(context: &Context, checkpoint: args::Checkpoint) -> Outcome {
    let client = context.client()?;
    match checkpoint.command {
        Some(CheckpointCommand::Ls) => list(context, &client).await,
        Some(CheckpointCommand::Rm { names }) => {
            for name in names {
                let path = format!("{CHECKPOINTS}/{name}");
                let _: serde_json::Value = client.own(Method::DELETE, &path).await?;
                context.printer.line(name)?;
            }
            Ok(Exit::Success)
        }
        Some(CheckpointCommand::Diff { from, to }) => {
            let path = format!("{CHECKPOINTS}/{from}/changes/{to}");
            let changes: Vec<FileChange> = client.own(Method::GET, &path).await?;
            if changes.is_empty() && context.printer.format() == Format::Human {
                context.printer.note("no file differs");
            } else {
                context.printer.rows(&changes)?;
            }
            Ok(Exit::Success)
        }
        None => {
            // Both are there: see the arguments.
            let (vm, name) = (checkpoint.vm.unwrap_or_default(), checkpoint.name);
            let name = name.unwrap_or_default();
            let id = client.vm(&vm).await?.microvm_id;
            let path = format!("{VMS}/{id}/checkpoints");
            let made: Checkpoint = client.own_post(&path, &CheckpointRequest { name }).await?;
            context.printer.rows(&[made])?;
            Ok(Exit::Success)
        }
    }
}

async fn list(context: &Context, client: &Client) -> Outcome {
    let listed: Result<Vec<Checkpoint>, ClientError> = client.own(Method::GET, CHECKPOINTS).await;
    let listed = listed?;
    if listed.is_empty() && context.printer.format() == Format::Human {
        context.printer.note("there is no checkpoint; `warren checkpoint VM NAME` makes one");
    } else {
        context.printer.rows(&listed)?;
    }
    Ok(Exit::Success)
}
