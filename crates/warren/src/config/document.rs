//! What each key means: in docs/configuration.md, which a test keeps the same, and in the file that
//! `warren init` writes.

use super::written::defaults;
use std::fmt::Write;

/// What each key means: section, key, sentence.
const MEANINGS: &[(&str, &str, &str)] = &[
    (
        "api",
        "listen",
        "Address of the AWS API, of webhooks (`/webhooks/managed-agents`) and of `/healthz`.",
    ),
    ("api", "region", "Region that clients see and sign for."),
    ("api", "account", "Account number in ARNs; 12 digits."),
    ("platform", "listen", "Address of the emulator, `warren platform`."),
    (
        "platform",
        "base_url",
        "Where sessions' work is fetched: the emulator, or the Managed Agents platform itself.",
    ),
    (
        "launcher",
        "environment_id",
        "The self-hosted environment whose sessions are launched here. Empty: none are.",
    ),
    (
        "launcher",
        "mode",
        "`webhook`: the platform delivers to this host, and a session's VM reads the environment key and polls for its item, as AWS's sample has it. `poll`: this host polls, so that it needs no public address, and gives each VM its item alone; the environment key stays here, and sessions that start together do not wait for each other. An image's worker must take `ANTHROPIC_WORK_ID` and `ANTHROPIC_WORK_SECRET` then, as those in `images/` do.",
    ),
    ("launcher", "image", "Image that a session's VM is made from."),
    ("launcher", "max_duration_s", "A session's VM is ended after so many seconds; 1 to 28800."),
    (
        "launcher",
        "at_end",
        "What becomes of a session's VM when its worker has had no work for a while: `terminate`; `suspend`, which has it resumed, processes and files as they were, at the session's next run; or `checkpoint`, which keeps it on disk for as long as you like, to go on from there. An archived session's VM is terminated. With `mode = \"poll\"` it is always `terminate`.",
    ),
    (
        "launcher",
        "suspended_s",
        "With `at_end = \"suspend\"`: a VM whose session does not run again within so many seconds is terminated; 1 to 28800.",
    ),
    (
        "engine",
        "require",
        "`kvm` refuses to start where KVM does not work; `any` falls back to TCG, which is slower and which QEMU's authors do not support as a security boundary.",
    ),
    (
        "engine",
        "accelerator",
        "`auto` measures whether KVM works and takes TCG where it does not; `kvm` and `tcg` choose.",
    ),
    (
        "engine",
        "standby",
        "Clones of the launcher's image that are kept ready, paused, before they are asked for; some 20 MiB each.",
    ),
    (
        "engine",
        "share_dir",
        "The guest kernel and the base image, as `scripts/setup` lays them down. Empty: `/var/lib/warren/share`.",
    ),
    (
        "engine",
        "libexec_dir",
        "The helper programs `warren-jail`, `warren-guest`, `warren-worker`. Empty: `libexec` beside the binary, or `../libexec/warren` where it is installed.",
    ),
    ("gateway", "listen", "Address of the VMs' endpoints."),
    (
        "gateway",
        "suffix",
        "Endpoints are `<name>.lambda-microvm.<region>.<suffix>`. Names below `localhost` lead to this machine by themselves in curl and browsers; for any other a wildcard in DNS must lead here.",
    ),
    (
        "gateway",
        "tls",
        "`optional` serves TLS and plain connections on the one port, `required` TLS alone, `off` none.",
    ),
    (
        "gateway",
        "tls_certificate",
        "File with the certificate of `*.lambda-microvm.<region>.<suffix>` and its chain (PEM). Empty: one by Warren's own authority, which `warren ca` prints.",
    ),
    ("gateway", "tls_key", "File with the certificate's private key (PEM)."),
    (
        "gateway",
        "any_host",
        "`on`: a request whose host is no endpoint may name its VM by the header `x-warren-microvm` or by the path `/_warren/vm/<id>/…`.",
    ),
    ("gateway", "connections_max", "Connections of clients at once; more wait."),
    (
        "gateway",
        "idle_s",
        "A connection with a request, a WebSocket or a tunnel open is closed after so many seconds without a byte.",
    ),
    (
        "gateway",
        "vm_bandwidth",
        "Bytes a second of a VM's endpoint, each way: `off`, a number, or `aws` (1 MB/s for each 512 MiB of memory). What is faster is slowed down.",
    ),
    (
        "gateway",
        "vm_requests",
        "Requests a second of a VM's endpoint: `off`, a number, or `aws` (10 for each 512 MiB). What is more is answered 429.",
    ),
    (
        "gateway",
        "vm_connections",
        "Requests, WebSockets and shells at once of a VM's endpoint: `off`, a number, or `aws` (8 for each 512 MiB). What is more is answered 429.",
    ),
    (
        "image",
        "aliases",
        "What is taken for an image that a Dockerfile names: `NAME=SOURCE`, NAME complete with its tag, SOURCE another name or a file of this host that anyone may read (`oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE`, each with `:NAME` behind it where it holds several).",
    ),
    ("image", "plain_registries", "Registries, as `HOST:PORT`, that are asked without TLS."),
    ("image", "build_memory_mib", "Memory of the processes of one build together, in MiB."),
    ("image", "build_minutes", "Longest time that a Dockerfile may take."),
    (
        "image",
        "kept_gib",
        "Space for the layers and disks of earlier builds together, in GiB; what is beyond goes after a build, the longest unused first. What an image is made from always stays.",
    ),
    (
        "network",
        "internet",
        "`off`: no VM reaches the internet, whatever its connectors say. DNS, the AWS API and the platform are reached as before.",
    ),
    (
        "idle",
        "counts",
        "What keeps a VM with an idle policy awake. `work`: anything that its network carries (a worker that holds a work item sends a heartbeat), and an open request or shell at its endpoint. `ingress`: AWS's rule, bytes at its endpoint alone, which freezes an agent in the middle of a long turn.",
    ),
    (
        "iam",
        "files",
        "JSON files, and directories of IAM documents, with users and roles beside the built-in ones; from the file's directory. `iam` beside the file is read without being named. See [migrating-from-aws.md](migrating-from-aws.md).",
    ),
    (
        "limits",
        "memory_mib",
        "Memory of all VMs together, in MiB; the next RunMicrovm is a ServiceQuotaExceededException. 0: no limit.",
    ),
    ("limits", "images", "Images."),
    ("limits", "image_versions", "Versions of one image."),
    ("limits", "image_builds", "Builds of images under way at once."),
    ("limits", "connectors", "Network connectors."),
    (
        "limits",
        "run_per_s",
        "RunMicrovm a second, and as many at once; more are a ThrottlingException.",
    ),
    ("limits", "resume_per_s", "The same for ResumeMicrovm."),
    ("limits", "suspend_per_s", "The same for SuspendMicrovm."),
    ("limits", "terminate_per_s", "The same for TerminateMicrovm."),
    ("limits", "get_per_s", "The same for GetMicrovm."),
    ("limits", "auth_token_per_s", "The same for CreateMicrovmAuthToken."),
    ("limits", "shell_auth_token_per_s", "The same for CreateMicrovmShellAuthToken."),
    (
        "limits",
        "connectors_per_s",
        "The same for each operation of network connectors, as TooManyRequestsException.",
    ),
    ("limits", "tags_per_s", "The same for each operation of tags."),
    (
        "s3",
        "domains",
        "Hosts whose subdomains are buckets (`<bucket>.<domain>`). Under every other host, and an IP address, the bucket is in the path.",
    ),
    ("log", "json", "`on`: the service logs JSON lines to standard error."),
];

#[cfg(test)]
const HEAD: &str = "\
# Configuration

`warren.toml` lies in the data directory (`--data-dir`, `WARREN_DATA_DIR`, default `/var/lib/warren`);
`--config FILE` or `WARREN_CONFIG` names another. Every key may be left out. A key that does not
exist is an error, named with file and line.

Strongest first: an option of the command line, the environment variable, the file, the default.
The variable of a key is `WARREN_SECTION_KEY`; lists are cut at commas there. Besides these,
`RUST_LOG` chooses what the service logs, `NO_COLOR` turns colours off, and `AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` make the client commands act as somebody else than
the operator.

This page is generated (`WARREN_WRITE_DOCS=1 cargo test -p warren`).
";

/// A `warren.toml` in which every key stands with its meaning and its default, commented out, save
/// for the keys in `set` (section, key, value).
pub(crate) fn commented_file(set: &[(&str, &str, toml::Value)]) -> String {
    let mut file = FILE_HEAD.to_owned();
    for (section, keys) in defaults() {
        let _ = write!(file, "\n[{section}]\n");
        for (key, default) in keys.as_table().into_iter().flatten() {
            let _ = writeln!(file, "# {}", meaning(&section, key));
            match set.iter().find(|(s, k, _)| *s == section && k == key) {
                Some((_, _, value)) => {
                    let _ = writeln!(file, "{key} = {value}");
                }
                None => {
                    let _ = writeln!(file, "#{key} = {default}");
                }
            }
        }
    }
    file
}

const FILE_HEAD: &str = "\
# Warren's configuration. Every key stands here with its default; take away the `#` in front of a key to
# change it. An environment variable WARREN_SECTION_KEY is stronger. docs/configuration.md is the same.
#
# Users, roles and policies are in iam/ beside this file, as the JSON documents of AWS IAM.
";

fn meaning(section: &str, key: &str) -> &'static str {
    MEANINGS
        .iter()
        .find(|(s, k, _)| *s == section && *k == key)
        .map_or("", |(_, _, meaning)| meaning)
}

/// docs/configuration.md as it must be.
#[cfg(test)]
pub(crate) fn configuration_page() -> String {
    let mut page = HEAD.to_owned();
    for (section, keys) in defaults() {
        let _ = write!(
            page,
            "\n## [{section}]\n\n| key | default | meaning | variable |\n| --- | --- | --- | --- |\n"
        );
        for (key, default) in keys.as_table().into_iter().flatten() {
            let meaning = meaning(&section, key);
            let variable = format!("WARREN_{}_{}", section.to_uppercase(), key.to_uppercase());
            let _ = writeln!(page, "| `{key}` | `{default}` | {meaning} | `{variable}` |");
        }
    }
    let _ = write!(
        page,
        "\n## All defaults\n\n```toml\n{}```\n",
        toml::to_string(&defaults()).unwrap_or_default()
    );
    page
}

/// Compares a page in docs/ with what it must be, or writes it where `WARREN_WRITE_DOCS` is set.
#[cfg(test)]
pub(crate) fn assert_page(name: &str, expected: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("WARREN_WRITE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/{name} is out of date: WARREN_WRITE_DOCS=1 cargo test -p warren"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_meaning_and_every_meaning_a_key() {
        let keys: Vec<(String, String)> = defaults()
            .iter()
            .flat_map(|(s, keys)| {
                keys.as_table().unwrap().keys().map(|k| (s.clone(), k.clone())).collect::<Vec<_>>()
            })
            .collect();
        for (section, key) in &keys {
            assert!(MEANINGS.iter().any(|(s, k, _)| s == section && k == key), "{section}.{key}");
        }
        assert_eq!(keys.len(), MEANINGS.len());
    }

    #[test]
    fn the_file_that_init_writes_is_understood_and_sets_what_it_is_told() {
        let set = [("launcher", "image", toml::Value::String("mine".into()))];
        let file = commented_file(&set);
        let read: super::super::Written = toml::from_str(&file).unwrap();
        assert_eq!(read.launcher.image, "mine");
        assert!(file.contains("\n#max_duration_s = 28800\n"), "{file}");
        // Without its `#` every key is one, too.
        let bare: Vec<&str> = file
            .lines()
            .map(|l| l.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(l))
            .collect();
        toml::from_str::<super::super::Written>(&bare.join("\n")).unwrap();
    }

    #[test]
    fn the_page_in_docs_is_this_one() {
        assert_page("configuration.md", &configuration_page());
    }
}
