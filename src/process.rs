//! This process and its children: the path of the program, ending with a parent, signals, and file permissions. It
//! does not depend on what any of them does.

use std::{io, path::PathBuf};

use rustix::process::{Pid, Signal};
use tokio::process::Child;

use crate::exit::{CommandError, Result};

/// This program. A rebuild may have put another one in its place: the one that runs is meant.
pub(crate) fn program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    if path.exists() {
        Ok(path)
    } else {
        Ok(PathBuf::from("/proc/self/exe"))
    }
}

/// Has the system end this process when its parent ends, however that does, and also while it is
/// stopped: then nobody is left to whom a goodbye would mean anything.
pub(crate) fn end_with(parent: u32) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(io::Error::from)?;
    let expected = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if rustix::process::getppid() != expected {
        let told = "the process that started this one is gone".to_owned();
        return Err(CommandError::Infrastructure(told).into());
    }
    Ok(())
}

/// Lets nobody but the user read what this process and its children write: runs and caches hold audio,
/// transcripts and weights.
pub(crate) fn keep_files_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Sends `signal` to a child, unless it has ended.
pub(crate) fn send(child: &Child, signal: Signal) {
    // Not yet waited for, so that the id is still its own.
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
