//! The names of users. A container's are those of its own passwd file.

use std::path::{Path, PathBuf};

use super::cache::Cache;
use super::files;
use super::process::{Snapshot, inode};

/// Names users; keeps what it found.
#[derive(Debug)]
pub struct Users {
    proc: PathBuf,
    names: Cache<(u64, u32), Box<str>>,
    own_mount: u64,
}

impl Users {
    /// Of processes of the procfs mounted at `proc`.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        let proc = proc.into();
        let own_mount = inode(&proc.join("self/ns/mnt"));
        Self {
            proc,
            names: Cache::new(MAX_USERS),
            own_mount,
        }
    }

    /// Name of a process's user, where a passwd file knows it, else the number.
    pub fn of(&mut self, process: &Snapshot) -> Option<Box<str>> {
        let uid = process.uid?;
        let mount = process.namespaces.mount;
        if let Some(name) = self.names.get(&(mount, uid)) {
            return Some(name.clone());
        }
        let own = mount == 0 || mount == self.own_mount;
        let root = process.root(&self.proc);
        let name = (!own)
            .then(|| user(&files::text(&root, "etc/passwd", PASSWD_READ).ok()?, uid))
            .flatten()
            .or_else(|| {
                let passwd = files::own_text(Path::new("/etc/passwd"), PASSWD_READ);
                user(&passwd.ok()?, uid)
            })
            .unwrap_or_else(|| uid.to_string());
        let name: Box<str> = files::cut(&name, NAME_LIMIT).into();
        self.names.insert((mount, uid), name.clone());
        Some(name)
    }
}

fn user(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

const PASSWD_READ: u64 = 1024 * 1024;
const MAX_USERS: usize = 1024;
const NAME_LIMIT: usize = 64;
