//! Tables: printed for the person who waits, kept in docs/performance.md between markers.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};

/// Rows of words, the first of them the head.
pub struct Table {
    /// Names the section in the document.
    pub name: String,
    /// What was measured, on what.
    pub caption: String,
    /// Head and rows.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The rows of a table that has only its head yet.
    pub fn head(words: &[&str]) -> Vec<Vec<String>> {
        vec![words.iter().map(|&word| word.to_owned()).collect()]
    }

    /// As Markdown, its columns aligned.
    pub fn markdown(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = format!("{}\n\n", self.caption);
        for (number, row) in self.rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                text += &format!("| {cell:width$} ");
            }
            text += "|\n";
            if number == 0 {
                widths
                    .iter()
                    .for_each(|width| text += &format!("|{}", "-".repeat(width + 2)));
                text += "|\n";
            }
        }
        text
    }

    /// Prints it.
    pub fn show(&self) {
        println!("\n{}", self.markdown());
    }

    /// Prints it, and puts it into the document in place of the one before.
    pub fn keep(&self) -> Result<()> {
        self.show();
        let old = fs::read_to_string(DOCUMENT).unwrap_or_else(|_| HEAD.to_owned());
        let new = replaced(&old, &self.name, &self.markdown());
        if let Some(folder) = Path::new(DOCUMENT).parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(DOCUMENT, new).with_context(|| format!("write {DOCUMENT}"))
    }
}

/// The document with the text between one pair of markers replaced, or a pair added at its end.
fn replaced(document: &str, name: &str, text: &str) -> String {
    let (open, close) = (
        format!("<!-- bench:{name} -->\n"),
        format!("<!-- /bench:{name} -->\n"),
    );
    if let Some((before, rest)) = document.split_once(&open)
        && let Some((_, after)) = rest.split_once(&close)
    {
        return format!("{before}{open}\n{text}\n{close}{after}");
    }
    format!(
        "{}\n\n## {name}\n\n{open}\n{text}\n{close}",
        document.trim_end()
    )
}

/// For captions: what the figures were measured on.
pub fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = thread::available_parallelism().map_or(0, usize::from);
    format!("{cpus} CPUs, Linux {}", kernel.trim())
}

/// The middle of some figures.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

const DOCUMENT: &str = "docs/performance.md";
const HEAD: &str = "# What tracing costs\n\nThe tables are written by `cargo xtask bench`.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_or_added() {
        let first = replaced("# Head\n", "a", "one\n");
        assert_eq!(
            first,
            "# Head\n\n## a\n\n<!-- bench:a -->\n\none\n\n<!-- /bench:a -->\n"
        );
        let second = replaced(&first, "a", "two\n");
        assert_eq!(second, first.replace("one", "two"));
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
