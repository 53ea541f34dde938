//! One part of a glob pattern between two slashes, and how it matches a name.
//!
//! `*`, `?`, `[a-z]`, `[!x]`, `[[:alpha:]]` and the extended groups `@(a|b)`, `?(…)`, `*(…)`,
//! `+(…)`, `!(…)`. A wildcard never takes the dot that a name begins with. Groups make
//! matching a search; a budget of steps keeps a hostile pattern from holding it up.

use std::cell::Cell;

/// Steps for one name; beyond them it counts as no match.
const STEPS_MAX: u32 = 20_000;
/// Groups within groups.
const DEPTH_MAX: usize = 16;

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Segment {
    /// No wildcard: a name as it stands.
    Name(String),
    /// A name with wildcards in it.
    Pattern(Vec<Piece>),
    /// `**`: any number of directories.
    AnyDepth,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Char(char),
    One,
    Any,
    Class(Class),
    Group(Kind, Vec<Vec<Piece>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Once,
    Maybe,
    Many,
    ManyMaybe,
    Not,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
    named: Vec<Named>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Alnum,
    Alpha,
    Ascii,
    Blank,
    Cntrl,
    Digit,
    Graph,
    Lower,
    Print,
    Punct,
    Space,
    Upper,
    Word,
    Xdigit,
}

const NAMED: [(&str, Named); 14] = [
    ("[:alnum:]", Named::Alnum),
    ("[:alpha:]", Named::Alpha),
    ("[:ascii:]", Named::Ascii),
    ("[:blank:]", Named::Blank),
    ("[:cntrl:]", Named::Cntrl),
    ("[:digit:]", Named::Digit),
    ("[:graph:]", Named::Graph),
    ("[:lower:]", Named::Lower),
    ("[:print:]", Named::Print),
    ("[:punct:]", Named::Punct),
    ("[:space:]", Named::Space),
    ("[:upper:]", Named::Upper),
    ("[:word:]", Named::Word),
    ("[:xdigit:]", Named::Xdigit),
];

/// The parts of a pattern; `None` for one that can match no file below the root: it begins
/// with a slash, or its end stands for a directory.
pub(super) fn split(pattern: &str) -> Option<Vec<Segment>> {
    let last = pattern.rsplit('/').next().unwrap_or_default();
    if pattern.starts_with('/') || matches!(last, "" | ".") {
        return None;
    }
    let mut segments: Vec<Segment> = Vec::new();
    for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let segment = if part == "**" { Segment::AnyDepth } else { parse(part) };
        if segment != Segment::AnyDepth || segments.last() != Some(&Segment::AnyDepth) {
            segments.push(segment);
        }
    }
    Some(segments)
}

fn parse(part: &str) -> Segment {
    let chars: Vec<char> = part.chars().collect();
    let pieces = Parser { chars: &chars, at: 0, depth: 0 }.pieces(&[]);
    let name: Option<String> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Char(char) => Some(*char),
            Piece::One | Piece::Any | Piece::Class(_) | Piece::Group(..) => None,
        })
        .collect();
    name.map_or(Segment::Pattern(pieces), Segment::Name)
}

struct Parser<'a> {
    chars: &'a [char],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Reads pieces up to one of `ends`, which is left in place, or to the end.
    fn pieces(&mut self, ends: &[char]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some(char) = self.peek(0) {
            if ends.contains(&char) {
                break;
            }
            if let Some(group) = self.group() {
                pieces.push(group);
                continue;
            }
            if let Some(class) = self.class() {
                pieces.push(class);
                continue;
            }
            self.at += 1;
            match char {
                '*' if pieces.last() == Some(&Piece::Any) => {}
                '*' => pieces.push(Piece::Any),
                '?' => pieces.push(Piece::One),
                other => pieces.push(Piece::Char(other)),
            }
        }
        pieces
    }

    fn group(&mut self) -> Option<Piece> {
        let kind = match (self.peek(0)?, self.peek(1)?) {
            ('@', '(') => Kind::Once,
            ('?', '(') => Kind::Maybe,
            ('+', '(') => Kind::Many,
            ('*', '(') => Kind::ManyMaybe,
            ('!', '(') => Kind::Not,
            _ => return None,
        };
        if self.depth >= DEPTH_MAX {
            return None;
        }
        let start = self.at;
        self.at += 2;
        self.depth += 1;
        let mut choices = vec![self.pieces(&['|', ')'])];
        while self.peek(0) == Some('|') {
            self.at += 1;
            choices.push(self.pieces(&['|', ')']));
        }
        self.depth -= 1;
        if self.peek(0) == Some(')') {
            self.at += 1;
            return Some(Piece::Group(kind, choices));
        }
        // Never closed: its characters stand for themselves.
        self.at = start;
        None
    }

    /// `[…]`, if it is closed.
    fn class(&mut self) -> Option<Piece> {
        if self.peek(0) != Some('[') {
            return None;
        }
        let mut at = self.at + 1;
        let negated = matches!(self.chars.get(at), Some('!' | '^'));
        at += usize::from(negated);
        let first = at;
        let (mut ranges, mut named) = (Vec::new(), Vec::new());
        loop {
            let char = *self.chars.get(at)?;
            if char == ']' && at > first {
                break;
            }
            let rest = self.chars.get(at..).unwrap_or_default();
            if let Some((text, class)) = NAMED.iter().find(|(text, _)| starts_with(rest, text)) {
                named.push(*class);
                at += text.len();
                continue;
            }
            match (self.chars.get(at + 1), self.chars.get(at + 2)) {
                (Some('-'), Some(end)) if *end != ']' => {
                    if char <= *end {
                        ranges.push((char, *end));
                    }
                    at += 3;
                }
                _ => {
                    ranges.push((char, char));
                    at += 1;
                }
            }
        }
        self.at = at + 1;
        if let ([(from, to)], [], false) = (ranges.as_slice(), named.as_slice(), negated)
            && from == to
        {
            return Some(Piece::Char(*from));
        }
        Some(Piece::Class(Class { negated, ranges, named }))
    }
}

fn starts_with(chars: &[char], text: &str) -> bool {
    let mut chars = chars.iter();
    text.chars().all(|expected| chars.next() == Some(&expected))
}

impl Class {
    fn matches(&self, char: char) -> bool {
        let listed = self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&char))
            || self.named.iter().any(|named| named.matches(char));
        listed != self.negated
    }
}

impl Named {
    fn matches(self, char: char) -> bool {
        match self {
            Self::Alnum => char.is_alphanumeric(),
            Self::Alpha => char.is_alphabetic(),
            Self::Ascii => char.is_ascii(),
            Self::Blank => {
                char == '\t' || char == ' ' || (char.is_whitespace() && !char.is_control())
            }
            Self::Cntrl => char.is_control(),
            Self::Digit => char.is_numeric(),
            Self::Graph => !char.is_whitespace() && !char.is_control(),
            Self::Lower => char.is_lowercase(),
            Self::Print => !char.is_control(),
            Self::Punct => char.is_ascii_punctuation() && !"$+<=>^`|~".contains(char),
            Self::Space => char.is_whitespace(),
            Self::Upper => char.is_uppercase(),
            Self::Word => char.is_alphanumeric() || char == '_',
            Self::Xdigit => char.is_ascii_hexdigit(),
        }
    }
}

impl Segment {
    /// Whether this part matches the name of one entry.
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(expected) => expected == name,
            Self::AnyDepth => true,
            Self::Pattern(pieces) => {
                let chars: Vec<char> = name.chars().collect();
                let matcher = Matcher { name: &chars, budget: Cell::new(STEPS_MAX) };
                matcher.matches(0, &Rest { pieces, next: None })
            }
        }
    }
}

/// What is still to be matched: some pieces, then what follows the group they are in.
#[derive(Clone, Copy)]
struct Rest<'a> {
    pieces: &'a [Piece],
    next: Option<&'a Rest<'a>>,
}

struct Matcher<'a> {
    name: &'a [char],
    budget: Cell<u32>,
}

impl Matcher<'_> {
    /// A character that a wildcard may take: not the dot that a name begins with.
    fn wild(&self, at: usize) -> Option<char> {
        self.name.get(at).copied().filter(|char| at > 0 || *char != '.')
    }

    fn matches(&self, at: usize, rest: &Rest<'_>) -> bool {
        let Some(budget) = self.budget.get().checked_sub(1) else { return false };
        self.budget.set(budget);
        let Some((piece, pieces)) = rest.pieces.split_first() else {
            return match rest.next {
                Some(next) => self.matches(at, next),
                None => at == self.name.len(),
            };
        };
        let after = Rest { pieces, next: rest.next };
        match piece {
            Piece::Char(char) => self.name.get(at) == Some(char) && self.matches(at + 1, &after),
            Piece::One => self.wild(at).is_some() && self.matches(at + 1, &after),
            Piece::Class(class) => {
                self.wild(at).is_some_and(|char| class.matches(char))
                    && self.matches(at + 1, &after)
            }
            Piece::Any => self.after_any(at, &after),
            Piece::Group(kind, choices) => self.group(at, *kind, choices, &after),
        }
    }

    fn after_any(&self, at: usize, after: &Rest<'_>) -> bool {
        if at == 0 && self.wild(0).is_none() {
            return false;
        }
        (at..=self.name.len()).any(|end| self.matches(end, after))
    }

    fn group(&self, at: usize, kind: Kind, choices: &[Vec<Piece>], after: &Rest<'_>) -> bool {
        let one_of = |at: usize, next: &Rest<'_>| {
            choices.iter().any(|pieces| self.matches(at, &Rest { pieces, next: Some(next) }))
        };
        match kind {
            Kind::Once => one_of(at, after),
            Kind::Maybe => self.matches(at, after) || one_of(at, after),
            Kind::Not => !one_of(at, after) && self.after_any(at, after),
            Kind::ManyMaybe => self.matches(at, after) || self.repeat(at, choices, after),
            Kind::Many => self.repeat(at, choices, after),
        }
    }

    /// One or more of `choices`, then `after`. Each round has to take something.
    fn repeat(&self, at: usize, choices: &[Vec<Piece>], after: &Rest<'_>) -> bool {
        (at + 1..=self.name.len()).any(|end| {
            let part = Matcher {
                name: self.name.get(..end).unwrap_or_default(),
                budget: self.budget.clone(),
            };
            let taken = choices.iter().any(|pieces| part.matches(at, &Rest { pieces, next: None }));
            self.budget.set(part.budget.get());
            taken && (self.matches(end, after) || self.repeat(end, choices, after))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        parse(pattern).matches(name)
    }

    #[test]
    fn wildcards_classes_and_groups_match_as_in_a_shell() {
        for (pattern, name) in [
            ("*", "a"),
            ("*.rs", "main.rs"),
            ("?[a-c]", "xb"),
            ("[!a]b", "xb"),
            ("[[:digit:]]*", "1x"),
            (".*", ".env"),
            ("@(a|b).c", "b.c"),
            ("*(ab)c", "ababc"),
            ("+(a|b)", "abba"),
            ("!(a).c", "b.c"),
            ("a[", "a["),
            ("[]a]", "]"),
            ("@(a", "@(a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*", ".env"),
            ("?env", ".env"),
            ("[.]x", "ax"),
            ("*.rs", "main.rsx"),
            ("+(a|b)", ""),
            ("!(a).c", "a.c"),
            ("[b-a]", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_gives_up() {
        let pattern = "*(*(*(a)))".repeat(8) + "b";
        assert!(!matches(&pattern, &"a".repeat(100)));
    }
}
