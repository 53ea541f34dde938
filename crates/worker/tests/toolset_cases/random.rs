//! Calls drawn at random, from parts that get on each other's nerves.

use serde_json::{Value, json};

use super::{Case, case};

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
