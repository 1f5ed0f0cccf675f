//! The pictures of a run: `chart.svg` and TensorBoard's event file. Each drawing reads the lines that
//! came since the last one, so that it takes as long and as much memory in a run of ten million steps as
//! in one of a thousand; `plots.json` keeps how far it came, for the next life of the coordinator.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use speech::regular_file;

use crate::records::{
    chart,
    curves::{self, Curves},
    events::{LineFile, Offsets},
    tensorboard::{Extent, Writer},
};

/// The pictures of one run.
#[derive(Debug)]
pub struct Plots {
    run_dir: PathBuf,
    title: String,
    drawn: Drawn,
}

/// What the pictures show so far: `plots.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drawn {
    format: u32,
    /// How far the lines were read.
    read: Offsets,
    tensorboard: Extent,
    curves: Curves,
}

/// Changes when older programs could not read the file.
const FORMAT: u32 = 1;

impl Plots {
    /// The pictures of the run in `run_dir`, whose files of lines were opened at `opened` in this life:
    /// what was read behind that was cut off, and will be written again.
    pub fn open(run_dir: &Path, title: String, opened: Offsets) -> Self {
        let mut drawn = Drawn::load(run_dir).unwrap_or_else(|| Drawn {
            format: FORMAT,
            ..Drawn::default()
        });
        drawn.read.events = drawn.read.events.min(opened.events);
        drawn.read.metrics = drawn.read.metrics.min(opened.metrics);
        Self {
            run_dir: run_dir.to_owned(),
            title,
            drawn,
        }
    }

    /// Draws what is there now. A line that is still being written is left for the next time.
    ///
    /// # Errors
    /// When a file cannot be read or written; the next drawing then begins where this one did.
    pub fn draw(&mut self) -> Result<(), (PathBuf, io::Error)> {
        let mut drawn = self.drawn.clone();
        let dir = self.run_dir.join("tensorboard");
        let now = crate::records::timestamp::now().as_millisecond() as f64 / 1000.0;
        let extent = std::mem::take(&mut drawn.tensorboard);
        let mut tensorboard =
            Writer::open(&dir, extent, now).map_err(|error| (dir.clone(), error))?;
        for (lines, read) in [
            (LineFile::Metrics, &mut drawn.read.metrics),
            (LineFile::Events, &mut drawn.read.events),
        ] {
            let path = lines.path(&self.run_dir);
            let followed = follow(lines, &path, read, &mut drawn.curves, &mut tensorboard);
            followed.map_err(|error| (path, error))?;
        }
        drawn.tensorboard = tensorboard.finish().map_err(|error| (dir, error))?;
        let path = self.run_dir.join("chart.svg");
        chart::draw(&drawn.curves, &self.title, &path).map_err(|error| (path, error))?;
        let path = Drawn::path(&self.run_dir);
        drawn.save(&path).map_err(|error| (path, error))?;
        self.drawn = drawn;
        Ok(())
    }
}

impl Drawn {
    fn path(run_dir: &Path) -> PathBuf {
        run_dir.join("plots.json")
    }

    /// What the last life left. `None`, and with it everything is drawn anew, where it left nothing that
    /// can be used: the pictures follow from the lines.
    fn load(run_dir: &Path) -> Option<Self> {
        let bytes = fs::read(Self::path(run_dir)).ok()?;
        let drawn: Self = serde_json::from_slice(&bytes).ok()?;
        let usable =
            drawn.format == FORMAT && drawn.tensorboard.is_in(&run_dir.join("tensorboard"));
        usable.then_some(drawn)
    }

    fn save(&self, path: &Path) -> io::Result<()> {
        let partial = path.with_extension("json.partial");
        regular_file::create(&partial)?.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&partial, path)
    }
}

/// Reads the whole lines of the file at `path` from `read` on, which moves behind them.
fn follow(
    lines: LineFile,
    path: &Path,
    read: &mut u64,
    curves: &mut Curves,
    tensorboard: &mut Writer,
) -> io::Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        // Nothing was written yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(*read))?;
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = file.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(());
        }
        match curves::figures(lines, &line) {
            Ok(Some(figures)) => {
                for (name, value) in figures.values.iter().filter(|(name, _)| chart::shows(name)) {
                    curves.push(name, figures.step, *value);
                }
                tensorboard.add(&figures)?;
            }
            Ok(None) => {}
            Err(reason) => {
                let path = path.display();
                tracing::warn!("{path}: the line at byte {read} has no figures: {reason}");
            }
        }
        *read += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn append(dir: &Path, lines: LineFile, text: &str) {
        let path = lines.path(dir);
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn step(step: u64, loss: f64) -> String {
        format!("{{\"step\":{step},\"loss\":{loss},\"update_s\":0.5}}\n")
    }

    fn length(dir: &Path) -> Offsets {
        let length = |lines: LineFile| fs::metadata(lines.path(dir)).map_or(0, |file| file.len());
        Offsets {
            events: length(LineFile::Events),
            metrics: length(LineFile::Metrics),
        }
    }

    fn losses(plots: &Plots) -> Vec<(u64, f64)> {
        let loss = plots.drawn.curves.get("loss");
        loss.into_iter().flat_map(|loss| loss.points()).collect()
    }

    #[test]
    fn each_drawing_reads_what_is_new_and_the_next_life_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        append(dir, LineFile::Metrics, &(step(1, 3.0) + "{\"step\":2,\"lo"));
        let mut plots = Plots::open(dir, "run".to_owned(), length(dir));
        plots.draw().unwrap();
        assert_eq!(
            losses(&plots),
            [(1, 3.0)],
            "a line that is being written waits"
        );
        append(dir, LineFile::Metrics, "ss\":2.0}\n");
        append(dir, LineFile::Metrics, &step(3, 1.0));
        plots.draw().unwrap();
        assert_eq!(losses(&plots), [(1, 3.0), (2, 2.0), (3, 1.0)]);
        let before = plots.drawn.clone();
        let plots = Plots::open(dir, "run".to_owned(), length(dir));
        assert_eq!(plots.drawn, before);
    }

    #[test]
    fn what_a_restart_cut_off_is_read_again_as_it_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        (1..=4).for_each(|at| append(dir, LineFile::Metrics, &step(at, 9.0)));
        let mut plots = Plots::open(dir, "run".to_owned(), Offsets::default());
        plots.draw().unwrap();
        // Taken up after step 2; the lines are longer than they were.
        let kept = (step(1, 9.0) + &step(2, 9.0)).len() as u64;
        let file = File::options()
            .write(true)
            .open(LineFile::Metrics.path(dir));
        file.unwrap().set_len(kept).unwrap();
        let opened = length(dir);
        (3..=6).for_each(|at| append(dir, LineFile::Metrics, &step(at, 1.0625)));
        let mut plots = Plots::open(dir, "run".to_owned(), opened);
        plots.draw().unwrap();
        let expected = [9.0, 9.0, 1.0625, 1.0625, 1.0625, 1.0625];
        let expected: Vec<(u64, f64)> = (1..).zip(expected).collect();
        assert_eq!(losses(&plots), expected);
    }

    #[test]
    fn without_its_memory_everything_is_drawn_anew() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        append(dir, LineFile::Metrics, &step(1, 3.0));
        let scored = r#"{"step":1,"event":"evaluated","score":{"wer":0.25}}"#;
        append(
            dir,
            LineFile::Events,
            &format!("{scored}\nnonsense \"evaluated\"\n"),
        );
        let mut plots = Plots::open(dir, "run".to_owned(), length(dir));
        plots.draw().unwrap();
        let wer = plots.drawn.curves.get("valid.wer").unwrap();
        assert_eq!(wer.points().collect::<Vec<_>>(), [(1, 0.25)]);
        let before = plots.drawn.clone();
        for lost in ["plots.json", "tensorboard/events.out.tfevents.unisono"] {
            fs::write(dir.join(lost), "").unwrap();
            let mut plots = Plots::open(dir, "run".to_owned(), length(dir));
            assert_eq!(plots.drawn.read, Offsets::default(), "{lost}");
            plots.draw().unwrap();
            assert_eq!(plots.drawn, before, "{lost}");
        }
    }
}
