//! `logs`: a job's events, as they were written or as sentences. Followed, through restarts of the coordinator.

use std::pin::pin;

use coordinator::records::events::{Event, Record};
use proto::v1::LogsRequest;
use tokio_stream::StreamExt as _;

use crate::{
    args, client,
    exit::{Error, Result},
    follow::{self, MAX_COORDINATOR_ABSENCE, Since, Update, What},
    jobs::outcome,
    narrate,
    output::{self, OutputFormat},
    runtime,
};

pub(super) fn run(args: args::Logs) -> Result<()> {
    runtime::block_on(async {
        let mut client = client::connect(&args.at).await?;
        let id = client::status(&mut client, args.id.clone()).await?.id;
        let mut printer = EventPrinter {
            format: args.output.format,
            synthetic: false,
            failed: None,
        };
        if args.follow {
            let show = |news| match news {
                Update::Line(line) => printer.print(line),
                Update::Event(_) | Update::Step(_) => {}
            };
            let wanted = follow::FollowRequest {
                what: What::Lines,
                since: Since::FirstLine,
                patience: MAX_COORDINATOR_ABSENCE,
            };
            let ended = follow::follow(&mut client, &id, wanted, show).await;
            printer.failed.map_or(Ok(()), Err)?;
            // What the job came to, so that `unisono logs -f ID && ...` goes on after success alone.
            return Ok(outcome::judge(&ended?)?);
        }
        let request = LogsRequest {
            id,
            follow: false,
            begin: None,
        };
        let lines = client.logs(request).await;
        let lines = lines.map_err(|status| client::refused(&status))?;
        let mut lines = pin!(client::lines(lines.into_inner()));
        while let Some(line) = lines.next().await {
            printer.print(line.map_err(|status| client::refused(&status))?.text);
            if printer.failed.is_some() {
                break;
            }
        }
        printer.failed.map_or(Ok(()), Err)
    })
}

struct EventPrinter {
    format: OutputFormat,
    /// The corpus is synthetic speech, as the job's first events say.
    synthetic: bool,
    /// Standard output cannot be written any more.
    failed: Option<Error>,
}

impl EventPrinter {
    fn print(&mut self, line: String) {
        let record = serde_json::from_str::<Record>(&line);
        let text = match (self.format, record) {
            (OutputFormat::Text, Ok(record)) => {
                if let Event::Prepared { synthetic, .. } = &record.event {
                    self.synthetic = *synthetic;
                }
                narrate::log_line(&record, self.synthetic)
            }
            // A newer version may have written it: it is shown as it is.
            _ => line,
        };
        if self.failed.is_none() {
            self.failed = output::line(&text).err();
        }
    }
}
