//! `coordinator`: leads a cluster until it is told to stop.

use std::time::Duration;

use coordinator::{
    server::{Config, Coordinator, TlsFiles},
    store::Layout,
};
use speech::output_file;

use crate::{
    args, corpus_roots,
    exit::{CommandError, Result},
    memory, output, process, runtime,
    signals::Signals,
};

/// A checkpoint of everything and the farewells take no longer than this.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(4);

pub(super) fn run(args: args::CoordinatorArgs) -> Result<()> {
    if let Some(parent) = args.parent {
        process::end_with(parent)?;
    }
    memory::give_back_soon();
    let roots = corpus_roots::typed(&args.corpus_roots)?;
    runtime::block_on(async move {
        let mut signals = Signals::listen()?;
        let scheme = if args.certs_dir.is_some() {
            "https"
        } else {
            "http"
        };
        let tls = args.certs_dir.map(|certs_dir| TlsFiles {
            certs_dir,
            tokens: args.tokens,
            trust_domain: args.trust_domain,
        });
        let start = Coordinator::start(Config {
            listen: args.listen,
            metrics: args.metrics,
            layout: Layout::Queue {
                data_dir: args.data_dir.clone(),
            },
            allow_plaintext: args.allow_plaintext,
            corpus_roots: roots,
            tls,
            cache_dir: Some(args.data_dir.join("cache")),
            dismiss_workers: args.dismiss_workers,
        });
        let mut running = tokio::select! {
            running = start => running?,
            // The name that it is to listen on may be looked up for a while.
            signal = signals.next() => {
                let told = "the coordinator was stopped before it began".to_owned();
                return Err(CommandError::Signal { signal, told }.into());
            }
        };
        let addr = running.addr();
        if let Some(path) = &args.port_file {
            // Whoever waits for the file finds it whole.
            output_file::write(path, &|out| writeln!(out, "{}", addr.port()))?;
        }
        output::message(&format!(
            "coordinator ready on {scheme}://{addr}, data in {}",
            args.data_dir.display()
        ));
        if let Some(addr) = running.metrics_addr() {
            output::message(&format!(
                "metrics on http://{addr}/metrics, with /healthz and /readyz beside them"
            ));
        }
        let signal = tokio::select! {
            signal = signals.next() => signal,
            stopped = running.broken() => return Err(stopped.into()),
        };
        output::message(&format!(
            "{signal}: writing a checkpoint and saying goodbye"
        ));
        tokio::select! {
            () = running.shutdown(SHUTDOWN_GRACE) => {}
            // Twice means now.
            _ = signals.insisted() => {}
        }
        let told =
            "the coordinator has stopped; queued and running jobs go on when it is started again"
                .to_owned();
        Err(CommandError::Signal { signal, told }.into())
    })
}
