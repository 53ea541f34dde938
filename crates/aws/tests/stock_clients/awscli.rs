//! The AWS CLI as people type it: version 1 from PyPI knows `lambda-microvms`, Debian's version 2 has
//! `logs tail`.

use super::world::{PATIENCE, World, run, succeed};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc,
};

const GROUP: &str = "/aws/lambda-microvms/followed";
/// Goes in eight parts.
const LARGE_BYTES: u32 = 64 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_guide_work_as_written() {
    let world = World::start().await;
    let ran = succeed(world.aws(&[
        "lambda-microvms",
        "run-microvm",
        "--image-identifier",
        "claude-worker",
        "--query",
        "microvmId",
        "--output",
        "text",
    ]))
    .await;
    let id = ran.trim();
    let table = succeed(world.aws(&[
        "lambda-microvms",
        "list-microvms",
        "--image-identifier",
        "claude-worker",
        "--query",
        "items[].[microvmId,state,startedAt]",
        "--output",
        "table",
    ]));
    let missing = run(world.aws(&[
        "lambda-microvms",
        "get-microvm",
        "--microvm-identifier",
        "microvm-6f6b1a52-1111-4111-8111-111111111111",
    ]));
    let identity = succeed(world.aws(&["sts", "get-caller-identity"]));
    let (table, missing, identity) = tokio::join!(table, missing, identity);

    assert!(table.contains(" ListMicrovms "), "{table}");
    let row = table.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("PENDING") || row.contains("RUNNING"), "{row}");
    assert_eq!(row.split('|').count(), 5, "{row}");
    assert_eq!(missing.status.code(), Some(255));
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains(
            "An error occurred (ResourceNotFoundException) when calling the GetMicrovm operation: \
             MicroVM not found: microvm-6f6b1a52-1111-4111-8111-111111111111"
        ),
        "{missing:?}"
    );
    assert!(identity.contains("arn:aws:iam::000000000000:user/operator"), "{identity}");

    let ended =
        succeed(world.aws(&["lambda-microvms", "terminate-microvm", "--microvm-identifier", id]));
    assert_eq!(ended.await.trim(), "");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_can_be_typed() {
    let world = World::start().await;
    assert_eq!(succeed(world.python("awscli_session.py")).await.trim(), "all good");
    world.stop().await;
}

/// A CLI that follows a log, ended with the test.
struct Tail {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Tail {
    fn start(world: &World, arguments: &[&str]) -> Self {
        let mut command = world.aws2(arguments);
        command.env("PYTHONUNBUFFERED", "1").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line of the log")
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_tail_follows_a_group() {
    let world = World::start().await;
    let group = control::LogGroup::parse(GROUP).unwrap();
    let stream = control::LogStream::parse("2026/11/23[1.0]microvm-1").unwrap();
    let target = control::LogTarget { group, stream };
    let logs = world.control.logs();
    logs.create_group(&target.group).await.unwrap();
    logs.create_stream(&target).await.unwrap();
    let now = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        control::Timestamp::from_ms(i64::try_from(now.as_millis()).unwrap())
    };
    let record = |message: &str| control::LogRecord { at: now(), message: message.into() };
    logs.put(&target, vec![record("hello from the worker"), record("quiet")]).await.unwrap();

    let all = Tail::start(&world, &["logs", "tail", GROUP, "--follow", "--since", "1h"]);
    let only = Tail::start(
        &world,
        &["logs", "tail", GROUP, "--follow", "--format", "short", "--filter-pattern", "hello"],
    );
    let first = all.next();
    assert!(first.ends_with(" 2026/11/23[1.0]microvm-1 hello from the worker"), "{first}");
    assert!(all.next().ends_with(" quiet"));
    assert!(only.next().ends_with(" hello from the worker"));

    // What comes while it follows, each once.
    logs.put(&target, vec![record("quiet again"), record("hello again")]).await.unwrap();
    assert!(all.next().ends_with(" quiet again"));
    assert!(all.next().ends_with(" hello again"));
    assert!(only.next().ends_with(" hello again"));
    drop((all, only));
    world.stop().await;
}

/// `aws s3` as people type it, in both versions, with a file that goes in parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_s3_copies_lists_syncs_and_removes() {
    let world = World::start().await;
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("sub/empty dir")).unwrap();
    for (name, text) in [("a.txt", "a"), ("sub/b c+d.txt", "b"), ("sub/\u{fc}.txt", "u")] {
        std::fs::write(tree.join(name), text).unwrap();
    }
    let large: Vec<u8> = (0..LARGE_BYTES / 4).flat_map(u32::to_le_bytes).collect();
    std::fs::write(dir.path().join("large"), &large).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    for bucket in ["one", "two"] {
        let aws = |line: &[&str]| {
            let line = [&["s3"], line].concat();
            succeed(if bucket == "one" { world.aws(&line) } else { world.aws2(&line) })
        };
        let uri = |key: &str| format!("s3://{bucket}/{key}");
        let back = path(&format!("back-{bucket}"));
        assert_eq!(aws(&["mb", &uri("")]).await.trim(), format!("make_bucket: {bucket}"));
        let copied = aws(&["cp", &path("large"), &uri("large"), "--no-progress"]).await;
        assert!(copied.starts_with("upload: "), "{copied}");
        aws(&["cp", &uri("large"), &format!("{back}-large"), "--no-progress"]).await;
        assert!(std::fs::read(format!("{back}-large")).unwrap() == large);
        aws(&["cp", &uri("large"), &uri("again"), "--no-progress"]).await;
        aws(&["sync", &path("tree"), &uri("tree")]).await;
        assert_eq!(aws(&["sync", &path("tree"), &uri("tree")]).await, "", "nothing has changed");
        aws(&["sync", &uri("tree"), &back]).await;
        for name in ["a.txt", "sub/b c+d.txt", "sub/\u{fc}.txt"] {
            let (there, here) = (format!("{back}/{name}"), tree.join(name));
            assert_eq!(std::fs::read(there).unwrap(), std::fs::read(here).unwrap(), "{name}");
        }
        let listed = aws(&["ls", &uri("")]).await;
        assert!(listed.contains("PRE tree/") && listed.contains("67108864 large"), "{listed}");
        let all = aws(&["ls", &uri(""), "--recursive", "--summarize"]).await;
        assert!(all.contains("tree/sub/b c+d.txt") && all.contains("Total Objects: 5"), "{all}");
        aws(&["rm", &uri("tree"), "--recursive", "--exclude", "*", "--include", "sub/*"]).await;
        let left = aws(&["ls", &uri("tree/"), "--recursive"]).await;
        assert!(left.trim().ends_with("tree/a.txt") && left.lines().count() == 1, "{left}");
        aws(&["mv", &uri("tree/a.txt"), &uri("moved")]).await;
        assert_eq!(aws(&["cp", &uri("moved"), "-"]).await, "a");
        aws(&["rb", &uri(""), "--force"]).await;
    }
    world.stop().await;
}
