//! TLS between the processes of a cluster: who is let in, who is told what, and that no bit depends on it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use serde_json::Value;

use crate::{
    cluster::Cluster,
    fixture::{Ended, Head, run, tiny_job, train, unisono, until},
};

/// Runs a command line in `dir`, which is to end well.
#[track_caller]
fn well(dir: &Path, line: &str) -> Ended {
    run(dir, line.split(' ')).expect(0)
}

/// A coordinator with TLS, and folders with one client certificate each: `worker`, `ada` (submit) and `bob` (read).
struct Site(Cluster);

impl Site {
    fn start(host: &str, options: &str) -> Self {
        let mut cluster = Cluster::vacant("127.0.0.1:0");
        let dir = cluster.dir.path();
        well(dir, &format!("certs init --host {host}"));
        for (name, role) in [("worker", "worker"), ("ada", "submit"), ("bob", "read")] {
            well(
                dir,
                &format!("certs client {name} --role {role} --out {name}"),
            );
        }
        let mut command = unisono();
        command
            .current_dir(dir)
            .args("coordinator --listen 127.0.0.1:0 --data-dir data --certs-dir certs".split(' '))
            .args(options.split_whitespace());
        cluster.take_coordinator(command);
        cluster.url = cluster.url.replace("http://", "https://");
        Self(cluster)
    }

    fn dir(&self) -> &Path {
        self.0.dir.path()
    }

    fn verb(&self, folder: &str, line: &str) -> Ended {
        let args: Vec<&str> = line.split(' ').chain(["--certs-dir", folder]).collect();
        self.0.verb(&args)
    }

    #[track_caller]
    fn refused(&self, folder: &str, line: &str, told: &[&str]) {
        let ended = self.verb(folder, line).expect(78);
        for part in told {
            assert!(ended.stderr.contains(part), "{part:?}: {ended:?}");
        }
    }

    fn hire(&mut self) {
        let folder = self.dir().join("worker");
        self.0
            .hire(&["--certs-dir", folder.to_str().unwrap()], None);
    }

    /// Submits the tiny job as `ada`, and gives its status when it has ended.
    fn train(&self, job: &Path, sets: &str, meanwhile: impl FnOnce(&str)) -> Value {
        let line = format!("submit {} --no-wait -o json{sets}", job.display());
        let id = self.verb("ada", &line).expect(0).json()["id"].clone();
        let id = id.as_str().unwrap();
        meanwhile(id);
        let mut status = Value::Null;
        let ended = until(crate::fixture::DEADLINE, || {
            status = self
                .verb("bob", &format!("status {id} -o json"))
                .expect(0)
                .json();
            status["status"] != "queued" && status["status"] != "running"
        });
        assert!(ended, "{status:#}\n{}", self.0.told());
        assert_eq!(
            status["status"],
            "succeeded",
            "{status:#}\n{}",
            self.0.told()
        );
        status
    }
}

/// A client certificate of the authority in `dir` with these days of validity from today on, in a folder.
fn forged(dir: &Path, folder: &str, from: i64, until: i64) -> PathBuf {
    let authority =
        KeyPair::from_pem(&fs::read_to_string(dir.join("certs-authority/ca.key")).unwrap());
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer
        .distinguished_name
        .push(DnType::CommonName, "unisono authority");
    let issuer = Issuer::new(issuer, authority.unwrap());
    let mut params = CertificateParams::default();
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now + time::Duration::days(from);
    params.not_after = now + time::Duration::days(until);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let id = "spiffe://unisono/admin/forged";
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    let pair = KeyPair::generate().unwrap();
    let made = params.signed_by(&pair, &issuer).unwrap();
    let out = dir.join(folder);
    fs::create_dir(&out).unwrap();
    fs::copy(dir.join("certs/ca.crt"), out.join("ca.crt")).unwrap();
    fs::write(out.join("client.forged.crt"), made.pem()).unwrap();
    fs::write(out.join("client.forged.key"), pair.serialize_pem()).unwrap();
    private(&out.join("client.forged.key"), 0o600);
    out
}

fn private(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn who_lacks_a_role_or_a_certificate_is_refused_with_the_reason() {
    let mut site = Site::start("127.0.0.1", "");
    let dir = site.dir().to_owned();
    let job = tiny_job(&dir, Head::Keyword);
    let job = job.to_str().unwrap();

    site.refused(
        "worker",
        &format!("submit {job}"),
        &["`worker`", "role `submit`"],
    );
    site.refused("worker", "jobs", &["role `read`"]);
    site.refused("bob", "cancel x", &["`bob`", "role `submit`"]);
    site.refused("ada", "jobs --prune 1", &["role `admin`"]);
    site.verb("ada", "jobs").expect(0);
    let id = site
        .verb("ada", &format!("submit {job} --no-wait"))
        .expect(0);
    let cancelled = site.verb("ada", &format!("cancel {}", id.stdout.trim()));
    cancelled.expect(0);

    let ended = site.0.verb(&["jobs"]).expect(78);
    assert!(ended.stderr.contains("--certs-dir"), "{ended:?}");
    let empty = dir.join("empty");
    fs::create_dir(&empty).unwrap();
    fs::copy(dir.join("certs/ca.crt"), empty.join("ca.crt")).unwrap();
    site.refused("empty", "jobs", &["client.NAME.crt"]);

    forged(&dir, "expired", -20, -10);
    site.refused("expired", "jobs", &["certificate", "expired", "certs list"]);
    forged(&dir, "early", 10, 20);
    site.refused("early", "jobs", &["certificate", "not valid yet"]);

    well(
        &dir,
        "certs init --certs-dir foreign --authority-dir foreign-authority",
    );
    well(
        &dir,
        "certs client eve --role admin --certs-dir foreign --authority-dir foreign-authority",
    );
    site.refused("foreign", "jobs", &["another authority"]);
    fs::copy(dir.join("certs/ca.crt"), dir.join("foreign/ca.crt")).unwrap();
    site.refused("foreign", "jobs", &["does not accept", "another authority"]);

    private(&dir.join("bob/client.bob.key"), 0o644);
    site.refused("bob", "jobs", &["client.bob.key", "0644", "chmod 600"]);
    private(&dir.join("bob/client.bob.key"), 0o600);

    // A worker is told as well, and does not try for ever.
    site.hire();
    let worker = site.0.workers.pop().unwrap();
    assert!(
        until(Duration::from_secs(30), || worker
            .stderr()
            .contains("joined")),
        "{}",
        worker.stderr()
    );
    let url = site.0.url.clone();
    let args = [
        "worker",
        "--coordinator",
        &url,
        "--certs-dir",
        "bob",
        "--threads",
        "1",
    ];
    let ended = run(&dir, args).expect(78);
    assert!(ended.stderr.contains("role `worker`"), "{ended:?}");

    // A revoked certificate is of no use at once, on an open connection too.
    well(&dir, "certs revoke worker/client.worker.crt");
    let ended = worker.wait();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("is revoked"), "{ended:?}");

    // Plaintext to TLS.
    site.0.url = url.replace("https://", "http://");
    site.refused("ada", "jobs", &["https://", "TLS"]);
    let ended = run(
        &dir,
        ["worker", "--threads", "1", "--coordinator", &site.0.url],
    )
    .expect(78);
    assert!(ended.stderr.contains("https://"), "{ended:?}");
}

#[test]
fn tls_to_plaintext_another_host_and_a_wrong_host_are_told() {
    let mut plain = Cluster::start(&[]);
    let dir = plain.dir.path().to_owned();
    well(&dir, "certs init");
    well(&dir, "certs client ada --role submit");
    plain.url = plain.url.replace("http://", "https://");
    let ended = plain.verb(&["jobs", "--certs-dir", "certs"]).expect(78);
    assert!(ended.stderr.contains("does not speak TLS"), "{ended:?}");
    let ended = run(&dir, ["jobs", "--coordinator", "http://192.0.2.1:7700"]).expect(78);
    assert!(ended.stderr.contains("--allow-plaintext"), "{ended:?}");

    let site = Site::start("other.example", "");
    site.refused(
        "ada",
        "jobs",
        &["not for the host", "127.0.0.1", "other.example"],
    );
}

#[test]
fn a_token_stands_for_a_role_until_it_is_revoked() {
    let site = Site::start("127.0.0.1", "--tokens tokens");
    let dir = site.dir();
    well(dir, "token create carl --role read --out carl.token");
    let list = well(dir, "token list").stdout;
    assert!(list.contains("carl") && list.contains("read"), "{list}");
    fs::create_dir(dir.join("authority-only")).unwrap();
    fs::copy(dir.join("certs/ca.crt"), dir.join("authority-only/ca.crt")).unwrap();
    let with = |line: &str| site.verb("authority-only", &format!("{line} --token-file carl.token"));
    let known = until(Duration::from_secs(20), || with("jobs").code == Some(0));
    assert!(known, "{:?}", with("jobs"));
    let ended = with("cancel x").expect(78);
    assert!(
        ended.stderr.contains("`carl`") && ended.stderr.contains("role `submit`"),
        "{ended:?}"
    );

    let text = fs::read_to_string(dir.join("carl.token")).unwrap();
    assert!(
        !fs::read_to_string(dir.join("tokens"))
            .unwrap()
            .contains(text.trim())
    );
    private(&dir.join("carl.token"), 0o640 | 0o004);
    let ended = with("jobs").expect(78);
    assert!(ended.stderr.contains("chmod 600"), "{ended:?}");
    private(&dir.join("carl.token"), 0o600);
    fs::write(dir.join("carl.token"), "\n").unwrap();
    let ended = with("jobs").expect(78);
    assert!(ended.stderr.contains("holds no token"), "{ended:?}");

    fs::write(dir.join("carl.token"), text).unwrap();
    well(dir, "token revoke carl");
    let revoked = until(Duration::from_secs(20), || with("jobs").code == Some(78));
    assert!(revoked, "{:?}", with("jobs"));
    assert!(with("jobs").stderr.contains("token is unknown"));
}

#[test]
fn files_of_certificates_are_private_and_listed_and_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    well(dir, "certs init --host 127.0.0.1 --host node.example");
    well(dir, "certs client ada --role submit");
    for file in [
        "certs/ca.crt",
        "certs/node.key",
        "certs/client.ada.key",
        "certs-authority/ca.key",
    ] {
        let mode = fs::metadata(dir.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(!dir.join("certs/ca.key").exists());
    let list = || well(dir, "certs list -o json").json();
    let before = list();
    let files: Vec<_> = before
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["file"].clone())
        .collect();
    assert_eq!(files, ["ca.crt", "client.ada.crt", "node.crt"]);
    assert_eq!(before[1]["roles"], "submit");
    assert_eq!(
        before[2]["hosts"],
        serde_json::json!(["127.0.0.1", "node.example"])
    );
    assert_eq!(before[2]["state"], "valid");
    well(dir, "certs renew --within 30");
    assert_eq!(list(), before);
    well(dir, "certs renew node.crt --days 7");
    let after = list();
    assert_eq!((&after[0], &after[1]), (&before[0], &before[1]));
    assert_ne!(after[2]["serial"], before[2]["serial"]);
    assert_eq!(
        (&after[2]["hosts"], after[2]["state"].as_str()),
        (&before[2]["hosts"], Some("expires soon"))
    );
    for (line, told) in [
        ("certs init", "already"),
        ("certs client ada --role read", "already"),
        ("certs client a/b --role read", "cannot be a name"),
        ("certs node --host a_b/c", "neither a DNS name"),
        ("certs renew client.eve.crt", "client.eve.crt"),
    ] {
        let ended = run(dir, line.split(' ')).expect(78);
        assert!(ended.stderr.contains(told), "{line}: {ended:?}");
    }
}

#[test]
fn the_bits_are_the_same_with_tls_and_through_a_change_of_certificates() {
    let mut site = Site::start("127.0.0.1", "");
    let dir = site.dir().to_owned();
    let job = tiny_job(&dir, Head::Keyword);
    let sets = " --set train.epochs=30";
    let expected = train(&dir, "plain", "1", &["train.epochs=30"]);
    let weights = |status: &Value| status["weights_sha256"].clone();
    assert!(weights(&expected).is_string(), "{expected:#}");
    site.hire();
    let one = site.train(&job, sets, |_| {});
    assert_eq!(weights(&one), weights(&expected));
    for _ in 0..3 {
        site.hire();
    }
    let four = site.train(&job, sets, |id| {
        let running = until(crate::fixture::DEADLINE, || {
            site.verb("bob", &format!("status {id} -o json"))
                .expect(0)
                .json()["step"]
                .as_u64()
                > Some(5)
        });
        assert!(running, "{}", site.0.told());
        well(&dir, "certs renew");
        let renewed = until(Duration::from_secs(20), || {
            site.0
                .coordinator
                .as_ref()
                .unwrap()
                .stderr()
                .contains("read certificates and tokens again")
        });
        assert!(renewed, "{}", site.0.told());
    });
    assert_eq!(weights(&four), weights(&expected));
}

/// The page for operators, as it stands but for the addresses.
#[test]
fn the_commands_of_the_page_make_a_cluster_of_three_hosts() {
    let page = fs::read_to_string(crate::fixture::root().join("docs/tls.md")).unwrap();
    let commands: Vec<&str> = page
        .split("```console\n")
        .skip(1)
        .flat_map(|block| block.split("```").next().unwrap().lines())
        .collect();
    assert_eq!(commands.len(), 8, "{commands:?}");
    let mut cluster = Cluster::vacant("127.0.0.1:0");
    let dir = cluster.dir.path().to_owned();
    tiny_job(&dir, Head::Keyword);
    for line in commands {
        let address = cluster.url.trim_start_matches("http://");
        let line = line
            .replace("coordinator.example:7700", address)
            .replace("coordinator.example", "127.0.0.1")
            .replace("0.0.0.0:7700", "127.0.0.1:0")
            .replace("examples/digits.toml", "tiny.toml");
        let args: Vec<&str> = line.strip_prefix("unisono ").unwrap().split(' ').collect();
        let mut command = unisono();
        command.current_dir(&dir).args(&args);
        match args[0] {
            "coordinator" => cluster.take_coordinator(command),
            "worker" => {
                command.args([
                    "--threads",
                    "1",
                    "--cache-dir",
                    &format!("cache-{}", args[4]),
                ]);
                cluster
                    .workers
                    .push(crate::fixture::Process::start(command));
            }
            _ => {
                crate::fixture::Process::start(command).wait().expect(0);
            }
        }
    }
}
