//! What an OCI image says about its process, as the app that the guest starts.

use crate::error::BuildError;
use serde::Deserialize;
use std::collections::BTreeMap;
use wire::App;

/// What a container gets where its image sets no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The `config` object of an OCI image, as far as it matters here. Every member may be missing or
/// null (OCI image specification, "Image configuration"). A Dockerfile's shell form is already
/// `["/bin/sh", "-c", …]` in it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct OciConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    /// `NAME=value`.
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    /// A set: each path has an empty object.
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// `SIGINT`, `INT` or a number.
    stop_signal: Option<String>,
}

impl OciConfig {
    /// Directories that are there when the app starts.
    pub(crate) fn volumes(&self) -> Vec<String> {
        self.volumes.iter().flat_map(BTreeMap::keys).cloned().collect()
    }
}

/// Reads the image's configuration.
///
/// # Errors
/// [`BuildError::NothingToStart`] where the image has neither entry point nor command.
pub(crate) fn from_config(config: OciConfig) -> Result<App, BuildError> {
    let mut argv = config.entrypoint.unwrap_or_default();
    argv.extend(config.cmd.unwrap_or_default());
    if argv.is_empty() {
        return Err(BuildError::NothingToStart);
    }
    let mut env = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
    let of_image = config.env.unwrap_or_default();
    let of_image = of_image.iter().map(|entry| {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        (name.to_owned(), value.to_owned())
    });
    for (name, value) in of_image {
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => env.push((name, value)),
        }
    }
    let working_dir = config.working_dir.filter(|dir| !dir.is_empty());
    Ok(App {
        argv,
        env,
        working_dir: working_dir.unwrap_or_else(|| "/".to_owned()),
        user: config.user.unwrap_or_default(),
        stop_signal: config.stop_signal.as_deref().map_or(0, signal_number),
        ..App::default()
    })
}

/// By number or by name, with or without `SIG`; 0, which stands for the default, where it is none.
fn signal_number(text: &str) -> i32 {
    /// Of the kernel's first real-time signal; C libraries keep two for themselves.
    const REAL_TIME_MIN: i32 = 34;
    const REAL_TIME_MAX: i32 = 64;
    const NAMES: [(&str, i32); 12] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("WINCH", 28),
        ("PWR", 30),
    ];
    let text = text.trim().to_ascii_uppercase();
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    let number = name.parse().ok().or_else(|| {
        let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let above = |offset: &str| {
            Some(REAL_TIME_MIN + offset.trim_start_matches('+').parse::<i32>().ok()?)
        };
        known.or_else(|| match name.strip_prefix("RTMIN") {
            Some("") => Some(REAL_TIME_MIN),
            Some(offset) => above(offset),
            None => None,
        })
    });
    number.filter(|number| (1..=REAL_TIME_MAX).contains(number)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(config: &str) -> Result<App, BuildError> {
        from_config(serde_json::from_str(config).unwrap())
    }

    fn argv(config: &str) -> Vec<String> {
        app(config).unwrap().argv
    }

    #[test]
    fn exec_form_entrypoint_is_followed_by_cmd() {
        assert_eq!(argv(r#"{"Entrypoint":["/bin/app"],"Cmd":["-v"]}"#), ["/bin/app", "-v"]);
    }

    #[test]
    fn shell_form_cmd_is_run_by_the_shell() {
        assert_eq!(
            argv(r#"{"Cmd":["/bin/sh","-c","echo $HOME"]}"#),
            ["/bin/sh", "-c", "echo $HOME"]
        );
    }

    #[test]
    fn nothing_to_start_is_refused() {
        for config in ["{}", r#"{"Entrypoint":null,"Cmd":[]}"#] {
            assert!(matches!(app(config), Err(BuildError::NothingToStart)));
        }
    }

    #[test]
    fn variables_are_taken_as_they_are_written() {
        let app = app(r#"{"Cmd":["x"],"Env":["A=1","B=2=3","EMPTY="]}"#).unwrap();
        let expected = [("PATH", DEFAULT_PATH), ("A", "1"), ("B", "2=3"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(app.env, expected);
    }

    #[test]
    fn the_images_path_replaces_the_default() {
        let app = app(r#"{"Cmd":["x"],"Env":["PATH=/opt/bin"]}"#).unwrap();
        assert_eq!(app.env, [("PATH".to_owned(), "/opt/bin".to_owned())]);
    }

    #[test]
    fn user_and_directory_are_taken_over_or_default() {
        let set = app(r#"{"Cmd":["x"],"User":"1000:100","WorkingDir":"/w"}"#).unwrap();
        assert_eq!((set.user.as_str(), set.working_dir.as_str()), ("1000:100", "/w"));
        let unset = app(r#"{"Cmd":["x"],"WorkingDir":""}"#).unwrap();
        assert_eq!((unset.user.as_str(), unset.working_dir.as_str()), ("", "/"));
    }

    #[test]
    fn a_stop_signal_has_a_name_or_a_number() {
        for (text, number) in
            [("SIGINT", 2), ("quit", 3), ("10", 10), ("SIGRTMIN+3", 37), ("SIGNONE", 0), ("99", 0)]
        {
            let config = format!(r#"{{"Cmd":["x"],"StopSignal":"{text}"}}"#);
            assert_eq!(app(&config).unwrap().stop_signal, number, "{text}");
        }
    }
}
