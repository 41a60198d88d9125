//! Who gets alerts, and how he behaves.

use super::kernel::{Answers, told};
use crate::engine::Event;
use std::time::Duration;

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receiver {
    #[default]
    Takes,
    Refuses,
    Hangs,
}

impl Receiver {
    pub fn takes(self, number: u64) -> Answers {
        let (after, error) = match self {
            Receiver::Takes => (30, None),
            Receiver::Refuses => (10, Some("HTTP 500".into())),
            Receiver::Hangs => return Vec::new(),
        };
        let event = Event::AlertSent { number, error };
        told(Duration::from_millis(after), event)
    }
}
