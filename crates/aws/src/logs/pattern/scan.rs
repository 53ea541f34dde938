//! Reading patterns: a cursor over the text, and the values that conditions compare with.

use regex::{Regex, RegexBuilder};

/// Largest compiled expression, in bytes.
const REGEX_BYTES_MAX: usize = 256 * 1024;

/// What is left of a pattern.
pub(super) struct Scan<'a> {
    whole: &'a str,
    rest: &'a str,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { whole: text, rest: text }
    }

    pub(super) fn fault(&self, what: &str) -> String {
        format!("Invalid filter pattern: {what}: {}", self.whole)
    }

    pub(super) fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    pub(super) fn is_empty(&mut self) -> bool {
        self.skip_space();
        self.rest.is_empty()
    }

    /// Takes `text` where it stands next, after space.
    pub(super) fn takes(&mut self, text: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// As [`Scan::takes`], for a word of letters in either case.
    pub(super) fn takes_word(&mut self, word: &str) -> bool {
        self.skip_space();
        let Some(head) = self.rest.get(..word.len()) else { return false };
        let after = self.rest.get(word.len()..).unwrap_or_default();
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if head.eq_ignore_ascii_case(word) && ends {
            self.rest = after;
            return true;
        }
        false
    }

    /// # Errors
    /// Where `text` does not stand next.
    pub(super) fn expect(&mut self, text: &str) -> Result<(), String> {
        if self.takes(text) { Ok(()) } else { Err(self.fault(&format!("'{text}' is expected"))) }
    }

    /// The longest run of what `fits`; empty where there is none.
    pub(super) fn run(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run
    }

    /// What stands up to the closing `mark`, once the opening one is taken; `\` takes the next
    /// character as it is.
    ///
    /// # Errors
    /// Where it is not closed.
    fn until(&mut self, mark: char) -> Result<String, String> {
        let mut text = String::new();
        let mut letters = self.rest.char_indices();
        while let Some((at, c)) = letters.next() {
            match c {
                '\\' => match letters.next() {
                    Some((_, next)) if next == mark || next == '\\' => text.push(next),
                    Some((_, next)) => text.extend(['\\', next]),
                    None => break,
                },
                c if c == mark => {
                    self.rest = self.rest.get(at + c.len_utf8()..).unwrap_or_default();
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(self.fault(&format!("{mark} is not closed")))
    }

    /// A value in quotation marks. None: none stands next.
    pub(super) fn quoted(&mut self) -> Result<Option<String>, String> {
        if self.takes("\"") { self.until('"').map(Some) } else { Ok(None) }
    }

    /// `%expression%`. None: none stands next.
    pub(super) fn regex(&mut self) -> Result<Option<Regex>, String> {
        if !self.takes("%") {
            return Ok(None);
        }
        let text = self.until('%')?;
        let compiled = RegexBuilder::new(&text).size_limit(REGEX_BYTES_MAX).build();
        compiled.map(Some).map_err(|_| self.fault("the regular expression cannot be read"))
    }

    /// One of the comparison operators.
    pub(super) fn operator(&mut self) -> Option<Operator> {
        const OPERATORS: [(&str, Operator); 6] = [
            ("!=", Operator::Differs),
            ("<=", Operator::AtMost),
            (">=", Operator::AtLeast),
            ("=", Operator::Equals),
            ("<", Operator::Below),
            (">", Operator::Above),
        ];
        OPERATORS.into_iter().find_map(|(text, operator)| self.takes(text).then_some(operator))
    }

    /// The right side of a comparison.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn operand(&mut self) -> Result<Operand, String> {
        if let Some(regex) = self.regex()? {
            return Ok(Operand::Regex(regex));
        }
        if let Some(text) = self.quoted()? {
            return Ok(Operand::Text { text, number: None });
        }
        self.skip_space();
        let ends = |c: char| c.is_whitespace() || ",)]}&|\"".contains(c);
        let text = self.run(|c| !ends(c)).to_owned();
        if text.is_empty() {
            return Err(self.fault("a value is missing"));
        }
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        Ok(Operand::Text { text, number })
    }
}

/// How a value is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operator {
    Equals,
    Differs,
    Below,
    Above,
    AtMost,
    AtLeast,
}

/// What a value is compared with.
#[derive(Debug)]
pub(super) enum Operand {
    /// `*` stands for anything.
    Text {
        text: String,
        number: Option<f64>,
    },
    Regex(Regex),
}

/// A comparison with one value.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) operator: Operator,
    pub(super) operand: Operand,
}

impl Comparison {
    /// Of a text, which may be a number.
    pub(super) fn holds_for_text(&self, text: &str) -> bool {
        let number = || text.parse().ok().filter(|number: &f64| number.is_finite());
        match self.operator {
            Operator::Equals => self.equals(text, number()),
            Operator::Differs => !self.equals(text, number()),
            Operator::Below | Operator::Above | Operator::AtMost | Operator::AtLeast => {
                number().is_some_and(|number| self.holds_for_number(number))
            }
        }
    }

    pub(super) fn holds_for_number(&self, number: f64) -> bool {
        let wanted = match &self.operand {
            Operand::Text { number: Some(wanted), .. } => *wanted,
            Operand::Text { .. } | Operand::Regex(_) => {
                let equal = self.equals(&number.to_string(), Some(number));
                return match self.operator {
                    Operator::Equals => equal,
                    Operator::Differs => !equal,
                    Operator::Below | Operator::Above | Operator::AtMost | Operator::AtLeast => {
                        false
                    }
                };
            }
        };
        match self.operator {
            Operator::Equals => number == wanted,
            Operator::Differs => number != wanted,
            Operator::Below => number < wanted,
            Operator::Above => number > wanted,
            Operator::AtMost => number <= wanted,
            Operator::AtLeast => number >= wanted,
        }
    }

    fn equals(&self, text: &str, number: Option<f64>) -> bool {
        match &self.operand {
            Operand::Regex(regex) => regex.is_match(text),
            Operand::Text { number: Some(wanted), .. } if number == Some(*wanted) => true,
            Operand::Text { text: wanted, .. } => fits(wanted, text),
        }
    }
}

/// Whether `text` is `pattern`, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = tail.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = rest.get(at + piece.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}
