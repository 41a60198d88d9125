//! vitald: a process supervisor that closes the loop.
//!
//! It starts services, probes them the way their users reach them, and when a probe says that a
//! service no longer works it restarts it: within a budget, with backoff, never against the
//! operator's will, and always able to say why.
//!
//! # The house
//!
//! A module imports only from floors below its own (`tests/tidy.rs` holds everyone to it).
//!
//! ```text
//!  4  edges     main  cli  daemon  manual            argv, terminal, text
//!  3  drivers   reactor  simulator  journal          the world: real, simulated, recorded
//!  2  engine    engine  control                      decisions
//!  1  machines  service  probe  wheel  graph  calendar  config   pure; no I/O, no clock
//!  0  words     time  id  exit  prng  limits         newtypes and bounds
//! ```
//!
//! There is one door between what decides and what acts: [`engine::Engine::handle`] takes a time
//! and an event and appends effects. Effects return nothing; what they lead to comes back as an
//! event. Start reading there, then [`service::gate`] for the rule that allows, defers or denies
//! an automatic restart, then [`reactor`] for the loop.

pub mod exit;
pub mod id;
pub mod limits;
pub mod prng;
pub mod time;

pub mod calendar;
pub mod config;
pub mod graph;
pub mod probe;
pub mod service;
pub mod wheel;

pub mod control;
pub mod engine;

pub mod journal;
pub mod reactor;
pub mod simulator;

pub mod cli;
pub mod daemon;
pub mod manual;
