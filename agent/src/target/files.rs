//! Reads of files that somebody else controls. A path is looked up inside the tree it belongs to,
//! as its own processes see it: no link leads out of it. Nothing but a plain file is ever opened,
//! as with a device or a FIFO opening is already an act; and every read is bounded.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

/// Opens a plain file at `path` of the tree below `root`, without waiting. Kernels before 5.6,
/// which cannot look a path up that way, refuse.
pub fn open(root: &Path, path: &str) -> io::Result<File> {
    let place = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, root, place | OFlags::DIRECTORY, Mode::empty())?;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(root, path, place, Mode::empty(), within)?;
    if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a plain file",
        ));
    }
    // The very file that was looked at.
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(openat(CWD, again, flags, Mode::empty())?.into())
}

/// The first `limit` bytes of a plain file.
pub fn read(root: &Path, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(root, path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first `limit` bytes of a plain file as text; what is not UTF-8 is replaced.
pub fn text(root: &Path, path: &str, limit: u64) -> io::Result<String> {
    read(root, path, limit).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The same of a path as the agent itself sees it: only for files of the agent's own host.
pub fn own_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// At most `limit` bytes of `text`, cut between characters.
pub fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::fs::{inotify, mknodat};

    use super::*;

    #[test]
    fn cuts_between_characters() {
        assert_eq!(cut("añb", 2), "a");
        assert_eq!(cut("añb", 3), "añ");
        assert_eq!(cut("añb", 9), "añb");
        assert_eq!(cut("ñ", 0), "");
    }

    #[test]
    fn devices_and_folders_are_refused() {
        let root = Path::new("/");
        assert!(open(root, "/dev/null").is_err());
        assert!(open(root, "/etc").is_err());
        assert!(open(root, "/proc/self/exe").is_err());
        assert!(read(root, "/etc/passwd", 4).is_ok_and(|bytes| bytes.len() == 4));
    }

    #[test]
    fn nothing_but_a_plain_file_is_opened_at_all() {
        let folder = Folder::make();
        let place = folder.0.join("passwd");
        mknodat(CWD, &place, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, &place, inotify::WatchFlags::OPEN).unwrap();
        assert!(open(&folder.0, "passwd").is_err());
        let told = File::from(watch).read(&mut [0; 256]);
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn links_stay_in_the_tree() {
        let folder = Folder::make();
        fs::create_dir(folder.0.join("etc")).unwrap();
        fs::write(folder.0.join("etc/passwd"), "inner").unwrap();
        for (link, to) in [("abs", "/etc"), ("up", "../../../../../../etc")] {
            symlink(to, folder.0.join(link)).unwrap();
            let text = text(&folder.0, &format!("/{link}/passwd"), 100);
            assert_eq!(text.unwrap(), "inner", "{link}");
        }
        symlink("/proc/self/exe", folder.0.join("exe")).unwrap();
        assert!(open(&folder.0, "exe").is_err());
    }

    struct Folder(PathBuf);

    impl Folder {
        fn make() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("spantap-files-{}-{n}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
