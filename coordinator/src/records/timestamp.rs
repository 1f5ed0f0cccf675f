//! Times as records have them: UTC, RFC 3339, always with three digits of a second, so that they sort as
//! text.

use jiff::Timestamp;
use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// The time to the millisecond.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(jiff::Unit::Millisecond).unwrap_or(now)
}

/// `2026-11-27T09:05:03.650Z`.
pub(crate) fn text(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// For `#[serde(with = "crate::records::timestamp")]`.
///
/// # Errors
/// The serializer's.
// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(crate) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*time))
}

/// Any number of digits is read: earlier versions left zeros out.
///
/// # Errors
/// When it is no time.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Deserialize, Serialize)]
    struct Line {
        #[serde(with = "super")]
        time: Timestamp,
    }

    #[test]
    fn every_time_has_three_digits_of_a_second_and_sorts_as_text() {
        let mut written = Vec::new();
        // Before 1970 too: a clock that was never set may say so.
        for millisecond in [-86_400_001, -1, 0, 1, 650, 651, 1_000, 1_795_770_303_650] {
            let time = Timestamp::from_millisecond(millisecond).unwrap();
            let json = serde_json::to_string(&Line { time }).unwrap();
            assert_eq!(json.len(), r#"{"time":"2026-11-27T09:05:03.650Z"}"#.len());
            assert_eq!(serde_json::from_str::<Line>(&json).unwrap().time, time);
            written.push(json);
        }
        assert!(written.is_sorted(), "{written:?}");
    }

    #[test]
    fn times_of_earlier_versions_are_read() {
        let read = |text: &str| serde_json::from_str::<Line>(&format!(r#"{{"time":"{text}"}}"#));
        let expected = Timestamp::from_millisecond(5_650).unwrap();
        assert_eq!(read("1970-01-01T00:00:05.65Z").unwrap().time, expected);
        assert_eq!(read("1970-01-01T00:00:05.650Z").unwrap().time, expected);
        assert!(read("yesterday").is_err());
    }
}
