//! What the engine keeps.

use super::checkpoint::{no_definition, no_graph};
use super::*;
use crate::engine::alerts::{Alerts, Desk, Known, Test as AlertTest, Waiting};
use crate::engine::answers::{Goal, Pending};
use crate::engine::doubt::{Doubts, LastDoubt};
use crate::engine::host::{Host, Starved};
use crate::engine::manual::Manual;
use crate::engine::shutdown::Shutdown;
use crate::engine::slots::Slots;
use crate::engine::snapshot::{DossierRecord, EndRecord};
use crate::engine::storm::{Asked, Storm};
use crate::engine::table::{
    Cure, Evidence, Exhausted, InFlight, Last, NextRun, Queue, Run, Seek, Service, Shadow, Sockets,
    Standing, Stop, Timed, Told, Watch,
};
use crate::engine::timers::{Owner, Timers, Unit};
use crate::engine::{Engine, Lateness};
use crate::id::ServiceId;
use crate::prng::Prng;
use crate::service::doubt::Look;
use crate::service::gate::{Reason, Ruling};
use crate::service::health::{Health, Streak};
use crate::service::hook::Progress;
use crate::service::state::{Cause, State, Wanted};
use crate::time::{Time, Wall};
use crate::wheel::Wheel;

serde! { DossierRecord EndRecord Prng Progress Seek Wheel }

words! { State Wanted Cause }
variants! { Health { Unknown Healthy Unhealthy;; } }

fields! { Engine {
    now booted_at timers services prng seq serial remember_seq lateness stale hold shutdown pending
    manual unsettled main shutdown_timeout
} may {
    reloading reload_unit leaving reloads host alerts storm doubts slots wall
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

fields! { Alerts { rules desks known tests unit number returning } }

fields! { Desk {
    waiting under_way next_at sent failed dropped untold withheld last trouble
} }

fields! { Waiting { tries alert } }

fields! { Known { rule service open told clear_at well_since } }

fields! { AlertTest { ticket open words failed } }

fields! { Host { guard watchdogs unit fed_at starved } may { reboots counting for_rung counted } }

fields! { Starved { service why } }

fields! { Storm { limits record next_place unit asked renew changed } skips {
    // The same as in the services.
    queue: BTreeMap::new(),
} }

fields! { Asked { service since until failed } }

fields! { Lateness { total turns longest } }

fields! { Doubts { counts last } }

fields! { LastDoubt { at words } }

fields! { Look<Time> { at strain busy } }

fields! { Service {
    name source problem wanted wanted_by wanted_at_ms state cause since number run attempts exhausted last_end
    trouble restarting backoff_until respawns standing cure asked_until unit watchdog_unit stored
    probe_units
    transitions decisions dirty
} may {
    once at_boot sockets pinned dossier uncured place shadow timed
} skips {
    definition: None,
    given: None,
} }

variants! { Sockets { Closed Asked Wanted Again Open Outdated Partly Watched;; } }

variants! { Evidence { Collect Diagnose;; } }

variants! { Exhausted { No Due Told;; } }

fields! { Timed {} may { on since_ms next skipped told_of unit } }

fields! { NextRun { base at due_ms } }

fields! { Wall { now wall_ms } }

fields! { Cure { decision run } }

fields! { Shadow { attempts run since } }

fields! { Standing { cause ruling trouble_since } }

fields! { Run {
    id pid started spawned_at executed ready_at begun_by restarted adopted overdue exit stop
    late_mark extended start_until excused excused_since excused_until probes told health
} may {
    hooks seek oom_kills look looks start_doubts
} skips {
    definition: no_definition(),
} }

fields! { Stop { cause final_stop wanted then_start killed deadline sweeping } may { waits evidence } }

fields! { Told {
    ready doubt reloading stopping status status_at errno main period streak missed late_mark extended
} may { doubted } }

fields! { Watch { streak check last asked shadow_attempts } may { doubted waits } }

fields! { Slots { most open waiting } }

fields! { InFlight { serial begun late_mark extended } may { excused } }

fields! { Last { outcome latency output } }

fields! { Streak {
    failures passes up passed inconclusive inconclusive_since failing_since chain_since
    last_pass_begun
} may {
    recent
} }

variants! { Ruling { Shadow;;
    Allowed { attempt }
    Deferred { reason until }
    Denied { reason }
    Absorbed { reason }
} }

variants! { Reason {
    WantedStop RestartNever Once Hold Stability Reboot Recovering;
    Already Asking Dependency Budget Storm;
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
            Owner::Alerts => (None, Some(2)),
            Owner::Storm => (None, Some(3)),
            // No probe has that number.
            Owner::Watchdog(id) => (Some(id), Some(u16::MAX)),
            Owner::Schedule(id) => (Some(id), Some(SCHEDULE)),
        };
        (service, probe).put(out);
    }
}

const SCHEDULE: u16 = u16::MAX - 1;

impl Take for Owner {
    fn take(json: &[u8]) -> Taken<Owner> {
        let owner: Option<(Option<ServiceId>, Option<u16>)> = Take::take(json)?;
        Ok(match owner {
            None => Owner::Nobody,
            Some((None, None)) => Owner::Engine,
            Some((None, Some(1))) => Owner::Host,
            Some((None, Some(2))) => Owner::Alerts,
            Some((None, Some(3))) => Owner::Storm,
            Some((None, Some(_))) => Owner::Reload,
            Some((Some(id), None)) => Owner::Service(id),
            Some((Some(id), Some(u16::MAX))) => Owner::Watchdog(id),
            Some((Some(id), Some(SCHEDULE))) => Owner::Schedule(id),
            Some((Some(id), Some(probe))) => Owner::Probe(id, probe),
        })
    }
}
