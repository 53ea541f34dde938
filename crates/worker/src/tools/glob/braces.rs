//! Brace expansion: `a{b,c}d` is `abd` and `acd`, `{1..3}` is `1`, `2`, `3`.

/// Alternatives that one pattern may stand for; further ones are left out.
const ALTERNATIVES_MAX: usize = 4096;

/// All alternatives of `pattern`, in order. Braces with nothing to choose from stay as text.
pub(super) fn expand(pattern: &str) -> Vec<String> {
    let Some(group) = first_group(pattern) else { return vec![pattern.to_owned()] };
    let choices = match split_choices(group.inside) {
        parts if parts.len() > 1 => parts.iter().flat_map(|part| expand(part)).collect(),
        _ => match sequence(group.inside) {
            Some(items) => items,
            None => return literal_braces(&group),
        },
    };
    let tails = expand(group.after);
    let mut all = Vec::new();
    for choice in choices {
        for tail in &tails {
            if all.len() >= ALTERNATIVES_MAX {
                return all;
            }
            all.push(format!("{}{choice}{tail}", group.before));
        }
    }
    all
}

struct Group<'a> {
    before: &'a str,
    inside: &'a str,
    after: &'a str,
}

/// The first `{` that has its `}`, and what is between them.
fn first_group(text: &str) -> Option<Group<'_>> {
    for (open, _) in text.match_indices('{') {
        let mut depth = 0_usize;
        for (at, byte) in text.bytes().enumerate().skip(open) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(Group {
                    before: text.get(..open)?,
                    inside: text.get(open + 1..at)?,
                    after: text.get(at + 1..)?,
                });
            }
        }
    }
    None
}

/// `{x}` stays, but x and what follows may hold choices.
fn literal_braces(group: &Group<'_>) -> Vec<String> {
    let tails = expand(group.after);
    let mut all = Vec::new();
    for inside in expand(group.inside) {
        for tail in &tails {
            if all.len() < ALTERNATIVES_MAX {
                all.push(format!("{}{{{inside}}}{tail}", group.before));
            }
        }
    }
    all
}

/// Splits at the commas that are in no inner braces.
fn split_choices(inside: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.extend(inside.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(inside.get(start..));
    parts
}

/// `1..5`, `05..10`, `a..e`, each with an optional `..step`.
fn sequence(inside: &str) -> Option<Vec<String>> {
    let mut parts = inside.split("..");
    let (first, last, step) = (parts.next()?, parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let step: i64 = step.map_or(Some(1), |step| step.parse().ok())?;
    let step = step.checked_abs()?.max(1);
    if let (Ok(from), Ok(to)) = (first.parse::<i64>(), last.parse::<i64>()) {
        let padded = |text: &str| {
            let digits = text.trim_start_matches('-');
            digits.len() > 1 && digits.starts_with('0')
        };
        let width = if padded(first) || padded(last) { first.len().max(last.len()) } else { 0 };
        return Some(steps(from, to, step).map(|n| format!("{n:0width$}")).collect());
    }
    let letter = |text: &str| match text.as_bytes() {
        [byte] if byte.is_ascii_alphabetic() => Some(i64::from(*byte)),
        _ => None,
    };
    let (from, to) = (letter(first)?, letter(last)?);
    let text = |n: i64| u8::try_from(n).map(|byte| char::from(byte).to_string()).ok();
    // Between `Z` and `a` there is a backslash, which is not taken.
    Some(
        steps(from, to, step)
            .filter_map(text)
            .map(|t| if t == "\\" { String::new() } else { t })
            .collect(),
    )
}

fn steps(from: i64, to: i64, step: i64) -> impl Iterator<Item = i64> {
    let signed = if from <= to { step } else { -step };
    std::iter::successors(Some(from), move |n| n.checked_add(signed))
        .take_while(move |n| if from <= to { *n <= to } else { *n >= to })
        .take(ALTERNATIVES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_multiply_and_nest() {
        for (pattern, expected) in [
            ("a", "a"),
            ("a{b,c}d", "abd acd"),
            ("{a,b}{1,2}", "a1 a2 b1 b2"),
            ("{a,b{1,2}}", "a b1 b2"),
            ("{1..3}", "1 2 3"),
            ("{05..10..5}", "05 10"),
            ("{c..a}", "c b a"),
            ("{a}", "{a}"),
            ("x{a{1,2}}", "x{a1} x{a2}"),
            ("{a,b", "{a,b"),
            ("{,x}y", "y xy"),
        ] {
            assert_eq!(expand(pattern).join(" "), expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_cannot_stand_for_more_than_the_limit() {
        assert_eq!(expand("{1..1000}{1..1000}{1..1000}").len(), ALTERNATIVES_MAX);
    }
}
