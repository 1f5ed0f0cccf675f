//! `certs`: a cluster's certificates, made, shown, renewed and revoked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use coordinator::server::REVOKED;
use jiff::{SignedDuration, Timestamp};
use proto::{
    certificate::Certificate,
    tls::{self, AUTHORITY, NODE},
};
use serde_json::{Value, json};
use speech::output_file;

use crate::{
    args::{CertsCommand, CertsFiles},
    certs::{AUTHORITY_KEY, Authority, Subject},
    exit::{CommandError, Context as _, Result},
    output::{self, OutputFormat},
};

pub(super) fn run(verb: CertsCommand) -> Result<()> {
    match verb {
        CertsCommand::Init(args) => {
            let CertsFiles {
                folder,
                authority_dir,
                days,
            } = &args.files;
            let certs_dir = &folder.certs_dir;
            // Before anything is written.
            let node = Subject::node("coordinator", args.hosts.clone())?;
            let authority = Authority::create(certs_dir, authority_dir, *days)?;
            let mut written = vec![certs_dir.join(AUTHORITY), authority_dir.join(AUTHORITY_KEY)];
            if !args.hosts.is_empty() {
                written.push(authority.issue(certs_dir, &node, *days)?);
            }
            tell(args.output.format, &written)
        }
        CertsCommand::Node(args) => {
            let subject = Subject::node("coordinator", args.hosts)?;
            issue(
                &args.files,
                &args.files.folder.certs_dir,
                &subject,
                args.output.format,
            )
        }
        CertsCommand::Client(args) => {
            let subject = Subject::client(&args.name, args.roles)?;
            let dir = args.out.as_ref().unwrap_or(&args.files.folder.certs_dir);
            issue(&args.files, dir, &subject, args.output.format)
        }
        CertsCommand::List(args) => list(&args.folder.certs_dir, args.output.format),
        CertsCommand::Renew(args) => renew(
            &args.files,
            &args.files_named,
            args.within,
            args.output.format,
        ),
        CertsCommand::Revoke(args) => revoke(
            &args.certificate,
            &args.folder.certs_dir,
            args.output.format,
        ),
    }
}

fn tell(format: OutputFormat, written: &[PathBuf]) -> Result<()> {
    let names: Vec<String> = written
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    output::print(format, &json!({ "written": names }), |_| {
        format!("wrote {}", names.join(", "))
    })
}

fn issue(files: &CertsFiles, dir: &Path, subject: &Subject, format: OutputFormat) -> Result<()> {
    let path = dir.join(subject.file());
    if path.exists() {
        let told = format!(
            "there is {} already; `unisono certs renew {}` replaces it",
            path.display(),
            subject.file()
        );
        return Err(CommandError::Data(told).into());
    }
    let authority = Authority::open(&files.folder.certs_dir, &files.authority_dir)?;
    let written = authority.issue(dir, subject, files.days)?;
    tell(format, &[written])
}

/// The certificates of a folder by the names of their files.
fn found(dir: &Path) -> Result<Vec<(String, Certificate)>> {
    let entries = fs::read_dir(dir).map_err(|error| {
        CommandError::Data(format!("cannot read the folder {}: {error}", dir.display()))
    })?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".crt"))
        .collect();
    names.sort();
    let read = |name: String| {
        let certificate = tls::certificate(&dir.join(&name))
            .map_err(|error| CommandError::Data(error.to_string()))?;
        Ok((name, certificate))
    };
    names.into_iter().map(read).collect()
}

/// The serial numbers in a list of revoked certificates.
fn revoked(dir: &Path) -> String {
    // Without one, nothing is revoked.
    fs::read_to_string(dir.join(REVOKED)).unwrap_or_default()
}

fn state(certificate: &Certificate, revoked: &str, now: Timestamp) -> &'static str {
    const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);
    let is_its =
        |line: &str| line.split('#').next().unwrap_or_default().trim() == certificate.serial;
    if revoked.lines().any(is_its) {
        "revoked"
    } else if now < certificate.not_before {
        "not valid yet"
    } else if now > certificate.not_after {
        "expired"
    } else if certificate.not_after.duration_since(now) < SOON {
        "expires soon"
    } else {
        "valid"
    }
}

fn list(dir: &Path, format: OutputFormat) -> Result<()> {
    let (found, revoked, now) = (found(dir)?, revoked(dir), Timestamp::now());
    let fields = |(file, certificate): &(String, Certificate)| {
        let identity = certificate.identity.as_ref();
        let name = identity.map_or(String::new(), |identity| identity.name.clone());
        let roles = match (file.as_str(), identity) {
            (AUTHORITY, _) => "authority".to_owned(),
            (NODE, _) => "coordinator".to_owned(),
            (_, Some(identity)) => identity.roles.to_string(),
            (_, None) => "none".to_owned(),
        };
        (name, roles, state(certificate, &revoked, now))
    };
    let values: Vec<Value> = found
        .iter()
        .map(|entry| {
            let (name, roles, state) = fields(entry);
            let (file, certificate) = entry;
            json!({
                "file": file, "name": name, "roles": roles, "hosts": certificate.hosts,
                "not_before": certificate.not_before.to_string(),
                "not_after": certificate.not_after.to_string(),
                "serial": certificate.serial, "state": state,
            })
        })
        .collect();
    output::print(format, &values, |_| {
        let rows = found.iter().map(|entry| {
            let (name, roles, state) = fields(entry);
            let (file, certificate) = entry;
            let until = certificate.not_after.to_string();
            vec![
                file.clone(),
                name,
                roles,
                certificate.hosts.join(" "),
                until,
                state.to_owned(),
            ]
        });
        let header = ["file", "name", "roles", "hosts", "valid until", "state"];
        output::table(&header, rows.collect())
    })
}

fn renew(
    files: &CertsFiles,
    named: &[String],
    within: Option<u32>,
    format: OutputFormat,
) -> Result<()> {
    let authority = Authority::open(&files.folder.certs_dir, &files.authority_dir)?;
    let found = found(&files.folder.certs_dir)?;
    if let Some(missing) = named
        .iter()
        .find(|name| !found.iter().any(|(file, _)| file == *name))
    {
        let dir = files.folder.certs_dir.display();
        return Err(
            CommandError::Data(format!("there is no certificate {missing:?} in {dir}")).into(),
        );
    }
    let end =
        within.map(|days| Timestamp::now() + SignedDuration::from_hours(24 * i64::from(days)));
    let mut written = Vec::new();
    for (file, certificate) in found {
        let wanted = file != AUTHORITY && (named.is_empty() || named.contains(&file));
        if !wanted || end.is_some_and(|end| certificate.not_after > end) {
            continue;
        }
        let subject = match certificate.identity {
            _ if file == NODE => Subject::node("coordinator", certificate.hosts)?,
            Some(identity) => Subject::client(&identity.name, identity.roles.iter().collect())?,
            None => continue,
        };
        if subject.file() != file {
            let told = format!(
                "{file} is the certificate of {}; rename it back to renew it",
                subject.file()
            );
            return Err(CommandError::Data(told).into());
        }
        written.push(authority.issue(&files.folder.certs_dir, &subject, files.days)?);
    }
    tell(format, &written)
}

fn revoke(path: &Path, dir: &Path, format: OutputFormat) -> Result<()> {
    let certificate =
        tls::certificate(path).map_err(|error| CommandError::Data(error.to_string()))?;
    let list = dir.join(REVOKED);
    let mut text = revoked(dir);
    if state(&certificate, &text, Timestamp::now()) != "revoked" {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let name = certificate
            .identity
            .map_or(String::new(), |identity| identity.name);
        text.push_str(&format!(
            "{} # {name}, revoked {}\n",
            certificate.serial,
            Timestamp::now()
        ));
        output_file::write(&list, &|out| out.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", list.display()))?;
    }
    tell(format, &[list])
}
