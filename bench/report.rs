//! The figures: medians of samples by name, and their ratios beside the goals.

use serde_json::{Value, json};
use std::fmt::Write as _;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Ms,
    S,
    Mib,
}

impl Unit {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ms => "ms",
            Self::S => "s",
            Self::Mib => "MiB",
        }
    }
}

#[derive(Debug)]
struct Measure {
    name: String,
    unit: Unit,
    /// In the order in which they were taken.
    samples: Vec<f64>,
}

/// What a median is compared with.
#[derive(Debug, Clone, Copy)]
enum Base {
    Median(&'static str),
    Absolute,
}

/// A goal: the median of `what`, over that of the base, is at most `at_most`.
#[derive(Debug, Clone, Copy)]
struct Goal {
    what: &'static str,
    base: Base,
    at_most: f64,
}

const GOALS: [Goal; 14] = [
    Goal { what: "launch_standby_512", base: Base::Median("cold_boot"), at_most: 0.1 },
    Goal { what: "launch_clone_512", base: Base::Median("cold_boot"), at_most: 0.1 },
    Goal { what: "launch_standby_2048", base: Base::Median("launch_standby_512"), at_most: 1.2 },
    Goal { what: "launch_clone_2048", base: Base::Median("launch_clone_512"), at_most: 1.2 },
    Goal { what: "pss_idle_standby_512", base: Base::Absolute, at_most: 50.0 },
    Goal { what: "pss_idle_clone_512", base: Base::Absolute, at_most: 50.0 },
    Goal { what: "pss_idle_of_8", base: Base::Absolute, at_most: 50.0 },
    Goal { what: "worker_rss", base: Base::Absolute, at_most: 12.0 },
    Goal { what: "suspend_50_dirty", base: Base::Absolute, at_most: 150.0 },
    Goal { what: "resume_50_dirty_to_hook", base: Base::Absolute, at_most: 200.0 },
    Goal { what: "resume_50_dirty_to_hook", base: Base::Median("cold_boot"), at_most: 0.2 },
    Goal { what: "suspended_50_dirty", base: Base::Absolute, at_most: 60.0 },
    Goal { what: "fork_pause_50_dirty", base: Base::Absolute, at_most: 80.0 },
    Goal { what: "forks_16", base: Base::Absolute, at_most: 1500.0 },
];

#[derive(Debug)]
pub(crate) struct Report {
    runs: u32,
    measures: Vec<Measure>,
}

impl Measure {
    /// Min, median and max; none without samples.
    fn spread(&self) -> Option<[f64; 3]> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some([*sorted.first()?, f64::midpoint(lower, upper), *sorted.last()?])
    }
}

impl Report {
    pub(crate) fn new(runs: u32) -> Self {
        Self { runs, measures: Vec::new() }
    }

    /// Adds samples to the measure of this name.
    pub(crate) fn add(&mut self, name: &str, unit: Unit, samples: Vec<f64>) {
        match self.measures.iter_mut().find(|measure| measure.name == name) {
            Some(measure) => measure.samples.extend(samples),
            None => self.measures.push(Measure { name: name.to_owned(), unit, samples }),
        }
    }

    fn unit(&self, name: &str) -> &'static str {
        let measure = self.measures.iter().find(|measure| measure.name == name);
        measure.map_or("-", |measure| measure.unit.as_str())
    }

    fn median(&self, name: &str) -> Option<f64> {
        let measure = self.measures.iter().find(|measure| measure.name == name)?;
        measure.spread().map(|[_, median, _]| median)
    }

    fn reached(&self, goal: Goal) -> Option<f64> {
        let median = self.median(goal.what)?;
        match goal.base {
            Base::Median(base) => Some(median / self.median(base)?),
            Base::Absolute => Some(median),
        }
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<36} {:>4} {:>10} {:>10} {:>10} {:>4}\n",
            "what", "unit", "min", "median", "max", "n"
        );
        for measure in &self.measures {
            let [min, median, max] = measure.spread().unwrap_or([f64::NAN; 3]);
            let (name, unit, n) = (&measure.name, measure.unit.as_str(), measure.samples.len());
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{name:<36} {unit:>4} {min:>10.1} {median:>10.1} {max:>10.1} {n:>4}"
            );
        }
        let _ = writeln!(text, "\n{:<47} {:>10} {:>10}", "ratio or median", "is", "goal");
        for goal in GOALS {
            let what = match goal.base {
                Base::Median(base) => format!("{} / {base}", goal.what),
                Base::Absolute => format!("{}, {}", goal.what, self.unit(goal.what)),
            };
            let is = self.reached(goal).map_or("-".into(), |is| format!("{is:.3}"));
            let _ = writeln!(text, "{what:<47} {is:>10} {:>10}", format!("<= {}", goal.at_most));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let measures = self.measures.iter().map(|measure| {
            let [min, median, max] = measure.spread().unwrap_or([f64::NAN; 3]);
            let Measure { name, samples, unit } = measure;
            json!({ "what": name, "unit": unit.as_str(), "min": min, "median": median, "max": max,
                    "n": samples.len(), "samples": samples })
        });
        let goals = GOALS.map(|goal| {
            let over = match goal.base {
                Base::Median(base) => Some(base),
                Base::Absolute => None,
            };
            json!({ "what": goal.what, "over": over, "is": self.reached(goal),
                    "at_most": goal.at_most })
        });
        json!({ "runs": self.runs, "measures": measures.collect::<Vec<_>>(), "goals": goals })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_medians_whatever_the_order_of_samples() {
        let mut report = Report::new(4);
        report.add("cold_boot", Unit::Ms, vec![400.0, 100.0, 9000.0, 200.0]);
        report.add("launch_clone_512", Unit::Ms, vec![60.0, 20.0]);
        report.add("launch_clone_512", Unit::Ms, vec![30.0]);
        assert_eq!(report.median("cold_boot"), Some(300.0));
        assert_eq!(report.reached(GOALS[1]), Some(0.1));
    }

    #[test]
    fn what_was_not_measured_has_no_ratio() {
        let mut report = Report::new(1);
        report.add("launch_standby_512", Unit::Ms, vec![20.0]);
        assert_eq!(report.reached(GOALS[0]), None);
        assert_eq!(report.json()["goals"][0]["is"], Value::Null);
    }
}
