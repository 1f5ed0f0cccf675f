//! The decoder bundle, what a model is decoded with beside the model: `decode.json`, and `lm.arpa` and `lexicon.txt` where it
//! has them. It decides what must be there and what of it is made of transcripts.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use super::{DecodeConfig, DecodeError, Decoder, WordSource};
use crate::{
    corpus_roots::CorpusRoots,
    error_class::{self, Class, Classify},
    lexicon::{Lexicon, LexiconError},
    lm::{self, LmError, NgramModel, TrainError},
    regular_file,
    text::Vocabulary,
    tolerance::TooManyBad,
};

const CONFIG: &str = "decode.json";
/// The largest `decode.json` that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const LANGUAGE_MODEL: &str = "lm.arpa";
const LEXICON: &str = "lexicon.txt";

/// Configuration, language model and lexicon of a decoder: all that it is made of but the model's vocabulary.
#[derive(Clone, Debug, Default)]
pub struct DecoderBundle {
    /// The `[decode]` section that it was made by.
    pub config: DecodeConfig,
    /// The language model of shallow fusion.
    pub language_model: Option<Arc<NgramModel>>,
    /// The words that hypotheses are bound to.
    pub lexicon: Option<Lexicon>,
}

#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum BundleError {
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {reason}", path.display())]
    Config { path: PathBuf, reason: String },
    #[error(transparent)]
    LanguageModel(#[from] LmError),
    #[error(transparent)]
    Lexicon(#[from] LexiconError),
    #[error(
        "the lexicon's words: {source}; {named} among them: the model's vocabulary lacks them, or their characters"
    )]
    TooManyWords { source: TooManyBad, named: String },
    #[error("the language model of the transcripts: {0}")]
    Train(#[from] TrainError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Classify for BundleError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

impl BundleError {
    /// The message without the words of the files: for somebody who may name them, and might not read them.
    pub fn without_contents(&self) -> String {
        match self {
            Self::LanguageModel(error) => error.without_contents(),
            Self::TooManyWords { source, .. } => format!("the lexicon's words: {source}"),
            Self::Decode(error) => error.without_contents(),
            Self::Config { path, .. } => format!("{}: it is no such file", path.display()),
            Self::Lexicon(LexiconError::Line { path, line, .. }) => format!(
                "{}:{line}: this is no line of a lexicon, which has one word a line",
                path.display()
            ),
            Self::Read { .. } | Self::Lexicon(_) | Self::Train(_) => self.to_string(),
        }
    }
}

impl DecoderBundle {
    /// Reads the files that `config` names, which lie beneath `roots`, and makes of `transcripts` what it wants made
    /// of them.
    ///
    /// # Errors
    /// Names the file and line, or the field, that is not what it must be.
    pub fn prepare<T: AsRef<str>>(
        config: &DecodeConfig,
        transcripts: &[T],
        roots: &CorpusRoots,
    ) -> Result<Self, BundleError> {
        config.check()?;
        let language_model = match &config.language_model {
            WordSource::None => None,
            WordSource::Train => Some(lm::train(transcripts, config.order)?.model),
            WordSource::File(path) => Some(NgramModel::read_beneath(roots, path)?),
        };
        let lexicon = match &config.lexicon {
            WordSource::None => None,
            WordSource::Train => Some(Lexicon::of_texts(transcripts)),
            WordSource::File(path) => Some(Lexicon::read_beneath(roots, path)?),
        };
        Ok(Self {
            config: config.clone(),
            language_model: language_model.map(Arc::new),
            lexicon,
        })
    }

    /// Reads what lies beside a model in `folder`; nothing where it is to be decoded greedily.
    ///
    /// # Errors
    /// Names the file that is missing or not what it must be.
    pub fn read(folder: &Path) -> Result<Option<Self>, BundleError> {
        let path = folder.join(CONFIG);
        let text = match regular_file::read_to_string(&path, MAX_CONFIG_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BundleError::Read { path, source }),
        };
        let config: DecodeConfig =
            serde_json::from_str(&text).map_err(|error| BundleError::Config {
                path,
                reason: error.to_string(),
            })?;
        config.check()?;
        let language_model = match config.language_model {
            WordSource::None => None,
            WordSource::Train | WordSource::File(_) => {
                Some(NgramModel::read(&folder.join(LANGUAGE_MODEL))?)
            }
        };
        let lexicon = match config.lexicon {
            WordSource::None => None,
            WordSource::Train | WordSource::File(_) => Some(Lexicon::read(&folder.join(LEXICON))?),
        };
        Ok(Some(Self {
            config,
            language_model: language_model.map(Arc::new),
            lexicon,
        }))
    }

    /// The files that [`read`](Self::read) reads, in the order in which they are to be written: the one
    /// that asks for the others is the last.
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut files = Vec::new();
        if let Some(model) = &self.language_model {
            let mut bytes = Vec::new();
            model
                .write_to(&mut bytes)
                .expect("memory takes what it is given");
            files.push((LANGUAGE_MODEL, bytes));
        }
        if let Some(lexicon) = &self.lexicon {
            files.push((LEXICON, lexicon.to_text().into_bytes()));
        }
        let config = serde_json::to_vec_pretty(&self.config).expect("numbers and texts are JSON");
        files.push((CONFIG, config));
        files
    }

    /// The decoder of a model with `vocabulary`.
    ///
    /// # Errors
    /// When the parts do not fit each other.
    pub fn decoder(&self, vocabulary: &Vocabulary) -> Result<Decoder, DecodeError> {
        let model = self.language_model.clone();
        Decoder::new(&self.config, vocabulary, model, self.lexicon.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TRANSCRIPTS: [&str; 3] = ["GO ON", "GO", "STOP"];

    fn write(bundle: &DecoderBundle, folder: &Path) {
        for (name, bytes) in bundle.files() {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        assert!(DecoderBundle::read(folder.path()).unwrap().is_none());
        let config = DecodeConfig {
            lexicon: WordSource::Train,
            lm_weight: 0.3,
            hot_words: vec!["GO ON".to_owned()],
            ..DecodeConfig::default()
        };
        let bundle =
            DecoderBundle::prepare(&config, &TRANSCRIPTS, &CorpusRoots::anywhere()).unwrap();
        write(&bundle, folder.path());
        let read = DecoderBundle::read(folder.path()).unwrap().unwrap();
        assert_eq!(read.config, config);
        assert_eq!(read.lexicon.as_ref().unwrap().words(), ["GO", "ON", "STOP"]);
        assert_eq!(read.files(), bundle.files());
        let vocabulary = Vocabulary::characters(TRANSCRIPTS).unwrap();
        read.decoder(&vocabulary).unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = DecoderBundle::prepare(
            &DecodeConfig::default(),
            &TRANSCRIPTS,
            &CorpusRoots::anywhere(),
        )
        .unwrap();
        write(&bundle, folder.path());
        fs::remove_file(folder.path().join(LANGUAGE_MODEL)).unwrap();
        let message = DecoderBundle::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("lm.arpa"), "{message}");
        fs::write(folder.path().join(CONFIG), "{\"beem\": 3}").unwrap();
        let message = DecoderBundle::read(folder.path()).unwrap_err().to_string();
        assert!(
            message.contains("decode.json") && message.contains("beem"),
            "{message}"
        );
        let config = DecodeConfig {
            lexicon: WordSource::File("no/such.txt".into()),
            ..DecodeConfig::default()
        };
        let message = DecoderBundle::prepare(&config, &TRANSCRIPTS, &CorpusRoots::anywhere())
            .unwrap_err()
            .to_string();
        assert!(message.contains("no/such.txt"), "{message}");
    }
}
