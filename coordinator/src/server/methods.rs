//! What each method may make the coordinator hold: the size of its messages, whether they are kept until the
//! call ends, the memory of an answer that is not taken, and how often it may be called. It decides numbers alone;
//! `requests` and `answers` hold calls to them.

use std::time::Duration;

use proto::{
    CHUNK_BYTES, MAX_MESSAGE_BYTES,
    pieces::PART_BYTES,
    v1::{jobs_server, tensors_server, workers_server},
};

/// How the messages of a request come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// One, which is passed on once the request has ended.
    Whole,
    /// Several within the time of a request, of which the handler keeps what it needs until the last has come.
    Collected,
    /// Several, for as long as they keep coming; each is done with when the next one is read.
    Streamed,
}

/// How often an address may call a method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    /// Calls that may come at once.
    pub burst: u32,
    /// The time between calls in the long run.
    pub interval: Duration,
}

/// Methods whose calls are counted together, because they cost the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counted {
    /// A worker joins: the roster grows, and every choice of a worker looks at it.
    Joins,
    /// The queue is written and made durable, for which the driver waits.
    QueueChanges,
}

impl Counted {
    pub(super) const ALL: [Self; 2] = [Self::Joins, Self::QueueChanges];

    pub(super) const fn rate(self) -> Rate {
        match self {
            // All workers behind one address, at once.
            Self::Joins => Rate {
                burst: 256,
                interval: Duration::from_millis(200),
            },
            Self::QueueChanges => Rate {
                burst: 64,
                interval: Duration::from_millis(200),
            },
        }
    }
}

/// The bounds of a method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    /// The most bytes of a message.
    pub message: usize,
    pub incoming: Incoming,
    /// Bytes that an answer holds for as long as it is not taken.
    pub answer: usize,
    pub counted: Option<Counted>,
}

/// Numbers, names and a reason for people.
const SMALL: Bounds = Bounds {
    message: 64 << 10,
    incoming: Incoming::Whole,
    answer: 16 << 10,
    counted: None,
};

/// Those of health and reflection, which take messages while they answer.
const FOREIGN: Bounds = Bounds {
    incoming: Incoming::Collected,
    ..SMALL
};

/// The bounds of the method at `path` (`/package.Service/Method`), whether there is such a method or not.
pub(super) fn bounds(path: &str) -> Bounds {
    let name = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    match name {
        Some((workers_server::SERVICE_NAME, method)) => workers(method),
        Some((tensors_server::SERVICE_NAME, method)) => tensors(method),
        Some((jobs_server::SERVICE_NAME, method)) => jobs(method),
        _ => None,
    }
    .unwrap_or(FOREIGN)
}

fn workers(method: &str) -> Option<Bounds> {
    Some(match method {
        "Join" => Bounds {
            counted: Some(Counted::Joins),
            ..SMALL
        },
        "Heartbeat" | "Leave" => SMALL,
        // Its reason may have 64 KiB.
        "GiveBack" => Bounds {
            message: 128 << 10,
            ..SMALL
        },
        "DescribeJob" | "Lease" | "LeaseInParts" | "Recipe" => Bounds {
            answer: 2 * PART_BYTES,
            ..SMALL
        },
        "Report" => Bounds {
            message: MAX_MESSAGE_BYTES,
            ..SMALL
        },
        "ReportInParts" => Bounds {
            message: MAX_MESSAGE_BYTES,
            incoming: Incoming::Collected,
            ..SMALL
        },
        _ => return None,
    })
}

fn tensors(method: &str) -> Option<Bounds> {
    Some(match method {
        "Push" => Bounds {
            message: MAX_MESSAGE_BYTES,
            incoming: Incoming::Streamed,
            ..SMALL
        },
        "Pull" => Bounds {
            answer: 2 * CHUNK_BYTES,
            ..SMALL
        },
        "OpenLane" => SMALL,
        // 4096 digests of 32 bytes.
        "FetchAudio" => Bounds {
            message: 256 << 10,
            answer: 4 * CHUNK_BYTES,
            ..SMALL
        },
        _ => return None,
    })
}

fn jobs(method: &str) -> Option<Bounds> {
    Some(match method {
        "Submit" => Bounds {
            message: MAX_MESSAGE_BYTES,
            counted: Some(Counted::QueueChanges),
            ..SMALL
        },
        "SubmitInPieces" => Bounds {
            message: MAX_MESSAGE_BYTES,
            incoming: Incoming::Collected,
            counted: Some(Counted::QueueChanges),
            ..SMALL
        },
        "Cancel" | "Resume" | "Prune" => Bounds {
            counted: Some(Counted::QueueChanges),
            ..SMALL
        },
        "Status" => SMALL,
        "List" | "ListWorkers" | "Report" => Bounds {
            answer: 2 * PART_BYTES,
            ..SMALL
        },
        "Logs" | "Metrics" => Bounds {
            answer: 256 << 10,
            ..SMALL
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_protocol_has_its_own_bounds_and_says_how_its_messages_come() {
        const PROTOCOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/unisono/v1");
        let mut service = String::new();
        let mut seen = 0;
        for file in std::fs::read_dir(PROTOCOL).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for line in text.lines().map(str::trim) {
                if let Some(rest) = line.strip_prefix("service ") {
                    service = rest.split_whitespace().next().unwrap().to_owned();
                }
                let Some(rest) = line.strip_prefix("rpc ") else {
                    continue;
                };
                let (method, rest) = rest.split_once('(').unwrap();
                let found = match service.as_str() {
                    "Workers" => workers(method),
                    "Tensors" => tensors(method),
                    "Jobs" => jobs(method),
                    other => panic!("{other} has no bounds"),
                };
                let found = found.unwrap_or_else(|| panic!("{service}/{method} has no bounds"));
                let several = rest.trim_start().starts_with("stream ");
                assert_eq!(found.incoming != Incoming::Whole, several, "{method}");
                assert_eq!(bounds(&format!("/unisono.v1.{service}/{method}")), found);
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen}");
        assert_eq!(bounds("/unisono.v1.Jobs/None"), FOREIGN);
        assert_eq!(bounds("no path"), FOREIGN);
    }
}
