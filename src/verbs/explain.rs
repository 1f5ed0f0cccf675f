//! `explain`: the keys of a job file, from the types that read it.

use std::fmt::Write as _;

use coordinator::job::reference::{self, Key, Section};

use crate::{
    args,
    exit::{CommandError, Result},
    output,
};

pub(super) fn run(args: args::Explain) -> Result<()> {
    if args.schema {
        return output::line(&serde_json::to_string_pretty(&reference::schema())?);
    }
    let mut sections = reference::sections();
    if let Some(wanted) = &args.key {
        sections = named(&sections, wanted)?;
    }
    output::print(args.output.format, &sections, |sections| text(sections))
}

/// The section of this name, or the key of this name in its section alone.
fn named(sections: &[Section], wanted: &str) -> Result<Vec<Section>, CommandError> {
    let of_key = |section: &Section| {
        let mut section = section.clone();
        let name = section.name.clone();
        section.keys.retain(|key| path(&name, key) == wanted);
        (!section.keys.is_empty()).then_some(section)
    };
    let whole = sections.iter().filter(|section| section.name == wanted);
    let found: Vec<Section> = whole
        .cloned()
        .chain(sections.iter().filter_map(of_key))
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let keys = sections.iter().flat_map(|section| {
        let keys = section.keys.iter().map(|key| path(&section.name, key));
        keys.chain([section.name.clone()])
    });
    let nearest = keys.min_by_key(|known| strsim::damerau_levenshtein(wanted, known));
    Err(CommandError::Usage(format!(
        "a job has no key or section {wanted:?}; did you mean `{}`?",
        nearest.unwrap_or_default()
    )))
}

fn path(section: &str, key: &Key) -> String {
    match section {
        "" => key.name.clone(),
        section => format!("{section}.{}", key.name),
    }
}

fn text(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        if !section.name.is_empty() {
            let _ = writeln!(text, "[{}]  {}\n", section.name, section.meaning);
        }
        for key in &section.keys {
            let default = key.default.as_deref().unwrap_or("none");
            let _ = writeln!(
                text,
                "{} = {}\n    {}; default: {default}\n    {}\n",
                key.name,
                key.example,
                key.type_and_bounds(),
                key.full_meaning("\n    "),
            );
        }
    }
    text
}
