//! Pages of a list: where one begins, and the opaque cursors that lead to the next.
//!
//! Every list is ordered by `seq`. A cursor holds the `seq` at the edge of a page and on which
//! side of it the wanted page lies.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::{QueryBuilder, Sqlite};

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
    pub(crate) fn finish(&self, query: &mut QueryBuilder<Sqlite>) {
        let ascending = self.walks_up();
        if let Some(Cursor::After(seq) | Cursor::Before(seq)) = self.cursor {
            query.push(if ascending { " AND seq > " } else { " AND seq < " }).push_bind(seq);
        }
        query.push(if ascending { " ORDER BY seq ASC" } else { " ORDER BY seq DESC" });
        query.push(" LIMIT ").push_bind(i64::from(self.limit) + 1);
    }

    /// Makes the page of the rows that the query gave.
    pub(crate) fn page<T>(&self, mut rows: Vec<T>, seq: impl Fn(&T) -> i64) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let backwards = matches!(self.cursor, Some(Cursor::Before(_)));
        if backwards {
            rows.reverse();
        }
        let first = rows.first().map(|row| Cursor::Before(seq(row)));
        let last = rows.last().map(|row| Cursor::After(seq(row)));
        let (before, after) = if backwards { (more, true) } else { (self.cursor.is_some(), more) };
        Page { rows, next: last.filter(|_| after), previous: first.filter(|_| before) }
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
        slice.page(kept.take(3).collect(), |seq| *seq)
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
