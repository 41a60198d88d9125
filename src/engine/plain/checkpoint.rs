//! All that the engine is at one moment between two events, written down and taken up again.
//!
//! For recordings: a file of one begins with it. Not for the daemon's own return, which must read
//! what another version wrote (`restore`).
//!
//! Definitions, and the texts of those that were given, stand apart, so that whoever writes them
//! can take secrets out. What
//! follows from them (names, the graph, who is held back) is made anew.
//!
//! Invariant: the engine that is taken up leads, for all events, to the effects to which the one
//! that was written down leads.

use super::*;
use crate::config::Definition;
use crate::engine::Engine;
use crate::engine::boot::fallback_definition;
use crate::engine::snapshot::ReloadRecord;
use crate::graph::Graph;

/// By service: which definition is in force, and which its run was started with.
type Uses = Vec<(Option<u32>, Option<u32>)>;

/// What may be written of that which may hold secrets.
pub trait Veil {
    fn definition(&self, definition: &Definition) -> Definition;
    /// The whole text of a definition.
    fn text(&self, text: &str) -> Box<str>;
}

/// Writes an engine.
pub fn put_checkpoint(engine: &Engine, veil: &dyn Veil, out: &mut Vec<u8>) {
    let mut definitions: Vec<Definition> = Vec::new();
    let mut known: BTreeMap<*const Definition, u32> = BTreeMap::new();
    let mut number = |definition: &Rc<Definition>| {
        *known.entry(Rc::as_ptr(definition)).or_insert_with(|| {
            definitions.push(veil.definition(definition));
            definitions.len() as u32 - 1
        })
    };
    let services = engine.services.iter();
    let uses: Uses = services
        .map(|service| {
            let own = service.definition.as_ref().map(&mut number);
            let run = service.run.as_ref().map(|run| number(&run.definition));
            (own, run)
        })
        .collect();
    out.push(b'{');
    key(out, "definitions");
    definitions.put(out);
    key(out, "uses");
    uses.put(out);
    key(out, "given");
    let texts = engine.services.iter().map(|s| s.given.as_deref());
    let texts: Vec<_> = texts.map(|text| text.map(|t| veil.text(t))).collect();
    texts.put(out);
    if let Some(reload) = &engine.reload {
        key(out, "reload");
        veiled(reload, veil).put(out);
    }
    key(out, "engine");
    engine.put(out);
    out.push(b'}');
}

/// A reload as it may be written.
pub fn veiled(reload: &ReloadRecord, veil: &dyn Veil) -> ReloadRecord {
    let mut reload = reload.clone();
    for before in &mut reload.before {
        let definition = before.definition.as_deref();
        before.definition = definition.map(|d| Rc::new(veil.definition(d)));
    }
    if let Some(settings) = &mut reload.settings {
        settings.text = veil.text(&settings.text);
    }
    reload
}

/// A checkpoint, read back.
pub struct Kept {
    definitions: Vec<Rc<Definition>>,
    uses: Uses,
    given: Vec<Option<Box<str>>>,
    reload: Option<Rc<ReloadRecord>>,
    engine: Engine,
}

impl Take for Kept {
    fn take(json: &[u8]) -> Taken<Kept> {
        let fields = Fields::of(json)?;
        Ok(Kept {
            definitions: fields.get("definitions")?,
            uses: fields.get("uses")?,
            given: fields.get("given")?,
            reload: fields.get("reload")?,
            engine: fields.get("engine")?,
        })
    }
}

impl Kept {
    pub fn engine(self) -> Engine {
        let Kept {
            definitions,
            uses,
            given,
            reload,
            mut engine,
        } = self;
        engine.reload = reload;
        let find = |number: Option<u32>| definitions.get(number? as usize).cloned();
        for (service, (own, run)) in engine.services.iter_mut().zip(uses) {
            service.definition = find(own);
            if let (Some(present), Some(definition)) = (service.run.as_mut(), find(run)) {
                present.definition = definition;
            }
        }
        for (service, text) in engine.services.iter_mut().zip(given) {
            service.given = text;
        }
        for id in engine.ids() {
            let name = engine.service(id).name.clone();
            engine.names.insert(name, id);
            if let Some(place) = engine.service(id).place {
                engine.storm.queue.insert(place, id);
            }
        }
        engine.relink();
        engine
    }
}

/// Stands in until [`Kept::engine`] puts the right one there.
pub(super) fn no_definition() -> Rc<Definition> {
    Rc::new(fallback_definition())
}

pub(super) fn no_graph() -> Graph {
    Graph::new(0, [])
}
