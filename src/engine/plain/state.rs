//! What the engine keeps.

use super::checkpoint::{no_definition, no_graph};
use super::*;
use crate::engine::answers::{Goal, Pending};
use crate::engine::host::{Host, Starved};
use crate::engine::manual::Manual;
use crate::engine::shutdown::Shutdown;
use crate::engine::snapshot::{DossierRecord, EndRecord};
use crate::engine::table::{
    Cure, Evidence, Exhausted, InFlight, Last, Queue, Run, Seek, Service, Sockets, Standing, Stop,
    Told, Watch,
};
use crate::engine::timers::{Owner, Timers, Unit};
use crate::engine::{Engine, Lateness};
use crate::id::ServiceId;
use crate::prng::Prng;
use crate::service::gate::{Reason, Ruling};
use crate::service::health::{Health, Streak};
use crate::service::hook::Progress;
use crate::service::state::{Cause, State, Wanted};
use crate::wheel::Wheel;

serde! { DossierRecord EndRecord Prng Progress Seek Wheel }

words! { State Wanted Cause }
variants! { Health { Unknown Healthy Unhealthy;; } }

fields! { Engine {
    now booted_at timers services prng seq serial remember_seq lateness stale hold shutdown pending
    manual unsettled main shutdown_timeout
} may {
    reloading reload_unit leaving reloads host
} skips {
    // It holds definitions: apart, in the checkpoint.
    reload: None,
    names: BTreeMap::new(),
    graph: no_graph(),
    held_back: BTreeMap::new(),
    conflicts: BTreeMap::new(),
    // Empty between two events.
    dirty: Vec::new(),
    pledge: None,
    records: Vec::new(),
    effects: Vec::new(),
} }

fields! { Host { guard watchdogs unit fed_at starved } }

fields! { Starved { service why } }

fields! { Lateness { total turns longest } }

fields! { Service {
    name source problem wanted wanted_by wanted_at_ms state cause since number run attempts exhausted last_end
    trouble restarting backoff_until respawns standing cure asked_until unit watchdog_unit stored
    probe_units
    transitions decisions dirty
} may {
    once at_boot sockets pinned dossier
} skips {
    definition: None,
    given: None,
} }

variants! { Sockets { Closed Asked Wanted Again Open Outdated Partly Watched;; } }

variants! { Evidence { Collect Diagnose;; } }

variants! { Exhausted { No Due Told;; } }

fields! { Cure { decision run } }

fields! { Standing { cause ruling trouble_since } }

fields! { Run {
    id pid started spawned_at executed ready_at begun_by restarted adopted overdue exit stop
    late_mark extended start_until excused excused_since excused_until probes told health
} may {
    hooks seek oom_kills
} skips {
    definition: no_definition(),
} }

fields! { Stop { cause final_stop wanted then_start killed deadline sweeping } may { waits evidence } }

fields! { Told {
    ready doubt reloading stopping status status_at errno main period streak missed late_mark extended
} }

fields! { Watch { streak check last asked shadow_attempts } }

fields! { InFlight { serial begun late_mark extended } }

fields! { Last { outcome latency output } }

fields! { Streak {
    failures passes up passed inconclusive inconclusive_since failing_since chain_since
    last_pass_begun
} }

variants! { Ruling {;;
    Allowed { attempt }
    Deferred { reason until }
    Denied { reason }
    Absorbed { reason }
} }

variants! { Reason {
    WantedStop RestartNever Once Hold Stability;
    Already Asking Dependency Budget;
} }

fields! { Pending { ticket accepted durable goal } }

variants! { Goal { Down;; Up { after_run } } }

fields! { Manual { ticket open reports } }

fields! { Shutdown { over waiting until } }

fields! { Timers { wheel owners free } }

newtype! { Unit Queue }

impl Put for Owner {
    fn put(&self, out: &mut Vec<u8>) {
        let (service, probe) = match *self {
            Owner::Nobody => return None::<()>.put(out),
            Owner::Engine => (None, None),
            Owner::Service(id) => (Some(id), None),
            Owner::Probe(id, probe) => (Some(id), Some(probe)),
            Owner::Reload => (None, Some(0)),
            Owner::Host => (None, Some(1)),
            // No probe has that number.
            Owner::Watchdog(id) => (Some(id), Some(u16::MAX)),
        };
        (service, probe).put(out);
    }
}

impl Take for Owner {
    fn take(json: &[u8]) -> Taken<Owner> {
        let owner: Option<(Option<ServiceId>, Option<u16>)> = Take::take(json)?;
        Ok(match owner {
            None => Owner::Nobody,
            Some((None, None)) => Owner::Engine,
            Some((None, Some(1))) => Owner::Host,
            Some((None, Some(_))) => Owner::Reload,
            Some((Some(id), None)) => Owner::Service(id),
            Some((Some(id), Some(u16::MAX))) => Owner::Watchdog(id),
            Some((Some(id), Some(probe))) => Owner::Probe(id, probe),
        })
    }
}
