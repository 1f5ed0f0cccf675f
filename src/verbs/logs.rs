//! `logs`: a job's events, as they were written or as sentences.

use std::pin::pin;

use anyhow::Result;
use coordinator::events::{Event, Record};
use proto::v1::LogsRequest;
use tokio_stream::StreamExt as _;

use crate::{
    args, client, narrate,
    output::{self, Format},
};

pub fn run(args: args::Logs) -> Result<()> {
    super::block_on(async {
        let mut client = client::connect(&args.at.coordinator).await?;
        let id = client::status(&mut client, args.id.clone()).await?.id;
        let request = LogsRequest {
            id,
            follow: args.follow,
        };
        let lines = client.logs(request).await;
        let lines = lines.map_err(|status| client::refused(&status))?;
        let mut lines = pin!(client::lines(lines.into_inner()));
        let mut synthetic = false;
        while let Some(line) = lines.next().await {
            let line = line.map_err(|status| client::refused(&status))?;
            let text = match (args.output.format, serde_json::from_str::<Record>(&line)) {
                (Format::Text, Ok(record)) => {
                    if let Event::Prepared { synthetic: is, .. } = &record.event {
                        synthetic = *is;
                    }
                    narrate::log_line(&record, synthetic)
                }
                // Of a newer version, perhaps: shown as it is.
                _ => line,
            };
            output::line(&text)?;
        }
        Ok(())
    })
}
