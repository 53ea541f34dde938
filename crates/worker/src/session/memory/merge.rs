//! What to do with one path of a memory store, from three checksums. Pure.
//!
//! `base` is what both sides last had in common, `local` what is on disk, `remote` what the platform has. The
//! platform wins where both have changed; an edit that it does not have is never thrown away otherwise.

/// Hexadecimal SHA-256.
pub(super) type Sha = String;

/// Whether changes go to the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadWrite,
    ReadOnly,
}

/// What is known of a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) base: Option<&'a Sha>,
    pub(super) local: Option<&'a Sha>,
    pub(super) remote: Option<&'a Sha>,
    /// A content that the platform would not take.
    pub(super) refused: Option<&'a Sha>,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, and the path is in common no more.
    Forget,
    /// Nothing; the base stays.
    Keep,
    /// Both sides have the same: it is the base from now on.
    Adopt,
    /// The platform's content goes to disk.
    Pull,
    /// The file goes to the platform, as a memory that is not there yet.
    Create,
    /// The file goes to the platform, over a memory that is as it was.
    Update,
    /// The file was deleted: so is the memory, once that is certain.
    DeleteRemote,
    /// The memory was deleted: so is the file, unless it has changed since.
    DeleteLocal,
}

pub(super) fn step(known: Known<'_>, access: Access) -> Step {
    let Known { base, local, remote, refused } = known;
    let may_send = access == Access::ReadWrite && local.is_some() && local != refused;
    match (base, local, remote) {
        (_, None, None) => Step::Forget,
        (Some(base), Some(local), None) if base == local => Step::DeleteLocal,
        (_, Some(_), None) if may_send => Step::Create,
        (_, Some(_), None) => Step::Forget,
        (Some(base), None, Some(remote)) if base == remote => match access {
            Access::ReadWrite => Step::DeleteRemote,
            Access::ReadOnly => Step::Keep,
        },
        (_, Some(local), Some(remote)) if local == remote => Step::Adopt,
        (Some(base), Some(_), Some(remote)) if base == remote => {
            if may_send {
                Step::Update
            } else {
                Step::Keep
            }
        }
        (_, _, Some(_)) => Step::Pull,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(base: &str, local: &str, remote: &str, access: Access) -> Step {
        let sha = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (base, local, remote) = (sha(base), sha(local), sha(remote));
        let known = Known {
            base: base.as_ref(),
            local: local.as_ref(),
            remote: remote.as_ref(),
            refused: None,
        };
        step(known, access)
    }

    #[test]
    fn every_way_that_three_sides_can_stand_to_each_other_has_its_step() {
        use Access::{ReadOnly, ReadWrite};
        for (base, local, remote, writable, read_only) in [
            ("a", "a", "a", Step::Adopt, Step::Adopt),
            ("", "", "b", Step::Pull, Step::Pull),
            ("a", "a", "b", Step::Pull, Step::Pull),
            ("a", "c", "b", Step::Pull, Step::Pull),
            ("a", "", "b", Step::Pull, Step::Pull),
            ("", "c", "b", Step::Pull, Step::Pull),
            ("a", "b", "b", Step::Adopt, Step::Adopt),
            ("", "c", "", Step::Create, Step::Forget),
            ("a", "c", "", Step::Create, Step::Forget),
            ("a", "c", "a", Step::Update, Step::Keep),
            ("a", "", "a", Step::DeleteRemote, Step::Keep),
            ("a", "a", "", Step::DeleteLocal, Step::DeleteLocal),
            ("a", "", "", Step::Forget, Step::Forget),
        ] {
            let shown = format!("{base:?} {local:?} {remote:?}");
            assert_eq!(decide(base, local, remote, ReadWrite), writable, "{shown}");
            assert_eq!(decide(base, local, remote, ReadOnly), read_only, "{shown}, read only");
        }
    }

    #[test]
    fn a_content_that_was_refused_is_not_sent_again_until_it_changes() {
        let (a, b, c) = ("a".to_owned(), "b".to_owned(), "c".to_owned());
        let known = Known { base: Some(&a), local: Some(&b), remote: Some(&a), refused: Some(&b) };
        assert_eq!(step(known, Access::ReadWrite), Step::Keep);
        assert_eq!(step(Known { local: Some(&c), ..known }, Access::ReadWrite), Step::Update);
        assert_eq!(step(Known { remote: None, ..known }, Access::ReadWrite), Step::Forget);
    }
}
