//! `worker`: computes for a coordinator until it is told goodbye.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use tokio::sync::watch;
use worker::{
    cache::CacheConfig,
    compute::{self, Compute},
    session::{Config, Farewell, Session},
};

use super::evaluate::choice;
use crate::{args, cores, exit::Failure, output, process, signals::Signals};

pub fn run(args: args::Worker) -> Result<()> {
    if let Some(parent) = args.parent {
        process::end_with(parent)?;
    }
    let threads = args
        .threads
        .map_or_else(cores::logical, |threads| threads as usize);
    compute::set_threads(threads)?;
    let compute = Compute::open(choice(args.device))?;
    output::message(&format!(
        "computes on {} ({threads} thread{})",
        compute.reason,
        if threads == 1 { "" } else { "s" }
    ));
    let mut cache = CacheConfig::new(args.cache_dir.unwrap_or_else(cache_dir));
    cache.shared_files = !args.no_shared_files;
    let (stop, shutdown) = watch::channel(false);
    let config = Config {
        coordinator: args.at.coordinator,
        compute,
        threads,
        name: args.name.unwrap_or_else(name),
        cache,
        give_up_after: Some(Duration::from_secs(args.give_up_after)),
        shutdown,
    };
    super::block_on(async move {
        let mut signals = Signals::listen()?;
        let mut session = std::pin::pin!(Session::run(config));
        let signal = tokio::select! {
            farewell = &mut session => return farewell_said(farewell?),
            signal = signals.next() => signal,
        };
        stop.send_replace(true);
        tokio::select! {
            farewell = session => { farewell?; }
            // Twice means now.
            _ = signals.next() => {}
        }
        let told = format!("left the coordinator after {signal}");
        Err(Failure::Signal { signal, told }.into())
    })
}

fn farewell_said(farewell: Farewell) -> Result<()> {
    if let Farewell::Dismissed(reason) = farewell {
        output::message(&format!("dismissed: {reason}"));
    }
    Ok(())
}

/// Host and process, for people.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "localhost",
        host => host,
    };
    format!("{host}:{}", std::process::id())
}

fn cache_dir() -> PathBuf {
    let variable = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    variable("XDG_CACHE_HOME")
        .or_else(|| Some(variable("HOME")?.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("unisono")
        .join("worker")
}
