//! The keys of a rung in `escalate`, in `retry_policy`.

use super::*;

keys! { ALL {
    /// From so many restarts in a row on that did not cure it.
    AFTER_UNCURED "after_uncured": Takes::Integer { min: 1, max: 1000 }, Required, Live;
    /// What is done then. `restart-with`: it is restarted, and with it a service that it requires,
    /// which spends nothing of that one, and never happens against an operator's stop or pin.
    /// `stop`: it is stopped, and is `failed` until an operator starts it.
    ACTION "action": Takes::Choice(&["restart-with", "stop"]), Required, Live;
    /// The service that is restarted with it, one of those that it `requires`.
    SERVICE "service": Takes::Text, Words("none; restart-with needs one"), Live;
} }
