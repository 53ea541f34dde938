//! Promise: a VM's endpoint takes what HTTP clients send, and wakes the VM for it.

use crate::Shared;
use e2e::{Program, Site, binary, eventually, oracles};
use libtest_mimic::Trial;
use serde_json::Value;
use std::{fs, path::Path, process::Command, sync::OnceLock, time::Duration};

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test("clients_that_others_wrote_reach_servers_in_a_vm", clients),
        shared.test("curl_speaks_every_http_to_a_vm", curl),
        shared.test("a_shell_is_a_terminal_in_a_vm", shell),
        shared.test("a_request_wakes_a_vm_that_may_be_woken", wakes),
    ]
}

const IMAGE: &str = "gateway-e2e";
/// What the server needs of the clients' own libraries.
const LIBRARIES: [&str; 3] = ["grpc", "websockets", "typing_extensions.py"];

/// A VM with `tests/gateway/server.py`, and the token of all its ports.
struct Vm<'a> {
    site: &'a Site,
    id: String,
    endpoint: String,
    token: String,
    authority: String,
}

impl<'a> Vm<'a> {
    fn run(site: &'a Site, more: &[&str]) -> Self {
        build_image(site);
        let connector = |name: &str| {
            format!("arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:{name}")
        };
        let (http, shell) = (connector("HTTP_INGRESS"), connector("SHELL_INGRESS"));
        let mut args = vec!["lambda-microvms", "run-microvm", "--image-identifier", IMAGE];
        args.extend(["--ingress-network-connectors", &http, &shell]);
        args.extend(more);
        let run: Value = serde_json::from_str(&site.aws(args).run().ok()).unwrap();
        let text = |name: &str| run[name].as_str().unwrap().to_owned();
        let id = text("microvmId");
        let token =
            token(site, "create-microvm-auth-token", &id, &["--allowed-ports", "allPorts={}"]);
        let authority = site.data_dir().join("e2e-ca.pem");
        fs::write(&authority, site.warren(["ca"]).run().ok()).unwrap();
        let authority = authority.display().to_string();
        let vm = Self { site, id, endpoint: text("endpoint"), token, authority };
        // The first request is held until the VM runs.
        assert!(vm.curl(&["-f"], "/").ok().contains("path"));
        vm
    }

    fn curl(&self, options: &[&str], path: &str) -> e2e::Finished {
        let auth = format!("X-aws-proxy-auth: {}", self.token);
        let url = format!("http://{}:{}{path}", self.endpoint, self.site.gateway_port);
        let mut args = vec!["-sS", "-m", "100", "-H", &auth];
        args.extend(options);
        args.push(&url);
        Program::new("curl").args(args).run()
    }

    fn clients(&self, what: &str, token: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway/clients.py");
        let (script, port) = (script.display().to_string(), self.site.gateway_port.to_string());
        let args: [&str; 6] = [&script, what, &self.endpoint, &port, token, &self.authority];
        Program::new(oracles("venv/bin/python")).args(args).run().ok();
    }

    fn end(self) {
        let site = self.site;
        drop(self);
        site.quiet();
    }
}

impl Drop for Vm<'_> {
    /// Also of a test that failed: the next one counts VMs.
    fn drop(&mut self) {
        let _ = self.site.warren(["rm", &self.id]).run();
    }
}

fn token(site: &Site, operation: &str, id: &str, more: &[&str]) -> String {
    let mut args = vec!["lambda-microvms", operation, "--microvm-identifier", id];
    args.extend(["--expiration-in-minutes", "60"]);
    args.extend(more);
    let answer: Value = serde_json::from_str(&site.aws(args).run().ok()).unwrap();
    answer["authToken"]["X-aws-proxy-auth"].as_str().unwrap().to_owned()
}

/// Once: the server with the libraries of the clients' own environment.
fn build_image(site: &Site) {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway");
        let packages = oracles("venv/lib/python3.11/site-packages");
        let folder = tempfile::tempdir().unwrap();
        let lib = folder.path().join("lib");
        fs::create_dir(&lib).unwrap();
        for name in ["Dockerfile", "image.toml", "server.py"] {
            fs::copy(own.join(name), folder.path().join(name)).unwrap();
        }
        for name in LIBRARIES {
            let copied =
                Command::new("cp").arg("-r").arg(packages.join(name)).arg(&lib).status().unwrap();
            assert!(copied.success(), "{name}");
        }
        let folder = folder.path().display().to_string();
        let build = site.warren(["image", "build", &folder, "--name", IMAGE]);
        build.within(Duration::from_secs(300)).run().ok();
    });
}

fn clients(site: &Site) {
    let vm = Vm::run(site, &[]);
    for what in ["http", "events", "websockets", "grpc"] {
        vm.clients(what, &vm.token);
    }
    vm.end();
}

fn curl(site: &Site) {
    let vm = Vm::run(site, &[]);
    let version = ["-o", "/dev/null", "-w", "%{http_code} %{http_version}"];
    let with = |more: &[&'static str]| [&version[..], more].concat();
    assert_eq!(vm.curl(&with(&["--http1.1"]), "/").ok(), "200 1.1");
    assert_eq!(vm.curl(&with(&["--http1.0"]), "/").ok(), "200 1");
    assert_eq!(vm.curl(&with(&["--http2-prior-knowledge"]), "/").ok(), "200 2");
    // It asks before it sends, chunked as well as sized.
    let file = site.data_dir().join("e2e-upload");
    fs::write(&file, vec![b'u'; 64 << 20]).unwrap();
    let file = file.display().to_string();
    for framing in ["Expect: 100-continue", "Transfer-Encoding: chunked"] {
        let answer = vm.curl(&["-H", framing, "-X", "POST", "-T", &file], "/");
        assert_eq!(answer.ok(), (64 << 20).to_string(), "{framing}");
    }
    let auth = format!("X-aws-proxy-auth: {}", vm.token);
    let url = format!("https://{}:{}/", vm.endpoint, site.gateway_port);
    let tls = ["-sS", "--cacert", &vm.authority, "-H", &auth];
    let args = [&tls[..], &version[..], &["--http2", &url]].concat();
    assert_eq!(Program::new("curl").args(args).run().ok(), "200 2");
    let metrics = format!("http://127.0.0.1:{}/metrics", site.api_port);
    let metrics = Program::new("curl").args(["-s", &metrics]).run().ok();
    assert!(metrics.contains("warren_microvms{state=\"RUNNING\"} 1\n"), "{metrics}");
    assert!(metrics.contains("warren_gateway_requests_total{code=\"2xx\"}"), "{metrics}");
    vm.end();
}

fn shell(site: &Site) {
    let vm = Vm::run(site, &[]);
    vm.clients("shell", &token(site, "create-microvm-shell-auth-token", &vm.id, &[]));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway/terminal.py");
    let (script, warren) = (script.display().to_string(), binary().display().to_string());
    let terminal =
        Program::new(oracles("venv/bin/python")).args([script.as_str(), &warren, &vm.id]);
    site.with_settings(terminal).env("TERM", "xterm-color").run().ok();
    vm.end();
}

fn wakes(site: &Site) {
    let suspended = |vm: &Vm<'_>| {
        site.warren(["suspend", &vm.id]).run().ok();
        eventually("the VM asleep", 60, || (site.vms()[0]["state"] == "SUSPENDED").then_some(()));
    };
    let policy = |wakes: bool| {
        format!(
            "maxIdleDurationSeconds=3600,suspendedDurationSeconds=3600,autoResumeEnabled={wakes}"
        )
    };
    let vm = Vm::run(site, &["--idle-policy", &policy(true)]);
    suspended(&vm);
    // A flood: each is held and delivered.
    let auth = format!("X-aws-proxy-auth: {}", vm.token);
    let url = format!("http://{}:{}/[1-20]", vm.endpoint, site.gateway_port);
    let flood = ["-sS", "-Z", "-m", "100", "-H", &auth, "-w", "\n%{http_code}\n", &url];
    let answers = Program::new("curl").args(flood).run().ok();
    assert_eq!(answers.lines().filter(|line| *line == "200").count(), 20, "{answers}");
    let resumed = site.warren(["--json", "inspect", &vm.id]).run().ok();
    assert_eq!(resumed.matches("\"resuming\"").count(), 1, "{resumed}");
    vm.end();

    let vm = Vm::run(site, &["--idle-policy", &policy(false)]);
    suspended(&vm);
    let status = vm.curl(&["-o", "/dev/null", "-w", "%{http_code} %{size_download}"], "/");
    assert_eq!(status.ok(), "502 0");
    assert_eq!(site.vms()[0]["state"], "SUSPENDED");
    vm.end();
}
