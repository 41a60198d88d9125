//! A reload that is to be confirmed, by the model: what was in force before it, until when it may
//! stand, and that it comes back as it was, or stays when somebody said so.

use super::Watcher;
use super::rules::status_of;
use crate::config::{Definition, names};
use crate::engine::snapshot::{Before, ReloadRecord};
use crate::engine::{
    Answer, Boot, Effect, Engine, Event, HostRules, Left, Loaded, NewSettings, Record, Terms,
};
use crate::id::Ticket;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// A reload that has been read, and is not yet known to be refused.
pub struct Read {
    pub ticket: Option<Ticket>,
    pub files: Vec<Loaded>,
    pub terms: Terms,
    pub settings: Option<Box<NewSettings>>,
}

impl Read {
    pub fn of(event: &Event) -> Option<Read> {
        let Event::Reloaded {
            ticket,
            files,
            terms,
            settings,
        } = event
        else {
            return None;
        };
        Some(Read {
            ticket: *ticket,
            files: files.clone(),
            terms: terms.as_deref().cloned().unwrap_or_default(),
            settings: settings.clone(),
        })
    }
}

/// What comes back, by name; None: nothing of that name was there.
#[derive(Clone, Default)]
pub struct Kept {
    until: Time,
    before: BTreeMap<String, Was>,
    /// Who was well before, or is new.
    watched: BTreeSet<Box<str>>,
    /// Who was wanted, and made way for what was reloaded.
    yielded: BTreeSet<String>,
    /// And who was said to.
    displaced: BTreeSet<String>,
    went_back: bool,
    /// Of the daemon, where they changed.
    pub(super) rules: Option<HostRules>,
}

#[derive(Clone)]
struct Was {
    definition: Option<Rc<Definition>>,
    by_file: bool,
}

impl Kept {
    pub fn has_gone_back(&self) -> bool {
        self.went_back
    }
}

impl Watcher {
    /// The effects tell whether it was done.
    pub(super) fn read_and_done(&mut self, now: Time, read: &Read, effects: &[Effect]) {
        let refused = |answer: &Answer| match answer {
            Ok(_) => false,
            Err(refusal) => refusal.message.starts_with("refused"),
        };
        let refused = effects.iter().any(|effect| {
            matches!(effect, Effect::Answer { ticket, answer }
                if Some(*ticket) == read.ticket && refused(answer))
        });
        if refused || read.terms.dry_run {
            return;
        }
        let open = self.kept.take().filter(|kept| !kept.went_back);
        let rules = self.settings_taken(read.settings.as_deref());
        if let Some(length) = read.terms.confirm {
            let mut kept = open.unwrap_or_default();
            kept.until = now + length;
            let wanted = self.books.iter().filter(|(_, book)| {
                let seen = book.seen.as_ref();
                seen.is_some_and(|status| status.wanted == "start")
            });
            self.step.wanted_then = wanted.map(|(name, _)| name.clone()).collect();
            for (name, book) in &self.books {
                let file = read.files.iter().find(|file| *file.name == **name);
                let new = file.and_then(|file| file.definition.as_ref().ok());
                if new.map(|new| &**new) != book.definition.as_deref() {
                    let before = kept.before.entry(name.clone());
                    before.or_insert_with(|| Was {
                        definition: book.definition.clone(),
                        by_file: book.by_file,
                    });
                }
            }
            kept.rules = kept.rules.or(rules);
            let touched = !kept.before.is_empty() || kept.rules.is_some();
            self.kept = touched.then_some(kept);
        } else if open.is_some() {
            self.breach(
                now,
                "a reload that waited was overrun by another".to_owned(),
            );
        }
        self.reloaded(now, &read.files, true);
    }

    /// What the effects say of it.
    pub(super) fn told_of_reload(&mut self, now: Time, reload: Option<&ReloadRecord>) {
        let Some(reload) = reload else {
            self.kept = None;
            return;
        };
        if reload.is_open() {
            self.step.verdict |= reload.verdict.is_some();
            if let Some(kept) = &mut self.kept {
                kept.until = reload.until.min(kept.until);
                kept.watched = watched(reload);
                kept.displaced = reload.yielded.iter().map(|y| y.name.to_string()).collect();
            }
        }
        let known = self.kept.as_ref().is_some_and(|kept| kept.went_back);
        if reload.went_back.is_none() || known {
            return;
        }
        let Some(kept) = &mut self.kept else {
            if reload.before.iter().all(|b| b.definition.is_none()) {
                // Broken files come and go: nothing was in force.
                return self.back(now, reload);
            }
            return self.breach(now, "a reload went back, and none could".to_owned());
        };
        kept.went_back = true;
        let kept = kept.clone();
        for (name, before) in &kept.before {
            let put_back = reload.before.iter().find(|b| *b.name == **name);
            let put_back = put_back.map(|b| b.definition.as_deref());
            if put_back != Some(before.definition.as_deref()) {
                let words = format!("{name}: what came back is not what was in force");
                return self.breach(now, words);
            }
        }
        self.back(now, reload);
    }

    /// The model as it was.
    fn back(&mut self, now: Time, reload: &ReloadRecord) {
        let kept = self.kept.clone();
        let well = kept
            .as_ref()
            .map_or_else(BTreeSet::new, |kept| kept.watched.clone());
        let mut files = Vec::new();
        for before in &reload.before {
            let definition = match (&before.definition, &before.problem) {
                (Some(definition), _) => Ok(definition.clone()),
                (None, Some(problem)) => Err(problem.clone()),
                (None, None) => continue,
            };
            files.push(Loaded {
                name: before.name.clone(),
                source: before.source.clone(),
                definition,
            });
        }
        let differs = |before: &&Before| {
            let book = self.books.get(&*before.name);
            book.is_some_and(|book| book.definition != before.definition)
        };
        let changed: Vec<Before> = reload.before.iter().filter(differs).cloned().collect();
        self.reloaded(now, &files, false);
        for name in kept.into_iter().flat_map(|kept| kept.displaced) {
            // Unless somebody has said something of it since: that is to be seen.
            if let Some(book) = self.books.get_mut(&name) {
                (book.wanted, book.durable) = (None, None);
            }
        }
        for before in &changed {
            let Some(book) = self.books.get_mut(&*before.name) else {
                continue;
            };
            if before.definition.is_none() {
                book.definition = None;
                book.present = before.problem.is_some();
            }
            book.by_file = book.present && !names::is_given(&before.source);
            if before.definition.is_some() && book.run.is_none() && well.contains(&before.name) {
                // It was well before, and is to be so at once.
                book.bidden();
            }
        }
    }

    /// An operator has said what is to be in force of this name.
    pub(super) fn given_meanwhile(&mut self, name: &str, given: Option<&Definition>) {
        let before = self
            .kept
            .as_mut()
            .and_then(|kept| kept.before.get_mut(name));
        let file = self.books.get(name).is_some_and(|book| book.by_file);
        if let Some(before) = before {
            if given.is_none() && file && before.by_file {
                // What was given is forgotten, and was not in force.
                return;
            }
            before.definition = given.map(|definition| Rc::new(definition.clone()));
            before.by_file = false;
        }
    }

    /// A reload goes back in this event: what was decided in it before was by other definitions.
    pub(super) fn goes_back(&self) -> bool {
        self.step.reload && self.kept.as_ref().is_some_and(Kept::has_gone_back)
    }

    /// The definitions that a daemon which starts goes by.
    pub(super) fn in_force_at_boot(&mut self, now: Time, boot: &Boot) -> Vec<Loaded> {
        let mut files = boot.definitions.clone();
        let left = boot.left.as_deref();
        let record = left.and_then(|left| left.record.as_ref());
        let waited = self.kept.as_ref().is_some_and(|kept| !kept.went_back);
        if waited && !self.amid && self.same_boot && record.is_none() {
            self.breach(now, "a reload that waited is forgotten".to_owned());
        }
        self.kept = None;
        let (Some(left), Some(record)) = (left, record) else {
            return files;
        };
        let Left {
            same_boot,
            same_files,
            ..
        } = left;
        let waits = *same_boot && record.is_open();
        if waits || *same_boot || *same_files {
            let before = record.before.iter();
            self.kept = Some(Kept {
                until: record.until,
                before: before
                    .map(|b| {
                        let was = Was {
                            definition: b.definition.clone(),
                            by_file: !names::is_given(&b.source),
                        };
                        (b.name.to_string(), was)
                    })
                    .collect(),
                watched: watched(record),
                yielded: record.yielded.iter().map(|y| y.name.to_string()).collect(),
                displaced: record.yielded.iter().map(|y| y.name.to_string()).collect(),
                went_back: !waits,
                rules: record.settings.as_ref().map(|s| s.rules.clone()),
            });
        }
        if waits || self.kept.is_none() {
            return files;
        }
        for before in &record.before {
            files.retain(|file| file.name != before.name);
            if let Some(definition) = &before.definition {
                files.push(Loaded {
                    name: before.name.clone(),
                    source: before.source.clone(),
                    definition: Ok(definition.clone()),
                });
            }
        }
        files
    }

    /// Who made way for a reload that may go back is wanted again when it does, unless some word
    /// came in between, or somebody else is in its way.
    pub(super) fn gives_back(&mut self, now: Time, engine: &Engine) -> Option<String> {
        let back = self.goes_back();
        let then = std::mem::take(&mut self.step.wanted_then);
        let asked = self.step.asked.is_some() || self.shutting;
        let stopped = |name: &String| {
            status_of(engine, name, now).is_some_and(|status| status.wanted == "stop")
        };
        let kept = self.kept.as_mut()?;
        if asked {
            kept.yielded.clear();
        }
        kept.yielded.extend(then.into_iter().filter(stopped));
        if !back {
            return None;
        }
        let yielded = std::mem::take(&mut kept.yielded);
        let left = yielded.into_iter().find(|name| {
            let defined = engine.find(name).and_then(|id| engine.definition(id));
            let free = self.rivals(name).iter().all(stopped);
            defined.is_some() && free && stopped(name)
        })?;
        Some(format!(
            "{left}: it made way for a reload that went back, and stays stopped"
        ))
    }

    /// What must hold of it when an event is over.
    pub(super) fn reload_stands(&self, now: Time, engine: &Engine) -> Option<String> {
        let kept = self.kept.as_ref()?;
        if !kept.went_back {
            let late = self.step.timers && !self.shutting && now > kept.until;
            return late.then(|| "a reload was not confirmed, and does not go back".to_owned());
        }
        let differs = kept.before.iter().find(|(name, before)| {
            let in_force = engine.find(name).and_then(|id| engine.definition(id));
            in_force.map(|d| &**d) != before.definition.as_deref()
        })?;
        Some(format!("{}: it does not run by what came back", differs.0))
    }
}

/// How long it may be until it is answered.
pub const ANSWERED: Duration = Duration::from_secs(3);

fn watched(reload: &ReloadRecord) -> BTreeSet<Box<str>> {
    let watched = reload.watched.iter();
    watched.map(|watched| watched.name.clone()).collect()
}

/// Of an effect: what it says of a reload.
pub fn of_reload(effect: &Effect) -> Option<Option<&ReloadRecord>> {
    match effect {
        Effect::Record(Record::Reload(reload)) => Some(reload.as_deref()),
        _ => None,
    }
}
