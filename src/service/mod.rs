//! What a service is to the engine, in parts that can be told alone: the state table, the retry
//! policy, the streaks that make health, the commands around a run, and the gate. Pure values; the engine owns them.

pub mod gate;
pub mod health;
pub mod hook;
pub mod notify;
pub mod retry_policy;
pub mod state;
