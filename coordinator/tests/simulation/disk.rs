//! What outlives a coordinator: its generation and real checkpoint files. A crash takes what was not
//! synced, whole or in part.

use std::{
    fs,
    path::{Path, PathBuf},
};

use coordinator::{
    checkpoint::{self, Checkpoint, CheckpointError},
    leases::Millis,
    trainer::{TrainerState, checkpoint_average::HeldWeights},
};
use speech::random::Stream;
use tempfile::TempDir;

use crate::{
    coordinator::Violation,
    faults::Faults,
    toy::{self, Progress},
};

/// Checkpoints that are kept.
const KEEP: usize = 2;

#[derive(Debug)]
pub struct Disk {
    pub generation: u64,
    dir: TempDir,
    /// The newest file and when it is synced.
    newest: Option<(Millis, PathBuf)>,
    stream: Stream,
}

impl Disk {
    pub fn new(stream: Stream) -> Self {
        // In memory where that can be had: thousands of runs sync thousands of files.
        let memory = Path::new("/dev/shm");
        let dir = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Self {
            generation: 0,
            dir: dir.expect("a folder for checkpoints can be made"),
            newest: None,
            stream,
        }
    }

    /// Writes a checkpoint that will have reached the disk at `synced`.
    pub fn save(
        &mut self,
        synced: Millis,
        state: &TrainerState,
        (progress, held): (&Progress, &HeldWeights),
    ) -> Result<(), Violation> {
        let dir = self.dir.path();
        let saved = checkpoint::save(dir, &toy::spec(), state, held, progress);
        let path = saved.map_err(|error| error.to_string())?;
        let step = state.counts.step;
        checkpoint::prune(dir, KEEP, step).map_err(|error| error.to_string())?;
        self.newest = Some((synced, path));
        Ok(())
    }

    /// The step of the newest file; 0 where there is none.
    pub fn newest_step(&self) -> u64 {
        let names = fs::read_dir(self.dir.path()).expect("the folder can be read");
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let step = |name: String| {
            let name = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
            name.parse::<u64>().ok()
        };
        names.filter_map(step).max().unwrap_or(0)
    }

    /// The newest whole checkpoint.
    pub fn load(&self, faults: &mut Faults) -> Result<Option<Checkpoint<Progress>>, Violation> {
        let latest = checkpoint::latest(self.dir.path(), &toy::spec());
        let latest = latest.map_err(|error| error.to_string())?;
        for damaged in &latest.damaged {
            faults.count("damaged checkpoint passed over");
            if let CheckpointError::Damaged { path, .. } = damaged {
                checkpoint::set_aside(path).map_err(|error| error.to_string())?;
            }
        }
        Ok(latest.found.map(|(_, checkpoint)| checkpoint))
    }

    /// The power fails at `now`.
    pub fn crash(&mut self, now: Millis, faults: &mut Faults) {
        let Some((synced, path)) = self.newest.take() else {
            return;
        };
        let bytes = fs::read(&path).expect("it was written");
        let at = self.stream.below(bytes.len() as u64) as usize;
        match self.stream.below(6) {
            _ if synced <= now => {}
            0..=2 => {
                faults.count("unsynced checkpoint lost");
                fs::remove_file(&path).expect("it can be removed");
                return;
            }
            _ => {
                faults.count("unsynced checkpoint torn");
                fs::write(&path, &bytes[..at]).expect("it can be written");
                return;
            }
        }
        if self.stream.below(4) == 0 {
            faults.count("checkpoint bit flipped");
            let mut bytes = bytes;
            bytes[at] ^= 1 << self.stream.below(8);
            fs::write(&path, bytes).expect("it can be written");
        }
    }
}
