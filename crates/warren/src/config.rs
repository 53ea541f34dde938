//! Configuration in two stages: what the operator wrote ([`Written`]), and what the program needs
//! ([`Settings`]). [`resolve`] lies between them, is the only place that looks at the environment,
//! and names every fault with its file and line, or its variable.
//!
//! Precedence, strongest first: option of the command line, `WARREN_SECTION_KEY`, `warren.toml`,
//! built-in default.

/// Whether VMs reach this platform by egress' relay, since it is on this host or one of its private networks,
/// which are closed to them.
pub(crate) fn is_relayed(platform: &url::Url) -> bool {
    match platform.host() {
        Some(url::Host::Ipv4(ip)) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared
        }
        Some(url::Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        Some(url::Host::Domain(name)) => name == "localhost" || !name.contains('.'),
        None => false,
    }
}

mod document;
mod gateway;
mod limits;
mod written;

#[cfg(test)]
pub(crate) use document::assert_page;
pub(crate) use document::commented_file;
pub(crate) use gateway::{CertificateFrom, Gateway, Tls};
pub(crate) use written::{Accelerator, AtEnd, Counts, LauncherMode, Require, Switch, Written};

use crate::{
    args::Global,
    failure::{Exit, Remedy},
};
use agents::Secret;
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// The environment as it was handed to the process.
pub type Env = BTreeMap<String, String>;

const DATA_DIR: &str = "/var/lib/warren";
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Everything that the program needs to know, checked and complete.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) api_listen: SocketAddr,
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) platform_listen: SocketAddr,
    pub(crate) platform_url: url::Url,
    pub(crate) launcher: Launcher,
    pub(crate) engine: Engine,
    pub(crate) gateway: Gateway,
    /// Whether VMs reach the internet where their connectors open it.
    pub(crate) internet: Switch,
    pub(crate) idle_counts: Counts,
    /// Directories and files with IAM policies beside the built-in ones.
    pub(crate) iam_files: Vec<PathBuf>,
    pub(crate) image: Image,
    pub(crate) limits: limits::Limits,
    /// Hosts whose subdomains are buckets.
    pub(crate) s3_domains: Vec<String>,
    pub(crate) log_json: Switch,
    /// What `TERM` says, for shells in VMs.
    pub(crate) term: String,
    /// What `RUST_LOG` says, where it is set.
    pub(crate) log_filter: Option<String>,
    /// What `WARREN_MODEL_KEY` says: the key of a model's server.
    pub(crate) model_key: Option<Secret>,
    /// `AWS_ACCESS_KEY_ID` and its companions, where the operator wants to be somebody else.
    pub(crate) credentials: Option<Credentials>,
}

#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    /// None: `warren up` serves no platform, only the AWS API.
    pub(crate) environment_id: Option<String>,
    pub(crate) mode: LauncherMode,
    pub(crate) image: String,
    pub(crate) max_duration: Duration,
    pub(crate) at_end: AtEnd,
    /// How long a session's VM stays suspended.
    pub(crate) suspended: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) require: Require,
    pub(crate) accelerator: Accelerator,
    /// Clones kept ready for each image.
    pub(crate) standby: u8,
    /// The guest kernel and the base image.
    pub(crate) share_dir: PathBuf,
    /// The helper programs: jail, guest, worker.
    pub(crate) libexec_dir: PathBuf,
}

/// What builds of images may use.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// By the name in a Dockerfile.
    pub(crate) aliases: Vec<(String, String)>,
    pub(crate) plain_registries: Vec<String>,
    pub(crate) build_memory_bytes: u64,
    pub(crate) build_time: Duration,
    pub(crate) kept_bytes: u64,
}

/// An AWS access key.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// What can be wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{path}: cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path}: larger than {FILE_BYTES_MAX} bytes")]
    TooLong { path: PathBuf },
    #[error("{path}, line {line}, {key}: {reason}")]
    File { path: PathBuf, line: usize, key: String, reason: String },
    #[error("environment variable {name}: {reason}")]
    Variable { name: String, reason: String },
    #[error("{key} = {value:?}: {reason}")]
    Value { key: &'static str, value: String, reason: &'static str },
    #[error("the program's own path cannot be found")]
    OwnPath(#[source] io::Error),
}

impl Remedy for ConfigError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { .. } => "check that the file exists and may be read".into(),
            Self::TooLong { .. } => "this is hardly a warren.toml".into(),
            Self::File { .. } | Self::Variable { .. } | Self::Value { .. } => {
                "every key is described in docs/configuration.md".into()
            }
            Self::OwnPath(_) => "set engine.libexec_dir".into(),
        })
    }
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Settles what holds: options over environment over file over defaults.
///
/// # Errors
/// A file that cannot be read, a key that does not exist, a value that does not fit.
pub(crate) fn resolve(
    options: &Global,
    env: &Env,
    exe: io::Result<PathBuf>,
) -> Result<Settings, ConfigError> {
    let data_dir = options
        .data_dir
        .clone()
        .or_else(|| set(env, "WARREN_DATA_DIR").map(PathBuf::from))
        .unwrap_or_else(|| DATA_DIR.into());
    let data_dir = std::path::absolute(&data_dir)
        .map_err(|source| ConfigError::Unreadable { path: data_dir, source })?;
    let (path, text) = read_file(options, env, &data_dir)?;
    let table = parse_file(&path, &text)?;
    let mut written = overlay_environment(table, env)?;
    written.iam.files = iam_files(written.iam.files, &path);
    settle(written, data_dir, env, exe)
}

/// Where identities are read from: what is named, from the file's own directory, after `iam` beside
/// it where that is there.
fn iam_files(named: Vec<PathBuf>, config: &Path) -> Vec<PathBuf> {
    let beside = config.parent().unwrap_or(Path::new("/"));
    let own = Some(beside.join("iam")).filter(|dir| dir.is_dir());
    own.into_iter().chain(named.into_iter().map(|path| beside.join(path))).collect()
}

fn set<'e>(env: &'e Env, name: &str) -> Option<&'e str> {
    env.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// The file's text; empty where none was named and the usual one is not there.
fn read_file(
    options: &Global,
    env: &Env,
    data_dir: &Path,
) -> Result<(PathBuf, String), ConfigError> {
    let named = options.config.clone().or_else(|| set(env, "WARREN_CONFIG").map(PathBuf::from));
    let must_exist = named.is_some();
    let path = named.unwrap_or_else(|| data_dir.join("warren.toml"));
    let unreadable = |source| ConfigError::Unreadable { path: path.clone(), source };
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !must_exist => {
            return Ok((path, String::new()));
        }
        Err(e) => return Err(unreadable(e)),
        Ok(meta) if meta.len() > FILE_BYTES_MAX => return Err(ConfigError::TooLong { path }),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(&path).map_err(unreadable)?;
    Ok((path, text))
}

/// Checks the file by itself, so that a fault is named with its line.
fn parse_file(path: &Path, text: &str) -> Result<toml::Table, ConfigError> {
    let fault = |e: &toml::de::Error| {
        let at = e.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        ConfigError::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            key: key_at(text, at),
            reason: e.message().trim().to_owned(),
        }
    };
    toml::from_str::<Written>(text).map_err(|e| fault(&e))?;
    toml::from_str(text).map_err(|e| fault(&e))
}

/// `section.key` of the line that holds byte `at`.
fn key_at(text: &str, at: usize) -> String {
    let line_start = text.get(..at).and_then(|t| t.rfind('\n')).map_or(0, |i| i + 1);
    let line = text.get(line_start..).and_then(|t| t.lines().next()).unwrap_or("").trim();
    if line.starts_with('[') {
        return line.trim_matches(['[', ']']).to_owned();
    }
    let key = line.split('=').next().unwrap_or("").trim();
    let section = text
        .get(..line_start)
        .and_then(|t| t.lines().rev().map(str::trim).find(|l| l.starts_with('[')));
    match section {
        Some(section) => format!("{}.{key}", section.trim_matches(['[', ']'])),
        None => key.to_owned(),
    }
}

/// Lays each `WARREN_SECTION_KEY` over the file, one by one, so that the one at fault is known.
fn overlay_environment(mut table: toml::Table, env: &Env) -> Result<Written, ConfigError> {
    let defaults = written::defaults();
    for (section, keys) in &defaults {
        let Some(keys) = keys.as_table() else { continue };
        let prefix = format!("WARREN_{}_", section.to_uppercase());
        for (name, text) in env.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            let fault = |reason: String| ConfigError::Variable { name: name.clone(), reason };
            let key = name[prefix.len()..].to_lowercase();
            let default = keys
                .get(&key)
                .ok_or_else(|| fault(format!("there is no key {key} in section [{section}]")))?;
            let value = value_of(text, default)
                .ok_or_else(|| fault(format!("{text:?} is not of the kind of {default}")))?;
            let entry = table
                .entry(section.clone())
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let Some(entry) = entry.as_table_mut() {
                entry.insert(key, value);
            }
            let checked: Result<Written, _> = table.clone().try_into();
            checked.map_err(|e| fault(e.message().trim().to_owned()))?;
        }
    }
    table.try_into().map_err(|e: toml::de::Error| ConfigError::Variable {
        name: "WARREN_…".into(),
        reason: e.message().trim().to_owned(),
    })
}

/// A variable's text as a value of the same kind as the key's default; lists are cut at commas.
fn value_of(text: &str, default: &toml::Value) -> Option<toml::Value> {
    match default {
        toml::Value::String(_) => Some(toml::Value::String(text.into())),
        toml::Value::Integer(_) => text.parse().ok().map(toml::Value::Integer),
        toml::Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(toml::Value::Array(items.map(|i| toml::Value::String(i.into())).collect()))
        }
        toml::Value::Boolean(_)
        | toml::Value::Float(_)
        | toml::Value::Datetime(_)
        | toml::Value::Table(_) => None,
    }
}

fn settle(
    written: Written,
    data_dir: PathBuf,
    env: &Env,
    exe: io::Result<PathBuf>,
) -> Result<Settings, ConfigError> {
    let Written {
        api,
        platform,
        launcher,
        engine,
        image,
        gateway,
        network,
        idle,
        iam,
        limits,
        s3,
        log,
    } = written;
    check("api.region", &api.region, "letters, digits and '-'", |c| {
        c.is_ascii_alphanumeric() || c == '-'
    })?;
    check("api.account", &api.account, "12 digits", |c| c.is_ascii_digit())?;
    if api.account.len() != 12 {
        return Err(value_error("api.account", &api.account, "12 digits"));
    }
    if !(1..=28_800).contains(&launcher.max_duration_s) {
        let value = launcher.max_duration_s.to_string();
        return Err(value_error("launcher.max_duration_s", &value, "1 to 28800 seconds"));
    }
    if !(1..=28_800).contains(&launcher.suspended_s) {
        let value = launcher.suspended_s.to_string();
        return Err(value_error("launcher.suspended_s", &value, "1 to 28800 seconds"));
    }
    let platform_url = url::Url::parse(&platform.base_url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            value_error("platform.base_url", &platform.base_url, "an http or https address")
        })?;
    if platform_url.scheme() == "https" && is_relayed(&platform_url) {
        let reason = "VMs reach an address of this host or its private networks by a relay that speaks http: \
             give the platform's http address, or a public name";
        return Err(value_error("platform.base_url", &platform.base_url, reason));
    }
    let libexec_dir = match engine.libexec_dir {
        dir if dir.as_os_str().is_empty() => libexec_beside(&exe.map_err(ConfigError::OwnPath)?),
        dir => dir,
    };
    let share_dir = match engine.share_dir {
        dir if dir.as_os_str().is_empty() => Path::new(DATA_DIR).join("share"),
        dir => dir,
    };
    let gateway = gateway.settle(&api.region, &data_dir)?;
    Ok(Settings {
        gateway,
        api_listen: api.listen,
        region: api.region,
        account: api.account,
        platform_listen: platform.listen,
        platform_url,
        launcher: Launcher {
            environment_id: Some(launcher.environment_id).filter(|id| !id.is_empty()),
            mode: launcher.mode,
            image: launcher.image,
            max_duration: Duration::from_secs(launcher.max_duration_s.into()),
            at_end: launcher.at_end,
            suspended: Duration::from_secs(launcher.suspended_s.into()),
        },
        engine: Engine {
            require: engine.require,
            accelerator: engine.accelerator,
            standby: engine.standby,
            share_dir,
            libexec_dir,
        },
        image: read_image(image)?,
        internet: network.internet,
        idle_counts: idle.counts,
        iam_files: iam.files,
        limits,
        s3_domains: s3.domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
        log_json: log.json,
        term: set(env, "TERM").unwrap_or("xterm").to_owned(),
        log_filter: set(env, "RUST_LOG").map(str::to_owned),
        model_key: set(env, "WARREN_MODEL_KEY").map(Secret::new),
        credentials: credentials(env),
        data_dir,
    })
}

fn read_image(image: written::Image) -> Result<Image, ConfigError> {
    let alias = |text: &String| match text.split_once('=') {
        Some((name, source)) if !name.is_empty() && !source.is_empty() => {
            Ok((name.to_owned(), source.to_owned()))
        }
        Some(_) | None => Err(value_error("image.aliases", text, "NAME=SOURCE")),
    };
    if image.build_memory_mib == 0 {
        return Err(value_error("image.build_memory_mib", "0", "a build needs memory"));
    }
    Ok(Image {
        aliases: image.aliases.iter().map(alias).collect::<Result<_, _>>()?,
        plain_registries: image.plain_registries,
        build_memory_bytes: image.build_memory_mib.saturating_mul(1 << 20),
        build_time: Duration::from_secs(image.build_minutes.saturating_mul(60)),
        kept_bytes: image.kept_gib.saturating_mul(1 << 30),
    })
}

fn value_error(key: &'static str, value: &str, reason: &'static str) -> ConfigError {
    ConfigError::Value { key, value: value.to_owned(), reason }
}

fn check(
    key: &'static str,
    value: &str,
    reason: &'static str,
    good: impl Fn(char) -> bool,
) -> Result<(), ConfigError> {
    if !value.is_empty() && value.chars().all(good) {
        Ok(())
    } else {
        Err(value_error(key, value, reason))
    }
}

/// Beside the binary after a build (`libexec`), or in `PREFIX/libexec/warren` of a binary that is
/// installed as `PREFIX/bin/warren`.
fn libexec_beside(exe: &Path) -> PathBuf {
    let dir = exe.parent().unwrap_or(Path::new("/"));
    let installed = dir.parent().map(|prefix| prefix.join("libexec/warren"));
    match installed {
        Some(installed) if installed.is_dir() => installed,
        Some(_) | None => dir.join("libexec"),
    }
}

fn credentials(env: &Env) -> Option<Credentials> {
    Some(Credentials {
        access_key_id: set(env, "AWS_ACCESS_KEY_ID")?.to_owned(),
        secret_access_key: set(env, "AWS_SECRET_ACCESS_KEY")?.to_owned(),
        session_token: set(env, "AWS_SESSION_TOKEN").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(config: Option<&Path>) -> Global {
        Global {
            data_dir: Some("/nonexistent/warren".into()),
            config: config.map(Path::to_owned),
            json: false,
            quiet: false,
            verbose: 0,
            color: crate::args::When::Auto,
        }
    }

    fn resolved(text: &str, env: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("warren.toml");
        std::fs::write(&path, text).unwrap();
        let env = env.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        resolve(&options(Some(&path)), &env, Ok("/opt/warren/bin/warren".into()))
    }

    fn fault(text: &str, env: &[(&str, &str)]) -> String {
        let message = resolved(text, env).unwrap_err().to_string();
        match message.split_once("warren.toml") {
            Some((_, rest)) => format!("warren.toml{rest}"),
            None => message,
        }
    }

    #[test]
    fn without_a_file_the_defaults_hold() {
        let env = Env::new();
        let settings = resolve(&options(None), &env, Ok("/opt/bin/warren".into())).unwrap();
        assert_eq!(settings.api_listen.to_string(), "127.0.0.1:7420");
        assert_eq!(settings.data_dir, Path::new("/nonexistent/warren"));
        assert_eq!(settings.engine.libexec_dir, Path::new("/opt/bin/libexec"));
    }

    #[test]
    fn a_file_that_was_named_must_exist() {
        let missing = options(Some(Path::new("/nonexistent/x.toml")));
        let error = resolve(&missing, &Env::new(), Ok("/x".into())).unwrap_err();
        assert_eq!(error.to_string(), "/nonexistent/x.toml: cannot be read");
    }

    #[test]
    fn the_environment_is_stronger_than_the_file() {
        let text = "[api]\nregion = \"eu-west-1\"\naccount = \"111111111111\"\n";
        let settings = resolved(text, &[("WARREN_API_REGION", "eu-central-1")]).unwrap();
        assert_eq!(settings.region, "eu-central-1");
        assert_eq!(settings.account, "111111111111");
    }

    #[test]
    fn a_list_in_a_variable_is_cut_at_commas() {
        let settings = resolved("", &[("WARREN_IAM_FILES", "/a.json, /b.json")]).unwrap();
        assert_eq!(settings.iam_files, [Path::new("/a.json"), Path::new("/b.json")]);
    }

    #[test]
    fn faults_are_named_with_file_line_and_key() {
        let text = "[api]\nregion = \"x\"\n\n[engine]\nstandbye = 3\n";
        assert_eq!(
            fault(text, &[]),
            "warren.toml, line 5, engine.standbye: unknown field `standbye`, expected one of \
             `require`, `accelerator`, `standby`, `share_dir`, `libexec_dir`"
        );
        assert!(
            fault("[api]\nlisten = \"here\"\n", &[])
                .starts_with("warren.toml, line 2, api.listen: ")
        );
        assert!(
            fault("[apis]\n", &[]).starts_with("warren.toml, line 1, apis: unknown field `apis`")
        );
        assert!(fault("[api\n", &[]).starts_with("warren.toml, line 1, "));
    }

    #[test]
    fn a_variable_at_fault_is_named() {
        assert_eq!(
            fault("", &[("WARREN_API_LISTN", "x")]),
            "environment variable WARREN_API_LISTN: there is no key listn in section [api]"
        );
        assert_eq!(
            fault("", &[("WARREN_ENGINE_STANDBY", "many")]),
            "environment variable WARREN_ENGINE_STANDBY: \"many\" is not of the kind of 1"
        );
        assert!(fault("", &[("WARREN_ENGINE_REQUIRE", "xen")]).contains("unknown variant `xen`"));
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        assert_eq!(fault("[api]\naccount = \"12\"\n", &[]), "api.account = \"12\": 12 digits");
        assert!(fault("[launcher]\nmax_duration_s = 0\n", &[]).contains("1 to 28800 seconds"));
        assert!(fault("[platform]\nbase_url = \"ftp://x\"\n", &[]).contains("an http or https"));
        let relayed = "[platform]\nbase_url = \"https://100.64.0.9\"\n";
        assert!(fault(relayed, &[]).contains("a relay that speaks http"));
    }
}
