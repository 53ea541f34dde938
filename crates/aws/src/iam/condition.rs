//! Condition blocks of policies, and the context that they are held against.

use super::{
    Arn,
    glob::{Case, expand, fits},
};
use std::{collections::BTreeMap, net::IpAddr, str::FromStr};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What is known of a request: condition keys (case does not matter) and their values.
#[derive(Clone, Default, Debug)]
pub struct Context {
    values: BTreeMap<String, Vec<String>>,
}

impl Context {
    /// Sets a key to one value.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.values.insert(key.to_ascii_lowercase(), vec![value.into()]);
    }

    /// Sets a key to several values.
    pub fn set_all(&mut self, key: &str, values: Vec<String>) {
        self.values.insert(key.to_ascii_lowercase(), values);
    }

    /// The same with one more key.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.set(key, value);
        self
    }

    /// Takes over all of `other`, which wins.
    pub(crate) fn extend(&mut self, other: &Self) {
        for (key, values) in &other.values {
            self.values.insert(key.clone(), values.clone());
        }
    }

    fn all(&self, key: &str) -> Option<&[String]> {
        self.values.get(&key.to_ascii_lowercase()).map(Vec::as_slice)
    }

    pub(super) fn single(&self, key: &str) -> Option<&str> {
        match self.all(key)? {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// How one value of the request compares with one value of the policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Test {
    StringEquals(Case),
    StringLike,
    Numeric(Order),
    Date(Order),
    Bool,
    IpAddress,
    Arn,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Which of several values must pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Quantifier {
    /// One value is expected; of several any counts.
    Single,
    ForAll,
    ForAny,
}

/// What an absent key means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Absent {
    /// The condition fails (a negated one holds).
    Decides,
    /// `…IfExists`: the condition holds.
    Holds,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sense {
    Plain,
    Negated,
}

/// One key of a condition block.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    operator: Operator,
    key: String,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Operator {
    /// `true`: the key must be absent.
    Null,
    Compare {
        test: Test,
        sense: Sense,
        quantifier: Quantifier,
        absent: Absent,
    },
}

impl Condition {
    /// # Errors
    /// A sentence that names the operator or value that cannot be read.
    pub(super) fn parse(operator: &str, key: &str, values: Vec<String>) -> Result<Self, String> {
        let parsed = Operator::parse(operator)?;
        if let Operator::Compare { test, .. } = parsed {
            for value in &values {
                // With a variable in it the value is known only at the request.
                if !value.contains("${") && !test.takes(value) {
                    return Err(format!("{operator} cannot compare {key} with {value:?}"));
                }
            }
        }
        Ok(Self { operator: parsed, key: key.to_owned(), values })
    }

    pub(super) fn holds(&self, context: &Context) -> bool {
        let present = context.all(&self.key).filter(|values| !values.is_empty());
        let (test, sense, quantifier, absent) = match self.operator {
            Operator::Null => {
                return self.values.iter().any(|value| (value == "true") == present.is_none());
            }
            Operator::Compare { test, sense, quantifier, absent } => {
                (test, sense, quantifier, absent)
            }
        };
        let Some(present) = present else {
            return match (absent, quantifier) {
                (Absent::Holds, _) | (_, Quantifier::ForAll) => true,
                (Absent::Decides, Quantifier::ForAny) => false,
                (Absent::Decides, Quantifier::Single) => sense == Sense::Negated,
            };
        };
        let passes = |have: &String| {
            let hit = self.values.iter().any(|want| test.holds(want, have, context));
            match sense {
                Sense::Plain => hit,
                Sense::Negated => !hit,
            }
        };
        match (quantifier, sense) {
            (Quantifier::ForAll, _) | (Quantifier::Single, Sense::Negated) => {
                present.iter().all(passes)
            }
            (Quantifier::ForAny, _) | (Quantifier::Single, Sense::Plain) => {
                present.iter().any(passes)
            }
        }
    }
}

impl Operator {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "Null" {
            return Ok(Self::Null);
        }
        let (quantifier, rest) = match text.split_once(':') {
            Some(("ForAllValues", rest)) => (Quantifier::ForAll, rest),
            Some(("ForAnyValue", rest)) => (Quantifier::ForAny, rest),
            Some(_) => return Err(format!("unknown condition operator {text:?}")),
            None => (Quantifier::Single, text),
        };
        let (rest, absent) = match rest.strip_suffix("IfExists") {
            Some(rest) => (rest, Absent::Holds),
            None => (rest, Absent::Decides),
        };
        let (test, sense) = match rest {
            "StringEquals" => (Test::StringEquals(Case::Exact), Sense::Plain),
            "StringNotEquals" => (Test::StringEquals(Case::Exact), Sense::Negated),
            "StringEqualsIgnoreCase" => (Test::StringEquals(Case::Ignored), Sense::Plain),
            "StringNotEqualsIgnoreCase" => (Test::StringEquals(Case::Ignored), Sense::Negated),
            "StringLike" => (Test::StringLike, Sense::Plain),
            "StringNotLike" => (Test::StringLike, Sense::Negated),
            "NumericEquals" => (Test::Numeric(Order::Equal), Sense::Plain),
            "NumericNotEquals" => (Test::Numeric(Order::Equal), Sense::Negated),
            "NumericLessThan" => (Test::Numeric(Order::Less), Sense::Plain),
            "NumericLessThanEquals" => (Test::Numeric(Order::LessOrEqual), Sense::Plain),
            "NumericGreaterThan" => (Test::Numeric(Order::Greater), Sense::Plain),
            "NumericGreaterThanEquals" => (Test::Numeric(Order::GreaterOrEqual), Sense::Plain),
            "DateEquals" => (Test::Date(Order::Equal), Sense::Plain),
            "DateNotEquals" => (Test::Date(Order::Equal), Sense::Negated),
            "DateLessThan" => (Test::Date(Order::Less), Sense::Plain),
            "DateLessThanEquals" => (Test::Date(Order::LessOrEqual), Sense::Plain),
            "DateGreaterThan" => (Test::Date(Order::Greater), Sense::Plain),
            "DateGreaterThanEquals" => (Test::Date(Order::GreaterOrEqual), Sense::Plain),
            "Bool" => (Test::Bool, Sense::Plain),
            "IpAddress" => (Test::IpAddress, Sense::Plain),
            "NotIpAddress" => (Test::IpAddress, Sense::Negated),
            "ArnEquals" | "ArnLike" => (Test::Arn, Sense::Plain),
            "ArnNotEquals" | "ArnNotLike" => (Test::Arn, Sense::Negated),
            other => return Err(format!("unknown condition operator {other:?}")),
        };
        Ok(Self::Compare { test, sense, quantifier, absent })
    }
}

impl Test {
    /// Whether a policy's value can be compared so at all.
    fn takes(self, value: &str) -> bool {
        match self {
            Self::StringEquals(_) | Self::StringLike => true,
            Self::Numeric(_) => value.parse::<f64>().is_ok(),
            Self::Date(_) => seconds(value).is_some(),
            Self::Bool => matches!(value.to_ascii_lowercase().as_str(), "true" | "false"),
            Self::IpAddress => Network::from_str(value).is_ok(),
            Self::Arn => value == "*" || Arn::from_str(value).is_ok(),
        }
    }

    fn holds(self, want: &str, have: &str, context: &Context) -> bool {
        let expanded = || expand(want, context);
        match self {
            Self::StringLike => fits(want, have, Case::Exact, context),
            Self::StringEquals(Case::Exact) => expanded().is_some_and(|want| want == have),
            Self::StringEquals(Case::Ignored) => {
                expanded().is_some_and(|want| want.to_lowercase() == have.to_lowercase())
            }
            Self::Numeric(order) => match (want.parse::<f64>(), have.parse::<f64>()) {
                (Ok(want), Ok(have)) => order.holds(have, want),
                _ => false,
            },
            Self::Date(order) => match (seconds(want), seconds(have)) {
                (Some(want), Some(have)) => order.holds(have, want),
                _ => false,
            },
            Self::Bool => want.eq_ignore_ascii_case(have),
            Self::IpAddress => match (Network::from_str(want), have.parse()) {
                (Ok(network), Ok(address)) => network.contains(address),
                _ => false,
            },
            Self::Arn => arn_fits(want, have, context),
        }
    }
}

impl Order {
    fn holds<T: PartialOrd>(self, have: T, want: T) -> bool {
        match self {
            Self::Equal => have == want,
            Self::Less => have < want,
            Self::LessOrEqual => have <= want,
            Self::Greater => have > want,
            Self::GreaterOrEqual => have >= want,
        }
    }
}

/// Part by part, so that a `*` does not reach over a colon, save in the resource.
fn arn_fits(want: &str, have: &str, context: &Context) -> bool {
    if want == "*" {
        return true;
    }
    let (want, have): (Vec<&str>, Vec<&str>) =
        (want.splitn(6, ':').collect(), have.splitn(6, ':').collect());
    want.len() == 6
        && have.len() == 6
        && want.iter().zip(&have).all(|(want, have)| fits(want, have, Case::Exact, context))
}

/// Epoch seconds of a date as policies write it: ISO 8601 or epoch seconds.
fn seconds(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| {
        let at = OffsetDateTime::parse(text, &Rfc3339)
            .or_else(|_| OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339));
        at.ok().map(OffsetDateTime::unix_timestamp)
    })
}

/// `203.0.113.0/24`, `2001:db8::/32` or a single address.
struct Network {
    address: IpAddr,
    bits: u32,
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(bits_max), |bits| bits.parse().map_err(|_| ()))?;
        if bits > bits_max { Err(()) } else { Ok(Self { address, bits }) }
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            self.bits == 0 || (a ^ b).checked_shr(width - self.bits).unwrap_or(0) == 0
        };
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}
