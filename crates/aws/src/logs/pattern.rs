//! Filter patterns of CloudWatch Logs, parsed once and held against each event's message.
//!
//! Three kinds: terms of plain text, conditions on a JSON event (`{ … }`), and conditions on
//! columns (`[ … ]`).

mod columns;
mod json;
mod scan;

use columns::Columns;
use json::Condition;
use regex::Regex;
use scan::Scan;

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct Pattern(Kind);

#[derive(Debug)]
enum Kind {
    Terms(Terms),
    Json(Condition),
    Columns(Columns),
}

/// Terms that must all be there, of which one must (`?term`), that must not (`-term`).
#[derive(Debug, Default)]
struct Terms {
    all: Vec<Term>,
    any: Vec<Term>,
    none: Vec<Term>,
}

#[derive(Debug)]
enum Term {
    Text(String),
    Regex(Regex),
}

impl Pattern {
    /// # Errors
    /// A sentence that says what cannot be read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let mut scan = Scan::new(text);
        Ok(Self(match text.chars().next() {
            Some('{') => Kind::Json(json::parse(&mut scan)?),
            Some('[') => Kind::Columns(columns::parse(&mut scan)?),
            Some(_) | None => Kind::Terms(terms(&mut scan)?),
        }))
    }

    pub(super) fn fits(&self, message: &str) -> bool {
        match &self.0 {
            Kind::Terms(terms) => terms.fits(message),
            Kind::Columns(columns) => columns.fits(message),
            Kind::Json(condition) => serde_json::from_str(message)
                .is_ok_and(|event: serde_json::Value| event.is_object() && condition.fits(&event)),
        }
    }
}

fn terms(scan: &mut Scan<'_>) -> Result<Terms, String> {
    let mut terms = Terms::default();
    while !scan.is_empty() {
        let list = if scan.takes("?") {
            &mut terms.any
        } else if scan.takes("-") {
            &mut terms.none
        } else {
            &mut terms.all
        };
        let term = match (scan.regex()?, scan.quoted()?) {
            (Some(regex), _) => Term::Regex(regex),
            (None, Some(text)) => Term::Text(text),
            (None, None) => Term::Text(scan.run(|c| !c.is_whitespace()).to_owned()),
        };
        list.push(term);
    }
    if !terms.all.is_empty() || !terms.none.is_empty() {
        // As AWS has it: beside other terms, optional ones say nothing.
        terms.any.clear();
    }
    Ok(terms)
}

impl Terms {
    fn fits(&self, message: &str) -> bool {
        self.all.iter().all(|term| term.is_in(message))
            && !self.none.iter().any(|term| term.is_in(message))
            && (self.any.is_empty() || self.any.iter().any(|term| term.is_in(message)))
    }
}

impl Term {
    fn is_in(&self, message: &str) -> bool {
        match self {
            Self::Text(text) => message.contains(text.as_str()),
            Self::Regex(regex) => regex.is_match(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, fitting: &[&str], others: &[&str]) {
        let parsed = Pattern::parse(pattern).unwrap_or_else(|fault| panic!("{fault}"));
        for message in fitting {
            assert!(parsed.fits(message), "{pattern} on {message}");
        }
        for message in others {
            assert!(!parsed.fits(message), "{pattern} on {message}");
        }
    }

    #[test]
    fn terms_are_joined_as_cloudwatch_joins_them() {
        check("", &["anything", ""], &[]);
        check("ERROR", &["an ERROR here"], &["an error here"]);
        check("ERROR timeout", &["timeout: ERROR"], &["ERROR"]);
        check("\"exit code 1\"", &["exit code 1"], &["code exit 1"]);
        check("?a1 ?b2", &["only b2", "a1"], &["neither"]);
        check("?a1 ?b2 must", &["must"], &["a1", "b2"]);
        check("ERROR -\"not this\"", &["ERROR seen"], &["ERROR not this"]);
        check("%ERR(OR)?%", &["ERR", "an ERROR"], &["err"]);
        check("%\\d{3}%  -%5\\d\\d%", &["code 404"], &["code 503", "code"]);
        check("\"say \\\"hi\\\"\"", &["say \"hi\" to"], &["say hi"]);
    }

    #[test]
    fn json_is_asked_by_property() {
        check("{ $.a = 1 }", &["{\"a\":1}", "{\"a\":1.0}"], &["{\"a\":2}", "{}", "a=1", "[1]"]);
        check("{$.a=1&&$.b=x}", &["{\"a\":1,\"b\":\"x\"}"], &["{\"a\":1,\"b\":\"y\"}"]);
        check(
            "{ ($.l = \"ERROR\" || $.code >= 500) && $.user.name != \"test*\" }",
            &[
                "{\"l\":\"ERROR\",\"user\":{\"name\":\"me\"}}",
                "{\"code\":500,\"user\":{\"name\":\"x\"}}",
            ],
            &[
                "{\"l\":\"ERROR\",\"user\":{\"name\":\"tester\"}}",
                "{\"code\":499,\"user\":{\"name\":\"x\"}}",
            ],
        );
        check("{ $.n > 1.5e2 }", &["{\"n\":151}"], &["{\"n\":150}", "{\"n\":null}"]);
        check(
            "{ $.a[1].b = \"x*z\" }",
            &["{\"a\":[0,{\"b\":\"xyz\"}]}"],
            &["{\"a\":[{\"b\":\"xyz\"}]}"],
        );
        check("{ $.a[*] = 3 }", &["{\"a\":[1,2,3]}"], &["{\"a\":[1]}", "{\"a\":3}"]);
        check("{ $.['a.b'] IS TRUE }", &["{\"a.b\":true}"], &["{\"a.b\":\"true\"}"]);
        check("{ $.a is null }", &["{\"a\":null}"], &["{}", "{\"a\":0}"]);
        check("{ $.a NOT EXISTS }", &["{\"b\":1}"], &["{\"a\":null}"]);
        check("{ $.a EXISTS && $.b IS FALSE }", &["{\"a\":0,\"b\":false}"], &["{\"b\":false}"]);
        check("{ $.ip = %10\\.0\\.\\d+% }", &["{\"ip\":\"10.0.7.1\"}"], &["{\"ip\":\"11.0.7.1\"}"]);
        check("{ $.a = * }", &["{\"a\":\"\"}", "{\"a\":5}"], &["{}"]);
    }

    #[test]
    fn columns_are_asked_by_place() {
        let log =
            "127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] \"GET /a.html HTTP/1.0\" 404 1534";
        check("[ip, id, user, time, request, status, bytes]", &[log], &["a b", "a b c d e f g h"]);
        check("[ip, id, user, time, request = *html*, status = 4*, bytes > 1000]", &[log], &[]);
        check("[..., status = 404 || status = 410, bytes]", &[log], &["a 500 1"]);
        check(
            "[ip = %127\\.0\\.0\\.[1-9]%, ..., bytes >= 1534 && bytes < 2000]",
            &[log],
            &["127.0.0.1 x"],
        );
        check("[ip, ..., status != 404, bytes]", &["a b 200 1"], &[log]);
        check("[w1=ERROR, w2]", &["ERROR x"], &["ERROR", "WARN x", "ERROR x y"]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_reason() {
        for (pattern, why) in [
            ("\"open", "\" is not closed"),
            ("%open", "% is not closed"),
            ("%(%", "the regular expression cannot be read"),
            ("{ $.a }", "a comparison is expected"),
            ("{ $.a = }", "a value is missing"),
            ("{ a = 1 }", "'$' is expected"),
            ("{ $.a = 1", "'}' is expected"),
            ("{ $.a = 1 } x", "there is more after '}'"),
            ("[a, ..., b, ...]", "'...' may stand once"),
            ("[a = 1 && b = 2]", "the conditions of a column name that column"),
            ("[a,]", "a column's name is missing"),
        ] {
            let fault = Pattern::parse(pattern).unwrap_err();
            assert!(fault.contains(why) && fault.contains(pattern), "{pattern}: {fault}");
        }
        let deep = format!("{{ {}$.a = 1{} }}", "(".repeat(40), ")".repeat(40));
        assert!(Pattern::parse(&deep).unwrap_err().contains("nested too deeply"));
    }
}
