//! `warren ps` and `warren rm`.

use super::Context;
use crate::{
    args,
    failure::{Exit, Outcome},
    print::Format,
    protocol::{VMS, Vm},
};
use hyper::Method;

pub(crate) async fn ps(context: &Context, ps: args::Ps) -> Outcome {
    let path = format!("{VMS}?all={}", ps.all);
    let vms: Vec<Vm> = context.client()?.own(Method::GET, &path).await?;
    if vms.is_empty() && context.printer.format() == Format::Human {
        context.printer.note("no VM runs; `warren ps --all` lists the ended ones too");
    } else {
        context.printer.rows(&vms)?;
    }
    Ok(Exit::Success)
}

pub(crate) async fn rm(context: &Context, rm: args::Rm) -> Outcome {
    let client = context.client()?;
    let ids = if rm.all {
        let vms: Vec<Vm> = client.own(Method::GET, &format!("{VMS}?all=false")).await?;
        vms.into_iter().map(|vm| vm.microvm_id).collect()
    } else {
        let mut ids = Vec::new();
        for name in &rm.vms {
            ids.push(client.vm(name).await?.microvm_id);
        }
        ids
    };
    for id in ids {
        let _: serde_json::Value = client.own(Method::DELETE, &format!("{VMS}/{id}")).await?;
        context.printer.line(&id)?;
    }
    Ok(Exit::Success)
}
