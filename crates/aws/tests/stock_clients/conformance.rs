//! Every operation of `lambda-microvms` and of network connectors against botocore's model of it,
//! and the report of that in docs/aws-compatibility.md.

use super::world::{World, succeed};
use aws::Rates;
use control::Quotas;
use serde::Deserialize;
use std::{collections::BTreeMap, fmt::Write, path::PathBuf};

#[derive(Deserialize)]
struct Report {
    operations: BTreeMap<String, Row>,
    failures: Vec<String>,
    /// Operation and member, as patterns; why.
    differences: Vec<(String, String, String)>,
}

#[derive(Deserialize)]
struct Row {
    members: u32,
    cases: u32,
    accepted: u32,
    refused: u32,
}

const BEGIN: &str = "<!-- conformance: written by the test -->\n";
const END: &str = "<!-- conformance: end -->\n";

impl Report {
    /// The section in docs/aws-compatibility.md.
    fn page(&self) -> String {
        let mut page = String::from(
            "| operation | members | cases | accepted | refused |\n| --- | --- | --- | --- | --- |\n",
        );
        let mut all = Row { members: 0, cases: 0, accepted: 0, refused: 0 };
        for (operation, row) in &self.operations {
            let Row { members, cases, accepted, refused } = row;
            let _ =
                writeln!(page, "| {operation} | {members} | {cases} | {accepted} | {refused} |");
            all.members += members;
            all.cases += cases;
            all.accepted += accepted;
            all.refused += refused;
        }
        let Row { members, cases, accepted, refused } = all;
        let _ = writeln!(page, "| **all** | {members} | {cases} | {accepted} | {refused} |");
        page.push_str("\nRules beyond the model that were met, each held to its own error:\n\n");
        page.push_str("| operation | member | rule |\n| --- | --- | --- |\n");
        for (operation, member, why) in &self.differences {
            let plain = |pattern: &str| pattern.replace('\\', "").replace('|', "\\|");
            let _ = writeln!(page, "| `{}` | `{}` | {why} |", plain(operation), plain(member));
        }
        page
    }
}

fn without_limits() -> Quotas {
    Quotas {
        memory_mib: None,
        images: None,
        image_versions: None,
        concurrent_builds: None,
        connectors: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_of_every_operation_is_held_to_its_model() {
    let world = World::limited(Rates::unlimited(), without_limits()).await;
    let output = succeed(world.python("conformance.py")).await;
    world.stop().await;
    let report: Report = serde_json::from_str(&output).unwrap();
    assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    assert_eq!(report.operations.len(), 24 + 6);

    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/aws-compatibility.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page has a place for the report");
    let (written, after) = rest.split_once(END).expect("the place has an end");
    if std::env::var_os("WARREN_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", report.page())).unwrap();
    } else {
        assert_eq!(
            written,
            report.page(),
            "run: WARREN_WRITE_DOCS=1 cargo test -p aws conformance"
        );
    }
}
