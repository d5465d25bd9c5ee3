//! Programs from the languages' own registries: a Python environment, Node modules, a Go binary,
//! Java classes with Jetty beside them, the OpenTelemetry Collector.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Step, app, cached, find, tool};

/// A virtual environment with `apps/python/requirements.txt`; gives its bin folder.
pub fn python() -> Result<PathBuf> {
    let (file, requirements) = app("python/requirements.txt")?;
    let python = tool("python3", &["python3", "python3-venv"])?;
    let folder = cached("python", &requirements, |folder| {
        let environment =
            || Step::new(&python).args(["-m".as_ref(), "venv".as_ref(), folder.as_os_str()]);
        if environment().run().is_err() {
            // Debian splits this off.
            Step::new("apt-get")
                .args(["install", "--yes", "--quiet", "python3-venv"])
                .env("DEBIAN_FRONTEND", "noninteractive")
                .run()?;
            environment().run()?;
        }
        let pip = folder.join("bin/pip");
        let words = [
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ];
        Step::new(pip).args(words).args([&file]).run().map(drop)
    })?;
    Ok(folder.join("bin"))
}

/// A folder with the scripts of `apps/node` and their modules.
pub fn node() -> Result<PathBuf> {
    tool("node", &["nodejs"])?;
    let (package, mut key) = app("node/package.json")?;
    let scripts = package
        .parent()
        .context("a file is in a folder")?
        .to_path_buf();
    for name in ["http.js", "express.js", "client.js"] {
        key += &app(&format!("node/{name}"))?.1;
    }
    cached("node", &key, |folder| {
        let npm = tool("npm", &["npm"])?;
        for entry in fs::read_dir(&scripts)? {
            let file = entry?.path();
            fs::copy(
                &file,
                folder.join(file.file_name().context("a file has a name")?),
            )?;
        }
        let words = [
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
        ];
        Step::new(npm).args(words).inside(folder).run().map(drop)
    })
}

/// The server and client of `apps/go`.
pub fn go() -> Result<PathBuf> {
    let (file, source) = app("go/main.go")?;
    let module = app("go/go.mod")?.1;
    let go = tool("go", &["golang-go"])?;
    let folder = cached("go", &(source + &module), |folder| {
        let place = file.parent().context("a file is in a folder")?;
        Step::new(go)
            .args(["build", "-o"])
            .args([folder.join("go-app")])
            .env("GOFLAGS", "-buildvcs=false")
            .inside(place)
            .run()
            .map(drop)
    })?;
    Ok(folder.join("go-app"))
}

/// The classes of `apps/java` that need no library; gives their folder.
pub fn java() -> Result<PathBuf> {
    let mut key = String::new();
    let mut files = Vec::new();
    for name in ["JdkServer.java", "JdkClient.java"] {
        let (file, source) = app(&format!("java/{name}"))?;
        key += &source;
        files.push(file);
    }
    cached("java", &key, |folder| compile(folder, &files, None))
}

/// Jetty, and the server that embeds it; gives the class path.
pub fn jetty() -> Result<String> {
    let (pom, key) = app("java/pom.xml")?;
    let (file, source) = app("java/JettyServer.java")?;
    let folder = cached("jetty", &(key + &source), |folder| {
        let maven = tool("mvn", &["maven"])?;
        fs::copy(&pom, folder.join("pom.xml"))?;
        let output = format!("-DoutputDirectory={}", folder.join("lib").display());
        Step::new(maven)
            .args([
                "--quiet",
                "--batch-mode",
                "dependency:copy-dependencies",
                &output,
            ])
            .inside(folder)
            .run()?;
        compile(folder, &[file], Some(&folder.join("lib/*")))
    })?;
    Ok(format!("{}:{}/lib/*", folder.display(), folder.display()))
}

fn compile(folder: &Path, files: &[PathBuf], path: Option<&Path>) -> Result<()> {
    let javac = match find("javac") {
        Some(javac) => javac,
        None => tool("javac", &["default-jdk-headless"])?,
    };
    let mut step = Step::new(javac).args(["-d".as_ref(), folder.as_os_str()]);
    if let Some(path) = path {
        step = step.args(["-cp".as_ref(), path.as_os_str()]);
    }
    step.args(files).run().map(drop)
}

/// An OpenTelemetry Collector, made by its builder from `apps/collector/manifest.yaml`.
pub fn collector() -> Result<PathBuf> {
    let (manifest, key) = app("collector/manifest.yaml")?;
    let version = key
        .lines()
        .find_map(|line| line.trim().strip_prefix("# builder: "))
        .context("the manifest names its builder's version")?
        .to_string();
    let go = tool("go", &["golang-go"])?;
    let folder = cached("collector", &key, |folder| {
        let builder = format!("go.opentelemetry.io/collector/cmd/builder@{version}");
        Step::new(&go)
            .args(["install", &builder])
            .env("GOBIN", folder)
            .run()?;
        fs::copy(&manifest, folder.join("manifest.yaml"))?;
        Step::new(folder.join("builder"))
            .args(["--config", "manifest.yaml"])
            .inside(folder)
            .run()
            .map(drop)
    })?;
    Ok(folder.join("built/collector"))
}
