//! `warren inspect`, `events`, `top` and `attach`: looking at VMs without touching them.

use super::Context;
use crate::{
    args,
    client::{ClientError, Lines},
    failure::{Exit, Outcome},
    print::{Closed, Format, Paint, Row},
    protocol::{EVENTS, Event, Inspection, Usage, VMS, Vm, bytes},
};
use http_body_util::BodyExt;
use hyper::Method;
use serde::Serialize;
use std::{collections::HashMap, time::Duration};

/// Clears a terminal and goes to its upper left corner (ECMA-48).
const CLEAR: &[u8] = b"\x1b[2J\x1b[H";

pub(crate) async fn inspect(context: &Context, vm: &str) -> Outcome {
    let client = context.client()?;
    let id = client.vm(vm).await?.microvm_id;
    let found: Inspection = client.own(Method::GET, &format!("{VMS}/{id}")).await?;
    if context.printer.format() == Format::Json {
        context.printer.record(&found)?;
        return Ok(Exit::Success);
    }
    let width = fields(&found).iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields(&found) {
        context.printer.line(format!("{name:<width$}  {value}"))?;
    }
    context.printer.line("")?;
    if !found.hooks.is_empty() {
        context.printer.rows(&found.hooks)?;
        context.printer.line("")?;
    }
    context.printer.rows(&found.timeline)?;
    Ok(Exit::Success)
}

/// What there is of a VM's record, besides its tables.
fn fields(found: &Inspection) -> Vec<(&'static str, String)> {
    let vm = &found.vm;
    let state = match &vm.state_reason {
        Some(reason) => format!("{} ({reason})", vm.state),
        None => vm.state.clone(),
    };
    let idle = found.idle.map(|idle| {
        let resume = if idle.auto_resume { ", resumed by requests" } else { "" };
        format!("after {} s, ended after {} s suspended{resume}", idle.max_idle_s, idle.suspended_s)
    });
    let log = found.log_group.as_ref().zip(found.log_stream.as_ref());
    let list = |arns: &[String]| arns.join(", ");
    let fields = [
        ("microvm", Some(vm.microvm_id.clone())),
        ("session", vm.session_id.clone()),
        ("state", Some(state)),
        ("image", Some(format!("{}:{}", vm.image, vm.version))),
        ("origin", Some(found.origin.clone())),
        ("memory", Some(format!("{} MiB", found.memory_mib))),
        ("endpoint", Some(found.endpoint.clone())),
        ("started", Some(vm.started_at.clone())),
        ("terminated", found.terminated_at.clone()),
        ("ends after", Some(format!("{} s", found.max_duration_s))),
        ("suspended when idle", idle),
        ("role", found.execution_role.clone()),
        ("ingress", Some(list(&found.ingress_connectors))),
        ("egress", Some(list(&found.egress_connectors))),
        ("log", log.map(|(group, stream)| format!("{group} {stream}"))),
        ("hooks port", found.hooks_port.map(|port| port.to_string())),
        ("uses", vm.usage.as_ref().map(used)),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn used(usage: &Usage) -> String {
    let cpu = usage.cpu_ms as f64 / 1000.0;
    format!(
        "{} of memory, {cpu:.1} s of CPU, {} sent, {} received, {} of disk",
        bytes(usage.pss_kib * 1024),
        bytes(usage.sent_bytes),
        bytes(usage.received_bytes),
        bytes(usage.disk_bytes),
    )
}

pub(crate) async fn events(context: &Context, events: args::Events) -> Outcome {
    let client = context.client()?;
    let only = match &events.vm {
        Some(name) => Some(client.vm(name).await?.microvm_id),
        None => None,
    };
    let since_s = u64::from(events.since) * 60;
    let path = format!("{EVENTS}?since_s={since_s}&follow={}", events.follow);
    let mut lines = Lines::new(EVENTS, client.own_stream(&path).await?);
    while let Some(event) = lines.next::<Event>().await? {
        if only.as_ref().is_none_or(|only| *only == event.microvm_id) {
            show_event(context, &event)?;
        }
    }
    Ok(Exit::Success)
}

fn show_event(context: &Context, event: &Event) -> Result<(), Closed> {
    let printer = &context.printer;
    if printer.format() == Format::Json {
        return printer.record(event);
    }
    let paint = match event.step.event.as_str() {
        "running" | "resumed" => Paint::Good,
        "hook_failed" | "not_suspended" | "not_resumed" => Paint::Bad,
        "terminating" | "terminated" => Paint::Warn,
        _ => Paint::Bold,
    };
    let what = printer.painted(paint, &event.step.event);
    let took = event.step.took_ms.map(|took| format!(" in {took:.1} ms")).unwrap_or_default();
    let detail = match event.step.detail.as_str() {
        "" => String::new(),
        detail => format!(": {detail}"),
    };
    printer.line(format!("{} {} {what}{took}{detail}", event.at, event.microvm_id))
}

/// A VM's use of the machine between two looks.
#[derive(Debug, Clone, Serialize)]
struct Load {
    microvm_id: String,
    session_id: Option<String>,
    image: String,
    state: String,
    /// Of one core, between the two looks; none at the first.
    cpu_percent: Option<f64>,
    memory_bytes: u64,
    /// Bytes a second.
    sent_rate: Option<f64>,
    received_rate: Option<f64>,
    disk_read_rate: Option<f64>,
    disk_written_rate: Option<f64>,
    /// What it wrote on top of its image, and saved where it is suspended.
    disk_bytes: u64,
}

impl Row for Load {
    const HEADS: &'static [&'static str] = &[
        "MICROVM",
        "SESSION",
        "IMAGE",
        "STATE",
        "CPU",
        "MEMORY",
        "SENT/S",
        "RECEIVED/S",
        "READ/S",
        "WRITTEN/S",
        "DISK",
    ];

    fn cells(&self) -> Vec<String> {
        let rate = |rate: Option<f64>| rate.map_or("-".into(), |rate| bytes(rate as u64));
        vec![
            self.microvm_id.clone(),
            self.session_id.clone().unwrap_or_else(|| "-".into()),
            self.image.clone(),
            self.state.clone(),
            self.cpu_percent.map_or("-".into(), |cpu| format!("{cpu:.0}%")),
            bytes(self.memory_bytes),
            rate(self.sent_rate),
            rate(self.received_rate),
            rate(self.disk_read_rate),
            rate(self.disk_written_rate),
            bytes(self.disk_bytes),
        ]
    }
}

pub(crate) async fn top(context: &Context, top: args::Top) -> Outcome {
    let client = context.client()?;
    let every = Duration::from_secs(top.every.into());
    let live = context.printer.format() == Format::Human && context.printer.is_terminal();
    let mut before: HashMap<String, Usage> = HashMap::new();
    let mut looked_at = tokio::time::Instant::now();
    let mut looks = 0;
    loop {
        let vms: Vec<Vm> = client.own(Method::GET, &format!("{VMS}?all=false")).await?;
        let passed = looked_at.elapsed();
        looked_at = tokio::time::Instant::now();
        let loads: Vec<Load> =
            vms.iter().map(|vm| load(vm, before.get(&vm.microvm_id), passed)).collect();
        if live {
            context.printer.bytes(CLEAR)?;
        }
        context.printer.rows(&loads)?;
        before = vms.into_iter().filter_map(|vm| Some((vm.microvm_id, vm.usage?))).collect();
        looks += 1;
        if top.n.is_some_and(|n| looks >= n) {
            return Ok(Exit::Success);
        }
        tokio::time::sleep(every).await;
    }
}

fn load(vm: &Vm, before: Option<&Usage>, passed: Duration) -> Load {
    let now = vm.usage.clone().unwrap_or_default();
    let seconds = passed.as_secs_f64();
    // A VM that was resumed counts from the start again.
    let rate = |of: fn(&Usage) -> u64| {
        let before = of(before?);
        Some(of(&now).saturating_sub(before) as f64 / seconds).filter(|rate| rate.is_finite())
    };
    Load {
        microvm_id: vm.microvm_id.clone(),
        session_id: vm.session_id.clone(),
        image: format!("{}:{}", vm.image, vm.version),
        state: vm.state.clone(),
        cpu_percent: rate(|usage| usage.cpu_ms).map(|ms| ms / 10.0),
        memory_bytes: now.pss_kib * 1024,
        sent_rate: rate(|usage| usage.sent_bytes),
        received_rate: rate(|usage| usage.received_bytes),
        disk_read_rate: rate(|usage| usage.disk_read_bytes),
        disk_written_rate: rate(|usage| usage.disk_written_bytes),
        disk_bytes: now.disk_bytes + now.saved_bytes,
    }
}

/// The serial console as it comes. Nothing in the VM reads from it.
pub(crate) async fn attach(context: &Context, attach: args::Attach) -> Outcome {
    let client = context.client()?;
    let id = client.vm(&attach.vm).await?.microvm_id;
    let path = format!("{VMS}/{id}/console?follow={}", !attach.no_follow);
    let mut answer = client.own_stream(&path).await?;
    while let Some(frame) = answer.body_mut().frame().await {
        let frame = frame.map_err(|source| ClientError::Broken { path: path.clone(), source })?;
        if let Ok(data) = frame.into_data() {
            context.printer.bytes(&data)?;
        }
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(usage: Option<Usage>) -> Vm {
        Vm {
            microvm_id: "microvm-1".into(),
            session_id: None,
            image: "i".into(),
            version: "1.0".into(),
            state: "RUNNING".into(),
            state_reason: None,
            started_at: String::new(),
            launch: None,
            usage,
        }
    }

    #[test]
    fn rates_are_between_two_looks_and_never_below_nothing() {
        let usage = |cpu_ms, sent_bytes| Usage { cpu_ms, sent_bytes, ..Usage::default() };
        let (before, now) = (usage(1000, 5000), vm(Some(usage(2000, 100))));
        let told = load(&now, Some(&before), Duration::from_secs(2));
        assert_eq!((told.cpu_percent, told.sent_rate), (Some(50.0), Some(0.0)));
        assert_eq!(load(&now, None, Duration::ZERO).cpu_percent, None);
        assert_eq!(told.cells().len(), Load::HEADS.len());
    }
}
