//! Filter patterns for unstructured log events: terms that must all be there, `?term` of which one
//! must, `-term` that must not; quoted where a term holds more than letters.
//!
//! Patterns for JSON (`{ … }`) and space-delimited (`[ … ]`) events are refused by name.

/// A parsed pattern.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
}

impl Pattern {
    /// # Errors
    /// A sentence that says what cannot be read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pattern = Self::default();
        let mut rest = text.trim_start();
        if rest.starts_with('{') || rest.starts_with('[') {
            return Err(format!(
                "Invalid filter pattern: patterns for JSON and space-delimited events are not \
                 available in this Warren: {text}"
            ));
        }
        while let Some(first) = rest.chars().next() {
            let (list, term) = match first {
                '?' => (&mut pattern.any, rest.get(1..).unwrap_or_default()),
                '-' => (&mut pattern.none, rest.get(1..).unwrap_or_default()),
                _ => (&mut pattern.all, rest),
            };
            let (term, after) = match term.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').ok_or_else(|| {
                    format!("Invalid filter pattern: a quotation mark is not closed: {text}")
                })?,
                None => term.split_once(char::is_whitespace).unwrap_or((term, "")),
            };
            if !term.is_empty() {
                list.push(term.to_owned());
            }
            rest = after.trim_start();
        }
        Ok(pattern)
    }

    pub(super) fn fits(&self, message: &str) -> bool {
        self.all.iter().all(|term| message.contains(term.as_str()))
            && self.none.iter().all(|term| !message.contains(term.as_str()))
            && (self.any.is_empty() || self.any.iter().any(|term| message.contains(term.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, message: &str, expected: bool) {
        let parsed = Pattern::parse(pattern).unwrap();
        assert_eq!(parsed.fits(message), expected, "{pattern} on {message}");
    }

    #[test]
    fn terms_are_joined_as_cloudwatch_joins_them() {
        check("", "anything", true);
        check("ERROR", "an ERROR here", true);
        check("ERROR", "an error here", false);
        check("ERROR timeout", "timeout: ERROR", true);
        check("ERROR timeout", "ERROR", false);
        check("\"exit code 1\"", "exit code 1", true);
        check("\"exit code 1\"", "code exit 1", false);
        check("?a1 ?b2", "only b2", true);
        check("?a1 ?b2", "neither", false);
        check("ERROR -\"not this\"", "ERROR not this", false);
        check("ERROR -ignored", "ERROR seen", true);
    }

    #[test]
    fn what_cannot_be_matched_is_refused() {
        for pattern in ["{ $.level = 1 }", "[ip, user]", "\"open"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
