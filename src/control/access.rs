//! Who may do what: grants from the daemon's settings, matched against a peer's credentials.
//!
//! Pure: the credentials come from the socket (SO_PEERCRED, unix(7)) by way of the listener.
//!
//! Invariants: root and the daemon's own user may do all; nobody else may do anything that no
//! grant gives; a right for one service says nothing about any other, nor about the daemon.

/// How much a peer may do. Each level holds those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Level {
    /// Nothing but to learn that a daemon is here.
    #[default]
    None,
    /// See states, stories and events.
    View,
    /// See also what services wrote.
    Read,
    /// Start, stop, restart, signal, reset, probe, hold.
    Act,
    /// Set, delete, reload, shut down: whoever may is as good as the daemon's own user.
    Admin,
}

impl Level {
    pub const fn word(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::View => "view",
            Level::Read => "read",
            Level::Act => "act",
            Level::Admin => "admin",
        }
    }
}

/// To whom a grant speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    User(u32),
    /// The peer's group, or one of its supplementary groups.
    Group(u32),
    Anyone,
}

/// One right given to somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    pub who: Who,
    pub level: Level,
    /// None: all services and the daemon itself. `Admin` over one service is `Act` over it.
    pub service: Option<Box<str>>,
}

/// All rights on one socket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rights {
    /// The daemon's own (effective) user.
    pub owner: u32,
    pub grants: Vec<Grant>,
}

impl Rights {
    /// What a peer with these credentials may do.
    pub fn of(&self, uid: u32, gids: &[u32]) -> Access {
        if uid == 0 || uid == self.owner {
            return Access::all();
        }
        let mut access = Access::default();
        for grant in &self.grants {
            let meant = match grant.who {
                Who::User(user) => user == uid,
                Who::Group(group) => gids.contains(&group),
                Who::Anyone => true,
            };
            match &grant.service {
                _ if !meant => {}
                None => access.overall = access.overall.max(grant.level),
                Some(name) => {
                    let level = grant.level.min(Level::Act);
                    access.services.push((name.clone(), level));
                }
            }
        }
        access
    }
}

/// What one peer may do, found once when it connects.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    overall: Level,
    /// Rights beyond `overall`, by service.
    services: Vec<(Box<str>, Level)>,
}

impl Access {
    pub fn all() -> Access {
        Access::only(Level::Admin)
    }

    pub fn only(level: Level) -> Access {
        Access {
            overall: level,
            services: Vec::new(),
        }
    }

    /// May this be done to the daemon, or to all services at once?
    pub fn overall(&self, needed: Level) -> bool {
        self.overall >= needed
    }

    /// May this be done to the service of this name?
    pub fn on(&self, service: &str, needed: Level) -> bool {
        self.overall(needed)
            || self
                .services
                .iter()
                .any(|(name, level)| &**name == service && *level >= needed)
    }

    /// May this be done to at least one service? A list is then cut down to those.
    pub fn somewhere(&self, needed: Level) -> bool {
        self.overall(needed) || self.services.iter().any(|(_, level)| *level >= needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights() -> Rights {
        let grant = |who, level, service: Option<&str>| Grant {
            who,
            level,
            service: service.map(Box::from),
        };
        Rights {
            owner: 500,
            grants: vec![
                grant(Who::Group(20), Level::Read, None),
                grant(Who::Group(30), Level::Act, None),
                grant(Who::User(1000), Level::Admin, Some("web")),
            ],
        }
    }

    #[test]
    fn root_and_the_owner_may_do_all_and_strangers_nothing() {
        for uid in [0, 500] {
            assert!(rights().of(uid, &[]).overall(Level::Admin));
        }
        let stranger = rights().of(7, &[7]);
        assert!(!stranger.overall(Level::Read) && !stranger.somewhere(Level::Read));
        assert!(stranger.overall(Level::None));
    }

    #[test]
    fn the_highest_grant_of_any_group_counts() {
        let both = rights().of(7, &[5, 20, 30]);
        assert!(both.overall(Level::Act) && !both.overall(Level::Admin));
        assert!(!rights().of(7, &[20]).on("web", Level::Act));
    }

    #[test]
    fn a_right_for_one_service_ends_at_that_service() {
        let access = rights().of(1000, &[1000]);
        assert!(access.on("web", Level::Act) && access.on("web", Level::Read));
        assert!(!access.on("web", Level::Admin));
        assert!(!access.on("db", Level::Read) && !access.on("we", Level::Read));
        assert!(access.somewhere(Level::Read) && !access.overall(Level::Read));
    }
}
