//! `start worker@7` where there is a template `worker@` and no such instance yet.
//!
//! The instance is read and checked here, with whom it needs; the engine defines and starts it.

use super::calls::{Act, Call, Fault};
use super::rpc::code;
use crate::config::load::Outcome;
use crate::config::names;
use crate::config::set::{self, File};
use crate::config::templates::Instance;
use crate::engine::{Command, Defined, NewInstance};
use crate::id::ServiceId;

/// Who is to be started.
pub enum Whom {
    Known(ServiceId),
    New(Box<NewInstance>),
}

impl Call<'_> {
    /// The service, or what it is to be made of.
    pub(super) fn service_or_instance(&self) -> Result<Whom, Fault> {
        let name = self.values.text("name").unwrap_or_default();
        let template = self.house.templates().file_of(name);
        match (self.house.find(name), template) {
            (None, Some(file)) => self.new_instance(name, file).map(Whom::New),
            (Some(_), _) | (None, None) => self.find(name).map(Whom::Known),
        }
    }

    fn new_instance(&self, name: &str, file: &str) -> Result<Box<NewInstance>, Fault> {
        let fault = |code, message| Fault { code, message };
        names::check(name).map_err(|words| fault(code::BAD_PARAMS, words))?;
        let known = |name: &str| File {
            name: name.into(),
            file: "".into(),
            outcome: Outcome::default(),
        };
        let services = self.house.services().into_iter();
        let mut files: Vec<File> = services.map(|id| known(self.house.name(id))).collect();
        let asked = Instance {
            name: name.into(),
            wanted: true,
        };
        let there = files.len();
        self.house.templates().complete_by(&mut files, asked);
        let new: Vec<Box<str>> = files[there..].iter().map(|f| f.name.clone()).collect();
        let mut made = Vec::new();
        for entry in set::join(files).entries {
            if !new.contains(&entry.name) {
                continue;
            }
            match entry.definition {
                Ok(definition) => made.push(Defined {
                    name: entry.name,
                    source: entry.file,
                    definition,
                }),
                Err(words) => {
                    let words = format!(
                        "{name} cannot be made of {file}: {} cannot be used\n{words}",
                        match *entry.name == *name {
                            true => "it",
                            false => &*entry.name,
                        }
                    );
                    return Err(fault(code::CONFIG, words));
                }
            }
        }
        if made.is_empty() {
            let words = format!("{name} cannot be made of {file}: there are too many services");
            return Err(fault(code::TOO_MANY, words));
        }
        Ok(Box::new(NewInstance {
            name: name.into(),
            files: made,
            once: false,
            with_requires: false,
            pin: false,
        }))
    }
}

pub fn start(call: &Call<'_>) -> Result<Act, Fault> {
    let with_requires = call.values.flag("with_requires");
    let pin = call.values.flag("pin");
    call.command(match call.service_or_instance()? {
        Whom::Known(service) if pin => Command::StartPinned {
            service,
            with_requires,
        },
        Whom::Known(service) => Command::Start {
            service,
            with_requires,
        },
        Whom::New(new) => Command::Instance(Box::new(NewInstance {
            with_requires,
            pin,
            ..*new
        })),
    })
}

pub fn once(call: &Call<'_>) -> Result<Act, Fault> {
    call.command(match call.service_or_instance()? {
        Whom::Known(service) => Command::Once { service },
        Whom::New(new) => Command::Instance(Box::new(NewInstance { once: true, ..*new })),
    })
}

pub fn restart(call: &Call<'_>) -> Result<Act, Fault> {
    call.command(match call.service_or_instance()? {
        Whom::Known(service) => Command::Restart { service },
        Whom::New(new) => Command::Instance(new),
    })
}
