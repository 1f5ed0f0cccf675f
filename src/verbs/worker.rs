//! `worker`: computes for a coordinator until it is told that there is no more work. One that is restarted is waited
//! for.

use std::{path::PathBuf, time::Duration};

use tokio::sync::watch;
use worker::{
    cache::CacheConfig,
    compute::{self, Compute},
    session::{Config, Farewell, Session},
};

use crate::{
    args, cache_folder, cores, corpus_roots,
    exit::{CommandError, Result},
    output, process, runtime,
    signals::Signals,
};

pub(super) fn run(args: args::WorkerArgs) -> Result<()> {
    if let Some(parent) = args.parent {
        process::end_with(parent)?;
    }
    let threads = args
        .threads
        .map_or_else(cores::logical, |threads| threads as usize);
    compute::set_threads(threads)?;
    let compute = Compute::open(args.device)?;
    output::message(&format!(
        "computes on {} ({threads} thread{})",
        compute.reason,
        if threads == 1 { "" } else { "s" }
    ));
    let mut cache = cache(args.cache_dir);
    cache.shared_files = corpus_roots::typed(&args.corpus_roots)?;
    let (stop, shutdown) = watch::channel(false);
    let config = Config {
        credentials: args.at.credentials(true),
        coordinator: args.at.coordinator,
        compute,
        threads,
        name: args.name.unwrap_or_else(name),
        cache,
        give_up_after: Some(Duration::from_secs(args.give_up_after)),
        shutdown,
    };
    runtime::block_on(async move {
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
            _ = signals.insisted() => {}
        }
        let told = format!("left the coordinator after {signal}");
        Err(CommandError::Signal { signal, told }.into())
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

/// In the folder that was named, or else where there is one.
fn cache(named: Option<PathBuf>) -> CacheConfig {
    if let Some(folder) = named {
        return CacheConfig::new(folder);
    }
    let found = cache_folder::find();
    if let Some(warning) = found.warning {
        output::message(&format!("warning: {warning}"));
    }
    found
        .folder
        .map_or_else(CacheConfig::in_memory, CacheConfig::new)
}
