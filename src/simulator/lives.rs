//! The daemon's lives: how one begins with what the one before it left, and how it ends.

use super::*;

impl World {
    /// The daemon starts: a boot, or, where a journal is, a return.
    pub fn boot(&mut self) {
        self.turn(vec![Happening::Boots]);
    }

    /// A new engine, and all that the daemon before it left.
    pub(super) fn revive(&mut self) -> Event {
        let engine = Engine::new(self.now, self.seed);
        if let Some(recorder) = &mut self.recorder {
            recorder.next_life();
            recorder.begin(&engine, self.now, self.now.as_millis(), "");
        }
        self.engine = Some(engine);
        self.twin = self.twins.then(|| Engine::new(self.now, self.seed));
        let journal = self.store.read();
        let left = self.left(&journal);
        let ran = journal.services.clone();
        let services = journal
            .services
            .into_iter()
            .map(|mut snapshot| {
                let found = self.found(&mut snapshot);
                (snapshot, found)
            })
            .collect();
        let wanted: Vec<WantedRecord> = self.store.wanted().cloned().collect();
        let given = wanted
            .iter()
            .filter_map(|w| Some((&*w.name, w.definition.as_deref()?)));
        let known = known_before(&wanted, &ran, self.main.as_deref());
        Event::Boot(Box::new(Boot {
            definitions: self.with_given(given, &known),
            wanted,
            services,
            transitions: journal.transitions,
            decisions: journal.decisions,
            hold: journal.hold,
            wall_ms: self.wall().wall_ms,
            deaf: Some(!std::mem::take(&mut self.hands_over)),
            main: self.main.clone(),
            shutdown_timeout: self.shutdown_timeout,
            max_checks: self.max_checks,
            left: left.map(Box::new),
            watchdogs: self.watchdogs.clone(),
            guard: self.guard.clone(),
            alerts: self.alerts.clone(),
            alerted: journal.alerts,
            limits: self.limits,
            storm: journal.storm,
            reboots: self.reboots.is_some(),
        }))
    }

    /// The reload that the daemon before did not finish.
    fn left(&self, journal: &runtime::Loaded) -> Option<Left> {
        let on_disk = self.store.reload();
        let same_boot = self.store.is_of_this_boot();
        let record = match same_boot {
            true => journal.reload.as_deref(),
            false => on_disk,
        };
        let same_files = record.is_some_and(|record| record.digest == self.digest());
        (record.is_some() || on_disk.is_some()).then(|| Left {
            record: record.cloned(),
            same_boot,
            same_files,
        })
    }

    /// Tells the files that there are now from others.
    pub(super) fn digest(&self) -> u64 {
        crate::prng::fnv1a(
            format!(
                "{:?}{:?}{:?}",
                self.definitions,
                self.templates,
                self.rules()
            )
            .as_bytes(),
        )
    }

    /// What a daemon that returned finds of the commands that were under way.
    pub(super) fn find_hooks(&mut self, snapshots: &[ServiceSnapshot]) {
        let found: Vec<Event> = match &self.engine {
            Some(engine) => snapshots
                .iter()
                .filter_map(|known| {
                    let id = engine.find(&known.name)?;
                    self.kernel.found_hook(id, known)
                })
                .collect(),
            None => return,
        };
        for event in found {
            self.post(Duration::ZERO, event);
        }
    }

    /// As the real daemon looks for journalled processes when it returns.
    fn found(&mut self, snapshot: &mut ServiceSnapshot) -> Found {
        let ended = snapshot.run.as_ref().is_none_or(|run| run.exit.is_some());
        if snapshot.run.as_ref().is_some_and(|run| run.pid.is_none()) {
            // It is looked for by its mark, which what it left behind carries as well.
            if self.kernel.revive(&snapshot.name, snapshot.number) {
                let done = kernel::dies(&snapshot.name, snapshot.number, Exit::Code(0));
                self.happens(Duration::from_secs(20), done);
            }
        }
        self.kernel.find_forked(snapshot);
        let told = self.mischief.as_mut().is_some_and(Mischief::tells_ends);
        match self.kernel.process(&snapshot.name, snapshot.number) {
            Some(_) if ended => Found::Gone,
            Some(_) if self.kernel.is_unnamed(snapshot) => match told {
                true => Found::Ended(Exit::Code(0)),
                false => Found::Gone,
            },
            Some(process) => match process.exit {
                None => Found::Alive {
                    pid: process.pid,
                    started: 1,
                },
                Some(exit) if told => Found::Ended(exit),
                Some(_) => Found::Gone,
            },
            None => Found::Gone,
        }
    }

    /// `kill -9`: what was not recorded is lost, children live on.
    pub fn daemon_dies(&mut self) {
        self.engine = None;
        self.twin = None;
        self.queue
            .retain(|_, happening| !matches!(happening, Happening::Told(_) | Happening::Ghost(_)));
        self.tickets.clear();
        self.kernel.daemon_let_go(false);
        self.store.daemon_died();
        if let Some(mischief) = &mut self.mischief {
            mischief.daemon_died();
        }
        if let Some(watcher) = &mut self.watcher {
            watcher.daemon_died(self.now);
        }
    }
}
