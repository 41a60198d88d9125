//! What a service has to do with others: whom it names, how, and what becomes of it with them.
//!
//! Here are the checks within one definition; names that nobody has, and what several definitions
//! say together, are `set`'s.

use crate::config::definition::Definition;
use crate::config::keys::{Key, service};
use crate::config::problem::Problems;
use crate::config::reader::Table;
use crate::config::tree::Span;

/// How a service names another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Relation {
    Requires,
    Wants,
    After,
    Before,
    Milestone,
    AfterExit,
    Conflicts,
}

impl Relation {
    pub const ALL: [Relation; 7] = [
        Relation::Requires,
        Relation::Wants,
        Relation::After,
        Relation::Before,
        Relation::Milestone,
        Relation::AfterExit,
        Relation::Conflicts,
    ];

    fn key(self) -> &'static Key {
        match self {
            Relation::Requires => &service::REQUIRES,
            Relation::Wants => &service::WANTS,
            Relation::After => &service::AFTER,
            Relation::Before => &service::BEFORE,
            Relation::Milestone => &service::MILESTONE,
            Relation::AfterExit => &service::AFTER_EXIT,
            Relation::Conflicts => &service::CONFLICTS,
        }
    }

    /// The key.
    pub fn word(self) -> &'static str {
        self.key().name
    }

    /// Without the other it could never start.
    pub const fn is_need(self) -> bool {
        matches!(self, Relation::Requires | Relation::Milestone)
    }
}

/// What most services have none of, beside `requires`, `wants` and `after`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ties {
    /// They come after it.
    pub before: Box<[Box<str>]>,
    /// Needed to start, not to go on.
    pub milestone: Box<[Box<str>]>,
    /// It starts when they have ended.
    pub after_exit: Box<[Box<str>]>,
    /// They never run beside it.
    pub conflicts: Box<[Box<str>]>,
    pub on_dependency: OnDependency,
}

/// What becomes of a service when one that it requires goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnDependency {
    #[default]
    Run,
    Restart,
    Stop,
}

impl Definition {
    pub fn before(&self) -> &[Box<str>] {
        self.ties.as_ref().map_or(&[], |ties| &ties.before)
    }

    pub fn milestone(&self) -> &[Box<str>] {
        self.ties.as_ref().map_or(&[], |ties| &ties.milestone)
    }

    pub fn after_exit(&self) -> &[Box<str>] {
        self.ties.as_ref().map_or(&[], |ties| &ties.after_exit)
    }

    pub fn conflicts(&self) -> &[Box<str>] {
        self.ties.as_ref().map_or(&[], |ties| &ties.conflicts)
    }

    pub fn on_dependency(&self) -> OnDependency {
        let ties = self.ties.as_ref();
        ties.map_or(OnDependency::Run, |ties| ties.on_dependency)
    }
}

/// Whom it names, how and where.
pub type Named = Vec<(Relation, Box<str>, Span)>;

/// All whom the definition of `name` names.
pub fn named(name: &str, t: &Table<'_>, p: &mut Problems) -> Named {
    let mut all = Named::new();
    for relation in Relation::ALL {
        for (other, at) in t.services(relation.key(), p) {
            if *other == *name {
                p.error(
                    at,
                    format!("`{name}` names itself in `{}`: remove it", relation.word()),
                );
            } else {
                all.push((relation, other, at));
            }
        }
    }
    for (_, other, at) in all.iter().filter(|(r, _, _)| *r == Relation::Conflicts) {
        let together = [Relation::Requires, Relation::Milestone, Relation::Wants];
        let both = all
            .iter()
            .find(|(r, o, _)| o == other && together.contains(r));
        if let Some((relation, _, _)) = both {
            let word = relation.word();
            p.error(
                *at,
                format!("`conflicts` names `{other}`, and so does `{word}`: remove one of the two"),
            );
        }
    }
    all
}

/// The ties, of what was named.
pub fn ties(named: &Named, t: &Table<'_>, p: &mut Problems) -> Option<Box<Ties>> {
    let of = |relation| names(named, relation);
    let choices = [OnDependency::Run, OnDependency::Restart, OnDependency::Stop];
    let on_dependency = t.choice(&service::ON_DEPENDENCY, &choices, OnDependency::Run, p);
    let requires = named.iter().any(|(r, _, _)| *r == Relation::Requires);
    if on_dependency != OnDependency::Run && !requires {
        let words = "`on_dependency` is nothing without `requires`: name there whom it is about, \
                     or remove it";
        p.warn(t.place(&service::ON_DEPENDENCY), words);
    }
    let ties = Ties {
        before: of(Relation::Before),
        milestone: of(Relation::Milestone),
        after_exit: of(Relation::AfterExit),
        conflicts: of(Relation::Conflicts),
        on_dependency,
    };
    (ties != Ties::default()).then(|| Box::new(ties))
}

pub fn names(named: &Named, relation: Relation) -> Box<[Box<str>]> {
    let of = named.iter().filter(|(r, _, _)| *r == relation);
    of.map(|(_, name, _)| name.clone()).collect()
}
