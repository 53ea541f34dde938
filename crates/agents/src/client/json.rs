//! JSON as the platform may send it, half surrogate pairs included.
//!
//! A text that was cut in the middle of a character, as JavaScript and Python cut them, comes
//! as an escape like `\ud83d` on its own. That is JSON and no Unicode, and serde_json refuses
//! it; one such event in a history must not make the whole session unreadable. So what cannot
//! be read is read again with U+FFFD in those places.

use serde::de::DeserializeOwned;

const REPLACEMENT: &[u8] = b"\\ufffd";
/// Length of `\uXXXX`.
const ESCAPE_LEN: usize = 6;

/// Reads JSON.
///
/// # Errors
/// serde_json's, of the first attempt.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|error| match without_half_pairs(bytes) {
        Some(mended) => serde_json::from_slice(&mended).map_err(|_| error),
        None => Err(error),
    })
}

/// `None` if there is nothing to mend.
fn without_half_pairs(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut mended = false;
    while let [first, after @ ..] = rest {
        if *first != b'\\' {
            out.push(*first);
            rest = after;
            continue;
        }
        let taken = match (unit(rest), rest.get(ESCAPE_LEN..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 2 * ESCAPE_LEN,
            (Some(0xD800..=0xDFFF), _) => {
                mended = true;
                out.extend_from_slice(REPLACEMENT);
                rest = rest.get(ESCAPE_LEN..).unwrap_or_default();
                continue;
            }
            // Two bytes are enough of any other escape: what follows has no backslash.
            (Some(_) | None, _) => rest.len().min(2),
        };
        let (head, tail) = rest.split_at(taken);
        out.extend_from_slice(head);
        rest = tail;
    }
    mended.then_some(out)
}

/// The UTF-16 unit that an escape at the beginning of `bytes` stands for.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn half_a_pair_is_replaced_and_a_whole_one_is_kept() {
        assert_eq!(text(r#""a\ud83d""#), "a\u{fffd}");
        assert_eq!(text(r#""\ude00b""#), "\u{fffd}b");
        assert_eq!(text(r#""\ud83d\ude00\ud83d\n""#), "😀\u{fffd}\n");
        assert_eq!(text(r#""\ud83d\ud83d\ude00""#), "\u{fffd}😀");
        assert_eq!(text(r#""\\ud83d\ud83d""#), "\\ud83d\u{fffd}");
    }

    #[test]
    fn what_is_no_json_stays_no_json() {
        for bad in ["", "{", r#""\ud8"#, r#"{"a":"\ud83d""#] {
            assert!(parse::<serde_json::Value>(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
