//! Daemons that fork themselves away, and oneshots: by whom they are started, how they are undone.

use super::*;

impl Lot {
    /// Whether this one is a oneshot, in worlds that have many.
    pub(super) fn works_by_lot(&self, at: usize) -> bool {
        let mut dice = Prng::new(fnv1a(NAMES[at].as_bytes()) ^ self.pace);
        self.themes.works && dice.below(3) == 0
    }

    pub(super) fn forking(&mut self, keys: &mut String, name: &str) {
        keys.push_str("kind = \"forking\"\n");
        if self.chance(800) {
            let _ = writeln!(keys, "pid_file = \"/run/{name}.pid\"");
        }
    }

    /// How daemons fork, in each world of which some do.
    pub(super) fn forks(&mut self, plan: &mut Plan) {
        let some = plan.roles.iter().any(|r| r.shape.keys.contains("forking"));
        if !some {
            return;
        }
        for role in &mut plan.roles {
            role.script.forks_after = self.ms(&[10, 10, 500, 4_000]);
            role.script.pid_file = match self.below(12) {
                0 => PidFile::Missing,
                1 => PidFile::Wrong,
                _ => PidFile::Good,
            };
        }
    }

    pub(super) fn work(&mut self, keys: &mut String) {
        let fits = !self.themes.ties && !keys.contains("\"always\"");
        if self.chance(500) && fits {
            let every = self.ms(&[2_000, 20_000, 120_000]).as_millis();
            let _ = writeln!(keys, "every = \"{every}ms\"");
            if self.chance(300) {
                let delay = every / self.of(&[2u128, 10]);
                let _ = writeln!(keys, "random_delay = \"{delay}ms\"");
            }
            if self.chance(300) {
                keys.push_str("catch_up = true\n");
            }
        } else if self.chance(600) {
            keys.push_str("undo = \"undo\"\n");
            let timeout = self.of(&[100, 3_000, 30_000]);
            let _ = writeln!(keys, "undo_timeout_ms = {timeout}");
        }
    }

    /// What comes of undoing.
    pub(super) fn undoes(&mut self, plan: &mut Plan) {
        for role in &mut plan.roles {
            let hook = HookScript {
                takes: Duration::from_millis(self.of(&[1, 50, 2_000])),
                exit: Exit::Code(self.of(&[0, 0, 0, 1]) as u8),
                hangs: self.chance(150),
                missing: self.chance(80),
                ..HookScript::default()
            };
            role.script.hooks.insert(Purpose::Undo, hook);
        }
    }
}
