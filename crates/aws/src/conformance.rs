//! The input shapes of this crate against the service models that botocore brings: every member of
//! the model is here, in the same place, with the same limits.

use crate::{
    SERVICES,
    shape::{Location, Member, Presence, Shape, UNLIMITED},
};
use serde_json::{Map, Value, json};
use std::{path::PathBuf, process::Command};

/// Where we differ on purpose: service, operation, member. Each is told in docs/aws-compatibility.md.
const DIFFERENT: &[(&str, &str, &str)] = &[
    // Travels in a header, so it has an end.
    ("sts", "AssumeRole", "Policy"),
    // A range of characters that regular expressions of Rust write differently.
    ("sts", "AssumeRole", "RoleArn"),
];

/// A shape as `model.py` writes that of a model.
fn written(shape: &Shape) -> Value {
    let most = |max: usize| if max == UNLIMITED { Value::Null } else { json!(max) };
    match shape {
        Shape::Text { min, max, pattern, .. } => {
            json!({"type": "string", "min": min, "max": most(*max),
                   "pattern": pattern.as_ref().map(|pattern| pattern.text())})
        }
        Shape::Choice(choices) => json!({"type": "string", "enum": choices}),
        Shape::Blob { min, max } => json!({"type": "blob", "min": min, "max": most(*max)}),
        Shape::Integer { min, max } => json!({"type": "integer",
            "min": (*min != i64::MIN).then_some(min), "max": (*max != i64::MAX).then_some(max)}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::List { min, max, of } => {
            json!({"type": "list", "min": min, "max": most(*max), "of": written(of)})
        }
        Shape::Map { min, max, key, value } => {
            json!({"type": "map", "min": min, "max": most(*max), "key": written(key), "value": written(value)})
        }
        Shape::Structure(members) => json!({"type": "structure", "members": all(members)}),
        Shape::Union(members) => json!({"type": "union", "members": all(members)}),
    }
}

fn all(members: &[Member]) -> Map<String, Value> {
    members
        .iter()
        .map(|member| {
            let location = match member.location {
                Location::Body => Value::Null,
                Location::Label => json!("uri"),
                Location::Query(_) => json!("querystring"),
            };
            let description = match member.presence {
                Presence::Unavailable => Value::Null,
                presence => json!({"required": presence == Presence::Required,
                                   "location": location, "shape": written(member.shape)}),
            };
            (member.name.to_owned(), description)
        })
        .collect()
}

#[test]
fn inputs_are_those_of_the_service_models() {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let oracles = std::env::var_os("WARREN_ORACLES")
        .map_or_else(|| manifest.join("../../target/oracles"), PathBuf::from);
    let python = oracles.join("venv/bin/python3");
    assert!(python.exists(), "{} is missing; run: scripts/oracles", python.display());
    let output =
        Command::new(python).arg(manifest.join("tests/oracles/model.py")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let models: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut differences = Vec::new();
    for service in SERVICES {
        for operation in service.operations {
            let model = &models[service.signing_name][operation.name];
            let mut difference = |text: String| {
                differences.push(format!("{} {}: {text}", service.signing_name, operation.name));
            };
            if model.is_null() {
                difference("not in the model".to_owned());
                continue;
            }
            let route =
                operation.route.as_ref().map(|(method, path)| json!([method.as_str(), path]));
            if route.is_some_and(|route| route != model["route"]) {
                difference(format!("its route is {}", model["route"]));
            }
            let ours = all(operation.input.members());
            let theirs = model["members"].as_object().unwrap();
            for (name, theirs) in theirs {
                let wanted =
                    !DIFFERENT.contains(&(service.signing_name, operation.name, name.as_str()));
                match ours.get(name) {
                    None => difference(format!("{name} is missing")),
                    Some(ours) if wanted && !ours.is_null() && ours != theirs => {
                        difference(format!("{name} is\n  {ours}\nnot\n  {theirs}"));
                    }
                    Some(_) => {}
                }
            }
            for name in ours.keys().filter(|name| !theirs.contains_key(*name)) {
                difference(format!("{name} is not in the model"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_operation_of_lambda_microvms_is_known_by_name() {
    let lambda = SERVICES.iter().filter(|service| service.signing_name == "lambda");
    let known = lambda.map(|service| service.operations.len() + service.unavailable.len());
    assert_eq!(known.sum::<usize>(), 24 + 6);
}
