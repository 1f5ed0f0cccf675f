//! Arguments whose values are enums of the crates below. Such an enum is defined once, where it belongs: here are the names
//! that may be typed, with their help, and serde's names of the variants say which is which.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::de::{DeserializeOwned, IntoDeserializer as _, value::Error};

/// A name that may be typed, and its help; empty where the name says it all.
type Choice = (&'static str, &'static str);

pub(super) const DEVICES: &[Choice] = &[
    (
        "auto",
        "A hardware GPU when there is one, otherwise the CPU",
    ),
    ("cpu", ""),
    ("wgpu", "Any adapter of wgpu, a software one included"),
];
pub(super) const ERROR_UNITS: &[Choice] = &[
    ("words", ""),
    (
        "characters",
        "Spaces among them: for languages that are written without spaces between words",
    ),
    ("utterances", "An utterance is right or wrong"),
];
pub(super) const HEADS: &[Choice] = &[("ctc", ""), ("keyword", "")];
pub(super) const MODEL_KINDS: &[Choice] = &[
    ("lstm", ""),
    ("gru", ""),
    ("rnn", ""),
    ("dnn", ""),
    ("cnn", ""),
];
pub(super) const RAW_ENCODINGS: &[Choice] = &[
    ("u8", ""),
    ("s16le", ""),
    ("s16be", ""),
    ("s24le", ""),
    ("s32le", ""),
    ("f32le", ""),
];
pub(super) const SYNTHETIC_TASKS: &[Choice] = &[("digits", ""), ("digit-strings", "")];
pub(super) const WIRES: &[Choice] = &[("f32", ""), ("bf16", "")];

/// A parser that takes the names of `choices` alone, and lists them in help and completions.
pub(super) fn choice<T>(choices: &[Choice]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    let values = choices.iter().map(|&(name, help)| {
        let value = PossibleValue::new(name);
        if help.is_empty() {
            value
        } else {
            value.help(help)
        }
    });
    PossibleValuesParser::new(values).try_map(|name| named(&name))
}

fn named<T: DeserializeOwned>(name: &str) -> Result<T, Error> {
    T::deserialize(name.into_deserializer())
}

#[cfg(test)]
mod tests {
    use proto::wire::Wire;
    use speech::{
        audio::raw::RawEncoding,
        model::{Head, ModelKind},
        score::details::ErrorUnit,
        synth::Task,
    };
    use worker::compute::DeviceChoice;

    use super::*;

    fn check<T: DeserializeOwned>(choices: &[Choice]) {
        for (name, _) in choices {
            assert!(named::<T>(name).is_ok(), "{name}");
        }
        assert!(named::<T>("none of them").is_err());
    }

    #[test]
    fn every_name_that_may_be_typed_is_a_variant() {
        check::<DeviceChoice>(DEVICES);
        check::<ErrorUnit>(ERROR_UNITS);
        check::<Head>(HEADS);
        check::<ModelKind>(MODEL_KINDS);
        check::<RawEncoding>(RAW_ENCODINGS);
        check::<Task>(SYNTHETIC_TASKS);
        check::<Wire>(WIRES);
    }

    #[test]
    fn devices_and_wires_are_passed_on_as_they_are_typed() {
        for (name, _) in DEVICES {
            assert_eq!(named::<DeviceChoice>(name).unwrap().to_string(), *name);
        }
        for (name, _) in WIRES {
            assert_eq!(named::<Wire>(name).unwrap().name(), *name);
        }
    }
}
