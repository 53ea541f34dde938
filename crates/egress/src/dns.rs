//! As much of a DNS message as a forwarder must understand: the header and the first question.
//!
//! The rest of a message is the business of those at its ends.

/// Bytes of a message's header (RFC 1035, 4.1.1).
const HEADER_BYTES: usize = 12;
/// Longest name, bytes on the wire.
const NAME_BYTES_MAX: usize = 255;
/// Type and class behind a question's name.
const QUESTION_TAIL_BYTES: usize = 4;

/// First flag byte: this is a response.
const FLAG_RESPONSE: u8 = 0x80;
/// First flag byte: kind of query, 0 is the usual one.
const FLAG_OPCODE: u8 = 0x78;
/// First flag byte: recursion desired.
const FLAG_RECURSION_DESIRED: u8 = 0x01;
/// Second flag byte: recursion available.
const FLAG_RECURSION_AVAILABLE: u8 = 0x80;

/// What a query that we answer ourselves is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rcode {
    ServFail = 2,
    Refused = 5,
}

/// What a datagram or framed message from a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// A question for the upstream.
    Query(Query<'a>),
    /// Has a header, but is no query that we understand: it is refused.
    Malformed,
    /// Nothing that could be answered, or a response, which must not be.
    Noise,
}

/// A well-formed query with one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    message: &'a [u8],
    /// Name, type and class of the question.
    question: &'a [u8],
}

impl<'a> Message<'a> {
    pub(crate) fn parse(message: &'a [u8]) -> Self {
        let Some((header, body)) = message.split_first_chunk::<HEADER_BYTES>() else {
            return Self::Noise;
        };
        let [_, _, flags, _, questions @ .., _, _, _, _, _, _] = header;
        if flags & FLAG_RESPONSE != 0 {
            return Self::Noise;
        }
        if flags & FLAG_OPCODE != 0 || *questions != [0, 1] {
            return Self::Malformed;
        }
        match question(body) {
            Some(question) => Self::Query(Query { message, question }),
            None => Self::Malformed,
        }
    }
}

impl<'a> Query<'a> {
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.message
    }

    /// Whether `response` answers this query: the same id, the same question. Names are compared
    /// without regard to case, as some upstreams do not keep it.
    pub(crate) fn is_answered_by(&self, response: &[u8]) -> bool {
        let Some((header, body)) = response.split_first_chunk::<HEADER_BYTES>() else {
            return false;
        };
        let [id @ .., flags, _, _, count, _, _, _, _, _, _] = header;
        let same_question = match count {
            // Some servers leave the question out of an error.
            0 => true,
            _ => body
                .get(..self.question.len())
                .is_some_and(|question| question.eq_ignore_ascii_case(self.question)),
        };
        self.message.starts_with(id) && flags & FLAG_RESPONSE != 0 && same_question
    }
}

/// Name, type and class at the start of `body`, if they are whole. A pointer has nothing to point
/// back to in a first question.
fn question(body: &[u8]) -> Option<&[u8]> {
    let mut at = 0_usize;
    loop {
        let label = usize::from(*body.get(at)?);
        at += 1;
        match label {
            0 => return body.get(..at + QUESTION_TAIL_BYTES),
            1..=63 if at + label < NAME_BYTES_MAX => at += label,
            _ => return None,
        }
    }
}

/// An answer without records to a message that has a header. The question is repeated where there
/// is a whole one: clients drop answers that do not name what they asked.
pub(crate) fn error(message: &[u8], rcode: Rcode) -> Vec<u8> {
    let Some((header, body)) = message.split_first_chunk::<HEADER_BYTES>() else {
        return Vec::new();
    };
    let [id @ .., flags, _, _, _, _, _, _, _, _, _] = header;
    let kept = flags & (FLAG_OPCODE | FLAG_RECURSION_DESIRED);
    let question = question(body).unwrap_or_default();
    let mut answer = id.to_vec();
    answer.extend([FLAG_RESPONSE | kept, FLAG_RECURSION_AVAILABLE | rcode as u8]);
    answer.extend([0, u8::from(!question.is_empty()), 0, 0, 0, 0, 0, 0]);
    answer.extend(question);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        message
    }

    #[test]
    fn only_a_whole_query_of_one_question_is_one() {
        let good = query("example.com");
        assert!(matches!(Message::parse(&good), Message::Query(_)));
        for cut in 12..good.len() {
            assert_eq!(Message::parse(&good[..cut]), Message::Malformed, "cut at {cut}");
        }
        for cut in 0..12 {
            assert_eq!(Message::parse(&good[..cut]), Message::Noise, "cut at {cut}");
        }
        let mut response = good.clone();
        response[2] |= 0x80;
        assert_eq!(Message::parse(&response), Message::Noise, "answering answers would loop");
        let mut update = good.clone();
        update[2] |= 5 << 3;
        assert_eq!(Message::parse(&update), Message::Malformed);
        let mut two = good;
        two[5] = 2;
        assert_eq!(Message::parse(&two), Message::Malformed);
    }

    #[test]
    fn an_error_repeats_id_and_question() {
        let message = query("example.com");
        let answer = error(&message, Rcode::ServFail);
        assert_eq!(answer[..12], [0xab, 0xcd, 0x81, 0x82, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(answer[12..], message[12..]);
        let Message::Query(query) = Message::parse(&message) else { panic!("a query") };
        assert!(query.is_answered_by(&answer));
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let message = query("example.com");
        let Message::Query(asked) = Message::parse(&message) else { panic!("a query") };
        let answer = |name| error(&query(name), Rcode::Refused);
        assert!(asked.is_answered_by(&answer("EXAMPLE.com")));
        assert!(!asked.is_answered_by(&answer("example.org")));
        let mut other_id = answer("example.com");
        other_id[0] ^= 1;
        assert!(!asked.is_answered_by(&other_id));
        assert!(!asked.is_answered_by(&message), "a query is no answer");
    }
}
