//! The state directory's `boots`: how many boots were begun since the last one that was well, or
//! ended in order; this one included.
//!
//! Written in one piece and synced: it must outlive the reset that it counts.

use super::Fault;
use super::file::{self, Replace};
use std::path::Path;

const NAME: &str = "boots";

/// What is not a number counts for none: a damaged file must keep nobody from his services.
pub fn read(state_dir: &Path) -> Result<u32, Fault> {
    let bytes = file::read(&state_dir.join(NAME))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim().parse().unwrap_or(0))
}

/// Another boot begins; how many are counted with it.
pub fn raise(state_dir: &Path) -> Result<u32, Fault> {
    let number = read(state_dir)?.saturating_add(1);
    write(state_dir, number)?;
    Ok(number)
}

/// None failed.
pub fn clear(state_dir: &Path) -> Result<(), Fault> {
    match read(state_dir)? {
        0 => Ok(()),
        _ => write(state_dir, 0),
    }
}

fn write(state_dir: &Path, number: u32) -> Result<(), Fault> {
    let mut new = Replace::begin(&state_dir.join(NAME))?;
    new.write(format!("{number}\n").as_bytes())?;
    new.commit(true)?;
    Ok(())
}
