//! Users and groups, read from /etc/passwd and /etc/group by ourselves.
//!
//! Not the C library's look-up: in a static binary that loads the host's shared libraries, and a
//! name service may hang (PID 1 with it). Names that only a name service knows are unknown here;
//! numbers always work, also where there is no /etc.
//!
//! Looked at anew at each spawn, so that a changed file needs no reload; a file of usual size is
//! kept, and read again only when its number, size or times differ. Invariant: a user's number never comes with group 0 or with our
//! own supplementary groups by default.

use crate::engine::event::SpawnError;
use crate::reactor::sys;
use std::cell::RefCell;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// A longer line is cut: its first fields still count, the last group members do not.
const MAX_LINE: u64 = 64 * 1024;
/// A larger file is read line by line each time and not kept.
const MAX_KEPT: u64 = 8 * 1024;
/// A file that was changed more recently is not kept: it may change again within the same tick of
/// its file system's clock.
const SETTLED: Duration = Duration::from_secs(2);

/// As whom a process runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// All supplementary groups, `gid` among them. None: leave what the daemon has.
    pub groups: Option<Vec<u32>>,
    /// Nothing was asked for: no call is made, the process is what the daemon is.
    pub unchanged: bool,
    /// USER, HOME and SHELL.
    pub name: String,
    pub home: String,
    pub shell: String,
}

/// The users and groups of this host.
pub struct Accounts {
    passwd: Table,
    group: Table,
}

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts::of(PASSWD.into(), GROUP.into())
    }
}

impl Accounts {
    fn of(passwd: PathBuf, group: PathBuf) -> Accounts {
        Accounts {
            passwd: Table::of(passwd),
            group: Table::of(group),
        }
    }

    /// Finds what a definition asks for. `user` and `group` are names or numbers; a user brings its
    /// login group and, unless `groups` says otherwise, those in which /etc/group lists it.
    pub fn resolve(
        &self,
        user: Option<&str>,
        group: Option<&str>,
        groups: Option<&[Box<str>]>,
    ) -> Result<Identity, SpawnError> {
        let own = (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        );
        let entry = match user {
            Some(user) => find_user(&self.passwd, user)?,
            None => user_by_number(&self.passwd, own)?,
        };
        let gid = match group {
            Some(group) => find_group(&self.group, group)?,
            None if user.is_some() => entry.gid,
            None => own.1,
        };
        // A process without privileges cannot set groups, and need not when it stays who it is.
        let same = entry.uid == own.0 && gid == own.1 && own.0 != 0;
        let groups = match groups {
            Some(names) => Some(named_groups(&self.group, gid, names)?),
            None if same || (user.is_none() && group.is_none()) => None,
            None if user.is_some() => Some(member_groups(&self.group, gid, &entry.name)?),
            None => Some(vec![gid]),
        };
        Ok(Identity {
            unchanged: user.is_none() && group.is_none() && groups.is_none(),
            uid: entry.uid,
            gid,
            groups,
            name: entry.name,
            home: entry.home,
            shell: entry.shell,
        })
    }
}

/// One of the two files.
struct Table {
    path: PathBuf,
    kept: RefCell<Option<Kept>>,
}

struct Kept {
    of: Stamp,
    text: Box<str>,
}

/// What tells a file from what it was: device, number, size, times of change in nanoseconds. A
/// rename over it changes the number, a write in place the times.
type Stamp = (u64, u64, u64, [i64; 4]);

fn stamp(meta: &Metadata) -> Stamp {
    let times = [
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ];
    (meta.dev(), meta.ino(), meta.size(), times)
}

impl Table {
    fn of(path: PathBuf) -> Table {
        Table {
            path,
            kept: RefCell::new(None),
        }
    }

    /// Shows each line to `each` until it says false. A missing file has no lines.
    fn scan(&self, each: &mut dyn FnMut(&str) -> bool) -> io::Result<()> {
        let now = match fs::metadata(&self.path) {
            Ok(meta) => stamp(&meta),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        if let Some(kept) = self.kept.borrow().as_ref().filter(|kept| kept.of == now) {
            return scan_lines(&mut kept.text.as_bytes(), each);
        }
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let meta = file.metadata()?;
        if meta.size() > MAX_KEPT {
            self.kept.replace(None);
            return scan_lines(&mut BufReader::with_capacity(4096, file), each);
        }
        let mut bytes = Vec::with_capacity(meta.size() as usize + 1);
        file.read_to_end(&mut bytes)?;
        let text: Box<str> = String::from_utf8_lossy(&bytes).into();
        let scanned = scan_lines(&mut text.as_bytes(), each);
        let of = stamp(&meta);
        let age = SystemTime::now().duration_since(meta.modified()?);
        let settled = age.is_ok_and(|age| age > SETTLED) && text.len() as u64 == meta.size();
        self.kept.replace(settled.then_some(Kept { of, text }));
        scanned
    }
}

struct User {
    uid: u32,
    gid: u32,
    name: String,
    home: String,
    shell: String,
}

impl User {
    /// Of a number that /etc/passwd does not know. Its group is the same number: never 0 unless
    /// asked for.
    fn nameless(uid: u32, gid: u32) -> User {
        User {
            uid,
            gid,
            name: if uid == 0 {
                "root".into()
            } else {
                uid.to_string()
            },
            home: "/".into(),
            shell: "/bin/sh".into(),
        }
    }

    /// `name:password:uid:gid:comment:home:shell` (passwd(5)).
    fn parse(line: &str) -> Option<User> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).filter(|home| !home.is_empty());
        let shell = fields.next().filter(|shell| !shell.is_empty());
        Some(User {
            uid,
            gid,
            name: name.into(),
            home: home.unwrap_or("/").into(),
            shell: shell.unwrap_or("/bin/sh").into(),
        })
    }
}

fn find_user(passwd: &Table, user: &str) -> Result<User, SpawnError> {
    let mut found = None;
    let number: Option<u32> = user.parse().ok();
    let mut by_number = None;
    passwd
        .scan(&mut |line| {
            if line.split(':').next() == Some(user) {
                found = User::parse(line);
            } else if number.is_some() && by_number.is_none() {
                by_number = User::parse(line).filter(|entry| Some(entry.uid) == number);
            }
            found.is_none()
        })
        .map_err(|e| {
            sys::failed(
                format!("user {user}, reading {}", passwd.path.display()),
                &e,
            )
        })?;
    match (found.or(by_number), number) {
        (Some(entry), _) => Ok(entry),
        (None, Some(number)) => Ok(User::nameless(number, number)),
        (None, None) => Err(unknown("user", user, passwd)),
    }
}

/// Who we are ourselves; a file that cannot be read is no reason not to start.
fn user_by_number(passwd: &Table, own: (u32, u32)) -> Result<User, SpawnError> {
    let mut found = None;
    let _ = passwd.scan(&mut |line| {
        found = User::parse(line).filter(|entry| entry.uid == own.0);
        found.is_none()
    });
    Ok(found.unwrap_or_else(|| User::nameless(own.0, own.1)))
}

/// `name:password:gid:member,member` (group(5)): name, number, members.
fn parse_group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or("")))
}

fn find_group(file: &Table, group: &str) -> Result<u32, SpawnError> {
    let mut found = None;
    file.scan(&mut |line| {
        found = parse_group(line)
            .filter(|(name, ..)| *name == group)
            .map(|(_, gid, _)| gid);
        found.is_none()
    })
    .map_err(|e| {
        sys::failed(
            format!("group {group}, reading {}", file.path.display()),
            &e,
        )
    })?;
    found
        .or_else(|| group.parse().ok())
        .ok_or_else(|| unknown("group", group, file))
}

fn named_groups(file: &Table, gid: u32, names: &[Box<str>]) -> Result<Vec<u32>, SpawnError> {
    let mut all = vec![gid];
    for name in names {
        push_new(&mut all, find_group(file, name)?);
    }
    Ok(all)
}

/// The groups in which `user` is listed, as initgroups(3) gives them.
fn member_groups(file: &Table, gid: u32, user: &str) -> Result<Vec<u32>, SpawnError> {
    let mut all = vec![gid];
    file.scan(&mut |line| {
        if let Some((_, gid, members)) = parse_group(line)
            && members.split(',').any(|member| member == user)
        {
            push_new(&mut all, gid);
        }
        true
    })
    .map_err(|e| {
        sys::failed(
            format!("groups of {user}, reading {}", file.path.display()),
            &e,
        )
    })?;
    Ok(all)
}

fn push_new(all: &mut Vec<u32>, gid: u32) {
    if !all.contains(&gid) {
        all.push(gid);
    }
}

/// No system call failed, so there is no errno: the step says it all.
fn unknown(what: &str, name: &str, file: &Table) -> SpawnError {
    SpawnError {
        step: format!(
            "{what} {name}: not in {}; add it there or write its number",
            file.path.display()
        )
        .into(),
        errno: 0,
        ours: false,
    }
}

fn scan_lines(reader: &mut dyn BufRead, each: &mut dyn FnMut(&str) -> bool) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // A name service's entries (+, -) and comments are no users of ours. A cut line's rest
        // has no three numeric fields.
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        if !text.starts_with(['#', '+', '-']) && !each(text) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Etc(PathBuf);

    impl Etc {
        fn new(name: &str) -> Etc {
            let dir = std::env::temp_dir().join(format!("vitald-id-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let passwd = "#c:x:5:5::/:/\n+nis::9:9::/:\nroot:x:0:0:root:/root:/bin/bash\n\
                          www:x:33:34:Web, server:/srv/web:\n4711:x:50:51::/home/n:/bin/false\n\
                          broken:x:abc\n";
            let group = "root:x:0:\nweb:x:34:\nssl:x:60:db,www\nlog:x:61:www\nnear:x:62:wwwx,xwww\n\
                         db:x:63:db\n";
            std::fs::write(dir.join("passwd"), passwd).unwrap();
            std::fs::write(dir.join("group"), group).unwrap();
            Etc(dir)
        }
        fn resolve(
            &self,
            user: Option<&str>,
            group: Option<&str>,
            groups: Option<&[&str]>,
        ) -> Result<Identity, SpawnError> {
            let groups: Option<Vec<Box<str>>> =
                groups.map(|groups| groups.iter().map(|group| (*group).into()).collect());
            let accounts = Accounts::of(self.0.join("passwd"), self.0.join("group"));
            accounts.resolve(user, group, groups.as_deref())
        }
    }

    impl Drop for Etc {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_user_brings_its_login_group_and_those_that_list_it() {
        let etc = Etc::new("user");
        let www = etc.resolve(Some("www"), None, None).unwrap();
        assert_eq!((www.uid, www.gid), (33, 34));
        assert_eq!(www.groups, Some(vec![34, 60, 61]));
        assert_eq!((&*www.home, &*www.shell), ("/srv/web", "/bin/sh"));
        // The same by its number.
        assert_eq!(etc.resolve(Some("33"), None, None).unwrap(), www);
    }

    /// Kept or not, what is told is what the file says now.
    #[test]
    fn a_changed_file_is_noticed_at_once() {
        let etc = Etc::new("changed");
        let path = etc.0.join("passwd");
        let accounts = Accounts::of(path.clone(), etc.0.join("group"));
        let home = || accounts.resolve(Some("www"), None, None).unwrap().home;
        let kept = || accounts.passwd.kept.borrow().is_some();
        assert_eq!((&*home(), kept()), ("/srv/web", false));
        let age = |past: u64| {
            let then = SystemTime::now() - Duration::from_secs(past);
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(then)
                .unwrap();
        };
        age(3600);
        assert_eq!((&*home(), kept()), ("/srv/web", true));
        // In place, of the same size, with the same time of modification, as a restore makes it.
        let (text, modified) = (
            fs::read_to_string(&path).unwrap(),
            fs::metadata(&path).unwrap().modified().unwrap(),
        );
        fs::write(&path, text.replace("/srv/web", "/opt/web")).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        assert_eq!((&*home(), kept()), ("/opt/web", true));
        // Another file in its place.
        fs::write(etc.0.join("new"), text.replace("/srv/web", "/usr/web")).unwrap();
        fs::rename(etc.0.join("new"), &path).unwrap();
        assert_eq!(home(), "/usr/web");
        // Too large to be kept.
        let large = text.clone() + &"#\n".repeat(MAX_KEPT as usize);
        fs::write(&path, large).unwrap();
        age(3600);
        assert_eq!((&*home(), kept()), ("/srv/web", false));
        fs::remove_file(&path).unwrap();
        assert!(accounts.resolve(Some("www"), None, None).is_err());
    }

    #[test]
    fn a_name_of_digits_is_a_name_first() {
        let etc = Etc::new("digits");
        assert_eq!(etc.resolve(Some("4711"), None, None).unwrap().uid, 50);
    }

    #[test]
    fn group_and_groups_override_what_the_user_brings() {
        let etc = Etc::new("groups");
        let id = etc
            .resolve(Some("www"), Some("db"), Some(&["log", "7"]))
            .unwrap();
        assert_eq!((id.gid, id.groups), (63, Some(vec![63, 61, 7])));
        assert_eq!(
            etc.resolve(Some("www"), Some("db"), Some(&[]))
                .unwrap()
                .groups,
            Some(vec![63])
        );
    }

    #[test]
    fn a_group_alone_does_not_leave_our_own_groups_to_the_process() {
        let etc = Etc::new("alone");
        let id = etc.resolve(None, Some("web"), None).unwrap();
        assert_eq!(
            (id.gid, id.groups, id.unchanged),
            (34, Some(vec![34]), false)
        );
        assert_eq!(id.uid, nix::unistd::geteuid().as_raw());
    }

    #[test]
    fn a_number_nobody_knows_works_and_is_not_group_0() {
        let etc = Etc::new("number");
        let id = etc.resolve(Some("12345"), None, None).unwrap();
        assert_eq!(
            (id.uid, id.gid, id.groups),
            (12345, 12345, Some(vec![12345]))
        );
        assert_eq!((&*id.name, &*id.home), ("12345", "/"));
    }

    #[test]
    fn numbers_work_where_there_are_no_files() {
        let nowhere = Accounts::of("/nonexistent/passwd".into(), "/nonexistent/group".into());
        let id = nowhere.resolve(Some("5"), Some("6"), None).unwrap();
        assert_eq!((id.uid, id.gid, id.groups), (5, 6, Some(vec![6])));
        assert!(nowhere.resolve(Some("www"), None, None).is_err());
        let own = nowhere.resolve(None, None, None).unwrap();
        assert!(own.unchanged && own.uid == nix::unistd::geteuid().as_raw());
    }

    #[test]
    fn what_is_unknown_is_named_and_is_not_our_trouble() {
        let etc = Etc::new("unknown");
        for (user, group, groups, word) in [
            (Some("nobody2"), None, None, "user nobody2: not in "),
            (Some("broken"), None, None, "user broken: not in "),
            (None, Some("staff2"), None, "group staff2: not in "),
            (
                Some("www"),
                None,
                Some(&["audio2"][..]),
                "group audio2: not in ",
            ),
        ] {
            let error = etc.resolve(user, group, groups).unwrap_err();
            assert!(error.step.starts_with(word), "{error:?}");
            assert!(!error.ours);
        }
    }
}
