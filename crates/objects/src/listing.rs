//! Lists of objects and uploads: what is asked for, and a page of the answer.

use crate::{Object, Upload};

/// Which objects of a bucket to list, in the order of their keys' bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListQuery {
    pub prefix: String,
    /// Keys that go on to this after the prefix are folded into one common prefix.
    pub delimiter: Option<String>,
    /// Only keys and common prefixes after this.
    pub after: String,
    /// Keys and common prefixes together.
    pub items_max: usize,
}

/// A page of objects.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    pub objects: Vec<Object>,
    pub prefixes: Vec<String>,
    /// Where the next page begins (as [`ListQuery::after`]). None: this is the last one.
    pub next: Option<String>,
}

/// Which uploads of a bucket to list, by key and then by id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UploadQuery {
    pub prefix: String,
    /// Only those after this key, or of this key after this id.
    pub after_key: String,
    pub after_id: Option<String>,
    pub items_max: usize,
}

/// A page of uploads.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UploadListing {
    pub uploads: Vec<Upload>,
    pub truncated: bool,
}

/// Folds sorted keys into objects and common prefixes until a page is full.
pub(crate) struct Folding<'a> {
    query: &'a ListQuery,
    listing: Listing,
    /// What was taken last: a key or a common prefix.
    last: String,
}

/// What becomes of the next key.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Folded {
    Taken,
    /// It has this common prefix: so have all keys up to its [`successor`].
    Skip(String),
    /// The page was full before it.
    Full,
}

impl<'a> Folding<'a> {
    pub(crate) fn new(query: &'a ListQuery) -> Self {
        Self { query, listing: Listing::default(), last: String::new() }
    }

    fn is_full(&self) -> bool {
        self.listing.objects.len() + self.listing.prefixes.len() >= self.query.items_max
    }

    fn common_prefix(&self, key: &str) -> Option<String> {
        let delimiter = self.query.delimiter.as_deref().filter(|text| !text.is_empty())?;
        let rest = key.strip_prefix(self.query.prefix.as_str())?;
        let end = rest.find(delimiter)? + self.query.prefix.len() + delimiter.len();
        key.get(..end).map(str::to_owned)
    }

    pub(crate) fn take(&mut self, object: Object) -> Folded {
        match self.common_prefix(object.key.as_str()) {
            // One that an earlier page has told: the keys below it lie after it.
            Some(prefix) if self.query.after == prefix => Folded::Skip(prefix),
            Some(_) | None if self.is_full() => Folded::Full,
            Some(prefix) => {
                self.last.clone_from(&prefix);
                self.listing.prefixes.push(prefix.clone());
                Folded::Skip(prefix)
            }
            None => {
                object.key.as_str().clone_into(&mut self.last);
                self.listing.objects.push(object);
                Folded::Taken
            }
        }
    }

    pub(crate) fn finish(self, full: bool) -> Listing {
        let mut listing = self.listing;
        listing.next = full.then_some(self.last);
        listing
    }
}

/// The least text that is greater than every text with this prefix, by bytes. None: there is none.
pub(crate) fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            other => char::from_u32(u32::from(other) + 1),
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_lies_just_after_all_with_the_prefix() {
        assert_eq!(successor("a/").as_deref(), Some("a0"));
        assert_eq!(successor("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(successor("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(successor(""), None);
        assert!("a/\u{10ffff}z" < successor("a/").unwrap().as_str());
    }
}
