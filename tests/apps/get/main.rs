//! Gets what the live tests get, for those who start it themselves (`cargo xtask bench stores`), and
//! prints where it is: `debian NAME PACKAGE…`, the folder they are unpacked in and that of their
//! libraries; `maven NAME PLACE FILE`, a class path.

use anyhow::{Result, bail};
use spantap_tests::install;

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
        _ => bail!("debian NAME PACKAGE… or maven NAME PLACE FILE"),
    }
    Ok(())
}
