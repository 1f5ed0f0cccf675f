//! A worker process of `bench exchange`. It says on standard output what it has, hands its gradient in
//! when a line comes on standard input, and ends with that.

use std::io;

use serde::{Deserialize, Serialize};
use worker::bench::exchange::Exchange;

use crate::{args, exit::Result, output, process, runtime};

/// What a worker says, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// It is admitted and asks for work.
    Joined,
    /// It has the weights of a step, and a gradient to hand in.
    Ready {
        step: u64,
        micro_batches: usize,
        wait_s: f64,
        pull_s: f64,
    },
    /// The gradient was taken.
    Pushed { push_s: f64 },
}

pub(crate) fn run(args: args::ExchangeWorker) -> Result<()> {
    process::end_with(args.parent)?;
    runtime::block_on(async move {
        let name = format!("bench-{}", std::process::id());
        let (url, credentials) = (&args.at.coordinator, args.at.credentials(true));
        let mut exchange =
            Exchange::join(url, &credentials, name, args.elements, args.wire).await?;
        say(&Said::Joined)?;
        while let Some(leased) = exchange.next().await? {
            say(&Said::Ready {
                step: leased.step,
                micro_batches: leased.micro_batches,
                wait_s: leased.wait_s,
                pull_s: leased.pull_s,
            })?;
            if !told().await? {
                break;
            }
            let push_s = exchange.hand_in().await?;
            say(&Said::Pushed { push_s })?;
        }
        Ok(())
    })
}

/// Waits for a line; false when none will come any more.
async fn told() -> Result<bool> {
    let read = || io::stdin().read_line(&mut String::new());
    let read = tokio::task::spawn_blocking(read).await;
    Ok(read.map_err(io::Error::other)?? > 0)
}

fn say(said: &Said) -> Result<()> {
    output::line(&serde_json::to_string(said)?)
}
