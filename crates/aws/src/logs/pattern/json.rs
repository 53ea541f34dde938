//! Patterns for JSON events: `{ ($.level = "ERROR" || $.code >= 500) && $.user.name != "test*" }`.

use super::scan::{Comparison, Scan};
use serde_json::Value;

/// Deepest nesting of parentheses.
const DEPTH_MAX: usize = 32;

/// A condition on an event.
#[derive(Debug)]
pub(super) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Property { selector: Vec<Step>, test: Test },
}

/// A step from a value to one within it.
#[derive(Debug)]
pub(super) enum Step {
    Key(String),
    Index(usize),
    /// Of any element.
    Every,
}

#[derive(Debug)]
pub(super) enum Test {
    Compares(Comparison),
    True,
    False,
    Null,
    Exists,
    NotExists,
}

/// # Errors
/// A sentence that says what cannot be read.
pub(super) fn parse(scan: &mut Scan<'_>) -> Result<Condition, String> {
    scan.expect("{")?;
    let condition = any(scan, 0)?;
    scan.expect("}")?;
    if scan.is_empty() { Ok(condition) } else { Err(scan.fault("there is more after '}'")) }
}

fn any(scan: &mut Scan<'_>, depth: usize) -> Result<Condition, String> {
    let mut of = vec![all(scan, depth)?];
    while scan.takes("||") {
        of.push(all(scan, depth)?);
    }
    Ok(Condition::Any(of))
}

fn all(scan: &mut Scan<'_>, depth: usize) -> Result<Condition, String> {
    let mut of = vec![one(scan, depth)?];
    while scan.takes("&&") {
        of.push(one(scan, depth)?);
    }
    Ok(Condition::All(of))
}

fn one(scan: &mut Scan<'_>, depth: usize) -> Result<Condition, String> {
    if scan.takes("(") {
        if depth == DEPTH_MAX {
            return Err(scan.fault("it is nested too deeply"));
        }
        let condition = any(scan, depth + 1)?;
        scan.expect(")")?;
        return Ok(condition);
    }
    let selector = selector(scan)?;
    Ok(Condition::Property { selector, test: test(scan)? })
}

fn selector(scan: &mut Scan<'_>) -> Result<Vec<Step>, String> {
    scan.expect("$")?;
    let mut steps = Vec::new();
    loop {
        if scan.takes("[") {
            steps.push(bracket(scan)?);
        } else if scan.takes(".") {
            if scan.takes("[") {
                steps.push(bracket(scan)?);
                continue;
            }
            let key = scan.run(|c| c.is_alphanumeric() || "_-@:/".contains(c));
            if key.is_empty() {
                return Err(scan.fault("a property's name is missing"));
            }
            steps.push(Step::Key(key.to_owned()));
        } else {
            return Ok(steps);
        }
    }
}

/// After `[`: an index, `*`, or a name in quotation marks.
fn bracket(scan: &mut Scan<'_>) -> Result<Step, String> {
    let step = if scan.takes("*") {
        Step::Every
    } else if scan.takes("'") {
        let name = scan.run(|c| c != '\'').to_owned();
        scan.expect("'")?;
        Step::Key(name)
    } else if let Some(name) = scan.quoted()? {
        Step::Key(name)
    } else {
        let digits = scan.run(|c| c.is_ascii_digit());
        Step::Index(digits.parse().map_err(|_| scan.fault("an index is a number"))?)
    };
    scan.expect("]")?;
    Ok(step)
}

fn test(scan: &mut Scan<'_>) -> Result<Test, String> {
    if let Some(operator) = scan.operator() {
        return Ok(Test::Compares(Comparison { operator, operand: scan.operand()? }));
    }
    if scan.takes_word("NOT") {
        return match scan.takes_word("EXISTS") {
            true => Ok(Test::NotExists),
            false => Err(scan.fault("EXISTS is expected after NOT")),
        };
    }
    if scan.takes_word("EXISTS") {
        return Ok(Test::Exists);
    }
    if scan.takes_word("IS") {
        for (word, test) in [("TRUE", Test::True), ("FALSE", Test::False), ("NULL", Test::Null)] {
            if scan.takes_word(word) {
                return Ok(test);
            }
        }
    }
    Err(scan.fault("a comparison is expected: =, !=, <, >, <=, >=, IS, EXISTS or NOT EXISTS"))
}

impl Condition {
    pub(super) fn fits(&self, event: &Value) -> bool {
        match self {
            Self::All(of) => of.iter().all(|condition| condition.fits(event)),
            Self::Any(of) => of.iter().any(|condition| condition.fits(event)),
            Self::Property { selector, test } => {
                let mut found = Vec::new();
                select(event, selector, &mut found);
                match test {
                    Test::Exists => !found.is_empty(),
                    Test::NotExists => found.is_empty(),
                    test => found.into_iter().any(|value| test.holds(value)),
                }
            }
        }
    }
}

fn select<'v>(value: &'v Value, steps: &[Step], found: &mut Vec<&'v Value>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value);
        return;
    };
    match step {
        Step::Key(key) => {
            if let Some(value) = value.get(key) {
                select(value, rest, found);
            }
        }
        Step::Index(index) => {
            if let Some(value) = value.get(index) {
                select(value, rest, found);
            }
        }
        Step::Every => {
            for value in value.as_array().into_iter().flatten() {
                select(value, rest, found);
            }
        }
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::True => *value == Value::Bool(true),
            Self::False => *value == Value::Bool(false),
            Self::Null => value.is_null(),
            Self::Exists => true,
            Self::NotExists => false,
            Self::Compares(comparison) => match value {
                Value::String(text) => comparison.holds_for_text(text),
                Value::Number(number) => {
                    number.as_f64().is_some_and(|number| comparison.holds_for_number(number))
                }
                Value::Bool(value) => comparison.holds_for_text(&value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => false,
            },
        }
    }
}
