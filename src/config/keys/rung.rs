//! The keys of a rung in `escalate`, in `retry_policy`.

use super::*;

keys! { ALL {
    /// From so many restarts in a row on that did not cure it.
    AFTER_UNCURED "after_uncured": Takes::Integer { min: 1, max: 1000 }, Required, Live;
    /// What is done then. `restart-with`: it is restarted, and with it a service that it requires,
    /// which spends nothing of that one, and never happens against an operator's stop or pin.
    /// `exec`: when nothing of the old run is left and its `post_stop` is done, a command is run
    /// that is to repair what a restart does not; then comes the delay, and the start, whatever
    /// became of the command. `reboot`: the host is rebooted, in order, as by
    /// `on_exhausted = "reboot"` and counted with it; where that may not be it is restarted by the
    /// rung below. `stop`: it is stopped, and is `failed` until an operator starts it.
    ACTION "action": Takes::Choice(&["restart-with", "exec", "reboot", "stop"]), Required, Live;
    /// The service that is restarted with it, one of those that it `requires`.
    SERVICE "service": Takes::Text, Words("none; restart-with needs one"), Live;
    /// The command that repairs it, written like a service's `exec`. It runs as the service's user,
    /// in its environment and with its limits, its output goes to its log; VITALD_CAUSE and
    /// VITALD_EXIT_CODE or VITALD_EXIT_SIGNAL tell how the run ended. There is never more than one.
    /// It is not run when an operator has stopped, started or held meanwhile; a stop of the service
    /// asks it to end, at once.
    EXEC "exec": Takes::Command, Words("none; exec needs one"), Live;
    /// How long the command may take; then it gets `stop_signal`, and SIGKILL after
    /// `stop_timeout_ms`.
    TIMEOUT "timeout_ms": Takes::Millis { min: 1 }, Integer(60_000), Live;
} }
