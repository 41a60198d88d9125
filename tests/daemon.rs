//! End to end: the real binary, real processes, real sockets, as a user meets them.
//!
//! The binary is the one that cargo built, or the one that VITALD_BIN names. Each test has a
//! [`host::Host`] of its own: directories, a daemon that can be killed and started again, and
//! services that end with it. Misbehaving servers are this test program itself ([`actor`]).
//!
//! Nothing is waited for by a fixed time: a test waits for an event or for what `status` says,
//! with a deadline that only a failure reaches. What needs root says so and is passed over without
//! it, or fails under VITALD_TEST_REQUIRE=1.

#[path = "daemon/acceptor.rs"]
mod acceptor;
#[path = "daemon/actor.rs"]
mod actor;
#[path = "daemon/alerts.rs"]
mod alerts;
#[path = "daemon/boot_guard.rs"]
mod boot_guard;
#[path = "daemon/cgroups.rs"]
mod cgroups;
#[path = "daemon/client.rs"]
mod client;
#[path = "daemon/commands.rs"]
mod commands;
#[path = "daemon/control.rs"]
mod control;
#[path = "daemon/cycles.rs"]
mod cycles;
#[path = "daemon/death.rs"]
mod death;
#[path = "daemon/disk.rs"]
mod disk;
#[path = "daemon/dossiers.rs"]
mod dossiers;
#[path = "daemon/exec_probes.rs"]
mod exec_probes;
#[path = "daemon/exhausted.rs"]
mod exhausted;
#[path = "daemon/faults.rs"]
mod faults;
#[path = "daemon/forking.rs"]
mod forking;
#[path = "daemon/health.rs"]
mod health;
#[path = "daemon/host.rs"]
mod host;
#[path = "daemon/host_watchdog.rs"]
mod host_watchdog;
#[path = "daemon/hygiene.rs"]
mod hygiene;
#[path = "daemon/image.rs"]
mod image;
#[path = "daemon/init.rs"]
mod init;
#[path = "daemon/instances.rs"]
mod instances;
#[path = "daemon/kinds.rs"]
mod kinds;
#[path = "daemon/ladder.rs"]
mod ladder;
#[path = "daemon/loggers.rs"]
mod loggers;
#[path = "daemon/logs.rs"]
mod logs;
#[path = "daemon/many.rs"]
mod many;
#[path = "daemon/notify.rs"]
mod notify;
#[path = "daemon/output.rs"]
mod output;
#[path = "daemon/parents.rs"]
mod parents;
#[path = "daemon/probes.rs"]
mod probes;
#[path = "daemon/processes.rs"]
mod processes;
#[path = "daemon/provisional.rs"]
mod provisional;
#[path = "daemon/reactor.rs"]
mod reactor;
#[path = "daemon/recording.rs"]
mod recording;
#[path = "daemon/reload.rs"]
mod reload;
#[path = "daemon/repairs.rs"]
mod repairs;
#[path = "daemon/schedules.rs"]
mod schedules;
#[path = "daemon/selfdoubt.rs"]
mod selfdoubt;
#[path = "daemon/servers.rs"]
mod servers;
#[path = "daemon/shutdown.rs"]
mod shutdown;
#[path = "daemon/simulate.rs"]
mod simulate;
#[path = "daemon/sockets.rs"]
mod sockets;
#[path = "daemon/speaker.rs"]
mod speaker;
#[path = "daemon/start_up.rs"]
mod start_up;
#[path = "daemon/stop.rs"]
mod stop;
#[path = "daemon/storm.rs"]
mod storm;
#[path = "daemon/takeover.rs"]
mod takeover;
#[path = "daemon/ties.rs"]
mod ties;
#[path = "daemon/upgrade.rs"]
mod upgrade;
