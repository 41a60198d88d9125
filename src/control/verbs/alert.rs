//! Row of the table: alerts, tried.

use super::super::calls::{Act, Call, Fault};
use super::{Kind, Level, Shape, Verb, position};
use crate::engine::Command;

pub(super) const TEST: Verb = Verb {
    words: "alert test",
    method: "alert.test",
    args: &[position(
        "name",
        Kind::Text,
        false,
        "the alert, as vitald.toml names it; all when left out",
    )],
    access: Level::Act,
    summary: "send an alert of kind `test`, once, and say whether it was taken",
    help: "Answered when all were taken, or were not in their `timeout_ms`. What waits in a queue is \
           not touched; how that stands is in `info`.",
    shape: Shape::Done,
    run: test,
};

fn test(call: &Call<'_>) -> Result<Act, Fault> {
    let name = call.values.text("name").map(Into::into);
    call.command(Command::AlertTest { name })
}
