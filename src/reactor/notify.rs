//! Services heard: notify sockets, notification descriptors, and what is kept for them.
//!
//! Whose word counts: the run's main process, or, with `notify_access = "tree"`, whoever is in its
//! session or descends from it. What others say is dropped, counted, and told once for each run.
//! The environment of a sender, which would tell more, is not read: that can wait for a lock that
//! a hung process holds.
//!
//! Invariants: all that was sent before a turn is read before its timers are judged; what a message
//! brings is told in the order in which it was sent; a barrier's descriptor closes only when all
//! before it was handled; a main process is changed only for one of the run's own.

use super::runs::Process;
use super::voice::{Datagram, Stored, Voice, receive};
use super::*;
use crate::config::{NotifyAccess, Ready};
use crate::engine::SpawnError;
use crate::journal::Fault;
use crate::reactor::known::Heard;
use crate::reactor::procfs;
use crate::service::notify::{self, Message, Notice};
use std::collections::btree_map::Entry;

/// Generations of parents looked at.
const GENERATIONS: usize = 64;

/// What is known in one turn of those who send: looked up once each.
#[derive(Default)]
struct Senders {
    known: BTreeMap<Pid, bool>,
}

impl Reactor {
    fn voice(&mut self, id: ServiceId) -> &mut Voice {
        Self::slot(&mut self.voices, id).get_or_insert_default()
    }

    fn find_voice(&mut self, id: ServiceId) -> Option<&mut Voice> {
        self.voices.get_mut(id.index())?.as_deref_mut()
    }

    // --- opening and closing

    /// What the run of this definition is to speak by. The end of its FIFO, where it has one.
    pub(super) fn open_voice(
        &mut self,
        id: ServiceId,
        name: &str,
        definition: &Definition,
    ) -> Result<Option<OwnedFd>, SpawnError> {
        self.close_fifo(id);
        if let Some(voice) = self.find_voice(id) {
            (voice.dropped, voice.warned) = (0, false);
        }
        self.open_socket(id, name, definition)
            .map_err(|fault| cannot_hear(&fault))?;
        let Ready::Fd(_) = definition.ready() else {
            return Ok(None);
        };
        let (ours, its) = self.voice_dir.new_fifo(name).map_err(|f| cannot_hear(&f))?;
        self.listen_to_fifo(id, ours)
            .map_err(|error| sys::failed("epoll", &error))?;
        Ok(Some(its))
    }

    /// The socket that the definition wants; it is kept over runs.
    fn open_socket(
        &mut self,
        id: ServiceId,
        name: &str,
        definition: &Definition,
    ) -> Result<(), Fault> {
        let wanted = definition.notify_access() != NotifyAccess::None;
        let open = self.find_voice(id).is_some_and(|v| v.socket.is_some());
        if wanted == open {
            return Ok(());
        }
        if !wanted {
            self.close_socket(id);
            return Ok(());
        }
        let fd = self.voice_dir.bind(name)?;
        self.listen_to_socket(id, fd)
            .map_err(|error| Fault::io("watch", &self.voice_dir.socket(name), &error))
    }

    fn listen_to_socket(&mut self, id: ServiceId, fd: OwnedFd) -> io::Result<()> {
        let token = self.sources.insert(Source::Notify(id));
        if let Err(error) = self.register(&fd, token) {
            self.sources.remove(token);
            return Err(error);
        }
        known::heard(self.name(id), |heard| heard.socket = Some(fd.as_raw_fd()));
        self.voice(id).socket = Some((fd, token));
        Ok(())
    }

    fn listen_to_fifo(&mut self, id: ServiceId, fd: OwnedFd) -> io::Result<()> {
        let token = self.sources.insert(Source::Notify(id));
        if let Err(error) = self.register(&fd, token) {
            self.sources.remove(token);
            return Err(error);
        }
        known::heard(self.name(id), |heard| heard.fifo = Some(fd.as_raw_fd()));
        self.voice(id).fifo = Some((fd, token));
        // What was written before we came.
        self.voice_waits(id);
        Ok(())
    }

    fn close_socket(&mut self, id: ServiceId) {
        if let Some((fd, token)) = self.find_voice(id).and_then(|v| v.socket.take()) {
            self.deregister(&fd);
            self.sources.remove(token);
            known::heard(self.name(id), |heard| heard.socket = None);
        }
    }

    fn close_fifo(&mut self, id: ServiceId) {
        if let Some((fd, token)) = self.find_voice(id).and_then(|v| v.fifo.take()) {
            self.deregister(&fd);
            self.sources.remove(token);
            known::heard(self.name(id), |heard| heard.fifo = None);
            self.voice_dir.remove_fifo(self.engine.name(id));
        }
    }

    /// A process that a daemon before us started, or whose definition was broken until now.
    pub(super) fn hear_living(&mut self, id: ServiceId) {
        let name = self.name(id).to_owned();
        let Some(definition) = self.engine.definition(id).cloned() else {
            return;
        };
        if let Err(fault) = self.open_socket(id, &name, &definition) {
            log::error!("{fault}: {name} is not heard until it is restarted");
        }
        let waits = matches!(definition.ready(), Ready::Fd(_)) && self.engine.is_starting(id);
        if !waits || self.find_voice(id).is_some_and(|v| v.fifo.is_some()) {
            return;
        }
        match self.voice_dir.open_fifo(&name) {
            Some(fd) => {
                if let Err(error) = self.listen_to_fifo(id, fd) {
                    log::error!("{name}: cannot hear whether it is ready: {error}");
                }
            }
            None => {
                let run = self.process(id).map(|process| process.run);
                let says = Box::new([Notice::Ready]);
                self.caused
                    .extend(run.map(|run| Event::Notified { run, says }));
            }
        }
    }

    /// Definitions changed: those who live are heard as they are defined now.
    pub(super) fn hear_all_living(&mut self) {
        let living: Vec<ServiceId> = self
            .processes
            .iter()
            .flatten()
            .map(|p| p.run.service)
            .collect();
        for id in living {
            self.hear_living(id);
            self.have_sockets_back(id);
        }
    }

    /// What an execution of this process before us had open.
    pub(super) fn take_in_voices(&mut self) {
        for (name, heard) in std::mem::take(&mut self.heard) {
            let Some(id) = self.engine.find(&name) else {
                continue;
            };
            let sockets = [(heard.socket, true), (heard.fifo, false)];
            for (fd, is_socket) in sockets {
                let Some(fd) = fd.and_then(reexec::claim_copy) else {
                    continue;
                };
                let done = match is_socket {
                    true => self.listen_to_socket(id, fd),
                    false => self.listen_to_fifo(id, fd),
                };
                if let Err(error) = done {
                    log::error!("{name}: cannot hear it any more: {error}");
                }
            }
            for (fd_name, fd, poll) in heard.stored {
                if let Some(fd) = reexec::claim_copy(fd) {
                    let name = fd_name.into();
                    self.store(id, Stored { name, fd, poll });
                }
            }
            self.told_stored(id);
            self.voice_waits(id);
            if !heard.sockets.is_empty() {
                self.take_in_sockets(id, heard.sockets);
            }
        }
    }

    pub(super) fn forget_voice(&mut self, id: ServiceId) {
        self.close_fifo(id);
        self.close_socket(id);
        self.unstore(id);
        if self
            .voices
            .get_mut(id.index())
            .and_then(Option::take)
            .is_some()
        {
            self.voice_dir.remove(self.engine.name(id));
        }
    }

    // --- hearing

    pub(super) fn voice_waits(&mut self, id: ServiceId) {
        if let Some(voice) = self.find_voice(id)
            && !std::mem::replace(&mut voice.queued, true)
        {
            self.speaking.push_back(id);
        }
    }

    pub(super) fn serve_voices(&mut self) {
        for _ in 0..self.speaking.len() {
            let Some(id) = self.speaking.pop_front() else {
                break;
            };
            if let Some(voice) = self.find_voice(id) {
                voice.queued = false;
            }
            self.hear(id);
        }
    }

    /// All that a service has said, up to a turn's share.
    pub(super) fn hear(&mut self, id: ServiceId) {
        let mut says = Vec::new();
        self.read_fifo(id, &mut says);
        self.read_socket(id, &mut says);
        let run = self.process(id).map(|process| process.run);
        if let (Some(run), false) = (run, says.is_empty()) {
            let says = says.into();
            self.caused.push_back(Event::Notified { run, says });
        }
    }

    fn read_fifo(&mut self, id: ServiceId, says: &mut Vec<Notice>) {
        let mut buffer = [0; 4096];
        // A whole pipe of anything but a newline.
        for _ in 0..32 {
            let Some((fd, _)) = self.find_voice(id).and_then(|v| v.fifo.as_ref()) else {
                return;
            };
            match sys::read_ready(fd, &mut buffer) {
                Ok(Some(length)) if buffer[..length].contains(&b'\n') => {
                    says.push(Notice::Ready);
                    self.close_fifo(id);
                }
                Ok(Some(1..)) => {}
                Ok(Some(0) | None) | Err(_) => return,
            }
        }
        self.voice_waits(id);
    }

    fn read_socket(&mut self, id: ServiceId, says: &mut Vec<Notice>) {
        let mut senders = Senders::default();
        if self.find_voice(id).is_none_or(|v| v.socket.is_none()) {
            return;
        }
        let mut buffer = Voice::buffer();
        for _ in 0..limits::NOTIFY_PER_TURN {
            if self.barriers.len() >= limits::BARRIERS_PER_TURN {
                break;
            }
            let Some((fd, _)) = self.find_voice(id).and_then(|v| v.socket.as_ref()) else {
                return;
            };
            match receive(fd.as_fd(), &mut buffer) {
                Ok(None) => return,
                Ok(Some(datagram)) => {
                    let bytes = &buffer[..datagram.length];
                    self.heard(id, bytes, datagram, &mut senders, says);
                }
                Err(error) => {
                    self.drops(id, &format!("cannot be read: {error}"));
                    return;
                }
            }
        }
        self.voice_waits(id);
    }

    fn heard(
        &mut self,
        id: ServiceId,
        bytes: &[u8],
        mut datagram: Datagram,
        senders: &mut Senders,
        says: &mut Vec<Notice>,
    ) {
        let Some(sender) = datagram.sender else {
            return self.drops(id, "comes from nobody in this pid namespace");
        };
        if !self.may_speak(id, sender, senders) {
            return self.drops_stranger(id, sender);
        }
        if datagram.truncated {
            let words = format!("is longer than {} bytes", limits::NOTIFY_BYTES);
            return self.drops(id, &words);
        }
        let message = notify::parse(bytes);
        if message.bad > 0 {
            self.drops(id, "has a value that cannot be used");
        }
        if datagram.fds_lost {
            self.drops(id, "has more descriptors than can be taken in");
        }
        if let Some(main) = message.main {
            says.extend(self.change_main(id, main));
        }
        if message.store {
            self.store_all(id, &message, std::mem::take(&mut datagram.fds));
        }
        if message.remove {
            self.unstore_named(id, message.name.as_deref());
        }
        if message.barrier {
            // Open until all before it was handled; one, as the protocol has it.
            self.barriers.extend(datagram.fds.drain(..).next());
        }
        says.extend(message.notices);
    }

    fn drops_stranger(&mut self, id: ServiceId, sender: Pid) {
        if self.find_voice(id).is_some_and(|voice| voice.warned) {
            return self.drops(id, "comes from a stranger, again");
        }
        let who = std::fs::read_to_string(format!("/proc/{sender}/comm"));
        let who = match who {
            // It may call itself anything.
            Ok(name) => {
                let name: String = name.chars().filter(|c| !c.is_control()).collect();
                format!("{name} (pid {sender})")
            }
            Err(_) => format!("pid {sender}, which is gone"),
        };
        let words = format!("comes from {who}, no process whose word counts (`notify_access`)");
        self.drops(id, &words);
    }

    /// A message, or a part of it, that does not count.
    fn drops(&mut self, id: ServiceId, why: &str) {
        let voice = self.voice(id);
        voice.dropped += 1;
        let first = !std::mem::replace(&mut voice.warned, true);
        let name = self.name(id);
        match first {
            true => log::warn!(
                "{name}: a message on its notify socket {why}; more of this run are not told, but \
                 counted"
            ),
            false => log::debug!("{name}: a message on its notify socket {why}"),
        }
    }

    /// How many were dropped, when the run is over.
    pub(super) fn tell_dropped(&mut self, id: ServiceId) {
        let dropped = self
            .find_voice(id)
            .map_or(0, |v| std::mem::take(&mut v.dropped));
        if dropped > 1 {
            let name = self.name(id);
            log::warn!("{name}: {dropped} messages on its notify socket were dropped");
        }
    }

    // --- whose word counts

    fn may_speak(&self, id: ServiceId, sender: Pid, senders: &mut Senders) -> bool {
        let Some(process) = self.process(id) else {
            return false;
        };
        if sender == process.pid {
            return true;
        }
        let access = self.engine.definition(id).map(|d| d.notify_access());
        if access != Some(NotifyAccess::Tree) {
            return false;
        }
        let full = senders.known.len() >= limits::NOTIFY_LOOKUPS;
        match senders.known.entry(sender) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(_) if full => false,
            Entry::Vacant(new) => *new.insert(self.is_of(process, sender)),
        }
    }

    /// Of the run: in its session, or a descendant of its main process.
    fn is_of(&self, process: &Process, pid: Pid) -> bool {
        let own = Pid(std::process::id() as i32);
        let begun = self.engine.started(process.run).unwrap_or(u64::MAX);
        let mut at = pid;
        for _ in 0..GENERATIONS {
            if at.0 <= 1 || at == own {
                return false;
            }
            if at == process.pid || at == process.leader {
                return true;
            }
            let Ok(stat) = procfs::proc_stat(at) else {
                return false;
            };
            if stat.started < begun {
                return false;
            }
            if stat.session == process.leader {
                return true;
            }
            at = stat.parent;
        }
        false
    }

    /// `MAINPID=`: the run is watched by another of its processes from now on.
    fn change_main(&mut self, id: ServiceId, pid: Pid) -> Option<Notice> {
        let process = self.process(id)?;
        if process.pid == pid {
            return None;
        }
        let started = procfs::start_time(pid).filter(|_| self.is_of(process, pid));
        // The number could have changed hands until here, not from here on.
        let pidfd = started.and_then(|started| child::adopt(pid, started, false));
        let (Some(started), Some(pidfd)) = (started, pidfd) else {
            self.drops(
                id,
                &format!("names {pid} as main process, which is none of the service's"),
            );
            return None;
        };
        let token = self.sources.insert(Source::Process(id));
        if let Err(error) = self.register(&pidfd, token) {
            self.sources.remove(token);
            self.drops(
                id,
                &format!("names a main process that cannot be watched: {error}"),
            );
            return None;
        }
        log::info!("{}: its main process is {pid} now", self.name(id));
        self.children.insert(pid, Child::Service);
        self.replace_main(id, pid, pidfd, token);
        // It may have ended before it was watched.
        self.recheck.push(id);
        Some(Notice::Main { pid, started })
    }

    // --- what is kept

    fn store_all(&mut self, id: ServiceId, message: &Message, fds: Vec<OwnedFd>) {
        let definition = self.engine.definition(id);
        let max = usize::from(definition.map_or(0, |d| d.fd_store_max()));
        let name = message.name.as_deref().unwrap_or(notify::STORED);
        for fd in fds {
            let voice = self.voice(id);
            if voice.stored.iter().any(|stored| stored.is(&fd)) {
                continue;
            }
            if voice.stored.len() >= max {
                self.drops(
                    id,
                    &format!("has a descriptor too many: fd_store_max is {max}"),
                );
                continue;
            }
            let (name, poll) = (name.into(), message.poll);
            self.store(id, Stored { name, fd, poll });
        }
        self.told_stored(id);
    }

    fn store(&mut self, id: ServiceId, mut stored: Stored) {
        if stored.poll {
            let token = match self.voice(id).stored_token {
                Some(token) => token,
                None => {
                    let token = self.sources.insert(Source::Stored(id));
                    self.voice(id).stored_token = Some(token);
                    token
                }
            };
            // Not by mio, which would also wake us for each byte that others are to read. A file
            // that cannot be polled never hangs up.
            stored.poll = sys::watch_hang_up(&self.poll, &stored.fd, token).is_ok();
        }
        self.voice(id).stored.push(stored);
    }

    /// Of one or more of those that are kept the other side has hung up.
    pub(super) fn stored_ready(&mut self, id: ServiceId) {
        self.drop_stored(id, |stored| stored.poll && stored.has_hung_up());
    }

    fn unstore_named(&mut self, id: ServiceId, name: Option<&str>) {
        match name {
            Some(name) => self.drop_stored(id, |stored| &*stored.name == name),
            None => self.drops(id, "says FDSTOREREMOVE=1 without FDNAME="),
        }
    }

    pub(super) fn unstore(&mut self, id: ServiceId) {
        self.drop_stored(id, |_| true);
    }

    fn drop_stored(&mut self, id: ServiceId, is_dropped: impl Fn(&Stored) -> bool) {
        let Some(voice) = self.find_voice(id) else {
            return;
        };
        let all = std::mem::take(&mut voice.stored);
        let before = all.len();
        let (dropped, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(is_dropped);
        voice.stored = kept;
        if dropped.is_empty() && before > 0 {
            return;
        }
        for stored in dropped.iter().filter(|stored| stored.poll) {
            self.deregister(&stored.fd);
        }
        drop(dropped);
        if before > 0 {
            self.told_stored(id);
        }
    }

    /// To the engine, which shows it, and to whom goes on after us.
    fn told_stored(&mut self, id: ServiceId) {
        let Some(voice) = self.voices.get(id.index()).and_then(Option::as_deref) else {
            return;
        };
        let list: Vec<_> = voice
            .stored
            .iter()
            .map(|stored| (stored.name.to_string(), stored.fd.as_raw_fd(), stored.poll))
            .collect();
        let held = list.len() as u16;
        known::heard(self.engine.name(id), |heard: &mut Heard| {
            heard.stored = list
        });
        self.caused.push_back(Event::Stored { service: id, held });
    }
}

/// The runtime directory is full, read-only, gone or too long: not the service's doing.
fn cannot_hear(fault: &Fault) -> SpawnError {
    SpawnError {
        step: fault.doing.clone(),
        errno: fault.errno,
        ours: fault.errno != libc::ENAMETOOLONG,
    }
}
