//! `*` and `?` as policies use them, with policy variables put in as plain text.

use super::Context;

/// One element of a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Element {
    Plain(char),
    One,
    Many,
}

/// Whether letters of both cases are the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Case {
    Exact,
    Ignored,
}

/// Whether `text` fits `pattern`, whose `${…}` are replaced from `context`. A variable that the
/// context lacks fits nothing.
pub(super) fn fits(pattern: &str, text: &str, case: Case, context: &Context) -> bool {
    let Some(pattern) = elements(pattern, case, context) else { return false };
    let text: Vec<char> = match case {
        Case::Exact => text.chars().collect(),
        Case::Ignored => text.to_lowercase().chars().collect(),
    };
    matches(&pattern, &text)
}

/// `pattern` with its variables replaced. None: one of them is not known.
pub(super) fn expand(pattern: &str, context: &Context) -> Option<String> {
    let elements = elements(pattern, Case::Exact, context)?;
    Some(
        elements
            .into_iter()
            .map(|element| match element {
                Element::Plain(c) => c,
                Element::One => '?',
                Element::Many => '*',
            })
            .collect(),
    )
}

fn elements(pattern: &str, case: Case, context: &Context) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    let plain = |text: &str, elements: &mut Vec<Element>| match case {
        Case::Exact => elements.extend(text.chars().map(Element::Plain)),
        Case::Ignored => elements.extend(text.to_lowercase().chars().map(Element::Plain)),
    };
    let mut rest = pattern;
    while let Some(next) = rest.chars().next() {
        if let Some((variable, after)) =
            rest.strip_prefix("${").and_then(|inside| inside.split_once('}'))
        {
            match variable {
                "*" | "?" | "$" => plain(variable, &mut elements),
                named => plain(context.single(named)?, &mut elements),
            }
            rest = after;
            continue;
        }
        match next {
            '*' => elements.push(Element::Many),
            '?' => elements.push(Element::One),
            other => plain(other.encode_utf8(&mut [0; 4]), &mut elements),
        }
        rest = rest.get(next.len_utf8()..).unwrap_or_default();
    }
    Some(elements)
}

/// Linear in practice, quadratic at worst: on a mismatch only the last `*` takes one more.
fn matches(pattern: &[Element], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(Element::Many), _) => {
                retry = Some((p + 1, t));
                p += 1;
            }
            (Some(Element::One), Some(_)) => (p, t) = (p + 1, t + 1),
            (Some(Element::Plain(want)), Some(have)) if want == have => (p, t) = (p + 1, t + 1),
            (Some(Element::Plain(_)) | None, _) | (Some(Element::One), None) => match retry {
                Some((after, from)) => {
                    retry = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|element| *element == Element::Many)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        let mut context = Context::default();
        context.set("aws:username", "ann");
        assert_eq!(fits(pattern, text, Case::Exact, &context), expected, "{pattern} on {text}");
    }

    #[test]
    fn stars_and_question_marks_fit_as_in_policies() {
        check("*", "", true);
        check("a*c", "abc", true);
        check("a*c", "ac", true);
        check("a*c", "acb", false);
        check("a?c", "ac", false);
        check("*key*-??", "warren/environment-key-AbCdEf-ab", true);
        check("a*b*c", "a-b-b-c", true);
        check("", "", true);
        check("", "a", false);
    }

    #[test]
    fn variables_are_plain_text_and_unknown_ones_fit_nothing() {
        check("home/${aws:username}/*", "home/ann/x", true);
        check("home/${aws:username}/*", "home/bob/x", false);
        check("${aws:none}", "", false);
        check("100${*}", "100*", true);
        check("100${*}", "1000", false);
    }
}
