//! A procfs tree of a test's own, and real processes that end with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub mod go;

/// A tree that looks like /proc.
pub struct Proc {
    /// Its root.
    pub root: PathBuf,
}

impl Proc {
    /// An empty one.
    pub fn make() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("spantap-proc-{}-{n}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        Self { root }
    }

    /// A process with the files every process has.
    pub fn process(&self, pid: u32, parent: u32, start: u64, exe: &str, argv: &[&[u8]]) {
        let comm = exe.rsplit('/').next().unwrap_or(exe);
        let zeros = "0 ".repeat(17);
        self.put(
            pid,
            "stat",
            format!("{pid} ({comm}) S {parent} {zeros}{start} 0 0\n").as_bytes(),
        );
        let mut line = argv.join(&0u8);
        line.push(0);
        self.put(pid, "cmdline", &line);
        self.put(
            pid,
            "status",
            format!("Name:\t{comm}\nUid:\t0\t0\t0\t0\nNSpid:\t{pid}\t7\n").as_bytes(),
        );
        let link = self.root.join(pid.to_string()).join("exe");
        let _ = fs::remove_file(&link);
        // A kernel thread has none.
        if !exe.is_empty() {
            std::os::unix::fs::symlink(exe, link).unwrap();
        }
    }

    /// One file of a process.
    pub fn put(&self, pid: u32, name: &str, bytes: &[u8]) {
        let path = self.root.join(pid.to_string()).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// The process is gone.
    pub fn remove(&self, pid: u32) {
        fs::remove_dir_all(self.root.join(pid.to_string())).unwrap();
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A real process, ended when dropped.
pub struct Real {
    child: Child,
}

impl Real {
    /// Starts a program, if it is there, waits until `/proc` shows it as itself, and stops it there: what
    /// ends by itself would be gone between two looks at it.
    pub fn start(program: &str, arguments: &[&str], exe_holds: &str) -> Option<Self> {
        let child = Command::new(program)
            .args(arguments)
            .env("OTEL_SERVICE_NAME", "declared")
            .env(
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.version=1%2E2,team=a%20b",
            )
            .env("SECRET_TOKEN", "must-not-be-kept")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let real = Self { child };
        let began = Instant::now();
        let link = Path::new("/proc").join(real.pid().to_string()).join("exe");
        while began.elapsed() < Duration::from_secs(20) {
            let exe = fs::read_link(&link).ok()?;
            // In the middle of exec the executable is there before the environment.
            let environ = fs::read(link.with_file_name("environ")).is_ok_and(|e| !e.is_empty());
            if environ && exe.to_string_lossy().contains(exe_holds) {
                let pid = Pid::from_child(&real.child);
                kill_process(pid, Signal::STOP).ok()?;
                // Gone in the meantime: it has no executable any more.
                return fs::read_link(&link).is_ok().then_some(real);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
