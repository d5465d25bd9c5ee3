//! One boot: start virtiofsd and qemu, pass output on, collect the exit code.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::{image, kernel};
use crate::check;
use crate::shell::{self, say};

/// A guest that is to be.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Kernel series.
    pub series: String,
    /// Guest time is executed instructions × 2 ns.
    pub icount: bool,
    /// MiB.
    pub memory: u32,
    /// When to give up.
    pub limit: Duration,
    /// Variables the command gets.
    pub env: Vec<(String, String)>,
    /// Whether its standard output is passed on, and not only kept.
    pub shown: bool,
}

/// How a guest ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The command's exit code.
    pub code: u8,
    /// What it wrote to its standard output.
    pub output: String,
    /// From start to power-off.
    pub time: Duration,
}

impl Guest {
    /// The usual one.
    pub fn new(series: &str) -> Self {
        Self {
            series: series.to_owned(),
            icount: false,
            memory: 2048,
            limit: Duration::from_secs(300),
            env: Vec::new(),
            shown: true,
        }
    }

    /// Boots, runs a shell command line in the workspace, powers off.
    ///
    /// qemu, emulating two processors at once, now and then runs code that the guest's kernel has
    /// just patched (an int3 of `text_poke`), and the kernel dies while it boots. A guest that did
    /// not come as far as the command is booted again; one that did is not.
    pub fn run(&self, command: &str) -> Result<Ended> {
        super::ensure()?;
        let kernel = kernel::get(&self.series)?;
        let initramfs = image::get(&kernel)?;
        for boot in 1.. {
            match self.boot(&kernel, &initramfs, command)? {
                Some(ended) => return Ok(ended),
                None if boot < BOOTS => say("vm: the kernel died in its boot; again"),
                None => break,
            }
        }
        bail!("{}: {BOOTS} boots, and none came up", kernel.release)
    }

    /// One boot; nothing where the guest ended before the command was reached.
    fn boot(
        &self,
        kernel: &kernel::Kernel,
        initramfs: &Path,
        command: &str,
    ) -> Result<Option<Ended>> {
        let folder = Folder::new()?;
        fs::write(folder.path.join("command"), self.script(command)?)?;
        say(format!("vm: booting {}", kernel.release));
        let start = Instant::now();
        let mut files = Daemon(serve_files(&folder.path)?);
        let stdout = listen(&folder.path, "stdout", self.shown.then(std::io::stdout))?;
        let stderr = listen(&folder.path, "stderr", Some(std::io::stderr()))?;
        let status = listen(&folder.path, "status", None::<std::io::Sink>)?;
        let mut qemu = self.qemu(kernel, initramfs, &folder.path)?;
        let mut qemu = Daemon(qemu.spawn().context("start qemu-system-x86_64")?);
        let ended = shell::wait_for(&mut qemu.0, self.limit)?;
        qemu.end();
        files.end();
        let Some(_) = ended else {
            folder.console(20);
            bail!(
                "{}: not done after {} s",
                kernel.release,
                self.limit.as_secs()
            );
        };
        // A qemu that never came to connect leaves the threads waiting: look at the console first.
        if !status.is_finished() {
            thread::sleep(Duration::from_millis(500));
        }
        if !status.is_finished() {
            folder.console(20);
            bail!("qemu did not start");
        }
        let code = text(status)?.trim().parse().ok();
        let Some(code) = code else {
            if !folder.console(30) {
                return Ok(None);
            }
            bail!("{}: the guest died", kernel.release);
        };
        text(stderr)?;
        Ok(Some(Ended {
            code,
            output: text(stdout)?,
            time: start.elapsed(),
        }))
    }

    /// What bash runs in the guest.
    fn script(&self, command: &str) -> Result<String> {
        let mut script = format!("cd {}\n", quoted(&shell::workspace().display().to_string()));
        let path = guest_path()?;
        let own = [
            ("PATH", path.as_str()),
            ("HOME", "/root"),
            ("LANG", "C.UTF-8"),
            ("IN_VM", "1"),
        ];
        let own = own
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        for (name, value) in own.chain(self.env.iter().cloned()) {
            script += &format!("export {name}={}\n", quoted(&value));
        }
        Ok(script + command + "\n")
    }

    fn qemu(&self, kernel: &kernel::Kernel, initramfs: &Path, folder: &Path) -> Result<Command> {
        let memory = self.memory;
        let mut command = shell::tied("qemu-system-x86_64", true)?;
        // Never KVM: nested it may hang the machine, and instructions could not be counted.
        if self.icount {
            command.args(["-accel", "tcg,thread=single", "-smp", "1"]);
            command.args(["-icount", "shift=1,sleep=off"]);
        } else {
            // In turns: at once, a processor now and then runs code that another is patching (an int3
            // of `text_poke`, as for each uprobe of a process), and the kernel dies.
            command.args(["-accel", "tcg,thread=single", "-smp", "2"]);
        }
        command.args(["-cpu", "max", "-M", "q35,memory-backend=ram", "-nodefaults"]);
        command.args(["-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-m", &format!("{memory}M"), "-object"]);
        command.arg(format!(
            "memory-backend-memfd,id=ram,size={memory}M,share=on"
        ));
        command
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(initramfs);
        let modules = fs::canonicalize(kernel.tree.join("lib/modules"))?;
        let line = format!(
            "console=ttyS0 quiet panic=-1 reboot=t mitigations=off random.trust_cpu=on \
             spantap.modules={} spantap.command={}",
            modules.display(),
            folder.join("command").display()
        );
        command.args(["-append", &line]);
        command
            .arg("-serial")
            .arg(option("file:", folder.join("console")));
        command
            .arg("-chardev")
            .arg(option("socket,id=files,path=", folder.join("files")));
        command.args([
            "-device",
            "vhost-user-fs-pci,queue-size=1024,chardev=files,tag=host",
        ]);
        command.args(["-device", "virtio-serial-pci"]);
        for port in ["stdout", "stderr", "status"] {
            let socket = option(&format!("socket,id={port},path="), folder.join(port));
            command.arg("-chardev").arg(socket);
            command.args([
                "-device",
                &format!("virtserialport,chardev={port},name={port}"),
            ]);
        }
        command.stdin(Stdio::null());
        Ok(command)
    }
}

/// Where virtiofsd is, if it is: the one of older qemu packages, or the later one in Rust.
pub fn virtiofsd() -> Option<PathBuf> {
    VIRTIOFSD
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

/// Gives this machine's files to the guest; waits until its socket is there.
fn serve_files(folder: &Path) -> Result<Child> {
    let program = virtiofsd().context("no virtiofsd")?;
    let socket = folder.join("files");
    let mut command = shell::tied(&program, true)?;
    command.arg(option("--socket-path=", socket.clone()));
    if program == Path::new(VIRTIOFSD[0]) {
        command.args([
            "-o",
            "source=/",
            "-o",
            "sandbox=chroot",
            "-o",
            "cache=always",
            "-o",
            "xattr",
        ]);
        command.args(["--thread-pool-size=0", "--rlimit-nofile=0"]);
    } else {
        command.args([
            "--shared-dir=/",
            "--sandbox=chroot",
            "--cache=always",
            "--xattr",
        ]);
    }
    let log = fs::File::create(folder.join("files.log"))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut child = command.spawn().context("start virtiofsd")?;
    for _ in 0..500 {
        if socket.exists() {
            return Ok(child);
        }
        if child.try_wait()?.is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().ok();
    child.wait().ok();
    bail!(
        "virtiofsd: {}",
        fs::read_to_string(folder.join("files.log"))?.trim()
    )
}

/// Waits for qemu to connect a port; passes on what comes, and keeps it.
fn listen<W: Write + Send + 'static>(
    folder: &Path,
    port: &str,
    mut to: Option<W>,
) -> Result<JoinHandle<std::io::Result<String>>> {
    let listener = UnixListener::bind(folder.join(port)).context("make a socket")?;
    Ok(thread::spawn(move || {
        let (mut from, _) = listener.accept()?;
        let mut kept = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            let n = from.read(&mut buffer)?;
            let Some(part) = buffer.get(..n).filter(|part| !part.is_empty()) else {
                return Ok(String::from_utf8_lossy(&kept).into_owned());
            };
            if let Some(to) = &mut to {
                to.write_all(part)?;
                to.flush()?;
            }
            kept.extend_from_slice(part);
        }
    }))
}

fn text(thread: JoinHandle<std::io::Result<String>>) -> Result<String> {
    match thread.join() {
        Ok(text) => text.context("read from the guest"),
        Err(_) => bail!("a reader of the guest's output panicked"),
    }
}

/// PATH without version managers' shims: they are shell scripts that cost seconds under TCG.
fn guest_path() -> Result<String> {
    let path = std::env::var("PATH").context("PATH")?;
    if !path.contains("shims") {
        return Ok(path);
    }
    let mut python = Command::new("python3");
    let python = shell::read(python.args(["-c", "import sys; print(sys.exec_prefix)"]))?;
    let rest: Vec<&str> = path
        .split(':')
        .filter(|part| !part.contains("shims"))
        .collect();
    Ok(format!("{}/bin:{}", python.trim(), rest.join(":")))
}

/// A word that a shell takes as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn option(name: &str, path: PathBuf) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

/// A child that does not outlive its guest.
struct Daemon(Child);

impl Daemon {
    fn end(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        if shell::is_root() {
            self.0.kill().ok();
        } else if let Ok(mut kill) = shell::as_root("kill") {
            shell::run(kill.arg(self.0.id().to_string())).ok();
        }
        self.0.wait().ok();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// The folder of one run: sockets, the command, the console. Removed at the end.
struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Below the system's folder for such things: the path of a socket has 107 bytes at most.
    fn new() -> Result<Self> {
        let unique = format!("spantap-vm-{}-{:x}", std::process::id(), rand());
        let path = std::env::temp_dir().join(unique);
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(Self { path })
    }

    /// Shows the end of the kernel's console, and keeps all of it. Whether the command was reached.
    fn console(&self, lines: usize) -> bool {
        let bytes = fs::read(self.path.join("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = console.lines().collect();
        all.iter()
            .skip(all.len().saturating_sub(lines))
            .for_each(|line| eprintln!("  {line}"));
        if let Ok(kept) = check::kept("vm").map(|folder| folder.join("console.log")) {
            fs::write(&kept, &bytes).ok();
            say(format!("vm: the console is in {}", kept.display()));
        }
        console.contains(UP)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

/// A number that differs between two guests of one process.
fn rand() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.subsec_nanos())
}

/// Boots that are tried.
const BOOTS: u32 = 3;
/// What init.sh says right before the command.
const UP: &str = "guest: up";
const VIRTIOFSD: [&str; 3] = [
    "/usr/lib/qemu/virtiofsd",
    "/usr/libexec/virtiofsd",
    "/usr/lib/virtiofsd",
];
