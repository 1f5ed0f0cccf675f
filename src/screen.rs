//! The terminal that `indicatif` draws progress bars on, through the thread that writes standard error, so that no
//! bar waits for a terminal.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use console::Term;
use indicatif::{ProgressDrawTarget, TermLike};

use crate::stderr;

/// Frames a second.
const RATE: u8 = 8;

/// Where bars are drawn.
pub(crate) fn target() -> ProgressDrawTarget {
    ProgressDrawTarget::term_like_with_hz(Box::new(Screen::default()), RATE)
}

/// A frame that is being drawn.
#[derive(Debug)]
struct Screen {
    /// Only asked for its size.
    term: Term,
    frame: Mutex<String>,
}

impl Default for Screen {
    fn default() -> Self {
        Self {
            term: Term::stderr(),
            frame: Mutex::default(),
        }
    }
}

impl Screen {
    fn frame(&self) -> MutexGuard<'_, String> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, parts: &[&str]) -> io::Result<()> {
        self.frame().extend(parts.iter().copied());
        Ok(())
    }

    /// Moves the cursor by `n`, in ECMA-48's words.
    fn go(&self, n: usize, direction: char) -> io::Result<()> {
        match n {
            0 => Ok(()),
            _ => self.draw(&[&format!("\x1b[{n}{direction}")]),
        }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.term.size().1
    }

    fn height(&self) -> u16 {
        self.term.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.draw(&[s, "\n"])
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.draw(&[s])
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw(&["\r\x1b[2K"])
    }

    fn flush(&self) -> io::Result<()> {
        let frame = std::mem::take(&mut *self.frame());
        stderr::write_frame(frame.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_put_together_from_its_parts() {
        let screen = Screen::default();
        screen.move_cursor_up(2).unwrap();
        screen.move_cursor_down(0).unwrap();
        screen.clear_line().unwrap();
        screen.write_str("half").unwrap();
        screen.write_line("").unwrap();
        assert_eq!(*screen.frame(), "\x1b[2A\r\x1b[2Khalf\n");
    }
}
