//! `resume`: puts a job that has ended back into the queue, as it was or with some keys changed.

use std::path::Path;

use proto::v1::ResumeRequest;

use crate::{args, client, exit::Result, jobs::view, runtime};

pub(super) fn run(args: args::ResumeJob) -> Result<()> {
    let here = std::env::current_dir()?;
    let request = ResumeRequest {
        id: args.id.clone(),
        sets: args.sets.iter().map(|set| absolute(set, &here)).collect(),
        allow_change: args.allow_change,
    };
    let (job, report) = runtime::block_on(async {
        let mut client = client::connect(&args.at).await?;
        let job = client.resume(request).await;
        let job = job.map_err(|status| client::refused(&status))?.into_inner();
        let report = client::report(&mut client, &job.id).await?;
        Ok((job, report))
    })?;
    view::show(&job, &report, args.output.format)
}

/// `set` with the path that it names, if it does, seen from `here`: the coordinator has another working
/// directory.
fn absolute(set: &str, here: &Path) -> String {
    let Some((key, value)) = set.split_once('=') else {
        return set.to_owned();
    };
    let text = value.trim().trim_matches(['"', '\'']);
    let names_file = match key.trim() {
        "corpus.train" | "corpus.valid" | "train.init" => !text.is_empty(),
        "decode.language_model" | "decode.lexicon" => !["", "none", "train"].contains(&text),
        _ => false,
    };
    if !names_file {
        return set.to_owned();
    }
    let path = here.join(text);
    format!(
        "{key}={}",
        toml::Value::from(path.to_string_lossy().into_owned())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_seen_from_here_and_other_values_left_alone() {
        let here = Path::new("/home/ada");
        for (set, sent) in [
            (
                "corpus.train=a b.jsonl",
                r#"corpus.train="/home/ada/a b.jsonl""#,
            ),
            (
                "corpus.valid=\"/x/v.jsonl\"",
                r#"corpus.valid="/x/v.jsonl""#,
            ),
            ("corpus.valid=", "corpus.valid="),
            ("decode.lexicon=train", "decode.lexicon=train"),
            (
                "decode.lexicon=words",
                r#"decode.lexicon="/home/ada/words""#,
            ),
            ("train.epochs=3", "train.epochs=3"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(absolute(set, here), sent);
        }
    }
}
