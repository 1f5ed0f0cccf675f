//! Processes of the program under test: started as a person starts them, waited for under a
//! deadline, and gone when the test is.

use std::{
    ffi::OsStr,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// No test waits longer than this for anything: the machines are slow, and shared.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The program, with an environment in which nothing of the machine's shows. `UNISONO_TEST_PROGRAM` names it on
/// a machine other than the one that built the tests (`worker/benches/gpu.py`).
pub fn unisono() -> Command {
    let built = env!("CARGO_BIN_EXE_unisono");
    let program = std::env::var_os("UNISONO_TEST_PROGRAM");
    let mut command = Command::new(program.unwrap_or_else(|| built.into()));
    command
        .env_remove("UNISONO_COORDINATOR")
        .env_remove("UNISONO_CERTS_DIR")
        .env_remove("UNISONO_TOKEN_FILE")
        .env_remove("UNISONO_ALLOW_PLAINTEXT")
        .env_remove("UNISONO_LOG")
        .env_remove(proto::failpoint::VARIABLE)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// How a process ended and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    /// What ended it, when it did not end itself.
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// It was ended as `kill -9` does.
    #[track_caller]
    pub fn expect_killed(self) -> Self {
        let kill = rustix::process::Signal::KILL.as_raw();
        assert_eq!(self.signal, Some(kill), "{self:?}");
        self
    }
}

/// Runs the program to its end in `dir`.
pub fn run<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Ended {
    let mut command = unisono();
    command.current_dir(dir).args(args);
    Process::start(command).wait()
}

/// A process that does not outlive the test.
pub struct Process {
    child: Child,
    begun: Instant,
    stdout: Option<ChildStdout>,
    /// What was read of standard output before the end.
    read: Vec<u8>,
    stderr: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take();
        let stderr = Arc::new(Mutex::new(String::new()));
        let source = child.stderr.take().expect("piped");
        let said = Arc::clone(&stderr);
        let reader = thread::spawn(move || {
            for line in BufReader::new(source).lines() {
                let Ok(line) = line else { return };
                let mut said = said.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self {
            child,
            begun: Instant::now(),
            stdout,
            read: Vec::new(),
            stderr,
            reader: Some(reader),
        }
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_raw(self.child.id().try_into().unwrap()).unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("it is there");
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until it has printed a line.
    pub fn wait_for_a_line(&mut self) {
        let source = self.stdout.as_mut().expect("it is not waited for yet");
        while self.read.last() != Some(&b'\n') {
            let mut byte = [0];
            source.read_exact(&mut byte).expect("it prints a line");
            self.read.push(byte[0]);
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("it can be waited for")
            .is_none()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let begun = self.begun;
        let read = std::mem::take(&mut self.read);
        let stdout = self.stdout.take().map(|mut source| {
            thread::spawn(move || {
                let mut text = String::from_utf8(read).unwrap();
                let _ = source.read_to_string(&mut text);
                text
            })
        });
        let mut status = None;
        let ended = until(DEADLINE, || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        assert!(
            ended,
            "still running after {:?}:\n{}",
            begun.elapsed(),
            self.stderr()
        );
        let _ = self.reader.take().map(thread::JoinHandle::join);
        Ended {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            stdout: stdout.map_or(String::new(), |text| text.join().unwrap()),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `condition` comes true before `limit` has passed.
pub fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    const LOOK_AGAIN: Duration = Duration::from_millis(10);
    let begun = Instant::now();
    while !condition() {
        if begun.elapsed() > limit {
            return false;
        }
        thread::park_timeout(LOOK_AGAIN);
    }
    true
}

/// Processes that descend from this one, by `/proc`.
pub fn descendants(pid: rustix::process::Pid) -> Vec<i32> {
    let mut found = vec![pid.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{parent}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|id| id.parse::<i32>().ok()),
            );
        }
    }
    found.split_off(1)
}

pub fn is_alive(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has ended; whoever waits for it is another matter.
    let state = status
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim()
        .chars()
        .next();
    state.is_some_and(|state| state != 'Z')
}

/// Which head a tiny job has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    Keyword,
    Ctc,
}

/// A job of a second or two on synthetic speech: ragged batches, clipping active.
pub fn tiny_job(dir: &Path, head: Head) -> PathBuf {
    let (task, model) = match head {
        Head::Keyword => ("digits", "head = \"keyword\"\nhidden = 12"),
        Head::Ctc => (
            "digit-strings",
            "head = \"ctc\"\nhidden = 8\nbidirectional = true\ndropout = 0.1",
        ),
    };
    let path = dir.join("tiny.toml");
    let text = format!(
        r#"name = "tiny"
[corpus]
synthetic = {{ task = "{task}", train = 46, valid = 12, speakers = 4, valid_speakers = 2, seed = 3, min_digits = 1, max_digits = 2 }}
[features]
sample_rate = 8000
mel_bins = 20
stack = 3
[model]
{model}
layers = 1
[train]
epochs = 2
batch = 10
micro_batch = 3
seed = 5
[optimizer]
kind = "adam"
learning_rate = 0.01
[clip]
max_norm = 0.8
"#
    );
    fs::write(&path, text).unwrap();
    path
}

/// Trains the tiny job into `out` and gives its report.
pub fn train(dir: &Path, out: &str, workers: &str, sets: &[&str]) -> Value {
    let mut args = vec![
        "train",
        "tiny.toml",
        "--device",
        "cpu",
        "--workers",
        workers,
        "--out",
        out,
    ];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    run(dir, args).expect(0);
    report(&dir.join(out))
}

/// Makes a tiny job long enough for something to happen to it.
pub const fn long(head: Head) -> &'static str {
    match head {
        Head::Keyword => "train.epochs=100",
        Head::Ctc => "train.epochs=60",
    }
}

/// The report of a long tiny job that nothing happened to; it runs once for all tests.
pub fn calm(head: Head) -> &'static Value {
    static KEYWORD: OnceLock<Value> = OnceLock::new();
    static CTC: OnceLock<Value> = OnceLock::new();
    let report = match head {
        Head::Keyword => &KEYWORD,
        Head::Ctc => &CTC,
    };
    report.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        tiny_job(dir.path(), head);
        let args = "train tiny.toml --workers 1 --device cpu --out calm -o json --set";
        let args = args.split(' ').chain([long(head)]);
        run(dir.path(), args).expect(0).json()
    })
}

/// `report.json` of a run.
pub fn report(run_dir: &Path) -> Value {
    json_file(&run_dir.join("report.json"))
}

pub fn json_file(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The lines of a JSON-lines file.
pub fn json_lines(path: &Path) -> Vec<Value> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Says so where nobody overlooks it: not through `eprintln!`, which the test runner keeps to itself.
pub fn skip(what: &str, why: &str) {
    let _ = writeln!(io::stderr(), "\n*** SKIPPED: {what}: {why} ***\n");
}
