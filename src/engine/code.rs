//! Error codes of refusals: JSON-RPC's own (specification, §5.1), and those of the zinit line.

pub const PARSE: i32 = -32700;
pub const INVALID_REQUEST: i32 = -32600;
pub const UNKNOWN_METHOD: i32 = -32601;
pub const BAD_PARAMS: i32 = -32602;
pub const INTERNAL: i32 = -32603;
pub const NOT_FOUND: i32 = -32000;
pub const ALREADY_MONITORED: i32 = -32001;
pub const IS_UP: i32 = -32002;
pub const IS_DOWN: i32 = -32003;
pub const BAD_SIGNAL: i32 = -32004;
pub const CONFIG: i32 = -32005;
pub const SHUTTING_DOWN: i32 = -32006;
pub const ALREADY_EXISTS: i32 = -32007;
pub const FILE: i32 = -32008;
/// The peer may not do this.
pub const DENIED: i32 = -32010;
/// Too many requests of one client wait for their answers.
pub const TOO_MANY: i32 = -32011;
/// An upgrade replaced the daemon before it had answered.
pub const REPLACED: i32 = -32012;
/// The command that was to do it failed.
pub const HOOK_FAILED: i32 = -32013;
/// A reload waits to be confirmed, or none does.
pub const UNCONFIRMED: i32 = -32020;

/// It is pinned, and not to be moved for another's sake.
pub const PINNED: i32 = -32014;

/// Each code with its name, for the interface's description.
pub const ALL: &[(i32, &str)] = &[
    (PARSE, "parse error"),
    (INVALID_REQUEST, "invalid request"),
    (UNKNOWN_METHOD, "method not found"),
    (BAD_PARAMS, "invalid params"),
    (INTERNAL, "internal error"),
    (NOT_FOUND, "service not found"),
    (ALREADY_MONITORED, "service already monitored"),
    (IS_UP, "service is up"),
    (IS_DOWN, "service is down"),
    (BAD_SIGNAL, "invalid signal"),
    (CONFIG, "config error"),
    (SHUTTING_DOWN, "shutting down"),
    (ALREADY_EXISTS, "service already exists"),
    (FILE, "service file error"),
    (DENIED, "permission denied"),
    (TOO_MANY, "too many requests at once"),
    (REPLACED, "daemon replaced by an upgrade"),
    (HOOK_FAILED, "command failed"),
    (PINNED, "service is pinned"),
    (UNCONFIRMED, "reload to be confirmed"),
];
