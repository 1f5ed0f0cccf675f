//! Output: data go to standard output, messages and the log to standard error, colour and progress bars only to a
//! terminal. It does not depend on what is said.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use clap::ValueEnum;
use serde::Serialize;
use speech::output_file::OutputFiles;

use crate::{exit::Result, stderr};

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Text,
    Json,
}

/// Prints data in `format`: `value` as JSON, or what `text` makes of it.
pub(crate) fn print<T: Serialize>(
    format: OutputFormat,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<()> {
    match format {
        OutputFormat::Json => line(&serde_json::to_string_pretty(value)?),
        OutputFormat::Text => line(&plain(text(value).trim_end_matches('\n'))),
    }
}

/// As [`print()`], of a command that has written `files`: where one of them is standard output, what else is to be
/// said goes to standard error.
pub(crate) fn print_beside<T: Serialize>(
    files: &OutputFiles,
    format: OutputFormat,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<()> {
    if files.on_standard_output() {
        message(text(value).trim_end_matches('\n'));
        return Ok(());
    }
    print(format, value, text)
}

/// Prints a line of data. A reader that has seen enough (`| head`) ends the program quietly, as it
/// ends other filters.
pub(crate) fn line(text: &str) -> Result<()> {
    /// For messages that were said before it, where a person sees both on one terminal.
    const MESSAGES_TIMEOUT: Duration = Duration::from_millis(200);
    if io::stdout().is_terminal() {
        stderr::flush(MESSAGES_TIMEOUT);
    }
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// Tells a person something. Whether standard error is still read is no reason to stop.
pub(crate) fn message(text: &str) {
    stderr::write(format!("{}\n", plain(text)).as_bytes());
}

/// Waits until what was said is written, where it is read.
pub(crate) fn finish() {
    const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
    stderr::flush(FLUSH_TIMEOUT);
}

/// Text that may have come from outside, without what would move a terminal's cursor.
fn plain(text: &str) -> Cow<'_, str> {
    let harmful = |one: char| one.is_control() && one != '\n' && one != '\t';
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            one if harmful(one) => shown.extend(one.escape_default()),
            one => shown.push(one),
        }
    }
    Cow::Owned(shown)
}

/// Whether standard error is a person's terminal, on which a bar may move.
pub(crate) fn is_attended() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// <https://no-color.org>: any value but an empty one.
pub(crate) fn wants_color() -> bool {
    is_attended() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Mesa's Vulkan layer for choosing a device looks for a desktop session, and complains on standard
/// error of every program on a server without one. Our own workers inherit this.
pub(crate) fn silence_drivers() {
    const SESSION: &str = "XDG_RUNTIME_DIR";
    if std::env::var_os(SESSION).is_none() {
        // SAFETY: called first of all, while the program has no other thread.
        unsafe { std::env::set_var(SESSION, std::env::temp_dir()) };
    }
}

/// Columns without frames: what a person reads, `cut` and `awk` can read too.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows);
    let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
    lines.join("\n")
}

/// A length of time for people: `4.2 s`, `3 min 05 s`, `2 h 10 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A rate between 0 and 1 for people.
pub(crate) fn percent(rate: f64) -> String {
    format!("{:.2} %", rate * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_as_people_say_them() {
        let said: Vec<_> = [0.04, 59.4, 185.0, 7800.0, f64::INFINITY]
            .map(duration)
            .into_iter()
            .collect();
        assert_eq!(
            said,
            ["0.0 s", "59 s", "3 min 05 s", "2 h 10 min", "unknown"]
        );
    }

    #[test]
    fn text_from_outside_is_shown_without_its_controls() {
        assert_eq!(plain("two\n\tlines ü"), "two\n\tlines ü");
        assert_eq!(plain("a\x1b[2Jb\r\u{9b}c"), r"a\u{1b}[2Jb\r\u{9b}c");
    }

    #[test]
    fn a_table_has_one_line_a_row_and_no_frame() {
        let rows = vec![vec!["0001-a".to_owned(), "running".to_owned()]];
        let text = table(&["id", "state"], rows);
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(words, [["ID", "STATE"], ["0001-a", "running"]]);
    }
}
