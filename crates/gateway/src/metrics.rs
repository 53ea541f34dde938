//! Counters of the gateway, in the text form that Prometheus reads.

use http::StatusCode;
use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

/// What has been counted since the start. One of each process; order between counters means nothing.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) connections: AtomicU64,
    pub(crate) connections_open: AtomicU64,
    pub(crate) tunnels_open: AtomicU64,
    pub(crate) shells_open: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// By hundreds of the status: 1xx to 5xx.
    answers: [AtomicU64; 5],
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.answers.get(class) {
            Self::add(counter, 1);
        }
    }

    /// Counts up now, and down when the guard is dropped.
    pub(crate) fn while_held(gauge: &AtomicU64) -> Held<'_> {
        gauge.fetch_add(1, Ordering::Relaxed);
        Held(gauge)
    }

    /// The text form, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, kind: &str, help: &str, values: &[(&str, u64)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let labels = [
            "{code=\"1xx\"}",
            "{code=\"2xx\"}",
            "{code=\"3xx\"}",
            "{code=\"4xx\"}",
            "{code=\"5xx\"}",
        ];
        let answers: Vec<(&str, u64)> =
            labels.into_iter().zip(&self.answers).map(|(l, c)| (l, of(c))).collect();
        add(
            "warren_gateway_requests_total",
            "counter",
            "Answers of endpoints by class of status.",
            &answers,
        );
        let refused = [("", of(&self.refused))];
        add(
            "warren_gateway_refused_total",
            "counter",
            "Answers that were the gateway's own.",
            &refused,
        );
        let bytes = [
            ("{direction=\"in\"}", of(&self.bytes_in)),
            ("{direction=\"out\"}", of(&self.bytes_out)),
        ];
        add(
            "warren_gateway_bytes_total",
            "counter",
            "Bytes of bodies, tunnels and shells.",
            &bytes,
        );
        let connections = [("", of(&self.connections))];
        add("warren_gateway_connections_total", "counter", "Connections accepted.", &connections);
        let open = [
            ("{kind=\"connection\"}", of(&self.connections_open)),
            ("{kind=\"tunnel\"}", of(&self.tunnels_open)),
            ("{kind=\"shell\"}", of(&self.shells_open)),
        ];
        add("warren_gateway_open", "gauge", "What is open now.", &open);
        text
    }
}

/// Counts down when it is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a AtomicU64);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_stands_in_the_text_with_its_kind() {
        let metrics = Metrics::default();
        metrics.answered(StatusCode::OK);
        metrics.answered(StatusCode::BAD_GATEWAY);
        let held = Metrics::while_held(&metrics.shells_open);
        let text = metrics.render();
        drop(held);
        assert!(text.contains("warren_gateway_requests_total{code=\"2xx\"} 1\n"), "{text}");
        assert!(text.contains("warren_gateway_open{kind=\"shell\"} 1\n"), "{text}");
        assert_eq!(text.matches("# TYPE").count(), 5);
        assert!(metrics.render().contains("warren_gateway_open{kind=\"shell\"} 0\n"));
    }
}
