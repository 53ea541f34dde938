//! When is it due again? Five-field cron expressions, read on the clock of a time zone.
//!
//! The wall clock is matched literally, as the platform documents it: a time that a clock change
//! leaves out is left out, one that comes twice counts once.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, ToSpan as _};

use crate::clock::Timestamp;

/// How far ahead a match is looked for: 29 February comes within this, whatever the century.
const YEARS_MAX: i16 = 9;

/// Names that may stand for months and days of the week.
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A schedule.
#[derive(Debug, Clone)]
pub(crate) struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether day of month and day of week both restrict: then either is enough.
    either_day: bool,
    zone: TimeZone,
}

impl Cron {
    /// Reads an expression and an IANA name of a zone; the error names the field.
    pub(crate) fn parse(expression: &str, zone: &str) -> Result<Self, (&'static str, String)> {
        let bad = |why: String| ("expression", why);
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(bad(format!("has {} fields, not 5", fields.len())));
        };
        let weekdays = field(weekday, 0, 7, &WEEKDAYS).map_err(bad)?;
        Ok(Self {
            minutes: field(minute, 0, 59, &[]).map_err(bad)?,
            hours: field(hour, 0, 23, &[]).map_err(bad)?,
            days: field(day, 1, 31, &[]).map_err(bad)?,
            months: field(month, 1, 12, &MONTHS).map_err(bad)?,
            weekdays: (weekdays | (weekdays >> 7)) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            zone: TimeZone::get(zone)
                .map_err(|_| ("timezone", format!("{zone:?} is no IANA time zone")))?,
        })
    }

    /// The first time after `at`; none where there is none, as on 30 February.
    pub(crate) fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let start = jiff::Timestamp::from_microsecond(at.micros()).ok()?;
        let mut now = self.zone.to_datetime(start).checked_add(1.minute()).ok()?;
        now = now.with().second(0).subsec_nanosecond(0).build().ok()?;
        let last = now.year() + YEARS_MAX;
        while now.year() <= last {
            let midnight = || now.with().hour(0).minute(0).build();
            if !has(self.months, now.month()) {
                now = midnight().ok()?.with().day(1).build().ok()?.checked_add(1.month()).ok()?;
            } else if !self.has_day(now) {
                now = midnight().ok()?.checked_add(1.day()).ok()?;
            } else if !has(self.hours, now.hour()) {
                let hour = now.with().minute(0).build().ok()?;
                now = hour.checked_add(SignedDuration::from_hours(1)).ok()?;
            } else if !has(self.minutes, now.minute()) {
                now = now.checked_add(1.minute()).ok()?;
            } else if let Some(found) = self.moment(now).filter(|found| *found > at) {
                return Some(found);
            } else {
                now = now.checked_add(1.minute()).ok()?;
            }
        }
        None
    }

    /// The next few times after `at`.
    pub(crate) fn upcoming(&self, at: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.after(at), |found| self.after(*found)).take(count).collect()
    }

    fn has_day(&self, now: DateTime) -> bool {
        let day = has(self.days, now.day());
        let weekday = has(self.weekdays, now.weekday().to_sunday_zero_offset());
        if self.either_day { day || weekday } else { day && weekday }
    }

    /// When the zone's clock shows this; never, in the gap of a clock change.
    fn moment(&self, shown: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(shown);
        if matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. }) {
            return None;
        }
        Some(Timestamp::from_micros(ambiguous.earlier().ok()?.as_microsecond()))
    }
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| set >> value & 1 == 1)
}

/// `*`, `a`, `a-b`, `*/n`, `a-b/n`, and lists of these, as a set of bits.
fn field(text: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, String> {
    let number = |word: &str| -> Result<u32, String> {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(word));
        let first = if names.len() == MONTHS.len() { 1 } else { 0 };
        let value = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + first);
        let value = value.or_else(|| word.parse().ok());
        value
            .filter(|value| (min..=max).contains(value))
            .ok_or_else(|| format!("{word:?} is not from {min} to {max}"))
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            None => (part, 1),
            Some((range, step)) => {
                let step = step.parse().ok().filter(|step| (1..=max).contains(step));
                (range, step.ok_or_else(|| format!("{part:?} has no step from 1 to {max}"))?)
            }
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((from, to)) => (number(from)?, number(to)?),
            None if part.contains('/') => (number(range)?, max),
            None => (number(range)?, number(range)?),
        };
        if from > to {
            return Err(format!("{range:?} runs backwards"));
        }
        for value in (from..=to).step_by(usize::try_from(step).unwrap_or(1)) {
            set |= 1 << value;
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, zone: &str, after: &str, expected: &[&str]) {
        let cron = Cron::parse(expression, zone).unwrap();
        let found = cron.upcoming(Timestamp::parse(after).unwrap(), expected.len().max(1));
        let found: Vec<String> =
            found.iter().map(|at| at.to_string().replace(".000000", "")).collect();
        assert_eq!(found, expected, "{expression}");
    }

    #[test]
    fn times_are_those_of_the_zone_s_clock() {
        check(
            "0 9 * * 1-5",
            "America/New_York",
            "2026-11-20T15:00:00Z",
            &["2026-11-23T14:00:00Z", "2026-11-24T14:00:00Z"],
        );
        check(
            "*/20 8 1 * *",
            "UTC",
            "2026-11-01T08:20:00Z",
            &["2026-11-01T08:40:00Z", "2026-12-01T08:00:00Z"],
        );
        check("0 0 29 feb *", "UTC", "2026-11-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
        check("0 0 30 2 *", "UTC", "2026-11-01T00:00:00Z", &[]);
    }

    #[test]
    fn a_day_of_month_and_a_day_of_week_are_alternatives() {
        check(
            "0 0 13 * fri",
            "UTC",
            "2026-11-10T00:00:00Z",
            &["2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"],
        );
        check("0 0 * * 7", "UTC", "2026-11-20T00:00:00Z", &["2026-11-22T00:00:00Z"]);
    }

    #[test]
    fn a_time_that_a_clock_change_leaves_out_is_left_out() {
        check("30 2 * * *", "Europe/Berlin", "2026-03-28T03:00:00Z", &["2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn a_fault_names_the_field() {
        for (expression, fault) in [
            ("* * * *", "has 4 fields, not 5"),
            ("60 * * * *", "\"60\" is not from 0 to 59"),
            ("5-1 * * * *", "\"5-1\" runs backwards"),
            ("*/0 * * * *", "\"*/0\" has no step from 1 to 59"),
            ("@daily * * * *", "\"@daily\" is not from 0 to 59"),
        ] {
            assert_eq!(Cron::parse(expression, "UTC").unwrap_err(), ("expression", fault.into()));
        }
        assert_eq!(Cron::parse("* * * * *", "Mars/Olympus").unwrap_err().0, "timezone");
    }
}
