//! The six tools against the official TypeScript toolset: same calls, same texts.
//!
//! Every list of calls is played twice, by the SDK under Node in one fresh tree and by ours in
//! another that is the same to the last modification time, and each text and is_error must be
//! equal. Masked is only what must differ: the directory's name. The SDK and Node come from
//! `scripts/setup --tests`.

mod toolset_cases;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use toolset_cases::Case;
use worker::tools::{Room, Tool, Toolset, ToolsetOptions};

const REPO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn oracles() -> PathBuf {
    let dir = std::env::var_os("WARREN_ORACLES")
        .map_or_else(|| Path::new(REPO).join("target/oracles"), PathBuf::from);
    let complete = dir.join("node_modules/@anthropic-ai/sdk").is_dir()
        && dir.join("node_modules/node/bin/node").is_file();
    assert!(
        complete,
        "the official toolset is not at {dir}; install it with: scripts/setup --tests",
        dir = dir.display()
    );
    dir.canonicalize().unwrap()
}

/// A tree with something of everything, always the same.
fn plant(root: &Path) {
    let text = |path: &str, content: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    text("a.txt", b"one\ntwo\nthree\n");
    text("crlf.txt", b"one\r\ntwo\r\nthree");
    text("bom.txt", b"\xef\xbb\xbfbom\n");
    text("nul.txt", b"before foo\nmid\0dle foo\nafter foo\n");
    text("latin1.txt", b"caf\xe9 foo\n");
    text("unicode.txt", "naïve 😀 foo\nzweite Zeile äöü\n".as_bytes());
    text("empty.txt", b"");
    text("separators.txt", "a foo\u{2028}b foo\u{2029}c foo\rd foo\n".as_bytes());
    text("long-line.txt", format!("{}foo\nshort foo\n", "x".repeat(2100)).as_bytes());
    let big: String = (1..=40_000).map(|n| format!("line number {n}\n")).collect();
    text("big.txt", big.as_bytes());
    text("one-line.txt", "z".repeat(300_000).as_bytes());
    text("src/main.rs", b"fn main() {\n    println!(\"foo\");\n}\n");
    text("src/lib.rs", b"pub fn foo() -> u32 { 42 }\n");
    text("src/deep/er/mod.rs", b"// foo {x}\nlet a = b[0];\n");
    text("src/.hidden/secret.rs", b"foo hidden\n");
    text(".env", b"FOO=foo\n");
    text(".github/workflows/ci.yml", b"foo: 1\n");
    text(".gitignore", b"ignored/\n");
    text("ignored/x.txt", b"foo ignored\n");
    text("node_modules/pkg/index.js", b"foo\n");
    text(".git/config", b"foo\n");
    text("docs/guide.md", b"# Guide foo\n");
    text("docs/[brackets].md", b"foo\n");
    text("docs/{braces}.md", b"foo\n");
    text("with space/file name.txt", b"foo bar\n");
    text("repeat.txt", b"aXaXa\naaaa\n");
    text("run.sh", b"echo hi\n");
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in
        ["new\nline.txt", "-dash", "tab\there", "*star?", "ends ", "emoji😀.txt", "ü", "u\u{308}"]
    {
        text(&format!("odd/{name}"), b"foo in an odd place\n");
    }
    // Sparse: as long as a video, as large as nothing.
    File::create(root.join("huge.bin")).unwrap().set_len(64 << 20).unwrap();
    text("locked/inside.txt", b"foo\n");
    fs::set_permissions(root.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
    for n in 0..230 {
        text(&format!("many/{n:03}.dat"), b"dat\n");
    }
    symlink("/etc", root.join("out")).unwrap();
    symlink("a.txt", root.join("link.txt")).unwrap();
    symlink("src", root.join("linked-src")).unwrap();
    symlink("/nowhere/file", root.join("dangling")).unwrap();
    symlink("new-target.txt", root.join("dangling-inside")).unwrap();
    symlink("loop-b", root.join("loop-a")).unwrap();
    symlink("loop-a", root.join("loop-b")).unwrap();
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    date(root);
}

/// Gives each file of a tree an age of its own, by its place in the sorted list.
fn date(root: &Path) {
    let mut files = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    for (n, file) in (0_u64..).zip(files) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + n * 7919 % 100_003);
        File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
    }
}

struct Answer {
    text: String,
    is_error: bool,
}

/// What is on the `PATH` that the tools look for ripgrep in.
#[derive(Clone, Copy, PartialEq)]
enum Ripgrep {
    Found,
    Absent,
}

impl Ripgrep {
    /// A `PATH` that has what shells need, and ripgrep or not.
    fn path(self, scratch: &Path) -> String {
        if self == Self::Found {
            let path = std::env::var("PATH").unwrap();
            let found = std::env::split_paths(&path).any(|dir| dir.join("rg").is_file());
            assert!(found, "ripgrep is not on the PATH; install it with: apt-get install ripgrep");
            return path;
        }
        let bin = scratch.join("bin");
        fs::create_dir_all(&bin).unwrap();
        for dir in ["/usr/bin", "/bin"] {
            for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
                if entry.file_name() != "rg" {
                    // Both may have it; the first is as good as the second.
                    let _ = symlink(entry.path(), bin.join(entry.file_name()));
                }
            }
        }
        bin.display().to_string()
    }
}

/// One of the two official toolsets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Official {
    /// The reference.
    TypeScript,
    Python,
}

impl Official {
    fn player(self, root: &Path) -> Command {
        let oracles = oracles();
        let scripts = Path::new(REPO).join("tests/toolset");
        match self {
            Self::TypeScript => {
                let mut node = Command::new(oracles.join("node_modules/node/bin/node"));
                node.arg(scripts.join("reference.mjs")).args([&oracles, root]);
                node
            }
            Self::Python => {
                let mut python = Command::new(oracles.join("venv/bin/python"));
                python.arg(scripts.join("reference.py")).arg(root);
                python
            }
        }
    }
}

fn play_official(official: Official, root: &Path, path: &str, cases: &[Case]) -> Vec<Answer> {
    let mut node = official
        .player(root)
        .current_dir(root)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the official toolset starts");
    let mut stdin = node.stdin.take().unwrap();
    let lines: String = cases
        .iter()
        .map(|case| {
            json!({"tool": case.tool, "input": at_root(&case.input, root)}).to_string() + "\n"
        })
        .collect();
    let feed = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = node.wait_with_output().unwrap();
    feed.join().unwrap().expect("the reference reads its calls");
    assert!(output.status.success(), "the reference ended with {}", output.status);
    let shown = String::from_utf8(output.stdout).unwrap();
    shown
        .lines()
        .map(|line| {
            let answer: Value = serde_json::from_str(&without_half_pairs(line)).unwrap();
            Answer {
                text: answer["text"].as_str().unwrap().to_owned(),
                is_error: answer["is_error"].as_bool().unwrap(),
            }
        })
        .collect()
}

/// JavaScript's texts may hold half of a surrogate pair; ours hold U+FFFD in its place.
fn without_half_pairs(line: &str) -> String {
    let half = regex::Regex::new(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}").unwrap();
    half.replace_all(line, "\u{fffd}").into_owned()
}

async fn play_ours(root: &Path, path: &str, cases: &[Case]) -> Vec<Answer> {
    let options = ToolsetOptions {
        workdir: root.to_owned(),
        roots: Vec::new(),
        search_path: Some(path.to_owned()),
        room: Some(Room::made_by(env!("CARGO_BIN_EXE_warren-worker").into())),
    };
    let mut tools = Toolset::new(options);
    let mut answers = Vec::new();
    for case in cases {
        let tool: Tool = case.tool.parse().unwrap();
        let input = at_root(&case.input, root);
        let outcome = tools.run(tool, &input, &CancellationToken::new()).await;
        answers.push(Answer { text: outcome.text, is_error: outcome.is_error });
    }
    answers
}

/// A call may name its tree as `$ROOT`.
fn at_root(input: &Value, root: &Path) -> Value {
    let text = input.to_string().replace("$ROOT", &root.display().to_string());
    serde_json::from_str(&text).unwrap()
}

fn masked(text: &str, root: &Path, case: &Case) -> String {
    let text = text.replace(&root.display().to_string(), "$ROOT");
    if case.any_order {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        return lines.join("\n");
    }
    text
}

async fn compare(cases: &[Case], ripgrep: Ripgrep) {
    let scratch = tempfile::tempdir().unwrap();
    let path = ripgrep.path(scratch.path());
    // Names of the same length: paths are in the texts that are cut at a length.
    let roots = ["official", "our-tools"].map(|name| {
        let name = format!("{name:-<10}");
        let root = scratch.path().canonicalize().unwrap().join(name);
        fs::create_dir(&root).unwrap();
        plant(&root);
        root
    });
    let [official_root, our_root] = &roots;
    let official = play_official(Official::TypeScript, official_root, &path, cases);
    let ours = play_ours(our_root, &path, cases).await;
    assert_eq!(official.len(), cases.len(), "the reference answered every call");
    let mut different = Vec::new();
    for ((case, official), ours) in cases.iter().zip(&official).zip(&ours) {
        let expected = (masked(&official.text, official_root, case), official.is_error);
        let actual = (masked(&ours.text, our_root, case), ours.is_error);
        if expected != actual {
            different.push(format!(
                "{} {}\n  official: {:?}\n  ours:     {:?}\n  only there: {:?}\n  only here: {:?}",
                case.tool,
                case.input,
                shorten(&expected.0, expected.1),
                shorten(&actual.0, actual.1),
                lines_only_in(&expected.0, &actual.0),
                lines_only_in(&actual.0, &expected.0),
            ));
        }
    }
    let count = different.len();
    assert!(count == 0, "{count} of {} calls differ:\n{}", cases.len(), different.join("\n"));
}

/// Lines that `text` has and `other` has not.
fn lines_only_in(text: &str, other: &str) -> Vec<String> {
    let other: std::collections::BTreeSet<&str> = other.lines().collect();
    let lines = text.lines().filter(|line| !other.contains(line)).take(10);
    lines.map(|line| line.chars().take(200).collect()).collect()
}

fn shorten(text: &str, is_error: bool) -> (String, usize, bool) {
    let shown = if text.len() > 600 {
        let head: String = text.chars().take(300).collect();
        let tail: String =
            text.chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
        format!("{head} … {tail}")
    } else {
        text.to_owned()
    };
    (shown, text.len(), is_error)
}

#[tokio::test]
async fn bash_answers_as_the_official_tool_does() {
    compare(&toolset_cases::bash(), Ripgrep::Found).await;
}

#[tokio::test]
async fn read_write_and_edit_answer_as_the_official_tools_do() {
    compare(&toolset_cases::files(), Ripgrep::Found).await;
}

#[tokio::test]
async fn glob_answers_as_the_official_tool_does() {
    compare(&toolset_cases::glob(), Ripgrep::Found).await;
}

#[tokio::test]
async fn grep_with_ripgrep_answers_as_the_official_tool_does() {
    compare(&toolset_cases::grep_ripgrep(), Ripgrep::Found).await;
}

#[tokio::test]
async fn grep_without_ripgrep_answers_as_the_official_tool_does() {
    compare(&toolset_cases::grep_walk(), Ripgrep::Absent).await;
}

/// Sequences of 68 calls: 30 of them are more than 2000 calls.
fn seeds() -> u64 {
    std::env::var("WARREN_TOOLSET_SEEDS").map_or(3, |count| count.parse().unwrap())
}

#[tokio::test]
async fn calls_drawn_at_random_answer_as_the_official_tools_do() {
    for seed in 0..seeds() {
        println!("seed {seed}");
        compare(&toolset_cases::random(seed, 60), Ripgrep::Absent).await;
    }
}

#[tokio::test]
async fn where_the_two_official_toolsets_differ_typescript_is_followed() {
    let cases = toolset_cases::official_differences();
    compare(&cases, Ripgrep::Absent).await;
    let scratch = tempfile::tempdir().unwrap();
    let path = Ripgrep::Absent.path(scratch.path());
    let [typescript, python] = [Official::TypeScript, Official::Python].map(|official| {
        let root = scratch.path().canonicalize().unwrap().join(format!("{official:?}"));
        fs::create_dir(&root).unwrap();
        plant(&root);
        let answers = play_official(official, &root, &path, &cases);
        let shown = answers.into_iter().zip(&cases);
        let shown =
            shown.map(|(answer, case)| (masked(&answer.text, &root, case), answer.is_error));
        shown.collect::<Vec<_>>()
    });
    for ((case, typescript), python) in cases.iter().zip(typescript).zip(python) {
        let input = &case.input;
        assert_ne!(typescript, python, "they agree now; docs/worker.md says otherwise: {input}");
    }
}
