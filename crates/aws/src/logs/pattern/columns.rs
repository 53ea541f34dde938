//! Patterns for events of columns: `[ip, user, ..., status = 4* || status = 5*, bytes > 1000]`.
//!
//! A column of an event is what stands between spaces; what is in `[ ]` or in quotation marks is one.

use super::scan::{Comparison, Scan};

/// What is asked of the columns, in order.
#[derive(Debug)]
pub(super) struct Columns {
    before: Vec<Column>,
    /// What comes after `...`. None: there is no such gap.
    after: Option<Vec<Column>>,
}

/// Conditions on one column: any of these, each all of those. Empty: whatever it holds.
type Column = Vec<Vec<Comparison>>;

/// # Errors
/// A sentence that says what cannot be read.
pub(super) fn parse(scan: &mut Scan<'_>) -> Result<Columns, String> {
    scan.expect("[")?;
    let mut columns = Columns { before: Vec::new(), after: None };
    loop {
        if scan.takes("...") {
            if columns.after.is_some() {
                return Err(scan.fault("'...' may stand once"));
            }
            columns.after = Some(Vec::new());
        } else {
            let column = column(scan)?;
            columns.after.as_mut().unwrap_or(&mut columns.before).push(column);
        }
        if !scan.takes(",") {
            break;
        }
    }
    scan.expect("]")?;
    if scan.is_empty() { Ok(columns) } else { Err(scan.fault("there is more after ']'")) }
}

fn column(scan: &mut Scan<'_>) -> Result<Column, String> {
    let name = name(scan)?;
    let mut any = Vec::new();
    let mut all = Vec::new();
    let Some(mut operator) = scan.operator() else { return Ok(any) };
    loop {
        all.push(Comparison { operator, operand: scan.operand()? });
        if scan.takes("||") {
            any.push(std::mem::take(&mut all));
        } else if !scan.takes("&&") {
            break;
        }
        if self::name(scan)? != name {
            return Err(scan.fault("the conditions of a column name that column"));
        }
        operator = scan.operator().ok_or_else(|| scan.fault("a comparison is expected"))?;
    }
    any.push(all);
    Ok(any)
}

fn name(scan: &mut Scan<'_>) -> Result<String, String> {
    scan.skip_space();
    let name = scan.run(|c| c.is_alphanumeric() || "_-*".contains(c));
    if name.is_empty() {
        return Err(scan.fault("a column's name is missing"));
    }
    Ok(name.to_owned())
}

impl Columns {
    pub(super) fn fits(&self, message: &str) -> bool {
        let found = split(message);
        let after = self.after.as_deref().unwrap_or_default();
        let asked = self.before.len() + after.len();
        if found.len() < asked || (self.after.is_none() && found.len() != asked) {
            return false;
        }
        let (first, rest) = found.split_at(self.before.len());
        let last = rest.get(rest.len() - after.len()..).unwrap_or_default();
        let fit = |columns: &[Column], texts: &[&str]| {
            columns.iter().zip(texts).all(|(column, text)| {
                column.is_empty()
                    || column.iter().any(|all| all.iter().all(|one| one.holds_for_text(text)))
            })
        };
        fit(&self.before, first) && fit(after, last)
    }
}

fn split(message: &str) -> Vec<&str> {
    let mut columns = Vec::new();
    let mut rest = message.trim();
    while let Some(first) = rest.chars().next() {
        let closing = match first {
            '[' => Some(']'),
            '"' => Some('"'),
            _ => None,
        };
        let inner = rest.get(1..).unwrap_or_default();
        let (column, after) = match closing.and_then(|closing| inner.split_once(closing)) {
            Some(split) => split,
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        columns.push(column);
        rest = after.trim_start();
    }
    columns
}
