//! The calls that `official_toolset.rs` plays, one function a subject.

use serde_json::{Value, json};

/// One call. Calls of a list share one tree and one shell, in order.
pub(crate) struct Case {
    pub(crate) tool: &'static str,
    pub(crate) input: Value,
    /// Lines may come in any order: ripgrep searches with several threads.
    pub(crate) any_order: bool,
}

fn case(tool: &'static str, input: Value) -> Case {
    Case { tool, input, any_order: false }
}

fn commands(list: &[&str]) -> Vec<Case> {
    list.iter().map(|command| case("bash", json!({"command": command}))).collect()
}

pub(crate) fn bash() -> Vec<Case> {
    let mut cases = commands(&[
        "echo hi",
        "echo out; echo err >&2",
        "true",
        "false",
        "(exit 7)",
        "echo before; (exit 3)",
        "printf 'no newline'",
        "printf '\\n\\nlead and trail\\n\\n\\n'",
        "printf '\\033[31mred\\033[0m \\033[2K\\033[?25l\\033[1;2 qplain \\033X'",
        "cd src && pwd",
        "pwd",
        "export GREETING=hello; f() { echo \"$GREETING $1\"; }",
        "f world",
        "cat",
        "read x; echo \"got $x $?\"",
        "echo 'unicode: ä 😀'",
        "printf 'bad \\xff\\xfe bytes \\xe2\\x82'",
        "printf 'a\\0b'",
        "printf 'cr\\r\\nlf\\r\\n'",
        "echo \"$TERM|$PS1|$PS2|$-\"",
        "env | grep -c ANTHROPIC_",
        "echo $0 $$ | cut -d' ' -f1",
        "cat <<'EOF'\nheredoc $HOME\nEOF",
        "for i in 1 2 3; do echo $i; done # comment at the end",
        "nosuchcommand 2>/dev/null",
        "nosuchcommand",
        "seq 1 100000 | tail -c 102350",
        "seq 1 50000",
        "head -c 200000 /dev/zero | tr '\\0' 'x'",
        "printf 'é%.0s' $(seq 1 60000)",
        "printf '😀%.0s' $(seq 1 60000)",
        "echo x; printf '😀%.0s' $(seq 1 51181)",
        "(sleep 0.3; echo late) & echo now",
        "sleep 0.8; echo second",
        "trap 'echo trapped' EXIT; echo set",
        "umask; ulimit -c",
        "echo one \\\n two",
        "[ -t 0 ] || echo no terminal; [ -t 1 ] || echo none at all",
        "test -e nothere",
        "exit 3",
        "echo fresh; pwd",
        "kill -9 $$",
        "echo again",
        "set -e; false; echo unreachable",
        "echo after set -e",
        "if true; then echo x",
        "echo )",
        "exec echo replaced",
        "echo after exec",
        "printf '__ANT_CMD_fake_DONE__0\\n'",
        "return 4",
        "yes | head -c 300000 | wc -c",
        "wait; jobs; echo $!",
    ]);
    let timed = |command: &str, timeout: Value| {
        case("bash", json!({"command": command, "timeout_ms": timeout}))
    };
    cases.extend([
        timed("export KEPT=1; sleep 30", json!(300)),
        case("bash", json!({"command": "echo \"[$KEPT]\""})),
        timed("trap '' TERM INT HUP; echo stubborn; sleep 30", json!(300)),
        timed("yes", json!(300)),
        timed("echo 'unclosed", json!(300)),
        timed("echo after unclosed", json!(5000)),
        timed("exec >&- 2>&-; sleep 30", json!(300)),
        timed("cat > /dev/null < <(sleep 30)", json!(300)),
        timed("echo fast", json!(5000)),
        timed("sleep 30", json!(0)),
        timed("sleep 30", json!(-5)),
        timed("sleep 30", json!("200")),
        timed("echo null is the default", json!(null)),
        case("bash", json!({})),
        case("bash", json!({"command": ""})),
        case("bash", json!({"command": null})),
        case("bash", json!({"command": "cd /; X=1"})),
        case("bash", json!({"restart": true})),
        case("bash", json!({"command": "pwd; echo \"[$X]\"", "restart": false})),
        case("bash", json!({"command": "cd /; pwd", "restart": true})),
        case("bash", json!({"command": "pwd"})),
        case("bash", json!({"restart": true, "command": ""})),
        case("bash", json!({"command": 5})),
        case("bash", json!({"command": "sleep 30 & disown; echo left behind"})),
    ]);
    cases
}

pub(crate) fn files() -> Vec<Case> {
    let read = |path: &str| case("read", json!({"file_path": path}));
    let range =
        |path: &str, range: Value| case("read", json!({"file_path": path, "view_range": range}));
    let write =
        |path: &str, content: Value| case("write", json!({"file_path": path, "content": content}));
    let edit = |path: &str, old: &str, new: &str| {
        case("edit", json!({"file_path": path, "old_string": old, "new_string": new}))
    };
    let every = |path: &str, old: &str, new: &str| {
        let input =
            json!({"file_path": path, "old_string": old, "new_string": new, "replace_all": true});
        case("edit", input)
    };
    let bash = |command: &str| case("bash", json!({"command": command}));
    let long = "n".repeat(300);
    vec![
        read("a.txt"),
        read("./src/../a.txt"),
        read("$ROOT/a.txt"),
        read("crlf.txt"),
        read("bom.txt"),
        read("nul.txt"),
        read("latin1.txt"),
        read("unicode.txt"),
        read("empty.txt"),
        read("link.txt"),
        read("linked-src/lib.rs"),
        read("big.txt"),
        read("one-line.txt"),
        read("nothere.txt"),
        read("src"),
        read("a.txt/below"),
        read("pipe"),
        read("out/passwd"),
        read("/etc/passwd"),
        read("../outside"),
        read("a/../../outside"),
        read("dangling"),
        read("dangling-inside"),
        read("loop-a"),
        read("loop-a/x"),
        read(&long),
        read("with \"quotes\"\n"),
        read("../\u{e4}\u{7f}\u{1}\u{2028}\"\\"),
        read("a\0b"),
        read(""),
        read("~"),
        read(" a.txt"),
        case("read", json!({})),
        case("read", json!({"file_path": 5})),
        case("read", json!({"file_path": 0})),
        case("read", json!({"file_path": true})),
        case("read", json!({"file_path": {"a": 1}})),
        case("read", json!({"file_path": ["a.txt"]})),
        case("read", json!({"file_path": null})),
        range("a.txt", json!([1, 2])),
        range("a.txt", json!([2, 2])),
        range("a.txt", json!([2, -1])),
        range("a.txt", json!([2, 0])),
        range("a.txt", json!([0, 1])),
        range("a.txt", json!([-5, 2])),
        range("a.txt", json!([3, 2])),
        range("a.txt", json!([4, 4])),
        range("a.txt", json!([9, 12])),
        range("a.txt", json!([1.5, 2.5])),
        range("a.txt", json!(["2", "3"])),
        range("a.txt", json!([null, null])),
        range("a.txt", json!([1])),
        range("a.txt", json!([1, 2, 3])),
        range("a.txt", json!([])),
        range("a.txt", json!(null)),
        range("a.txt", json!("1-2")),
        range("a.txt", json!({"start": 1})),
        range("a.txt", json!(7)),
        range("crlf.txt", json!([2, 3])),
        range("unicode.txt", json!([2, 2])),
        range("big.txt", json!([1, 3])),
        range("big.txt", json!([39_999, -1])),
        range("big.txt", json!([40_000, 50_000])),
        range("big.txt", json!([40_001, 50_000])),
        range("big.txt", json!([1, 40_000])),
        range("big.txt", json!([1, -1])),
        range("big.txt", json!([10, 5])),
        range("one-line.txt", json!([1, 1])),
        range("one-line.txt", json!([1, 2])),
        range("one-line.txt", json!([2, 2])),
        write("new.txt", json!("hello\n")),
        read("new.txt"),
        write("deep/er/still/new.txt", json!("ä😀")),
        write("run.sh", json!("echo changed\n")),
        write("a.txt/below", json!("x")),
        write("a.txt/below/more", json!("x")),
        write("src", json!("x")),
        write("out/evil", json!("x")),
        write("dangling", json!("x")),
        write("dangling-inside", json!("through the link")),
        write("link.txt", json!("through the link\n")),
        write("loop-a", json!("x")),
        write(&long, json!("x")),
        write("pipe", json!("no pipe any more")),
        write("", json!("x")),
        write("a\0b", json!("x")),
        write("none.txt", json!(null)),
        write("number.txt", json!(5)),
        case("write", json!({"file_path": "nocontent.txt"})),
        case("write", json!({"content": "x"})),
        case("write", json!({"file_path": 7, "content": "x"})),
        bash(
            "stat -c '%a %n' new.txt deep deep/er/still/new.txt run.sh none.txt; cat a.txt new-target.txt; ls -A | grep tmp-; umask 022",
        ),
        bash("chmod 444 new.txt; chmod 700 run.sh"),
        edit("new.txt", "hello", "good bye"),
        bash("stat -c '%a' new.txt; cat new.txt"),
        edit("crlf.txt", "two\r\n", "2\n"),
        edit("unicode.txt", "😀", "🙂 $& $1 $$ $`"),
        read("unicode.txt"),
        edit("repeat.txt", "aX", "b"),
        edit("repeat.txt", "nothere", "b"),
        every("repeat.txt", "aa", "b"),
        every("repeat.txt", "aX", ""),
        read("repeat.txt"),
        every("repeat.txt", "none", "x"),
        edit("bom.txt", "\u{feff}bom", "no bom"),
        edit("latin1.txt", "foo", "bar"),
        bash("xxd latin1.txt bom.txt 2>/dev/null || od -c latin1.txt bom.txt"),
        edit("a.txt", "", "x"),
        edit("", "a", "x"),
        edit("nothere.txt", "a", "x"),
        edit("src", "a", "x"),
        edit("big.txt", "line", "x"),
        edit("out/passwd", "root", "x"),
        edit("dangling-inside", "through", "around"),
        edit("nul.txt", "mid\0dle", "middle"),
        read("nul.txt"),
        case("edit", json!({"file_path": "a.txt"})),
        case("edit", json!({"old_string": "a", "new_string": "b"})),
        case("edit", json!({"file_path": "run.sh", "old_string": "echo", "new_string": ""})),
        case("edit", json!({"file_path": "run.sh", "old_string": "changed", "new_string": 5})),
        case("edit", json!({"file_path": "run.sh", "old_string": 5, "new_string": "five"})),
        case("edit", json!({"file_path": 5, "old_string": "a", "new_string": "b"})),
        bash("cat run.sh; stat -c %a run.sh"),
    ]
}

pub(crate) fn glob() -> Vec<Case> {
    let patterns = [
        "*",
        "*.txt",
        "**",
        "**/*",
        "**/*.rs",
        "src/**",
        "src/*",
        "src/**/*.rs",
        "src/*/",
        "*/",
        "./*.txt",
        "././a.txt",
        "a.txt",
        "nothere",
        "docs/*.md",
        "docs/[[]*",
        "docs/[brackets].md",
        "docs/{braces}.md",
        "docs/{braces,guide}.md",
        "{a,crlf}.txt",
        "{src,docs}/*",
        "**/{main,lib}.rs",
        "{a,b,{c,crlf}}.txt",
        "?.txt",
        "[a-c]*.txt",
        "[!a-c]*.txt",
        "[^a-c]*.txt",
        "[[:alpha:]].txt",
        ".*",
        ".env",
        ".github/**",
        ".github/**/*.yml",
        "**/.github/**",
        "**/.env",
        "**/.hidden/*",
        "src/.hidden/*",
        "**/*.yml",
        "node_modules/**",
        "node_modules/pkg/*.js",
        "**/index.js",
        ".git/*",
        ".git/config",
        "many/*.dat",
        "many/{000..004}.dat",
        "many/00[0-3].dat",
        "link.txt",
        "linked-src/*",
        "linked-src/**",
        "**/linked-src/*",
        "*/lib.rs",
        "out/*",
        "out/passwd",
        "dangling",
        "loop-a",
        "pipe",
        "with space/*",
        "*space*/*",
        "src//main.rs",
        "src/**/**/mod.rs",
        "**/deep/**",
        "**/er/mod.rs",
        "deep/**",
        "src/deep/er/mod.rs/",
        "src/deep/er/mod.rs/x",
        "a.txt/..",
        "src/../a.txt",
        "..",
        "../*",
        "{..,src}/*",
        "a..b",
        "...",
        "/etc/*",
        "$ROOT/*",
        "@(a|b|crlf).txt",
        "!(a|b)*.txt",
        "!(a).txt",
        "*(a|b).txt",
        "+([a-z]).txt",
        "?(a).txt",
        "*.!(txt)",
        "*.{txt",
        "*.}txt",
        "{}",
        "{a}",
        "{,a}.txt",
        "a,b",
        "[",
        "[]",
        "[a",
        "a[]",
        "[z-a]*",
        "*.t?t",
        "**.txt",
        "a**",
        "**a",
        "src/**a*",
        "**/*/mod.rs",
        "*/*/*/mod.rs",
        "\\*.txt",
        "src\\main.rs",
        "..\\x",
        "naïve*",
        "*\u{0}*",
        " *",
        "* ",
        "#*",
        "!*",
        "{1..3}.txt",
        "{c..a}.txt",
        "many/{000..008..4}.dat",
        "**/**",
        "**/",
        "./**/*.md",
        ".",
        "./",
        "**/.",
        "**/./*.md",
        "src/./lib.rs",
        "*.TXT",
        "A.txt",
        "{src/*,docs/*}.md",
        "{src,src}/*.rs",
        "@(src|docs)/*",
        "s[r]c/*",
        "[s]rc/lib.rs",
        "[.]env",
        "?env",
        "@(.env|a.txt)",
        "*(.)env",
        ".[e]nv",
    ];
    let mut cases: Vec<Case> =
        patterns.iter().map(|pattern| case("glob", json!({"pattern": pattern}))).collect();
    for (pattern, path) in [
        ("*", "src"),
        ("**/*.rs", "$ROOT/src"),
        ("*", "linked-src"),
        ("*", "a.txt"),
        ("*", "nothere"),
        ("*", "out"),
        ("*", "../"),
        ("*", ""),
        ("*", "."),
        ("**", "docs"),
        ("*", "loop-a"),
        ("*", "src/.hidden"),
        ("*.md", "docs/../docs"),
        ("*.rs", "src/deep/er"),
    ] {
        cases.push(case("glob", json!({"pattern": pattern, "path": path})));
    }
    cases.extend([
        case("glob", json!({})),
        case("glob", json!({"pattern": ""})),
        case("glob", json!({"pattern": null})),
        case("glob", json!({"pattern": "*.txt", "path": 5})),
        case("glob", json!({"pattern": "*.txt", "path": null})),
        case("glob", json!({"pattern": "*.txt", "path": false})),
        case("glob", json!({"pattern": "a".repeat(65_537)})),
    ]);
    // One file by two names has one age, and then the order is nobody's promise.
    for case in &mut cases {
        case.any_order = case.input["pattern"] == "**/*";
    }
    cases
}

fn grep(list: &[(&str, &str)], any_order: bool) -> Vec<Case> {
    list.iter()
        .map(|(pattern, path)| {
            let input = if path.is_empty() {
                json!({"pattern": pattern})
            } else {
                json!({"pattern": pattern, "path": path})
            };
            Case { tool: "grep", input, any_order }
        })
        .collect()
}

fn grep_inputs() -> Vec<Case> {
    vec![
        case("grep", json!({})),
        case("grep", json!({"pattern": ""})),
        case("grep", json!({"pattern": "foo", "path": 5})),
        case("grep", json!({"pattern": 42, "path": "src/lib.rs"})),
        case("grep", json!({"pattern": "foo", "path": null})),
    ]
    .into_iter()
    .map(|case| Case { any_order: true, ..case })
    .collect()
}

pub(crate) fn grep_ripgrep() -> Vec<Case> {
    let mut cases = grep(
        &[
            ("foo", ""),
            ("foo", "src"),
            ("foo", "src/lib.rs"),
            ("foo", "$ROOT/docs"),
            ("nothing like it", ""),
            ("^fn", "src"),
            ("fn main() {", "src"),
            (r"fn main\(\) \{", "src"),
            ("(", "src"),
            ("[", "src"),
            (r"\d+", "src/lib.rs"),
            ("-e", ""),
            ("--files", ""),
            ("foo", "nothere"),
            ("foo", "out"),
            ("foo", "../"),
            ("foo", "nul.txt"),
            ("foo", "latin1.txt"),
            ("foo", "unicode.txt"),
            ("two", "crlf.txt"),
            ("x{3}", "long-line.txt"),
            ("foo", ".env"),
            ("foo", "ignored"),
            ("foo", "ignored/x.txt"),
            ("foo", "node_modules"),
            ("foo", "link.txt"),
            ("foo", "linked-src"),
            ("foo", "pipe/x"),
            ("(?=x)", "src"),
            ("äöü", ""),
            ("", "src"),
            ("line number", "big.txt"),
            ("😀", ""),
            ("foo", "with space/file name.txt"),
            ("a\nb", "src"),
            ("dat", "many/000.dat"),
        ],
        true,
    );
    cases.extend(grep_inputs());
    cases
}

pub(crate) fn grep_walk() -> Vec<Case> {
    let mut cases = grep(
        &[
            ("foo", ""),
            ("foo", "src"),
            ("foo", "src/lib.rs"),
            ("foo", "$ROOT/docs"),
            ("nothing like it", ""),
            ("^fn", "src"),
            ("fn main() {", "src"),
            (r"fn main\(\) \{", "src"),
            (r"\d+", "src/lib.rs"),
            ("-e", ""),
            ("foo", "nothere"),
            ("foo", "out"),
            ("foo", "../"),
            ("foo", "nul.txt"),
            ("foo", "latin1.txt"),
            ("foo", "unicode.txt"),
            ("two$", "crlf.txt"),
            ("^two$", "crlf.txt"),
            ("foo", "separators.txt"),
            ("x{3}", "long-line.txt"),
            ("foo", ".env"),
            ("foo", "ignored"),
            ("foo", "node_modules"),
            ("foo", "link.txt"),
            ("foo", "linked-src"),
            ("äöü", ""),
            ("😀", ""),
            ("line number", "big.txt"),
            ("foo", "with space/file name.txt"),
            ("dat", "many"),
            ("b[0]", "src"),
            (r"b\[0\]", "src"),
            ("[[]0", "src"),
            ("{x}", "src"),
            ("x}", "src"),
            ("]", "src"),
            (r"\bfoo\b", "src"),
            (r"\w+\s=\s\w", "src"),
            (r"foo|bar", "src"),
            ("FOO", ""),
            ("(?:f)(o)+", "src"),
            ("(?<n>fo+)", "src"),
            (".", "empty.txt"),
            ("^$", "a.txt"),
            ("^\u{feff}", "bom.txt"),
            (r"\ufeff", "bom.txt"),
            (r"\x66oo", "src"),
            ("z", "one-line.txt"),
            ("$", "a.txt"),
            (r"[^\x00-\x7f]", ""),
            (r"na\u00efve", ""),
            (r"\/", "src"),
            ("a{,2}", "a.txt"),
            ("o{1,}", "a.txt"),
            ("e{2}", "a.txt"),
            ("[a-c]{2,3}", ""),
            (r"[\w-]+\.rs", ""),
            (r"\S+\d", "src"),
            (r"[\s\S]", "a.txt"),
            ("[^]", "a.txt"),
            ("[]", "a.txt"),
            (r"\cJ", "a.txt"),
            (r"\t", "a.txt"),
            (r"\0", "nul.txt"),
            (r"\-\_\@\%", "a.txt"),
            ("h.*o", ""),
            ("t(wo|hree)", "a.txt"),
        ],
        false,
    );
    cases.extend(grep_inputs());
    cases
}

/// Calls in which the two official toolsets differ, as docs/worker.md lists them.
pub(crate) fn official_differences() -> Vec<Case> {
    vec![
        case("bash", json!({"command": "(exit 7)"})),
        case("bash", json!({"command": "sleep 5", "timeout_ms": 50})),
        case("bash", json!({"command": "echo both", "restart": true})),
        case("bash", json!({"command": "echo 'open", "timeout_ms": 400})),
        case("read", json!({"file_path": "src"})),
        case("read", json!({"file_path": "../up"})),
        case("read", json!({"file_path": "latin1.txt"})),
        case("read", json!({})),
        case("write", json!({"file_path": "w.txt", "content": "ä"})),
        case("write", json!({"file_path": "a.txt/below", "content": "x"})),
        case("edit", json!({"file_path": "a.txt", "old_string": "", "new_string": "x"})),
        case("glob", json!({"pattern": "*"})),
        case("glob", json!({"pattern": "{a,crlf}.txt"})),
        case("grep", json!({"pattern": "foo", "path": "nul.txt"})),
        case("grep", json!({"pattern": "foo", "path": "separators.txt"})),
    ]
}

/// Calls put together at random from parts that get on each other's nerves; the same for the
/// same seed.
pub(crate) fn random(seed: u64, count: usize) -> Vec<Case> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut cases: Vec<Case> = (0..count).map(|_| random.case()).collect();
    // The working directory itself goes, under the shell that stands in it.
    cases.extend([
        case("bash", json!({"command": "cd $ROOT && rm -rf $ROOT && echo gone"})),
        case("read", json!({"file_path": "a.txt"})),
        case("edit", json!({"file_path": "a.txt", "old_string": "a", "new_string": "b"})),
        case("glob", json!({"pattern": "*"})),
        case("grep", json!({"pattern": "foo"})),
        case("bash", json!({"command": "pwd; echo still here"})),
        case("write", json!({"file_path": "again/a.txt", "content": "back"})),
        case("read", json!({"file_path": "again/a.txt"})),
    ]);
    cases
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // xorshift: nothing hangs on its quality.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn path(&mut self) -> String {
        let parts = [
            "a.txt",
            "src",
            "docs",
            "..",
            ".",
            "new",
            "link.txt",
            "linked-src",
            "lib.rs",
            "deep",
            "ä",
            "out",
            "dangling-inside",
            "loop-a",
            "pipe",
            "unicode.txt",
            "many",
            "000.dat",
            ".hidden",
            "",
            "odd",
            "new\nline.txt",
            "-dash",
            "tab\there",
            "*star?",
            "ends ",
            "emoji😀.txt",
            "huge.bin",
            "crlf.txt",
            "nul.txt",
            "long-line.txt",
            "big.txt",
            "locked",
        ];
        let len = 1 + self.below(3);
        let path: Vec<&str> = (0..len).map(|_| self.pick(&parts)).collect();
        path.join("/")
    }

    fn text(&mut self) -> String {
        let parts = [
            "a", "foo", "\n", "\r\n", "ä", "😀", "\t", "two", " ", "$&", "\\", "\"", "\u{0}", "x",
            "\u{2028}", "\u{feff}", "aa", "{", "*",
        ];
        let len = self.below(8);
        (0..len).map(|_| self.pick(&parts)).collect()
    }

    fn pattern(&mut self) -> String {
        let parts = [
            "*",
            "**",
            "/",
            "?",
            "a",
            "src",
            "[a-d]",
            ".",
            "{a,src}",
            ".txt",
            ".rs",
            "/",
            "!(a)",
            "@(a|src)",
            "d",
            "**/",
            "*.",
            "many",
            "[!s]",
            "{many,docs}/",
        ];
        let len = 1 + self.below(4);
        (0..len).map(|_| self.pick(&parts)).collect()
    }

    fn case(&mut self) -> Case {
        match self.below(9) {
            // One file by two names has one age, and then the order is nobody's promise.
            0 | 1 => Case { any_order: true, ..case("glob", json!({"pattern": self.pattern()})) },
            2 => case("write", json!({"file_path": self.path(), "content": self.text()})),
            3 => case("read", json!({"file_path": self.path()})),
            4 => {
                let range = [self.below(6) as i64 - 1, self.below(6) as i64 - 1];
                case("read", json!({"file_path": self.path(), "view_range": range}))
            }
            5 => {
                let every = self.below(2) == 0;
                case(
                    "edit",
                    json!({"file_path": self.path(), "old_string": self.text(),
                        "new_string": self.text(), "replace_all": every}),
                )
            }
            6 => case(
                "grep",
                json!({"pattern": self.pick(&["foo", "a", "^$", "two?", "ä"]),
                "path": self.path()}),
            ),
            7 => case("bash", self.command()),
            _ => {
                let word = self.text().replace(['\0', '\'', '\u{feff}'], "");
                let status = self.below(3);
                case("bash", json!({"command": format!("printf '%s' '{word}'; (exit {status})")}))
            }
        }
    }

    /// A command that leaves something behind for the ones after it.
    fn command(&mut self) -> Value {
        let commands = [
            "cd src && pwd",
            "cd .. 2>/dev/null; cd $ROOT; pwd",
            "mkdir -p gone && cd gone && rmdir ../gone; pwd; ls; cd $ROOT",
            "X=$((X + 1)); echo $X",
            "f() { echo \"f $1\"; }; f a",
            "f b",
            "printf 'a\\0b'",
            "printf '\\377\\376x'",
            "printf '\\r\\n\\r\\n'",
            "seq 1 40000",
            "head -c 250000 /dev/zero | tr '\\0' é",
            "echo out; echo err >&2; false",
            "cat <<E\nhere\nE",
            "sleep 600 & echo started",
            "kill %% 2>&1; wait; echo waited",
            "exec 3>&1; echo three >&3",
            "exec 1>&2; echo moved",
            "umask 077; touch private; stat -c %a private",
            "shopt -s nullglob; echo nothing*here",
            "rm -f p; mkfifo p; echo b > p & cat p; wait",
            "exit 4",
            "return 5",
            "kill -9 $$",
            "set -- a b c; echo $#",
            "echo \\",
            "echo 'a",
            "trap 'echo trapped' EXIT; echo set",
            "printf 'x\\n\\n\\n'",
            "printf '\\033[31mred\\033[0m'",
            "ln -sfn /etc etc; ls -d etc",
            "true",
        ];
        let command = self.pick(&commands);
        let deadline = match self.below(6) {
            // A quote that is never closed waits for its end.
            _ if command.ends_with("'a") => 300,
            0 => 20_000,
            _ => return json!({ "command": command }),
        };
        json!({ "command": command, "timeout_ms": deadline, "restart": self.below(4) == 0 })
    }
}
