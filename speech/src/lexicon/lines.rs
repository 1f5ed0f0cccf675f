//! The lines of a lexicon's file, one after the other and each of bounded length. It knows nothing of what they say.

use std::io::{self, BufRead, Read as _};

use crate::text_file::{self, BYTE_ORDER_MARK};

/// Longest line in bytes, with its end.
pub(super) const MAX_LINE: usize = 1 << 12;

/// Why the lines end before the file does.
#[derive(Debug)]
pub(super) enum LineProblem {
    /// The file cannot be read.
    Read(io::Error),
    /// What is wrong with a line, which is counted from 1.
    Line(u64, String),
}

/// Gives each line that is not blank, without white space and byte order marks around it, and its number. What is
/// read may be packed with gzip, or in UTF-16.
///
/// # Errors
/// Those of `reader`, those of `take`, and a line that is too long or is not UTF-8.
pub(super) fn each_line(
    reader: impl BufRead,
    mut take: impl FnMut(u64, &str) -> Result<(), String>,
) -> Result<(), LineProblem> {
    let mut reader = text_file::utf8(reader).map_err(LineProblem::Read)?;
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let mut limited = (&mut reader).take(MAX_LINE as u64 + 1);
        let read = limited.read_until(b'\n', &mut bytes);
        if read.map_err(LineProblem::Read)? == 0 {
            break;
        }
        let wrong = |problem: String| LineProblem::Line(line, problem);
        if bytes.len() > MAX_LINE {
            let told = format!("the line is too long: it has more than {MAX_LINE} bytes");
            return Err(wrong(told));
        }
        let text =
            std::str::from_utf8(&bytes).map_err(|_| wrong("the line is not UTF-8".to_owned()))?;
        // Files that were put together have a mark in the middle.
        let text = text.trim_start_matches(BYTE_ORDER_MARK).trim();
        if !text.is_empty() {
            take(line, text).map_err(wrong)?;
        }
    }
    Ok(())
}
