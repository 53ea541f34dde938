//! Promise: an image is what its Dockerfile says.

use crate::Shared;
use e2e::{Site, eventually};
use libtest_mimic::Trial;
use serde_json::Value;
use std::{fs, path::Path, time::Duration};

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test("an_image_runs_what_its_dockerfile_says_as_whom_and_where", as_written),
        shared.test("a_dockerfile_that_fails_is_named_with_its_log", broken),
        shared.test("an_app_that_is_never_ready_fails_the_build_with_awss_reason", never_ready),
    ]
}

/// An app that answers every hook, in ten lines.
pub(crate) const APP: &str = r#"
import http.server, os, sys
class Hooks(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        name = self.path.rsplit("/", 1)[-1]
        print("hook", name, body, flush=True)
        self.answer(name)
    def answer(self, name):
        self.send_response(int(os.environ.get("ANSWER_" + name.upper(), "200")))
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Hooks).serve_forever()
"#;

/// Writes an artifact with this Dockerfile and builds it.
pub(crate) fn build(site: &Site, name: &str, dockerfile: &str) -> e2e::Finished {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "Dockerfile", dockerfile);
    write(folder.path(), "app.py", APP);
    let path = folder.path().to_str().unwrap().to_owned();
    site.warren(["image", "build", &path, "--name", name]).within(Duration::from_secs(300)).run()
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

/// Runs a VM of an image by the stock CLI and waits for a state.
pub(crate) fn run(site: &Site, image: &str, more: &[&str], until: &str) -> Value {
    let base = ["lambda-microvms", "run-microvm", "--image-identifier", image];
    let ran = site.aws(base.into_iter().chain(more.iter().copied())).run().ok();
    let ran: Value = serde_json::from_str(&ran).unwrap();
    let id = ran["microvmId"].as_str().unwrap().to_owned();
    eventually(&format!("{id} {until}"), 100, || {
        let got =
            site.aws(["lambda-microvms", "get-microvm", "--microvm-identifier", &id]).run().ok();
        let got: Value = serde_json::from_str(&got).unwrap();
        let state = got["state"].as_str().unwrap();
        assert!(state != "TERMINATED" || until == "TERMINATED", "{got}");
        (state == until).then_some(got)
    })
}

fn as_written(site: &Site) {
    build(
        site,
        "e2e-written",
        "FROM public.ecr.aws/lambda/microvms:al2023-minimal\n\
         RUN useradd -m ana && echo built > /built && mkdir -p /srv/app && chown ana /srv/app\n\
         ENV GREETING=\"hello there\" EMPTY=\n\
         WORKDIR /srv/app\n\
         COPY --chown=ana app.py .\n\
         USER ana\n\
         ENTRYPOINT [\"python3\", \"-u\"]\n\
         CMD [\"app.py\"]\n",
    )
    .ok();
    let vm = run(site, "e2e-written", &[], "RUNNING");
    let id = vm["microvmId"].as_str().unwrap();
    let inside = |command: &str| site.warren(["exec", id, "--", "sh", "-c", command]).run().ok();
    assert_eq!(
        inside("id -un; pwd; cat /built; echo $GREETING"),
        "ana\n/srv/app\nbuilt\nhello there\n"
    );
    assert_eq!(inside("stat -c %U app.py"), "ana\n");
    let environment = inside("tr '\\0' '\\n' < /proc/$(pgrep -f app.py | head -1)/environ");
    for expected in [
        "AWS_REGION=us-east-1",
        "AWS_ENDPOINT_URL=http://10.0.0.1:7420",
        "AWS_LAMBDA_MICROVM_IMAGE_NAME=e2e-written",
        "AWS_LAMBDA_MICROVM_IMAGE_VERSION=1.0",
        "HOME=/home/ana",
    ] {
        assert!(
            environment.lines().any(|line| line == expected),
            "{expected} is not in\n{environment}"
        );
    }
    let logs = eventually("the hook in the log", 20, || {
        let logs = site.warren(["logs", id]).run().ok();
        logs.contains("hook run").then_some(logs)
    });
    assert!(logs.contains(&format!("\"microvmId\":\"{id}\"")), "the envelope names the VM: {logs}");
    site.warren(["rm", id]).run().ok();
    site.quiet();
}

fn broken(site: &Site) {
    let said = build(
        site,
        "e2e-broken",
        "FROM public.ecr.aws/lambda/microvms:al2023-minimal\nRUN echo about-to-fail && exit 9\n",
    )
    .refused();
    assert!(said.contains("CONTAINER_BUILD_FAILED") && said.contains("about-to-fail"), "{said}");
}

fn never_ready(site: &Site) {
    let dockerfile = "FROM public.ecr.aws/lambda/microvms:al2023-minimal\nCOPY app.py /\nENV ANSWER_READY=500\nCMD [\"python3\", \"/app.py\"]\n";
    let said = build(site, "e2e-never-ready", dockerfile).refused();
    assert!(
        said.contains(
            "Ready hook check failed: the application returned a server error (HTTP 5xx) response"
        ),
        "{said}"
    );
}
