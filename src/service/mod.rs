//! What a service is to the engine, in parts that can be told alone: the state table, the retry
//! policy, the streaks that make health, the commands around a run, the gate, and what of its output is let through. Pure values; the engine owns them, but for the last, which is no decision about a service and is the loop's.

pub mod doubt;
pub mod gate;
pub mod health;
pub mod hook;
pub mod log_filter;
pub mod notify;
pub mod retry_policy;
pub mod state;
