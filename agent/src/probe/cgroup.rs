//! The root of cgroups version 2, to which programs are attached that see all sockets.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};

/// It, wherever it is mounted.
///
/// # Errors
/// Where it is not, as in a container with cgroups of its own, or may not be opened.
pub fn root() -> Result<File> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let mut mounted = places(&mounts).peekable();
    mounted
        .peek()
        .context("cgroups version 2 are not mounted")?;
    let place = mounted
        .find(|place| is_root(Path::new(place)))
        .context("the root of cgroups version 2 is not mounted here, only a part of them")?;
    File::open(place).with_context(|| format!("open {place}"))
}

/// Where they are, of lines as in fstab(5).
fn places(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "cgroup2").then_some(place)
    })
}

/// All but the root have a type (Documentation/admin-guide/cgroup-v2.rst).
fn is_root(place: &Path) -> bool {
    place.join("cgroup.procs").exists() && !place.join("cgroup.type").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_found_by_their_type() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      cgroup2 /run/part cgroup2 rw 0 0\n";
        let found: Vec<&str> = places(mounts).collect();
        assert_eq!(found, ["/sys/fs/cgroup/unified", "/run/part"]);
        assert_eq!(places("proc /proc proc rw 0 0\n\n").count(), 0);
    }

    #[test]
    fn a_part_of_them_is_not_the_root() {
        let folder = std::env::temp_dir().join(format!("spantap-cgroup-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let mut seen = vec![is_root(&folder)];
        for file in ["cgroup.procs", "cgroup.type"] {
            fs::write(folder.join(file), "").expect("a file");
            seen.push(is_root(&folder));
        }
        fs::remove_dir_all(&folder).expect("it goes");
        assert_eq!(seen, [false, true, false]);
    }
}
