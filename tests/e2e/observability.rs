//! What a monitoring system makes of a coordinator: the files in `deploy/observability`, and a real Prometheus where
//! there is one (`UNISONO_PROMETHEUS` names the folder of `prometheus` and `promtool`, which may be in PATH instead).

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    cluster::Cluster,
    fixture::{DEADLINE, Process, root, skip, unisono, until},
};

/// A program of Prometheus, if it is installed.
fn program(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("UNISONO_PROMETHEUS").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = named.into_iter().chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn file(name: &str) -> PathBuf {
    root().join("deploy/observability").join(name)
}

/// What is answered to a GET of `path`.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

/// A cluster of one worker whose coordinator tells a monitoring system how it does, and the address of that.
fn watched() -> (Cluster, String) {
    let mut cluster = Cluster::vacant("127.0.0.1:0");
    let mut command = unisono();
    command
        .args(["coordinator", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(cluster.dir.path().join("data"))
        .args(["--metrics", "127.0.0.1:0"]);
    cluster.take_coordinator(command);
    let told = || cluster.coordinator.as_ref().unwrap().stderr();
    let mut address = None;
    let named = until(DEADLINE, || {
        let told = told();
        let line = told
            .lines()
            .find(|line| line.starts_with("metrics on http://"));
        let rest = line.and_then(|line| line.strip_prefix("metrics on http://"));
        address = rest.and_then(|rest| Some(rest.split_once("/metrics")?.0.to_owned()));
        address.is_some()
    });
    assert!(named, "{}", told());
    cluster.hire(&["--device", "cpu"], None);
    (cluster, address.unwrap())
}

/// Names of metrics in text.
fn names(text: &str) -> BTreeSet<String> {
    let is_name = |one: char| one.is_ascii_alphanumeric() || one == '_';
    let words = text.split(|one| !is_name(one));
    let ours = |word: &&str| word.starts_with("unisono_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

/// Every `expr` and `query` of a dashboard.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "expr" || name == "query" => found.push(text.to_owned()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[track_caller]
fn must_succeed(output: &Output) {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A coordinator is scraped while it trains; promtool finds nothing wrong with its names either.
#[test]
fn rules_and_the_dashboard_ask_for_metrics_that_there_are() {
    let (cluster, address) = watched();
    let job = root().join("examples/digits.toml");
    let id = cluster.submit(
        &job,
        &[
            "train.epochs=1000",
            "train.checkpoint_every=5",
            "model.hidden=8",
        ],
    );
    let mut page = String::new();
    let whole = until(DEADLINE, || {
        page = get(&address, "/metrics").unwrap_or_default();
        page.contains("unisono_last_checkpoint_timestamp_seconds ")
            && page.contains("unisono_job_remaining_seconds ")
    });
    assert!(whole, "{page}\n{}", cluster.told());
    let rules = fs::read_to_string(file("alerts.yml")).unwrap();
    let dashboard = fs::read_to_string(file("dashboard.json")).unwrap();
    let mut asked = vec![rules];
    expressions(&serde_json::from_str(&dashboard).unwrap(), &mut asked);
    assert!(asked.len() > 20, "{asked:?}");
    for name in asked.iter().flat_map(|text| names(text)) {
        // It has no sample before a job has ended.
        let begin = match name.as_str() {
            "unisono_jobs_ended_total" => "# TYPE unisono_jobs_ended_total ",
            name => name,
        };
        let told = page.lines().any(|line| line.starts_with(begin));
        assert!(told, "{name} is not told:\n{page}");
    }
    match program("promtool") {
        None => skip("promtool check metrics", "promtool is not installed"),
        Some(promtool) => {
            let mut checking = Command::new(promtool)
                .args(["check", "metrics"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = checking.stdin.take().unwrap();
            input.write_all(page.as_bytes()).unwrap();
            drop(input);
            must_succeed(&checking.wait_with_output().unwrap());
        }
    }
    cluster.verb(&["cancel", &id]).expect(0);
    let ended = until(DEADLINE, || {
        let page = get(&address, "/metrics").unwrap_or_default();
        page.contains("unisono_jobs_ended_total{state=\"cancelled\",cause=\"\"} 1")
    });
    assert!(ended, "{}", cluster.told());
    assert!(get(&address, "/healthz").is_some() && get(&address, "/readyz").is_some());
}

#[test]
fn promtool_takes_the_rules_their_tests_and_the_configuration() {
    let Some(promtool) = program("promtool") else {
        return skip("the alert rules", "promtool is not installed");
    };
    let run = |args: &[&str], path: &Path| {
        let mut command = Command::new(&promtool);
        command.args(args).arg(path).output().unwrap()
    };
    must_succeed(&run(&["check", "rules"], &file("alerts.yml")));
    must_succeed(&run(&["check", "config"], &file("prometheus.yml")));
    must_succeed(&run(&["test", "rules"], &file("alerts.test.yml")));
    let rules = fs::read_to_string(file("alerts.yml")).unwrap();
    let tests = fs::read_to_string(file("alerts.test.yml")).unwrap();
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 8, "{alerts:?}");
    for alert in &alerts {
        assert!(
            tests.contains(&format!("alertname: {alert}\n    exp_alerts:")),
            "nothing makes {alert} fire in the tests"
        );
    }
    // The tests see it when a rule is another.
    let dir = tempfile::tempdir().unwrap();
    let other = rules.replace(
        "unisono_storage_writable == 0",
        "unisono_storage_writable == 1",
    );
    assert_ne!(other, rules);
    fs::write(dir.path().join("alerts.yml"), other).unwrap();
    let tests_there = dir.path().join("alerts.test.yml");
    fs::write(&tests_there, tests).unwrap();
    assert!(!run(&["test", "rules"], &tests_there).status.success());
}

#[test]
fn prometheus_scrapes_a_run() {
    let Some(prometheus) = program("prometheus") else {
        return skip("a scrape by Prometheus", "prometheus is not installed");
    };
    let (cluster, address) = watched();
    let dir = tempfile::tempdir().unwrap();
    let config = fs::read_to_string(file("prometheus.yml")).unwrap();
    let config = config
        .replace("coordinator:7701", &address)
        .replace("15s", "1s");
    fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    fs::copy(file("alerts.yml"), dir.path().join("alerts.yml")).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = free.local_addr().unwrap().to_string();
    drop(free);
    let mut command = Command::new(prometheus);
    command
        .arg(format!(
            "--config.file={}",
            dir.path().join("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.path().join("data").display()
        ))
        .arg(format!("--web.listen-address={own}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let watching = Process::start(command);
    let job = root().join("examples/digits.toml");
    let id = cluster.submit(&job, &["train.epochs=1", "model.hidden=8"]);
    let ended = cluster.wait_until_ended(&id);
    let steps = ended["step"].as_u64().or(ended["steps"].as_u64()).unwrap();
    let value = |query: &str| {
        let answer = get(&own, &format!("/api/v1/query?query={query}"))?;
        // Its body comes in chunks.
        let (begin, end) = (answer.find('{')?, answer.rfind('}')?);
        let answer: Value = serde_json::from_str(&answer[begin..=end]).ok()?;
        let value = answer["data"]["result"][0]["value"][1].as_str()?;
        value.parse::<f64>().ok()
    };
    let seen = until(DEADLINE, || {
        value("unisono_step_duration_seconds_count") == Some(steps as f64)
    });
    assert!(
        seen,
        "{steps} steps: {:?}\n{}",
        value("up"),
        watching.stderr()
    );
    assert_eq!(value("up"), Some(1.0));
    assert_eq!(value("unisono_workers"), Some(1.0));
    assert_eq!(value("sum(unisono_jobs_ended_total)"), Some(1.0));
}
