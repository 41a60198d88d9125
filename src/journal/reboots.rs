//! The state directory's `reboots`: when the host was rebooted because a service was beyond healing,
//! in milliseconds since 1970, a line each.
//!
//! Written in one piece and synced, before the reboot that it counts. A time in the future counts as
//! now: on a host whose clock is not set at its boots none of them may be forgotten.

use super::Fault;
use super::file::{self, Replace};
use crate::limits;
use crate::time::millis;
use std::path::Path;

const NAME: &str = "reboots";

/// Another one, if there may be one; false: there were too many lately.
pub fn count(state_dir: &Path, now_ms: u64) -> Result<bool, Fault> {
    let path = state_dir.join(NAME);
    let bytes = file::read(&path)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let since = now_ms.saturating_sub(millis(limits::REBOOTS_WITHIN));
    let times = text.lines().filter_map(|line| line.trim().parse().ok());
    let mut times: Vec<u64> = times.filter(|at| *at > since).collect();
    if times.len() >= limits::REBOOTS {
        return Ok(false);
    }
    times.push(now_ms);
    let lines: String = times.iter().map(|at| format!("{at}\n")).collect();
    let mut new = Replace::begin(&path)?;
    new.write(lines.as_bytes())?;
    new.commit(true)?;
    Ok(true)
}
