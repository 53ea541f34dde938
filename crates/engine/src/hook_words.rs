//! A build's hook that did not answer 200, in the words that AWS has for it
//! (`spec/lambda-microvms.md`, section 3).

use crate::HookOutcome;
use std::time::Duration;

/// `hook` with a capital: `Ready`; `time` is all that it was given.
pub fn hook_failure(hook: &str, outcome: &HookOutcome, time: Duration) -> String {
    match outcome {
        HookOutcome::Answered { status: 503 } | HookOutcome::Refused | HookOutcome::TimedOut => {
            format!("{hook} hook invocation timed out after {}", iso_8601(time))
        }
        HookOutcome::Answered { status } => {
            let kind =
                if *status >= 500 { "server error (HTTP 5xx)" } else { "client error (HTTP 4xx)" };
            format!("{hook} hook check failed: the application returned a {kind} response")
        }
        HookOutcome::Broken { error } => format!("{hook} hook check failed: {error}"),
    }
}

/// A time as AWS writes it: `PT5M`, `PT1M30S`, `PT30S`.
fn iso_8601(time: Duration) -> String {
    let (minutes, seconds) = (time.as_secs() / 60, time.as_secs() % 60);
    match (minutes, seconds) {
        (0, seconds) => format!("PT{seconds}S"),
        (minutes, 0) => format!("PT{minutes}M"),
        (minutes, seconds) => format!("PT{minutes}M{seconds}S"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_aws_writes_them() {
        for (seconds, expected) in [(300, "PT5M"), (90, "PT1M30S"), (30, "PT30S"), (0, "PT0S")] {
            assert_eq!(iso_8601(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_hook_that_fails_is_told_in_awss_words() {
        let said = |outcome| hook_failure("Validate", &outcome, Duration::from_secs(600));
        let timed_out = "Validate hook invocation timed out after PT10M";
        assert_eq!(said(HookOutcome::TimedOut), timed_out);
        assert_eq!(said(HookOutcome::Answered { status: 503 }), timed_out);
        assert_eq!(
            said(HookOutcome::Answered { status: 404 }),
            "Validate hook check failed: the application returned a client error (HTTP 4xx) response"
        );
    }
}
