//! Tells whoever started the daemon how it goes, in the way of sd_notify(3): `Type=notify` of a
//! systemd unit, `ready = "notify"` where the one that started us is another vitald.
//!
//! Not here: what services tell us (`notify`). Invariant: nobody is waited for, and nothing
//! depends on being heard.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The socket answers, and supervision begins.
pub fn ready(what: &str) {
    tell(&format!("READY=1\nSTATUS={what}\n"));
}

/// All services are being stopped.
pub fn stopping() {
    tell("STOPPING=1\nSTATUS=stopping all services\n");
}

/// The loop goes round.
pub fn alive() {
    tell("WATCHDOG=1\n");
}

/// How long who started us waits for that, if he does (sd_watchdog_enabled(3)).
pub fn patience() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let ours = std::env::var_os("WATCHDOG_PID").is_none()
        || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
    let period = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0)?;
    std::env::var_os("NOTIFY_SOCKET")?;
    Some(Duration::from_micros(period))
}

fn tell(words: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&name, words) {
        let name = name.display();
        log::warn!("cannot tell who started us by NOTIFY_SOCKET={name}: {error}");
    }
}

fn send(name: &OsStr, words: &str) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(words.as_bytes(), &address)?;
    Ok(())
}
