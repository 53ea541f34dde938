//! The one query behind every list: a table, conditions, and the page that is wanted of it.
//!
//! Every list is ordered by `seq`. A cursor holds the `seq` at the edge of a page and on which
//! side of it the wanted page lies; clients see it as an opaque text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::StoreError;
use crate::clock::Timestamp;

/// Rows that can be listed.
pub(crate) trait Listed: Sized {
    /// The table that they stand in, or a query in brackets that has a `seq`.
    const TABLE: &'static str;

    /// Reads one.
    fn read(row: &SqliteRow) -> Result<Self, StoreError>;

    /// Its place in the order of its table.
    fn seq(&self) -> i64;
}

/// What rows of a list have in common. Columns are written by us, values are bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions(Vec<Condition>);

#[derive(Debug, Clone)]
enum Condition {
    Text(&'static str, &'static str, String),
    Number(&'static str, &'static str, i64),
    OneOf(&'static str, Vec<String>),
    Among(&'static str, String),
    Holds(&'static str),
}

impl Conditions {
    /// The column is this text.
    #[must_use]
    pub(crate) fn text(self, column: &'static str, value: impl Into<String>) -> Self {
        self.compare(column, "=", value)
    }

    /// The column compares so with a text, byte by byte.
    #[must_use]
    pub(crate) fn compare(
        mut self,
        column: &'static str,
        operator: &'static str,
        value: impl Into<String>,
    ) -> Self {
        self.0.push(Condition::Text(column, operator, value.into()));
        self
    }

    /// This text, if one is given, is among what the query in brackets finds.
    #[must_use]
    pub(crate) fn among_if<T: Into<String>>(
        mut self,
        query: &'static str,
        value: Option<T>,
    ) -> Self {
        if let Some(value) = value {
            self.0.push(Condition::Among(query, value.into()));
        }
        self
    }

    /// The column is this text, if one is given.
    #[must_use]
    pub(crate) fn text_if<T: Into<String>>(self, column: &'static str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.text(column, value),
            None => self,
        }
    }

    /// The column compares so with a number.
    #[must_use]
    pub(crate) fn number(
        mut self,
        column: &'static str,
        operator: &'static str,
        value: i64,
    ) -> Self {
        self.0.push(Condition::Number(column, operator, value));
        self
    }

    /// The column lies in this span of time: operators of SQL, and times.
    #[must_use]
    pub(crate) fn times(
        self,
        column: &'static str,
        span: impl IntoIterator<Item = (&'static str, Timestamp)>,
    ) -> Self {
        span.into_iter()
            .fold(self, |all, (operator, time)| all.number(column, operator, time.micros()))
    }

    /// The column is one of these texts; none: whatever it is.
    #[must_use]
    pub(crate) fn one_of(mut self, column: &'static str, values: Vec<String>) -> Self {
        if !values.is_empty() {
            self.0.push(Condition::OneOf(column, values));
        }
        self
    }

    /// A condition without values holds.
    #[must_use]
    pub(crate) fn holds(mut self, condition: &'static str) -> Self {
        self.0.push(Condition::Holds(condition));
        self
    }

    /// What is archived is left out, unless it is asked for.
    #[must_use]
    pub(crate) fn live(self, include_archived: bool) -> Self {
        if include_archived { self } else { self.holds("archived_at IS NULL") }
    }

    fn select<T: Listed>(&self) -> QueryBuilder<Sqlite> {
        let mut query = QueryBuilder::new("SELECT * FROM ");
        query.push(T::TABLE).push(" WHERE 1 = 1");
        for condition in &self.0 {
            query.push(" AND ");
            match condition {
                Condition::Text(column, operator, value) => {
                    query.push(format_args!("{column} {operator} ")).push_bind(value.clone());
                }
                Condition::Among(found, value) => {
                    query.push_bind(value.clone()).push(" IN ").push(*found);
                }
                Condition::Number(column, operator, value) => {
                    query.push(format_args!("{column} {operator} ")).push_bind(*value);
                }
                Condition::OneOf(column, values) => {
                    query.push(*column).push(" IN (");
                    let mut list = query.separated(", ");
                    for value in values {
                        list.push_bind(value.clone());
                    }
                    query.push(")");
                }
                Condition::Holds(condition) => {
                    query.push(*condition);
                }
            }
        }
        query
    }
}

/// A page of the rows that meet the conditions.
pub(crate) async fn list<T: Listed>(
    rows: &mut SqliteConnection,
    conditions: &Conditions,
    slice: Slice,
) -> Result<Page<T>, StoreError> {
    let mut query = conditions.select::<T>();
    slice.finish(&mut query);
    let found = query.build().fetch_all(rows).await?;
    Ok(slice.page(found.iter().map(T::read).collect::<Result<Vec<_>, _>>()?))
}

/// The one row that meets the conditions, the oldest if there are several.
pub(crate) async fn one<T: Listed>(
    rows: &mut SqliteConnection,
    conditions: &Conditions,
) -> Result<Option<T>, StoreError> {
    let mut query = conditions.select::<T>();
    query.push(" ORDER BY seq LIMIT 1");
    query.build().fetch_optional(rows).await?.as_ref().map(T::read).transpose()
}

/// All rows that meet the conditions, oldest first: for lists that are bounded by what they are.
pub(crate) async fn all<T: Listed>(
    rows: &mut SqliteConnection,
    conditions: &Conditions,
) -> Result<Vec<T>, StoreError> {
    let mut query = conditions.select::<T>();
    query.push(" ORDER BY seq");
    query.build().fetch_all(rows).await?.iter().map(T::read).collect()
}

/// Which way a list runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// A place between two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// What follows this `seq` in the list's order.
    After(i64),
    /// What comes before it.
    Before(i64),
}

impl Cursor {
    /// Its opaque text.
    pub(crate) fn encode(self) -> String {
        let text = match self {
            Self::After(seq) => format!("a{seq}"),
            Self::Before(seq) => format!("b{seq}"),
        };
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads what [`Cursor::encode`] made; `None` for anything else.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        if let Some(seq) = text.strip_prefix('a') {
            return seq.parse().ok().map(Self::After);
        }
        text.strip_prefix('b')?.parse().ok().map(Self::Before)
    }
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    /// Rows at most.
    pub(crate) limit: u32,
    /// Where it begins; `None`: at the list's beginning.
    pub(crate) cursor: Option<Cursor>,
    /// Which way the list runs.
    pub(crate) order: Order,
}

/// Part of a list, with the ways on from it.
#[derive(Debug)]
pub(crate) struct Page<T> {
    /// The rows.
    pub(crate) rows: Vec<T>,
    /// What follows, if anything does.
    pub(crate) next: Option<Cursor>,
    /// What came before, if anything did.
    pub(crate) previous: Option<Cursor>,
}

impl Slice {
    /// Ends a query whose conditions are all written: the side of the cursor, order and limit.
    /// One row more than wanted is asked for, to know whether there are more.
    fn finish(&self, query: &mut QueryBuilder<Sqlite>) {
        let ascending = self.walks_up();
        if let Some(Cursor::After(seq) | Cursor::Before(seq)) = self.cursor {
            query.push(if ascending { " AND seq > " } else { " AND seq < " }).push_bind(seq);
        }
        query.push(if ascending { " ORDER BY seq ASC" } else { " ORDER BY seq DESC" });
        query.push(" LIMIT ").push_bind(i64::from(self.limit) + 1);
    }

    /// Makes the page of the rows that the query gave.
    fn page<T: Listed>(&self, mut rows: Vec<T>) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let backwards = matches!(self.cursor, Some(Cursor::Before(_)));
        if backwards {
            rows.reverse();
        }
        let first = rows.first().map(|row| Cursor::Before(row.seq()));
        let last = rows.last().map(|row| Cursor::After(row.seq()));
        let (before, after) = if backwards { (more, true) } else { (self.cursor.is_some(), more) };
        Page { rows, next: last.filter(|_| after), previous: first.filter(|_| before) }
    }

    /// Makes the page of a list that stands whole in memory, in its own order: a cursor holds how
    /// many entries come before.
    pub(crate) fn cut<T>(&self, all: Vec<T>) -> Page<T> {
        let skip = match self.cursor {
            Some(Cursor::After(count)) => usize::try_from(count).unwrap_or(0),
            Some(Cursor::Before(_)) | None => 0,
        };
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = all.len() > skip.saturating_add(limit);
        let end = i64::try_from(skip.saturating_add(limit)).unwrap_or(i64::MAX);
        let rows = all.into_iter().skip(skip).take(limit).collect();
        Page { rows, next: more.then_some(Cursor::After(end)), previous: None }
    }

    /// Whether the query reads rows with growing `seq`.
    fn walks_up(&self) -> bool {
        let backwards = matches!(self.cursor, Some(Cursor::Before(_)));
        (self.order == Order::Ascending) != backwards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Listed for i64 {
        const TABLE: &'static str = "numbers";

        fn read(_: &SqliteRow) -> Result<Self, StoreError> {
            Ok(0)
        }

        fn seq(&self) -> i64 {
            *self
        }
    }

    fn walk(cursor: Option<Cursor>) -> Page<i64> {
        let slice = Slice { limit: 2, cursor, order: Order::Descending };
        let mut all: Vec<i64> = (1..=5).collect();
        if !slice.walks_up() {
            all.reverse();
        }
        let kept = all.into_iter().filter(|seq| match slice.cursor {
            None => true,
            Some(Cursor::After(at) | Cursor::Before(at)) => {
                if slice.walks_up() {
                    *seq > at
                } else {
                    *seq < at
                }
            }
        });
        slice.page(kept.take(3).collect())
    }

    #[test]
    fn a_list_can_be_walked_to_its_end_and_back() {
        let first = walk(None);
        assert_eq!((first.rows, first.previous), (vec![5, 4], None));
        let second = walk(first.next);
        assert_eq!(second.rows, [3, 2]);
        let last = walk(second.next);
        assert_eq!((last.rows, last.next), (vec![1], None));
        let back = walk(last.previous);
        assert_eq!(back.rows, [3, 2]);
        assert_eq!(walk(back.previous).rows, [5, 4]);
    }

    #[test]
    fn a_cursor_that_was_not_made_here_is_refused() {
        assert_eq!(Cursor::decode(&Cursor::After(7).encode()), Some(Cursor::After(7)));
        for bad in ["", "x", "YQ", "Yzc"] {
            assert_eq!(Cursor::decode(bad), None, "{bad}");
        }
    }
}
