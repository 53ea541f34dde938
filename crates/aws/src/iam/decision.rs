//! The decision: explicit deny, else allow, else implicit deny. Pure: no clock, no I/O.

use super::{
    Context,
    document::{Effect, PolicyDocument, Selection, Statement, Trusted},
    glob::{Case, fits},
};

/// What is to be decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// `lambda:RunMicrovm`; case does not matter.
    pub(crate) action: &'a str,
    /// ARN, or `*` for what has none. None: whether there is any resource at all that the action is
    /// allowed on, for answers about what does not exist.
    pub(crate) resource: Option<&'a str>,
    pub(crate) context: &'a Context,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    Allowed,
    /// A statement denies it.
    ExplicitDeny,
    /// No statement allows it.
    ImplicitDeny,
}

/// Decides by the policies of one identity.
pub(crate) fn decide<'p>(
    policies: impl IntoIterator<Item = &'p PolicyDocument>,
    request: &Request<'_>,
) -> Decision {
    let mut decision = Decision::ImplicitDeny;
    let statements = policies.into_iter().flat_map(|policy| &policy.statements);
    for statement in statements.filter(|statement| statement.covers(request)) {
        match statement.effect {
            Effect::Deny => return Decision::ExplicitDeny,
            Effect::Allow => decision = Decision::Allowed,
        }
    }
    decision
}

/// Who asks to assume a role.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker<'a> {
    Principal { arn: &'a str, account: &'a str },
    Service(&'a str),
}

/// What a trust policy says of an asker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trust {
    /// It is named itself, which is enough.
    Named,
    /// Its account is: its own policies must allow the call too.
    Account,
    Denied,
    None,
}

/// Whether a trust policy lets `asker` perform `action` (`sts:AssumeRole`).
pub(crate) fn trusts(
    policy: &PolicyDocument,
    asker: Asker<'_>,
    action: &str,
    context: &Context,
) -> Trust {
    let request = Request { action, resource: None, context };
    let mut trust = Trust::None;
    for statement in policy.statements.iter().filter(|statement| statement.covers(&request)) {
        let named = statement.trusted.iter().map(|trusted| trusted.covers(asker)).max();
        match (named.unwrap_or(Naming::Not), statement.effect) {
            (Naming::Not, _) => {}
            (Naming::Account | Naming::Itself, Effect::Deny) => return Trust::Denied,
            (Naming::Itself, Effect::Allow) => trust = Trust::Named,
            (Naming::Account, Effect::Allow) => {
                if trust == Trust::None {
                    trust = Trust::Account;
                }
            }
        }
    }
    trust
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Naming {
    Not,
    Account,
    Itself,
}

impl Trusted {
    fn covers(&self, asker: Asker<'_>) -> Naming {
        match (self, asker) {
            (Self::Everyone, _) => Naming::Itself,
            (Self::Service(names), Asker::Service(service)) => {
                if names.iter().any(|name| name == service) { Naming::Itself } else { Naming::Not }
            }
            (Self::Aws(names), Asker::Principal { arn, account }) => names
                .iter()
                .map(|name| {
                    if name == "*" || name == arn {
                        Naming::Itself
                    } else if name == account || *name == format!("arn:aws:iam::{account}:root") {
                        Naming::Account
                    } else {
                        Naming::Not
                    }
                })
                .max()
                .unwrap_or(Naming::Not),
            (Self::Aws(_), Asker::Service(_)) | (Self::Service(_), Asker::Principal { .. }) => {
                Naming::Not
            }
        }
    }
}

impl Statement {
    fn covers(&self, request: &Request<'_>) -> bool {
        let action =
            |pattern: &String| fits(pattern, request.action, Case::Ignored, &Context::default());
        self.actions.holds(action)
            && self.covers_resource(request)
            && self.conditions.iter().all(|condition| condition.holds(request.context))
    }

    fn covers_resource(&self, request: &Request<'_>) -> bool {
        let Some(resources) = &self.resources else { return true };
        let Some(resource) = request.resource else {
            // Any resource: an allowance of some counts, a denial only where it is of all.
            return match (self.effect, resources) {
                (Effect::Allow, _) => true,
                (Effect::Deny, Selection::These(these)) => these.iter().any(|these| these == "*"),
                (Effect::Deny, Selection::AllBut(_)) => false,
            };
        };
        resources.holds(|pattern| fits(pattern, resource, Case::Exact, request.context))
    }
}

impl Selection {
    fn holds(&self, fits: impl Fn(&String) -> bool) -> bool {
        match self {
            Self::These(patterns) => patterns.iter().any(fits),
            Self::AllBut(patterns) => !patterns.iter().any(fits),
        }
    }
}

#[cfg(test)]
mod tests;
