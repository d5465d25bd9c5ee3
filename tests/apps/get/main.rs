//! Gets what the live tests get, for those who start it themselves (`cargo xtask bench stores`), and
//! prints where it is: `debian NAME PACKAGE…`, the folder they are unpacked in and that of their
//! libraries; `maven NAME PLACE FILE`, a class path. `cluster` prints nothing: it builds what a
//! Kubernetes of one node takes, for whoever brings one up later.

use anyhow::{Result, bail};
use spantap_tests::{install, node};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["debian", name, ref packages @ ..] => {
            let debian = install::debian(name, packages)?;
            println!("{}", debian.file("/")?.display());
            println!("{}", debian.libraries().display());
        }
        ["maven", name, place, file] => println!("{}", install::maven(name, place, file)?),
        ["cluster"] => {
            install::helm()?;
            node::build()?;
        }
        _ => bail!("debian NAME PACKAGE…, maven NAME PLACE FILE or cluster"),
    }
    Ok(())
}
