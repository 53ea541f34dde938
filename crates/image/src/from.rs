//! The images that a Dockerfile begins with or copies from: found in its text, and where each comes
//! from on this host.
//!
//! Each is brought into the storage before the build, in the host's network and by the operator's
//! configuration (aliases, mirrors, registries without TLS); what the artifact itself says reaches the
//! build's own network only. So the build knows by digest what it is based on.

use crate::{base::BASE_NAME, error::BuildError};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

/// Transports of local files, as the containers tools name them.
const LOCAL: [&str; 4] = ["oci", "oci-archive", "docker-archive", "dir"];

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Warren's own base.
    Base,
    Registry {
        /// As `buildah pull` takes it.
        reference: String,
    },
    /// A layout or archive on this host.
    Local {
        transport: String,
        path: PathBuf,
        /// Name in the layout or archive, with its colon; may be empty.
        name: String,
    },
}

impl Source {
    /// As the containers tools write it.
    pub(crate) fn reference(&self) -> String {
        match self {
            Self::Base => BASE_NAME.to_owned(),
            Self::Registry { reference } => reference.clone(),
            Self::Local { transport, path, name } => {
                format!("{transport}:{}{name}", path.display())
            }
        }
    }

    /// Host and port where it is fetched; None where it is not fetched over a network.
    pub(crate) fn registry(&self) -> Option<&str> {
        match self {
            Self::Base | Self::Local { .. } => None,
            Self::Registry { reference } => {
                let name = reference.strip_prefix("docker://").unwrap_or(reference);
                let (host, _) = name.split_once('/')?;
                (host.contains(['.', ':']) || host == "localhost").then_some(host)
            }
        }
    }
}

/// Who says where an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaker<'a> {
    Operator,
    /// Whose files are in this directory, and who may name no others.
    Artifact(&'a Path),
}

/// Every image that the Dockerfile names, by its name there.
pub(crate) fn sources(
    dockerfile: &str,
    context: &Path,
    aliases: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Source>, BuildError> {
    named(dockerfile)
        .into_iter()
        .map(|name| {
            let source = if name == BASE_NAME {
                Source::Base
            } else if let Some(target) = aliases.get(&name) {
                source(target, Speaker::Operator)?
            } else {
                source(&name, Speaker::Artifact(context))?
            };
            Ok((name, source))
        })
        .collect()
}

fn source(text: &str, speaker: Speaker<'_>) -> Result<Source, BuildError> {
    if text == BASE_NAME {
        return Ok(Source::Base);
    }
    let local = text.split_once(':').filter(|(transport, _)| LOCAL.contains(transport));
    let Some((transport, rest)) = local else {
        return Ok(Source::Registry { reference: text.to_owned() });
    };
    let (path, name) = match rest.find(':') {
        Some(colon) => rest.split_at(colon),
        None => (rest, ""),
    };
    let path = match speaker {
        Speaker::Operator => PathBuf::from(path),
        Speaker::Artifact(context) => {
            let inside = Path::new(path);
            let stays = inside
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            if !stays {
                return Err(BuildError::BaseOutside { reference: text.to_owned() });
            }
            context.join(inside)
        }
    };
    Ok(Source::Local { transport: transport.to_owned(), path, name: name.to_owned() })
}

/// Names in FROM, COPY --from and RUN --mount=from that are images: not stages, not `scratch`.
fn named(dockerfile: &str) -> BTreeSet<String> {
    let mut arguments = BTreeMap::new();
    let mut stages = BTreeSet::from(["scratch".to_owned()]);
    let mut names = BTreeSet::new();
    let mut note = |name: String, stages: &BTreeSet<String>| {
        let stage = stages.contains(&name.to_lowercase()) || name.parse::<u32>().is_ok();
        // One with a variable that has no default is left to buildah to complain about.
        if !stage && !name.is_empty() && !name.contains('$') {
            names.insert(name);
        }
    };
    for line in instructions(dockerfile) {
        let mut words = line.split_whitespace();
        let instruction = words.next().unwrap_or_default().to_ascii_uppercase();
        match instruction.as_str() {
            "ARG" => {
                for (name, value) in words.filter_map(|word| word.split_once('=')) {
                    let value = expand(value.trim_matches(['"', '\'']), &arguments);
                    arguments.insert(name.to_owned(), value);
                }
            }
            "FROM" => {
                let mut words = words.filter(|word| !word.starts_with("--"));
                note(expand(words.next().unwrap_or_default(), &arguments), &stages);
                if words.next().is_some_and(|word| word.eq_ignore_ascii_case("as")) {
                    stages.extend(words.next().map(str::to_lowercase));
                }
            }
            "COPY" | "ADD" | "RUN" => {
                for option in words.take_while(|word| word.starts_with("--")) {
                    let from = option.strip_prefix("--from=").or_else(|| {
                        let mount = option.strip_prefix("--mount=")?;
                        mount.split(',').find_map(|part| part.strip_prefix("from="))
                    });
                    if let Some(from) = from {
                        note(expand(from, &arguments), &stages);
                    }
                }
            }
            _ => {}
        }
    }
    names
}

/// Lines without comments, those that end in a backslash joined with the next.
fn instructions(dockerfile: &str) -> Vec<String> {
    let mut whole = Vec::new();
    let mut open = String::new();
    for line in dockerfile.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(begun) => {
                open.push_str(begun);
                open.push(' ');
            }
            None => whole.push(std::mem::take(&mut open) + line),
        }
    }
    whole.push(open);
    whole
}

/// `$NAME`, `${NAME}` and `${NAME:-default}` of the build arguments' defaults.
fn expand(text: &str, arguments: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, after) = rest.split_at(dollar);
        expanded.push_str(before);
        let after = after.get(1..).unwrap_or_default();
        let (variable, remainder) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').unwrap_or((braced, "")),
            None => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !is_part(c)).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        let (name, default) = match variable.split_once(":-") {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (variable, None),
        };
        let value = arguments.get(name).cloned().filter(|value| !value.is_empty()).or(default);
        expanded.push_str(&value.unwrap_or_else(|| format!("${name}")));
        rest = remainder;
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_and_stages_are_not() {
        let dockerfile = "ARG TAG=3.12\nFROM --platform=linux/amd64 python:${TAG} AS Build\n\
            RUN --mount=type=bind,from=tools:1,target=/t true\n# FROM comment\n\
            FROM \\\n  debian:$SUITE\nCOPY --from=build /a /a\nCOPY --from=0 /b /b\n\
            COPY --from=busybox:1 /c /c\nFROM ${NONE:-alpine}\nFROM scratch\nFROM build\n";
        let expected = ["alpine", "busybox:1", "python:3.12", "tools:1"];
        assert_eq!(named(dockerfile).into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_alias_says_where_an_image_is() {
        let aliases = BTreeMap::from([
            ("python:3".to_owned(), "oci-archive:/srv/python.tar".to_owned()),
            ("base".to_owned(), BASE_NAME.to_owned()),
            ("node".to_owned(), "docker://mirror.local:5000/node:22".to_owned()),
        ]);
        let dockerfile = "FROM python:3\nFROM base\nFROM node\nFROM debian\n";
        let found = sources(dockerfile, Path::new("/c"), &aliases).unwrap();
        assert_eq!(found["python:3"].reference(), "oci-archive:/srv/python.tar");
        assert_eq!(found["base"], Source::Base);
        assert_eq!(found["node"].registry(), Some("mirror.local:5000"));
        assert_eq!(
            (found["debian"].reference().as_str(), found["debian"].registry()),
            ("debian", None)
        );
    }

    #[test]
    fn an_artifact_names_files_of_its_own_only() {
        let found = |name: &str| {
            let dockerfile = format!("FROM {name}\n");
            sources(&dockerfile, Path::new("/c"), &BTreeMap::new())
        };
        let inside = found("oci:layout/x:latest").unwrap();
        assert_eq!(inside["oci:layout/x:latest"].reference(), "oci:/c/layout/x:latest");
        for outside in ["oci:/etc", "oci-archive:../x.tar", "dir:a/../../b"] {
            assert!(matches!(found(outside), Err(BuildError::BaseOutside { .. })), "{outside}");
        }
    }
}
