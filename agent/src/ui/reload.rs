//! The configuration's file, looked at again while the agent runs. What it says of who is traced takes
//! effect; of all else it is said that it takes a restart. A file that is wrong changes nothing.
//!
//! It is read by its path each time: a ConfigMap's file is a link that comes to lead elsewhere. A file that
//! changed is believed once it was the same twice, as an editor may be in the middle of it; SIGHUP says that
//! it is whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::globs;
use super::wiring::Reread;
use crate::config::docs::value_text;
use crate::config::form::Shown;
use crate::config::setting::Setting;
use crate::config::{self, Error, Flags, Resolved, Selection, env};
use crate::say::{say, say_lines};

/// What looks at the file in use again and again, and raised to have it looked at once; none where
/// there is none.
pub fn rereading(flags: &Flags, resolved: &Resolved) -> Option<(Reread, Arc<AtomicBool>)> {
    let file = resolved
        .file
        .clone()
        .filter(|file| file != Path::new("-"))?;
    let asked = Arc::new(AtomicBool::new(false));
    let mut flags = flags.clone();
    // What is looked at is what is read, wherever it was named.
    flags.file = Some(file.clone());
    let text = config::read_text(&file).map_err(|why| why.to_string());
    let mut look = Look {
        known: Known::of(&file, resolved),
        text: text.clone(),
        last: text,
        asked: Arc::clone(&asked),
        at: Instant::now(),
        flags,
        file,
    };
    Some((Box::new(move || look.look()), asked))
}

struct Look {
    flags: Flags,
    file: PathBuf,
    known: Known,
    /// What was found in it when it was last believed, and last.
    text: Result<String, String>,
    last: Result<String, String>,
    asked: Arc<AtomicBool>,
    at: Instant,
}

impl Look {
    fn look(&mut self) -> Option<Selection> {
        let asked = self.asked.swap(false, Ordering::AcqRel);
        if !asked && self.at.elapsed() < EVERY {
            return None;
        }
        self.at = Instant::now();
        let text = config::read_text(&self.file).map_err(|why| why.to_string());
        let before = std::mem::replace(&mut self.last, text.clone());
        if text == self.text || !asked && text != before {
            if asked {
                say(format_args!("{}: nothing has changed", self.file.display()));
            }
            return None;
        }
        self.text = text;
        let read = config::load(&self.flags, &env::Process);
        self.known.take(read.and_then(|resolved| {
            globs::check(&resolved)?;
            Ok(resolved)
        }))
    }
}

/// What holds.
struct Known {
    name: String,
    selection: Selection,
    values: Vec<(&'static Setting, Shown)>,
    warnings: Vec<String>,
    /// Settings of which it was said that they take a restart.
    waiting: Vec<&'static str>,
}

impl Known {
    fn of(file: &Path, resolved: &Resolved) -> Self {
        Self {
            name: file.display().to_string(),
            selection: resolved.config.selection.clone(),
            values: values(resolved),
            warnings: resolved.warnings.clone(),
            waiting: Vec::new(),
        }
    }

    /// Takes in what the file says now, and says so; what is selected, where that is something else.
    fn take(&mut self, read: Result<Resolved, Error>) -> Option<Selection> {
        let resolved = match read {
            Ok(resolved) => resolved,
            Err(why) => {
                say(format_args!(
                    "{} has changed and is wrong: all stays as it was",
                    self.name
                ));
                say_lines(&why.0);
                return None;
            }
        };
        let news = self.news(&resolved);
        news.lines.iter().for_each(say);
        let changed = news.selection?;
        self.selection = changed.clone();
        Some(changed)
    }

    fn news(&mut self, resolved: &Resolved) -> News {
        let mut lines = Vec::new();
        for warning in &resolved.warnings {
            if !self.warnings.contains(warning) {
                lines.push(format!("warning: {warning}"));
            }
        }
        self.warnings.clone_from(&resolved.warnings);
        let (mut live, mut waiting) = (Vec::new(), Vec::new());
        for (known, (setting, shown)) in self.values.iter_mut().zip(values(resolved)) {
            if known.1 == shown {
                continue;
            }
            if is_live(setting) {
                live.push(format!("{} is now {}", setting.name, value_text(&shown)));
                known.1 = shown;
            } else {
                waiting.push(setting.name);
            }
        }
        if waiting != self.waiting && !waiting.is_empty() {
            let names = waiting.join(", ");
            lines.push(format!(
                "{}: takes effect with a restart: {names}",
                self.name
            ));
        }
        self.waiting = waiting;
        let mut selection = resolved.config.selection.clone();
        selection.exclude_collector = self.selection.exclude_collector;
        selection.exclude_instrumented = self.selection.exclude_instrumented;
        let any = !live.is_empty();
        if any {
            lines.push(format!("{}: {}", self.name, live.join("; ")));
        }
        News {
            lines,
            selection: any.then_some(selection),
        }
    }
}

/// What is said, and what is selected where that is something else.
struct News {
    lines: Vec<String>,
    selection: Option<Selection>,
}

fn values(resolved: &Resolved) -> Vec<(&'static Setting, Shown)> {
    let values = resolved.values.iter();
    values
        .map(|(setting, shown, _)| (*setting, shown.clone()))
        .collect()
}

/// Whether it takes effect at once.
fn is_live(setting: &Setting) -> bool {
    let begun = [
        "selection.exclude_collector",
        "selection.exclude_instrumented",
    ];
    setting.section() == "selection" && !begun.contains(&setting.name)
}

/// How often the file is looked at.
const EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{file, resolve};

    fn read(yaml: &str) -> Resolved {
        let file = file::parse(Path::new("s.yaml"), yaml).expect("a file");
        let vars = BTreeMap::<String, String>::new();
        resolve(&Flags::default(), &vars, Some(file)).expect("settings")
    }

    #[test]
    fn what_takes_effect_and_what_does_not() {
        let mut known = Known::of(Path::new("s.yaml"), &read("selection: {commands: [a]}"));
        let mut news = |yaml: &str| {
            let News { lines, selection } = known.news(&read(yaml));
            (lines.join("|"), selection.map(|it| it.commands.join(",")))
        };
        let same = "selection:\n  commands: ['a'] # the same";
        assert_eq!(news(same), (String::new(), None));
        let other = "selection: {commands: [b, c], namespaces: [shop]}";
        let text = "s.yaml: selection.commands is now [b, c]; selection.namespaces is now [shop]";
        assert_eq!(news(other), (text.into(), Some("b,c".into())));
        let more = "selection: {exclude_collector: false}\ncapture: {tls: false}";
        let text = "s.yaml: takes effect with a restart: selection.exclude_collector, capture.tls|\
                    s.yaml: selection.commands is now []; selection.namespaces is now []";
        assert_eq!(news(more), (text.into(), Some(String::new())));
        assert_eq!(news(more), (String::new(), None));
        assert_eq!(news("capture: {tls: true}"), (String::new(), None));
        // The same again is told again.
        let again = "s.yaml: takes effect with a restart: capture.tls";
        assert_eq!(news("capture: {tls: false}"), (again.into(), None));
    }

    #[test]
    fn a_file_is_believed_once_it_is_the_same_twice() {
        let folder = format!("spantap-reload-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("s.yaml");
        let write = |text: &str| std::fs::write(&path, text).expect("it is written");
        write("selection: {commands: [a]}");
        let flags = Flags {
            file: Some(path.clone()),
            values: Vec::new(),
        };
        let resolved = config::load(&flags, &env::Process).expect("settings");
        let (mut reread, asked) = rereading(&flags, &resolved).expect("a file");
        let mut look = || {
            std::thread::sleep(EVERY);
            reread().map(|selection| selection.commands.join(","))
        };
        assert_eq!(look(), None);
        write("selection: {commands: [b]}");
        assert_eq!((look(), look(), look()), (None, Some("b".into()), None));
        // Half of it.
        write("");
        assert_eq!(look(), None);
        write("selection: {commands: [c]}");
        asked.store(true, Ordering::Release);
        assert_eq!(look(), Some("c".into()));
        // Wrong, gone, and there again.
        write("selection: {commands: [");
        assert_eq!((look(), look()), (None, None));
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!((look(), look()), (None, None));
        write("selection: {commands: ['[']}");
        assert_eq!((look(), look()), (None, None));
        // As a ConfigMap changes.
        std::fs::remove_file(&path).expect("it is there");
        std::fs::write(folder.join("d"), "selection: {commands: [e]}").expect("written");
        std::os::unix::fs::symlink("d", &path).expect("a link");
        assert_eq!((look(), look(), look()), (None, Some("e".into()), None));
        std::fs::remove_dir_all(&folder).expect("it is there");
    }
}
