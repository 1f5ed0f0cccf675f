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
use speech::{model::ModelSpec, random::Stream};
use tempfile::TempDir;

use crate::{
    coordinator::Violation,
    faults::Faults,
    toy::{self, Progress, Rules},
};

/// Checkpoints that are kept.
const KEEP: usize = 2;

#[derive(Debug)]
pub struct Disk {
    pub generation: u64,
    rules: Rules,
    dir: TempDir,
    /// The newest file and when it is synced.
    newest: Option<(Millis, PathBuf)>,
    stream: Stream,
}

impl Disk {
    pub fn new(stream: Stream, rules: Rules) -> Self {
        // In memory where that can be had: thousands of runs sync thousands of files.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Self {
            generation: 0,
            rules,
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
        let step = state.counts.step;
        let spec = toy::spec(&self.rules, step);
        let dir = self.folder(&spec);
        let saved = checkpoint::save(&dir, &spec, state, held, progress);
        let path = saved.map_err(|error| error.to_string())?;
        checkpoint::prune(&dir, KEEP, step).map_err(|error| error.to_string())?;
        self.newest = Some((synced, path));
        Ok(())
    }

    /// The step of the newest file; 0 where there is none.
    pub fn newest_step(&self) -> u64 {
        let folders = self.specs().map(|spec| self.folder(&spec));
        let names = folders
            .into_iter()
            .flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let step = |name: String| {
            let name = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
            name.parse::<u64>().ok()
        };
        names.filter_map(step).max().unwrap_or(0)
    }

    /// The newest whole checkpoint.
    pub fn load(&self, faults: &mut Faults) -> Result<Option<Checkpoint<Progress>>, Violation> {
        for spec in self.specs() {
            let found = self.load_from(&spec, faults)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The model after the weights have grown, and before.
    fn specs(&self) -> [ModelSpec; 2] {
        [toy::GROWS_AT, 0].map(|step| toy::spec(&self.rules, step))
    }

    /// Checkpoints of weights of one length: a real coordinator's checkpoints are all of one model.
    fn folder(&self, spec: &ModelSpec) -> PathBuf {
        self.dir.path().join(spec.elements().to_string())
    }

    fn load_from(
        &self,
        spec: &ModelSpec,
        faults: &mut Faults,
    ) -> Result<Option<Checkpoint<Progress>>, Violation> {
        let folder = self.folder(spec);
        if !folder.is_dir() {
            return Ok(None);
        }
        let latest = checkpoint::latest(&folder, spec);
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
