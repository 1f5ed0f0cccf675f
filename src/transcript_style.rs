//! Text written as a job or a trained model writes its transcripts (`--normalize-like`).

use std::path::Path;

use speech::text::TextConfig;

use crate::{exit::Result, jobs::file, model_folder};

/// The `[text]` of the model (a run's `final` folder) or the job (a TOML file) that text is to be written like; `None`
/// where nothing was named.
pub(crate) fn of(path: Option<&Path>) -> Result<Option<TextConfig>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let text = if path.is_dir() {
        model_folder::recipe(path)?.text
    } else {
        file::read(path, &[])?.text
    };
    Ok(Some(text))
}
