//! Promise: every command says what it does, does it, and says what to do where it cannot.

use crate::Shared;
use e2e::{Program, Site, binary};
use libtest_mimic::Trial;
use std::{fs, net::TcpListener, time::Duration};

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test("exec_passes_streams_and_the_exit_code", exec),
        shared.test("logs_follow_a_vm_that_begins_later", follow),
        shared.test("rm_all_ends_every_vm", remove_all),
        shared.test("doctor_and_verify_find_nothing_wrong_in_a_working_warren", doctor_and_verify),
        shared.test("verify_names_a_broken_link", verify_broken),
        shared.test("a_taken_port_is_named_with_its_remedy", taken_port),
        shared.test("a_second_warren_on_the_same_data_is_refused", second),
        shared.test("a_disk_without_room_is_named_before_anything_is_made", no_room),
        shared.test("a_user_without_root_is_told_so", no_root),
        shared.test("a_malformed_script_is_named_with_line_and_field", bad_script),
        shared.test("an_unknown_key_of_the_configuration_is_named", bad_configuration),
        shared.test("completions_and_version_are_printed", completions),
    ]
}

fn exec(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "true");
    let vm = site.only_vm();
    let both = site
        .warren(["exec", &vm, "--", "sh", "-c", "cat; echo problem >&2; exit 42"])
        .input("through\n")
        .run();
    assert_eq!(
        (both.code, both.stdout.as_str(), both.stderr.as_str()),
        (42, "through\n", "problem\n")
    );
    // More than every window and buffer on the way, both ways.
    let big: Vec<u8> = (0..3_000_000u32).map(|n| b'a' + (n % 26) as u8).collect();
    let echoed = site.warren(["exec", &vm, "--", "cat"]).input(big.clone()).run();
    assert!(
        echoed.stdout.as_bytes() == big,
        "{} of {} bytes came back",
        echoed.stdout.len(),
        big.len()
    );
    // A prefix of the id is enough.
    assert_eq!(site.warren(["exec", &vm[..16], "--", "hostname"]).run().ok().trim(), vm);
    let missing = site.warren(["exec", "microvm-ffffffff", "--", "true"]).run().refused();
    assert!(missing.contains("microvm-ffffffff"), "{missing}");
    platform.archive(&session);
    site.quiet();
}

fn follow(site: &Site) {
    let following = site.warren(["logs", "-f"]).within(Duration::from_secs(60)).start();
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "true");
    following.line(&session);
    following.interrupt();
    platform.archive(&session);
    site.quiet();
}

fn remove_all(site: &Site) {
    let platform = site.platform();
    let sessions = [platform.create_session(), platform.create_session()];
    for session in &sessions {
        platform.bash(session, "true");
    }
    assert_eq!(site.vms().len(), sessions.len());
    site.warren(["rm", "--all"]).run().ok();
    site.quiet();
    sessions.iter().for_each(|session| platform.archive(session));
    site.quiet();
}

fn doctor_and_verify(site: &Site) {
    let doctor = site.warren(["doctor"]).run();
    assert_eq!(doctor.code, 0, "{}{}", doctor.stdout, doctor.stderr);
    assert!(doctor.stdout.to_lowercase().contains("kvm"), "{}", doctor.stdout);
    site.warren(["verify"]).run().ok();
}

fn verify_broken(site: &Site) {
    let key = site.warren(["secret", "get", "warren/environment-key"]).run().ok();
    site.put_secret("warren/environment-key", "sk-ant-oat01-wrong");
    let said = site.warren(["verify"]).run().refused();
    site.put_secret("warren/environment-key", key.trim());
    assert!(said.contains("environment-key"), "{said}");
}

fn taken_port(site: &Site) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let said = Program::new(binary())
        .args(["up"])
        .env("WARREN_DATA_DIR", folder.path().to_str().unwrap())
        .env("WARREN_API_LISTEN", &format!("127.0.0.1:{port}"))
        .run()
        .refused();
    assert!(said.contains(&port) && said.contains("help:"), "{said}");
    assert_eq!(site.warren(["ps"]).run().code, 0);
}

fn second(site: &Site) {
    let said = site.warren(["up"]).run().refused();
    assert!(said.contains("help:"), "{said}");
    assert_eq!(site.warren(["ps"]).run().code, 0, "the first one goes on");
}

fn no_room(_: &Site) {
    let folder = tempfile::tempdir().unwrap();
    // The mount is seen by that process alone and goes with it.
    let small = "mount -t tmpfs -o size=100m none \"$1\" && exec \"$2\" demo";
    let path = folder.path().to_str().unwrap();
    let said = Program::new("unshare")
        .args(["--mount", "sh", "-c", small, "sh", path, binary().to_str().unwrap()])
        .env("WARREN_DATA_DIR", path)
        .env("WARREN_API_LISTEN", "127.0.0.1:0")
        .env("WARREN_PLATFORM_LISTEN", "127.0.0.1:0")
        .run()
        .refused();
    assert!(said.contains("disk space") && said.contains("help:"), "{said}");
}

fn no_root(_: &Site) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("warren");
    fs::copy(binary(), &path).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), open).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, open).unwrap();
    let said = Program::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", path.to_str().unwrap(), "up"])
        .env("WARREN_DATA_DIR", "/tmp/warren-e2e-nobody")
        .run()
        .refused();
    assert!(said.contains("root") && said.contains("help:"), "{said}");
}

fn bad_script(_: &Site) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.json");
    fs::write(
        &script,
        "{\"turns\":[\n {\"message\":\"hi\",\"calls\":[\n  {\"tool\":\"bash\",\"inputs\":{}}]}]}",
    )
    .unwrap();
    let said = Program::new(binary())
        .args(["demo", "--script", script.to_str().unwrap()])
        .within(Duration::from_secs(20))
        .run()
        .refused();
    assert!(said.contains("line 3") && said.contains("inputs"), "{said}");
}

fn bad_configuration(_: &Site) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("warren.toml");
    fs::write(&file, "[api]\nlisten = \"127.0.0.1:1\"\nlisten_on = 3\n").unwrap();
    let said =
        Program::new(binary()).args(["--config", file.to_str().unwrap(), "ps"]).run().refused();
    assert!(said.contains("listen_on") && said.contains("line 3"), "{said}");
}

fn completions(_: &Site) {
    for shell in ["bash", "zsh", "fish"] {
        let script = Program::new(binary()).args(["completions", shell]).run().ok();
        assert!(script.contains("warren"), "{shell}");
    }
    assert!(Program::new(binary()).args(["version"]).run().ok().contains("0.1.0"));
}
