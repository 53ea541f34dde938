//! A JavaScript regular expression as one of the crate `regex`, as far as that goes.
//!
//! The built-in search of the official toolset takes JavaScript's dialect. What differs only
//! in spelling is translated here: `\d`, `\w`, `\s` and `\b` of ASCII or Unicode width, braces
//! and brackets that stand for themselves, escapes of characters that need none. Look-around
//! and back-references do not exist in `regex`, which is why no pattern can run away with it;
//! a pattern that uses them is refused with a message that says so.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

/// Most memory that a compiled pattern may take, in bytes.
const SIZE_MAX: usize = 4 << 20;

/// Compiles a pattern in JavaScript's dialect.
///
/// # Errors
/// What is wrong with it, for the model.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let text = translate(pattern);
    RegexBuilder::new(&text)
        .size_limit(SIZE_MAX)
        .dfa_size_limit(SIZE_MAX)
        .build()
        .map_err(|error| format!("Invalid regular expression: /{pattern}/: {}", reason(&error)))
}

/// The last line of an error of `regex` is what it comes down to.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// White space in JavaScript: Unicode's and the byte order mark.
const SPACE: &str = r"\t\n\x0B\x0C\r\x20\u{A0}\u{1680}\u{2000}-\u{200A}\u{2028}\u{2029}\u{202F}\u{205F}\u{3000}\u{FEFF}";

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' => out.push_str(&escape(&mut chars, Place::Outside)),
            '[' => class(&mut chars, &mut out),
            '.' => out.push_str(r"[^\n\r\u{2028}\u{2029}]"),
            '{' if !is_counted(chars.clone()) => out.push_str(r"\{"),
            '}' if !closes_count(&out) => out.push_str(r"\}"),
            ']' => out.push_str(r"\]"),
            other => out.push(other),
        }
    }
    out
}

/// Whether a `{` begins a repetition: digits, perhaps a comma and more digits, `}`.
fn is_counted(mut chars: Peekable<Chars<'_>>) -> bool {
    let mut digits = 0;
    let mut commas = 0;
    loop {
        match chars.next() {
            Some('0'..='9') => digits += 1,
            Some(',') if digits > 0 && commas == 0 => commas += 1,
            Some('}') => return digits > 0,
            Some(_) | None => return false,
        }
    }
}

/// Whether what was written so far ends in an open repetition.
fn closes_count(out: &str) -> bool {
    out.rfind('{').is_some_and(|open| {
        !out.get(..open).unwrap_or_default().ends_with('\\')
            && out.get(open + 1..).unwrap_or_default().chars().all(|c| matches!(c, '0'..='9' | ','))
    })
}

fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    let negated = chars.next_if_eq(&'^').is_some();
    if chars.next_if_eq(&']').is_some() {
        // `[]` matches nothing, `[^]` anything.
        out.push_str(if negated { r"(?s:.)" } else { r"[a&&b]" });
        return;
    }
    out.push_str(if negated { "[^" } else { "[" });
    while let Some(char) = chars.next() {
        match char {
            ']' => {
                out.push(']');
                return;
            }
            '\\' => out.push_str(&escape(chars, Place::InClass)),
            // These mean something in a class of `regex` and nothing in JavaScript's.
            '[' | '&' | '~' => {
                out.push('\\');
                out.push(char);
            }
            '-' if chars.peek() == Some(&'-') => out.push_str(r"\-"),
            other => out.push(other),
        }
    }
    // Never closed: `regex` finds the same fault.
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    InClass,
}

fn escape(chars: &mut Peekable<Chars<'_>>, place: Place) -> String {
    let Some(char) = chars.next() else { return "\\".to_owned() };
    let wrap = |inside: &str| match place {
        Place::Outside => format!("[{inside}]"),
        Place::InClass => inside.to_owned(),
    };
    match char {
        'd' => wrap("0-9"),
        'w' => wrap("A-Za-z0-9_"),
        's' => wrap(SPACE),
        'D' => "[^0-9]".to_owned(),
        'W' => "[^A-Za-z0-9_]".to_owned(),
        'S' => format!("[^{SPACE}]"),
        'b' if place == Place::InClass => r"\x08".to_owned(),
        'b' => r"(?-u:\b)".to_owned(),
        'B' => r"(?-u:\B)".to_owned(),
        'n' | 'r' | 't' | 'f' | 'v' => format!("\\{char}"),
        '0' if !chars.peek().is_some_and(char::is_ascii_digit) => r"\x00".to_owned(),
        // A back-reference: `regex` says that it has none.
        '1'..='9' if place == Place::Outside => format!("\\{char}"),
        'k' if place == Place::Outside && chars.peek() == Some(&'<') => r"\k".to_owned(),
        'c' => control(chars),
        'x' => code(chars, 2, 'x'),
        'u' => code(chars, 4, 'u'),
        other => regex::escape(&other.to_string()),
    }
}

fn control(chars: &mut Peekable<Chars<'_>>) -> String {
    match chars.next_if(char::is_ascii_alphabetic) {
        Some(letter) => format!(r"\x{:02X}", u32::from(letter) % 32),
        None => r"\\c".to_owned(),
    }
}

/// `\xHH` and `\uHHHH`; with fewer digits the letter stands for itself.
fn code(chars: &mut Peekable<Chars<'_>>, digits: usize, letter: char) -> String {
    let ahead: String = chars.clone().take(digits).collect();
    if ahead.len() == digits && ahead.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        for _ in 0..digits {
            chars.next();
        }
        return format!(r"\u{{{ahead}}}");
    }
    letter.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, line: &str, expected: bool) {
        let regex = compile(pattern).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(regex.is_match(line), expected, "/{pattern}/ on {line:?} as /{regex}/");
    }

    #[test]
    fn what_javascript_takes_as_it_stands_is_taken_as_it_stands() {
        for (pattern, line) in [
            ("fn main() {", "fn main {"),
            ("a{", "a{"),
            ("{x}", "{x}"),
            ("a]", "a]"),
            (r"\/\-\_\@", "/-_@"),
            ("[[]", "["),
            ("[a&&b]", "&"),
            ("a{2,3}b", "aab"),
            (r"\u00e9\x41", "éA"),
            ("(?<year>[0-9]{4})", "in 2026"),
            ("[^]", "x"),
        ] {
            check(pattern, line, true);
        }
    }

    #[test]
    fn digits_and_words_are_ascii_and_spaces_are_unicode() {
        check(r"\d", "٣", false);
        check(r"\w", "é", false);
        check(r"\bé", "aé", true);
        check(r"^\s$", "\u{feff}", true);
        check(r"[\d\s]", "x", false);
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        for pattern in ["(?=a)", r"(a)\1", "(?<!x)y"] {
            let error = compile(pattern).unwrap_err();
            assert!(error.contains("not supported"), "{error}");
        }
        assert!(compile("(").is_err());
    }
}
