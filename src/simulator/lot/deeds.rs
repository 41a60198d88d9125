//! What is done to a world while it runs: by operators, by the host, by whoever connects.

use super::*;

impl Lot {
    pub(super) fn deeds(&mut self, plan: &mut Plan, names: &[&str]) {
        // Of its own, so that all else is as it was without.
        let mut provisional = Lot {
            dice: Prng::new(plan.seed ^ 0x7e10_ad7e_10ad_7e10),
            pace: self.pace,
            special: Vec::new(),
            themes: self.themes,
        };
        let minutes = (plan.length / plan.pace).as_secs().div_ceil(60);
        for fault in Fault::ALL {
            let weight = u64::from(plan.weights.of(fault));
            let deeds = match fault {
                Fault::Fork
                | Fault::Exec
                | Fault::Late
                | Fault::Double
                | Fault::Ghost
                | Fault::LostTree
                | Fault::Connect
                | Fault::SlowTurn => 0,
                // A tenth of the weight is how many there are each minute.
                Fault::Trouble
                | Fault::Suspend
                | Fault::Wall
                | Fault::World
                | Fault::Verbs
                | Fault::Reload
                | Fault::Death
                | Fault::PowerCut
                | Fault::Disk
                | Fault::Given
                | Fault::Stuck => (weight * minutes).div_ceil(10),
            };
            for _ in 0..deeds {
                let at = self.time(plan.length);
                let mut of = None;
                let what = match fault {
                    Fault::Reload => {
                        let command = provisional.reload(plan, at);
                        What::Reload(self.files(names, &plan.roles), command)
                    }
                    Fault::Given if self.chance(600) => {
                        let at = self.below(names.len() as u64) as usize;
                        of = Some(names[at]);
                        let oneshot = plan.roles[at].script.works.is_some();
                        let shape = self.shape(names, at, oneshot, &plan.roles);
                        What::Set(names[at].to_owned(), shape)
                    }
                    _ => self.what(fault, names, &mut of),
                };
                let when = match (fault, &what) {
                    (_, What::Set(..)) | (Fault::Suspend | Fault::Wall | Fault::Disk, _) => {
                        When::Now
                    }
                    _ => self.when(),
                };
                plan.deeds.push(Deed {
                    at,
                    fault,
                    when,
                    what,
                    service: of.map(str::to_owned),
                });
            }
        }
    }

    /// How it is reloaded then; and what is said of it later, in time or not, or never.
    fn reload(&mut self, plan: &mut Plan, at: Duration) -> String {
        let strict = if self.chance(150) { " --strict" } else { "" };
        if self.chance(500) {
            return format!("reload{strict}");
        }
        let length = self.of(&[5, 20, 60]) * self.pace;
        let again = format!("reload --confirm {}s", 2 * length);
        for _ in 0..self.below(3) {
            let words = self.of(&["confirm", "revert", "reload", &again]);
            plan.deeds.push(Deed {
                at: at + Duration::from_secs(self.below(2 * length)),
                fault: Fault::Reload,
                when: self.when(),
                what: What::Command(words.to_owned()),
                service: None,
            });
        }
        format!("reload{strict} --confirm {length}s")
    }

    /// Some never come to a service that listens, some worlds are full of them.
    pub(super) fn connections(&mut self, plan: &mut Plan, names: &[&str]) {
        let minutes = (plan.length / plan.pace).as_secs().div_ceil(60);
        let each = self.of(&[0, 2, 10, 40]);
        for role in &mut plan.roles {
            role.script.deaf = self.chance(150);
        }
        if each > 0 {
            plan.weights.0.insert(Fault::Connect, each as u32);
        }
        for _ in 0..each * minutes {
            let name = self.of(names);
            let command = match self.below(12) {
                0 => format!(
                    "listen-error {name} {}",
                    self.of(&["in-use", "files", "none"])
                ),
                1 => format!("listen-error {name} none"),
                2 => format!("deaf {name}"),
                3 => format!("deaf {name} no-more"),
                _ => format!("connect {name}"),
            };
            plan.deeds.push(Deed {
                at: self.time(plan.length),
                fault: Fault::Connect,
                when: self.when(),
                what: What::Command(command),
                service: Some(name.to_owned()),
            });
        }
    }

    fn when(&mut self) -> When {
        match self.below(6) {
            0 => When::Now,
            1 => When::BeforeNext,
            2 => When::WithNext,
            _ => When::On(self.of(&Moment::ALL)),
        }
    }

    fn what<'a>(&mut self, fault: Fault, names: &[&'a str], of: &mut Option<&'a str>) -> What {
        let seconds = self.of(&[0, 1, 3, 20, 90]);
        let seconds = match fault {
            // What is tried again and again meanwhile is so at a pace of its own.
            Fault::Trouble => seconds * self.pace.min(10),
            _ => self.either(seconds),
        };
        let cut = self.below(12);
        What::Command(match fault {
            Fault::Trouble => format!("trouble {}s", seconds + 1),
            Fault::Suspend => format!("suspend {}s", self.of(&[2, 600, 20_000])),
            Fault::Wall => format!("wall-jumps {}s", self.of(&[1, 3_600, 40_000])),
            Fault::Death => format!("die {cut} {seconds}s"),
            Fault::PowerCut => format!("power-cut {cut} {seconds}s"),
            Fault::Disk => {
                let ways = ["full", "stalled", "eio", "sync-fails", "good", "good"];
                format!("disk {}", self.of(&ways))
            }
            Fault::Given => {
                let name = self.of(names);
                *of = Some(name);
                format!("delete {name}")
            }
            Fault::Stuck => {
                let name = self.of(names);
                *of = Some(name);
                format!("stuck {name} {}s", self.of(&[20, 200, 900]))
            }
            Fault::World => {
                let name = self.of(names);
                *of = Some(name);
                match self.below(10) {
                    0 | 1 => format!("hang {name}"),
                    8 => format!("refuse {name} p{}", self.below(2)),
                    9 => format!("answer {name} p{}", self.below(2)),
                    2 => format!("refuse {name}"),
                    3 => format!("answer {name}"),
                    4 => format!("cannot-ask {name}"),
                    5 => format!("answer {name} for-good"),
                    6 => format!(
                        "dies {name} {}",
                        self.of(&["SIGKILL", "SIGTERM", "SIGSEGV"])
                    ),
                    _ => format!("exit {name} {}", self.of(&[0, 1, 70])),
                }
            }
            Fault::Verbs => return What::Command(self.verb(names, of)),
            Fault::Fork
            | Fault::Exec
            | Fault::Late
            | Fault::Double
            | Fault::Ghost
            | Fault::LostTree
            | Fault::Reload
            | Fault::Connect
            | Fault::SlowTurn => String::new(),
        })
    }

    fn verb<'a>(&mut self, names: &[&'a str], of: &mut Option<&'a str>) -> String {
        match self.below(24) {
            0 => "hold".to_owned(),
            1 | 2 => {
                let length = self.of(&[1, 10, 60]);
                format!("hold {}s", self.either(length))
            }
            3 | 4 => "release".to_owned(),
            5 => "shutdown".to_owned(),
            6 => "shutdown --keep".to_owned(),
            kind => {
                let name = self.of(names);
                *of = Some(name);
                let wait = if self.chance(200) { " --wait" } else { "" };
                match kind {
                    7..=9 => format!("stop {name}{wait}"),
                    10 if self.themes.kinds => format!("stop {name} --until-boot{wait}"),
                    10 => format!("stop {name}{wait}"),
                    11..=13 => format!("start {name}{wait}"),
                    14 if self.themes.kinds => format!("once {name}{wait}"),
                    14 => format!("start {name}{wait}"),
                    15 => format!("start {name} --with-requires{wait}"),
                    16..=18 => format!("restart {name}{wait}"),
                    19 | 20 => format!("reset {name}"),
                    21 => format!("probe {name}"),
                    22 => format!("signal {name} {}", self.of(&["HUP", "TERM", "KILL"])),
                    _ => "hold 30s".to_owned(),
                }
            }
        }
    }

    /// Some definitions change, or all; some are gone, or broken.
    fn files(&mut self, names: &[&str], roles: &[Role]) -> Vec<(String, Option<Shape>)> {
        let share = self.of(&[200, 500, 1000]);
        let mut files = Vec::new();
        for at in 0..names.len() {
            if !self.chance(share) {
                continue;
            }
            let oneshot = roles[at].script.works.is_some();
            let mut shape = self.shape(names, at, oneshot, roles);
            shape.broken = self.chance(100);
            let present = !self.chance(120);
            files.push((names[at].to_owned(), present.then_some(shape)));
        }
        files
    }
}
