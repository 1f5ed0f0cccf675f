//! `token`: a coordinator's tokens, made, shown and revoked.

use coordinator::tokens::{Token, Tokens};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use speech::output_file;

use crate::{
    args::TokenCommand,
    exit::{Context as _, Result},
    output,
};

pub(super) fn run(verb: TokenCommand) -> Result<()> {
    match verb {
        TokenCommand::Create(args) => {
            let mut tokens = Tokens::read(&args.list.tokens)?;
            let expires = Timestamp::now() + SignedDuration::from_hours(24 * i64::from(args.days));
            let text = tokens.create(&args.name, args.role, expires)?;
            // Before it is in force: one that is nowhere would be lost.
            if let Some(path) = &args.out {
                output_file::write(path, &|out| writeln!(out, "{text}"))
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            tokens.write(&args.list.tokens)?;
            let shown = args.out.is_none().then_some(text.as_str());
            let value = json!({ "name": args.name, "role": args.role.name(),
                "expires": expires.to_string(), "token": shown });
            output::print(args.list.output.format, &value, |_| match &args.out {
                None => text.clone(),
                Some(path) => format!("wrote the token of {} to {}", args.name, path.display()),
            })
        }
        TokenCommand::List(args) => {
            let tokens = Tokens::read(&args.tokens)?;
            let now = Timestamp::now();
            let state = |token: &Token| {
                if now > token.expires {
                    "expired"
                } else {
                    "valid"
                }
            };
            let value = |token: &Token| {
                json!({ "name": token.name, "role": token.role,
                    "expires": token.expires.to_string(), "state": state(token) })
            };
            let values: Vec<Value> = tokens.iter().map(value).collect();
            output::print(args.output.format, &values, |_| {
                let row = |token: &Token| {
                    let expires = token.expires.to_string();
                    vec![
                        token.name.clone(),
                        token.role.clone(),
                        expires,
                        state(token).to_owned(),
                    ]
                };
                let header = ["name", "role", "valid until", "state"];
                output::table(&header, tokens.iter().map(row).collect())
            })
        }
        TokenCommand::Revoke(args) => {
            let mut tokens = Tokens::read(&args.list.tokens)?;
            tokens.revoke(&args.name)?;
            tokens.write(&args.list.tokens)?;
            let value = json!({ "revoked": args.name });
            output::print(args.list.output.format, &value, |_| {
                format!("revoked the token of {}", args.name)
            })
        }
    }
}
