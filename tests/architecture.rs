//! ARCHITECTURE.md draws which crate may use which; an edge that is not in the drawing fails here.

use libtest_mimic::Trial;
use std::{collections::BTreeMap, path::Path, process::Command};

/// Crate, and the crates of this workspace that it may use.
const EDGES: [(&str, &[&str]); 18] = [
    (
        "warren",
        &[
            "agents", "aws", "control", "egress", "engine", "gateway", "image", "launcher",
            "objects", "platform", "wire",
        ],
    ),
    ("launcher", &["agents"]),
    ("aws", &["control", "objects"]),
    ("egress", &["control", "engine"]),
    ("gateway", &["control"]),
    ("control", &["engine", "wire"]),
    ("image", &["wire"]),
    ("engine", &["wire"]),
    ("guest", &["wire"]),
    ("worker", &["agents"]),
    ("platform", &["agents"]),
    ("agents", &[]),
    ("wire", &[]),
    ("objects", &[]),
    ("jail", &[]),
    ("ramguard", &[]),
    ("e2e", &["agents"]),
    ("bench", &["control", "e2e", "engine", "gateway"]),
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("crates_depend_only_along_the_drawn_arrows", || {
        arrows();
        Ok(())
    })]
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn arrows() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let names: Vec<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let allowed: BTreeMap<_, _> = EDGES.into_iter().collect();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the drawing"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            // Tests may look where the product may not.
            let used = dependency["name"].as_str().expect("a name");
            if dependency["kind"].is_null() && names.contains(&used) {
                assert!(
                    allowed.contains(&used),
                    "{name} uses {used}, which the drawing does not show"
                );
            }
        }
    }
}
