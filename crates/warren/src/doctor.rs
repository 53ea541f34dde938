//! `warren doctor`: what this machine can do, and what to do about each lack.
//!
//! The same checks stand at the beginning of `warren up`, which refuses to start over a broken one
//! ([`lacks`]): a machine that cannot run a VM is told so before anything is half done.

mod host;
mod tools;

use crate::{
    commands::Context,
    config::Settings,
    failure::{Exit, Outcome, Remedy},
    print::{Closed, Format, Paint, Printer},
    protocol::{Check, Verdict},
};

/// What stops `warren up`, all at once.
#[derive(Debug, thiserror::Error)]
#[error("this machine cannot run microVMs yet:{}", listed(.0))]
pub(crate) struct Lacks(Vec<Check>);

fn listed(checks: &[Check]) -> String {
    checks.iter().map(|c| format!("\n  {}: {}", c.name, c.found)).collect()
}

impl Remedy for Lacks {
    fn hint(&self) -> Option<String> {
        let remedies: Vec<&str> = self.0.iter().filter_map(|c| c.remedy.as_deref()).collect();
        Some(remedies.join("\n"))
    }
    fn exit(&self) -> Exit {
        Exit::Failed
    }
}

pub(crate) async fn doctor(context: &Context) -> Outcome {
    let settings = &context.settings;
    let mut checks = needed(settings).await;
    checks.push(host::accelerator(context).await);
    checks.extend(host::ports(settings));
    show(&context.printer, &checks)?;
    let broken = checks.iter().any(|c| c.verdict == Verdict::Broken);
    Ok(if broken { Exit::Failed } else { Exit::Success })
}

/// Refuses where something is missing without which no VM runs.
///
/// # Errors
/// [`Lacks`], with all of them.
pub(crate) async fn lacks(settings: &Settings) -> Result<(), Lacks> {
    let mut checks = needed(settings).await;
    checks.retain(|c| c.verdict == Verdict::Broken);
    if checks.is_empty() { Ok(()) } else { Err(Lacks(checks)) }
}

/// The checks that cost nothing.
async fn needed(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![host::root()];
    checks.extend(tools::tools().await);
    checks.extend([
        host::kernel(settings),
        host::programs(settings),
        host::cgroups(),
        host::disk(settings),
        host::memory(),
    ]);
    checks
}

/// A table of checks, each lack followed by what to do.
pub(crate) fn show(printer: &Printer, checks: &[Check]) -> Result<(), Closed> {
    if printer.format() == Format::Json {
        return checks.iter().try_for_each(|check| printer.record(check));
    }
    let width = checks.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    for check in checks {
        let (paint, mark) = match check.verdict {
            Verdict::Ok => (Paint::Good, "ok    "),
            Verdict::Warn => (Paint::Warn, "warn  "),
            Verdict::Broken => (Paint::Bad, "broken"),
            Verdict::Skipped => (Paint::Dim, "-     "),
        };
        let mark = printer.painted(paint, mark);
        let found = check.found.replace('\n', &format!("\n{:1$}", "", width + 10));
        printer.line(format!("{mark}  {:width$}  {found}", check.name))?;
        if let Some(remedy) = &check.remedy {
            printer.line(format!("        {:width$}  {remedy}", ""))?;
        }
    }
    Ok(())
}

impl Check {
    pub(crate) fn ok(name: &str, found: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    pub(crate) fn warn(name: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { name: name.into(), verdict: Verdict::Warn, found: found.into(), remedy }
    }

    pub(crate) fn broken(name: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { name: name.into(), verdict: Verdict::Broken, found: found.into(), remedy }
    }

    pub(crate) fn skipped(name: &str) -> Self {
        Self {
            name: name.into(),
            verdict: Verdict::Skipped,
            found: "not looked at".into(),
            remedy: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::capture;

    #[test]
    fn a_lack_is_followed_by_what_to_do() {
        let (printer, out, _) = capture::printer(Format::Human, crate::print::Talk::Normal);
        let checks = [Check::ok("root", "uid 0"), Check::broken("nft", "missing", "apt-get …")];
        show(&printer, &checks).unwrap();
        assert_eq!(
            out.text(),
            "ok      root  uid 0\nbroken  nft   missing\n              apt-get …\n"
        );
    }

    #[test]
    fn all_lacks_are_named_at_once() {
        let lacks =
            Lacks(vec![Check::broken("a", "no a", "get a"), Check::broken("b", "no b", "get b")]);
        assert_eq!(
            lacks.to_string(),
            "this machine cannot run microVMs yet:\n  a: no a\n  b: no b"
        );
        assert_eq!(lacks.hint().as_deref(), Some("get a\nget b"));
    }
}
