//! PID 1: of what this process is the first, what signals mean to it, and how its life ends.
//!
//! Not here: system calls (`reactor::init`), stopping the services (the engine).
//!
//! Invariants: only the first process of a host ends the machine, and it never just exits; which
//! signal means what is one table.

use crate::exit::Signal;
use serde::{Deserialize, Serialize};

/// Of what we are the first process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// We are not PID 1.
    #[default]
    Ordinary,
    /// Of a pid namespace: when we exit the kernel ends all that is in it.
    Container,
    /// Of the host: when we exit the kernel panics.
    Host,
}

/// What comes when all services have stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The daemon exits.
    #[default]
    Exit,
    Poweroff,
    Reboot,
    Halt,
}

impl Role {
    /// `first`: our process number is 1. `initial`: our pid namespace is the kernel's first, and
    /// we may reboot it. `told`: somebody set `container` in our environment, as systemd-nspawn,
    /// podman and LXC do for those who cannot see it otherwise.
    pub const fn of(first: bool, initial: bool, told: bool) -> Role {
        match (first, initial, told) {
            (false, ..) => Role::Ordinary,
            (true, true, false) => Role::Host,
            (true, ..) => Role::Container,
        }
    }

    /// For `info`; None: nothing to tell.
    pub const fn words(self) -> Option<&'static str> {
        match self {
            Role::Ordinary => None,
            Role::Container => Some("PID 1 of a container"),
            Role::Host => Some("PID 1 of this host"),
        }
    }

    /// What a signal asks for; None: nothing of this kind.
    ///
    /// On a host as busybox's `reboot`, `halt` and `poweroff` send them, since their users type
    /// these; SIGINT is the kernel's for ctrl-alt-del (reboot(2), CAD_OFF), SIGPWR that of who
    /// watches the power. In a container all of them mean the same: lxc-stop sends SIGPWR.
    pub fn ending(self, signal: Signal) -> Option<Ending> {
        let asked = match signal {
            Signal::TERM | Signal::INT => Ending::Reboot,
            Signal::USR1 => Ending::Halt,
            Signal::USR2 | Signal::PWR => Ending::Poweroff,
            _ => return None,
        };
        match self {
            Role::Host => Some(asked),
            Role::Container => Some(Ending::Exit),
            Role::Ordinary => matches!(signal, Signal::TERM | Signal::INT).then_some(Ending::Exit),
        }
    }

    /// Why the daemon cannot end so, and what to do instead; None: it can. `keep`: the services are
    /// to run on.
    pub fn refuses(self, ending: Ending, keep: bool) -> Option<String> {
        let words = match (self, ending, keep) {
            (Role::Host, Ending::Exit, _) => {
                "the daemon is PID 1 of this host and never ends: say `vitald poweroff`, `reboot` \
                 or `halt`"
            }
            (Role::Container, Ending::Exit, true) => {
                "the daemon is PID 1 of a container, and no process outlives that: say \
                 `vitald shutdown` without --keep"
            }
            (Role::Host, ..) | (_, Ending::Exit, _) => return None,
            (Role::Container, ..) => {
                "the daemon is PID 1 of a container, not of a host: `vitald shutdown` ends the \
                 container"
            }
            (Role::Ordinary, ..) => {
                "the daemon is not PID 1, and another init has the host: `vitald shutdown` ends \
                 only the daemon"
            }
        };
        Some(words.to_owned())
    }
}

impl Ending {
    /// What happens then.
    pub const fn words(self) -> &'static str {
        match self {
            Ending::Exit => "the daemon ends",
            Ending::Poweroff => "the machine is powered off",
            Ending::Reboot => "the machine is rebooted",
            Ending::Halt => "the machine is halted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_process_of_a_host_is_its_init() {
        assert_eq!(Role::of(true, true, false), Role::Host);
        for (first, initial, told) in [
            (true, false, false),
            (true, false, true),
            (true, true, true),
        ] {
            assert_eq!(Role::of(first, initial, told), Role::Container);
        }
        for initial in [false, true] {
            for told in [false, true] {
                assert_eq!(Role::of(false, initial, told), Role::Ordinary);
            }
        }
    }

    #[test]
    fn signals_mean_what_busybox_sends_them_for() {
        let asked = [
            (Signal::TERM, Ending::Reboot),
            (Signal::INT, Ending::Reboot),
            (Signal::USR1, Ending::Halt),
            (Signal::USR2, Ending::Poweroff),
            (Signal::PWR, Ending::Poweroff),
        ];
        for (signal, ending) in asked {
            assert_eq!(Role::Host.ending(signal), Some(ending), "{signal}");
            assert_eq!(Role::Container.ending(signal), Some(Ending::Exit));
            let ordinary = matches!(signal, Signal::TERM | Signal::INT);
            let ordinary = ordinary.then_some(Ending::Exit);
            assert_eq!(Role::Ordinary.ending(signal), ordinary, "{signal}");
        }
        for role in [Role::Host, Role::Container, Role::Ordinary] {
            assert_eq!(role.ending(Signal::HUP), None);
            assert_eq!(role.ending(Signal::CHLD), None);
        }
    }

    #[test]
    fn a_host_never_loses_its_first_process_and_no_other_ends_a_machine() {
        let machine = [Ending::Poweroff, Ending::Reboot, Ending::Halt];
        for ending in machine {
            assert_eq!(Role::Host.refuses(ending, false), None);
            assert!(Role::Container.refuses(ending, false).is_some());
            assert!(Role::Ordinary.refuses(ending, false).is_some());
        }
        for keep in [false, true] {
            assert!(Role::Host.refuses(Ending::Exit, keep).is_some());
            assert_eq!(Role::Container.refuses(Ending::Exit, keep).is_some(), keep);
            assert_eq!(Role::Ordinary.refuses(Ending::Exit, keep), None);
        }
    }
}
