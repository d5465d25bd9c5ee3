//! `spantap list`: who is traced, and why the others are not.

use std::io;

use anyhow::Result;
use serde::Serialize;

use super::wiring::{self, Listed};
use super::{exit, output, resolved};
use crate::config::cli::{Format, ListArgs};
use crate::say::{cut, printable, say};

/// Runs the command.
pub fn run(args: &ListArgs) -> Result<i32> {
    let resolved = resolved(&args.settings)?;
    let listing = wiring::list(&resolved.config)?;
    if let Some(why) = &listing.untold {
        say(format_args!(
            "Kubernetes does not tell of pods: {why}; no process is known to be in a pod that was selected"
        ));
    }
    let all = listing.processes.len();
    let mut rows: Vec<Row> = listing.processes.iter().map(Row::of).collect();
    let traced = rows.iter().filter(|row| row.traced).count();
    rows.retain(|row| args.all || row.traced || row.pod_uid.is_some());
    rows.sort_by(|a, b| a.key().cmp(&b.key()));
    let text = match args.output {
        Format::Table => table(&rows, output::width(io::stdout())),
        Format::Json => lines(&rows)?,
    };
    output::print(&text)?;
    if args.output == Format::Table {
        let hidden = all - rows.len();
        let more = match hidden {
            0 => String::new(),
            _ => format!("; {hidden} that are not, in no pod, are not shown (--all)"),
        };
        say(format_args!("{traced} of {all} processes traced{more}"));
    }
    // What is shown may be wrong then, and a script is not to take it for all.
    Ok(match listing.untold {
        Some(_) => exit::FAILED,
        None => exit::DONE,
    })
}

/// A process, as it is shown.
#[derive(Debug, Default, Serialize)]
struct Row {
    pid: u32,
    command: String,
    namespace: Option<String>,
    pod: Option<String>,
    pod_uid: Option<String>,
    workload: Option<String>,
    container: Option<String>,
    container_id: Option<String>,
    ports: Vec<u16>,
    traced: bool,
    why: Option<&'static str>,
    setting: Option<&'static str>,
}

impl Row {
    fn of(listed: &Listed) -> Self {
        let Listed {
            process,
            pod,
            ports,
            reason,
        } = listed;
        let container = process.place.container.as_ref();
        let named = |id: &str| Some(pod.as_ref()?.container(id)?.name.to_string());
        let opted = pod.as_ref().and_then(|pod| pod.opted()) == Some(true);
        Self {
            pid: process.pid,
            command: process.exe_name().to_owned(),
            namespace: pod.as_ref().map(|pod| pod.namespace.to_string()),
            pod: pod.as_ref().map(|pod| pod.name.to_string()),
            pod_uid: process.place.pod.as_deref().map(str::to_owned),
            workload: pod.as_ref().and_then(|pod| {
                let owner = pod.workload()?;
                Some(format!(
                    "{}/{}",
                    owner.kind.to_ascii_lowercase(),
                    owner.name
                ))
            }),
            container: container.and_then(|container| named(&container.id)),
            container_id: container.map(|container| container.id.to_string()),
            ports: ports.clone(),
            traced: reason.is_none(),
            why: match reason {
                Some(reason) => Some(reason.name()),
                None => opted.then_some("its pod opts in (annotation spantap/trace)"),
            },
            setting: reason.and_then(|reason| reason.setting()),
        }
    }

    /// By pod, those in none first.
    fn key(&self) -> (Option<&str>, Option<&str>, Option<&str>, u32) {
        (
            self.namespace.as_deref(),
            self.pod.as_deref(),
            self.pod_uid.as_deref(),
            self.pid,
        )
    }

    fn cells(&self, pods: bool) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let mut cells = vec![self.pid.to_string(), self.command.clone()];
        if pods {
            let pod = self.pod.as_ref().or(self.pod_uid.as_ref());
            let id = self.container_id.as_ref();
            let short = id.map(|id| id.chars().take(12).collect());
            cells.extend([
                text(&self.namespace),
                text(&pod.cloned()),
                text(&self.container.clone().or(short)),
            ]);
        }
        let ports: Vec<_> = self.ports.iter().take(SHOWN).map(u16::to_string).collect();
        let more = if self.ports.len() > SHOWN { ",…" } else { "" };
        cells.push(match ports.is_empty() {
            true => "-".into(),
            false => ports.join(",") + more,
        });
        let traced = if self.traced { "yes" } else { "no" };
        cells.push(match self.why {
            Some(why) => format!("{traced}: {why}"),
            None => traced.into(),
        });
        cells
    }
}

fn lines(rows: &[Row]) -> Result<String> {
    let mut text = String::new();
    for row in rows {
        text += &serde_json::to_string(row)?;
        text.push('\n');
    }
    Ok(text)
}

fn table(rows: &[Row], width: Option<usize>) -> String {
    let pods = rows.iter().any(|row| row.pod_uid.is_some());
    let mut head = vec!["PID", "COMMAND"];
    if pods {
        head.extend(["NAMESPACE", "POD", "CONTAINER"]);
    }
    head.extend(["PORTS", "TRACED"]);
    let head: Vec<String> = head.into_iter().map(str::to_owned).collect();
    let cells = rows.iter().map(|row| {
        let cells = row.cells(pods).into_iter();
        cells.map(|text| printable(cut(text, LONGEST))).collect()
    });
    let all: Vec<Vec<String>> = std::iter::once(head).chain(cells).collect();
    let columns = all.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = all.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in all {
        let mut line = String::new();
        for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if place == 0 { "" } else { "  " };
            match place {
                // Numbers.
                0 => line += &format!("{gap}{cell:>width$}"),
                _ if place + 1 == columns => line += &format!("{gap}{cell}"),
                _ => line += &format!("{gap}{cell:<width$}"),
            }
        }
        text += &match width {
            Some(width) => cut(line, width),
            None => line,
        };
        text.push('\n');
    }
    text
}

/// Ports in a cell.
const SHOWN: usize = 4;
/// Characters of a cell: names of pods have 253 at most, and most are short.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kubernetes::{Container, Owner, Pod};
    use crate::target::container::Place;
    use crate::target::{Reason, Snapshot};

    const UID: &str = "073d9428-b92d-46fa-83a7-a10de3d45bdf";
    const ID: &str = "1fa3efb2c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

    fn listed(pid: u32, exe: &str, path: &str, reason: Option<Reason>) -> Listed {
        Listed {
            process: Arc::new(Snapshot {
                pid,
                exe: Some(exe.into()),
                place: Place::of(path),
                ..Snapshot::default()
            }),
            pod: None,
            ports: Vec::new(),
            reason,
        }
    }

    fn shown(all: &[Listed]) -> Vec<String> {
        let rows: Vec<_> = all.iter().map(Row::of).collect();
        table(&rows, None).lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_table_of_what_is_known() {
        let mut nginx = listed(7, "/usr/sbin/nginx", "/x", None);
        nginx.ports = vec![80, 443, 1, 2, 3];
        let ignored = listed(1234, "/bin/a\x1bb", "/", Some(Reason::Command));
        let want = [
            " PID  COMMAND  PORTS         TRACED",
            "   7  nginx    80,443,1,2,…  yes",
            "1234  a\\x1bb   -             no: no selected command",
        ];
        assert_eq!(shown(&[nginx.clone(), ignored]), want);
        let path = format!("/kubepods/burstable/pod{UID}/{ID}");
        let mut cart = listed(9, "/cart", &path, None);
        let unknown = cart.clone();
        cart.pod = Some(Arc::new(Pod {
            uid: UID.into(),
            namespace: "shop".into(),
            name: "cart-0".into(),
            annotations: [("spantap/trace".into(), "true".into())].into(),
            owner: Some(Owner {
                kind: "StatefulSet".into(),
                name: "cart".into(),
                uid: "u".into(),
            }),
            containers: vec![Container {
                name: "app".into(),
                id: ID.into(),
                ..Container::default()
            }],
            ..Pod::default()
        }));
        let lines = shown(&[nginx, cart.clone(), unknown]);
        assert!(lines[2].contains("shop       cart-0"), "{lines:?}");
        assert!(lines[2].ends_with("yes: its pod opts in (annotation spantap/trace)"));
        assert!(
            lines[3].contains(UID) && lines[3].contains(&ID[..12]),
            "{lines:?}"
        );
        let json = lines_of(&cart);
        for part in [
            r#""pid":9"#,
            r#""workload":"statefulset/cart""#,
            r#""container":"app""#,
            r#""traced":true"#,
            r#""setting":null"#,
        ] {
            assert!(json.contains(part), "{json}");
        }
    }

    fn lines_of(listed: &Listed) -> String {
        lines(&[Row::of(listed)]).expect("it is plain")
    }
}
