//! Worlds in which many services are in trouble at once, in words.

use super::World;
use crate::engine::Loaded;
use std::rc::Rc;

impl World {
    /// `copies web 30`: web is defined as web-01 to web-30 instead.
    pub(super) fn copies(&mut self, name: &str, count: u32) -> Result<(), String> {
        let one = self.definitions.remove(name);
        let one = one.ok_or_else(|| format!("{name} is not defined"))?;
        for number in 1..=count {
            // Each of its own file, as files are: a definition is not shared.
            let definition = one.definition.as_ref().map(|d| Rc::new((**d).clone()));
            self.define(Loaded {
                name: format!("{name}-{number:02}").into(),
                source: one.source.clone(),
                definition: definition.map_err(Clone::clone),
            });
        }
        Ok(())
    }

    /// What the daemon's status says of hold and storm.
    pub(super) fn show_storm(&mut self) -> Result<(), String> {
        self.run_for(std::time::Duration::ZERO);
        let wall = self.wall();
        let engine = self.engine().ok_or("the daemon is dead")?;
        let daemon = engine.daemon(wall);
        let mut words = Vec::new();
        if let Some(hold) = daemon.hold {
            let why = hold.why.map(|why| format!(", {why}")).unwrap_or_default();
            words.push(format!("held by {}{why}", hold.owner));
        }
        if let Some(storm) = daemon.storm {
            let (waiting, next) = (storm.waiting, storm.next.unwrap_or_default());
            if let Some(canary) = &storm.canary {
                words.push(format!(
                    "an incident of {}, canary {canary}",
                    storm.services
                ));
            }
            words.push(match waiting {
                0 => "nobody waits".to_owned(),
                _ => format!("{waiting} wait, {next} is next"),
            });
        }
        let words = match words.is_empty() {
            true => "calm".to_owned(),
            false => words.join("; "),
        };
        self.say(&format!("= {words}"));
        Ok(())
    }
}
