//! The count of reboots for a service's sake.

use super::Dir;
use vitald::journal::reboots;

const HOUR: u64 = 3_600_000;

#[test]
fn so_many_within_a_day_and_no_more() {
    let own = Dir::new();
    let dir = &own.path;
    let now = 500_000 * HOUR;
    let count = |at| reboots::count(dir, at).expect("written");
    assert!(count(now) && count(now + HOUR) && count(now + 2 * HOUR));
    assert!(!count(now + 3 * HOUR));
    assert!(!count(now + 24 * HOUR - 1));
    // The first is a day ago.
    assert!(count(now + 24 * HOUR));
    assert!(!count(now + 24 * HOUR));
    // A clock that is not set at each boot forgets none.
    assert!(!count(0) && !count(HOUR));
    let file = dir.join("reboots");
    // What cannot be understood keeps nobody from it.
    std::fs::write(&file, "nonsense\n\n7x\n").expect("write");
    assert!(count(now));
    std::fs::remove_file(&file).expect("remove");
    std::fs::create_dir(&file).expect("mkdir");
    assert!(reboots::count(dir, now).is_err());
}
