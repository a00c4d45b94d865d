//! The lines of the admin socket: a request down, an answer up, each one JSON object.
//!
//! ```text
//! {"command":"selfTest","endpoint":"96875b4d-1442-b968-39a2-eadcf201f036","waitMs":60000}
//! {"answer":"selfTest","epoch":305419896,"sequence":17}
//! {"command":"recheck","endpoint":"96875b4d-1442-b968-39a2-eadcf201f036"}
//! {"answer":"rechecked","cut":true}
//! {"command":"reconfigure"}
//! {"answer":"reconfigured","sent":12}
//! {"answer":"refused","reason":"notConnected","detail":"..."}
//! ```
//! Commands, reasons and fields are appended. An unknown command is refused by name, so that a newer command line gets
//! a clear answer of an older collector.

use std::collections::BTreeMap;
use std::time::Duration;

use roomtone_protocol::id::{EndpointId, Epoch, RecordId, Sequence};
use serde::{Deserialize, Serialize};

use crate::ingest::downlink::NotAsked;
use crate::ingest::request::OPEN_MAX;

/// The longest line of either side, in bytes.
pub const LINE_BYTES_MAX: usize = 4_096;
/// The longest that an answer may be waited for.
pub const WAIT_MAX: Duration = OPEN_MAX;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Ask an endpoint for a self-test and wait for its result.
    SelfTest {
        /// Whom.
        endpoint: EndpointId,
        /// How long to wait, at most [`WAIT_MAX`].
        wait: Duration,
    },
    /// Look an endpoint up in the registry again, and end its connection where it is revoked.
    Recheck {
        /// Which.
        endpoint: EndpointId,
    },
    /// Read again what endpoints are to be set to, and send it to those that are connected.
    Reconfigure,
    /// Tell how things stand.
    Status,
}

/// A request as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum RequestLine {
    SelfTest { endpoint: String, wait_ms: u32 },
    Recheck { endpoint: String },
    Reconfigure,
    Status,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase")]
pub enum Answer {
    /// The self-test has ended and its result is in the store, as this record.
    SelfTest(StoredAs),
    /// The endpoint was looked up.
    Rechecked(Rechecked),
    /// The settings were read.
    Reconfigured(Reconfigured),
    /// How things stand.
    Status(Box<Status>),
    /// It was not done.
    Refused {
        /// Why.
        reason: Refusal,
        /// One line for a person. It may repeat what was asked: escape before printing.
        detail: String,
    },
}

/// A record of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAs {
    epoch: u32,
    sequence: u32,
}

/// What came of looking an endpoint up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rechecked {
    /// Whether a connection of it was ended.
    pub cut: bool,
}

/// What came of reading the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reconfigured {
    /// How many connected endpoints were sent what they lacked.
    pub sent: u64,
}

/// What a running `serve` did with what endpoints say of themselves. Counters count from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reports {
    /// Whether they are kept.
    pub kept: bool,
    /// Taken.
    pub taken: u64,
    /// Not taken, because they came too fast.
    pub excess: u64,
    /// Not taken, because they contradict themselves.
    pub malformed: u64,
}

/// The space of the store's disk, as it was last measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Whether records are not stored, because there is too little.
    pub low: bool,
    /// What is free, in bytes.
    pub free_bytes: u64,
    /// What must be free, in bytes.
    pub needed_bytes: u64,
    /// Batches of records that were not stored for it.
    pub batches_refused: u64,
}

/// How a running `serve` stands. Counters count from its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its version.
    pub version: String,
    /// How long it has run, in seconds.
    pub uptime_s: u64,
    /// Endpoints that are connected.
    pub connected: u64,
    /// Endpoints that sent more than they may at once, and whose records are taken at their pace.
    #[serde(default)]
    pub held: u64,
    /// Whether machines can be enrolled.
    pub enrolling: bool,
    /// Whom it turned away, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// What endpoints say of themselves.
    #[serde(default)]
    pub reports: Reports,
    /// The space for records.
    #[serde(default)]
    pub disk: Disk,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// The line is no request.
    Malformed,
    /// The endpoint has no connection now.
    NotConnected,
    /// The endpoint was asked before and has not answered yet.
    UnderWay,
    /// There is more to do than is taken on.
    Busy,
    /// The endpoint did not answer in time.
    NoAnswer,
    /// A reason of a later version.
    #[serde(other)]
    Other,
}

impl From<StoredAs> for RecordId {
    fn from(StoredAs { epoch, sequence }: StoredAs) -> Self {
        Self { epoch: Epoch(epoch), sequence: Sequence(sequence) }
    }
}

impl Request {
    /// Reads a line.
    ///
    /// # Errors
    /// The answer to give instead, where the line is no request.
    pub fn from_line(line: &[u8]) -> Result<Self, Answer> {
        let malformed = |detail: String| refused(Refusal::Malformed, detail);
        let line = serde_json::from_slice(line)
            .map_err(|error| malformed(format!("not a request: {error}")))?;
        let id =
            |text: String| text.parse().map_err(|error| malformed(format!("endpoint: {error}")));
        match line {
            RequestLine::SelfTest { endpoint, wait_ms } => {
                let wait = Duration::from_millis(wait_ms.into());
                if wait > WAIT_MAX {
                    let most = WAIT_MAX.as_millis();
                    let detail = format!("waitMs is {wait_ms}, at most {most} is waited for");
                    return Err(malformed(detail));
                }
                Ok(Self::SelfTest { endpoint: id(endpoint)?, wait })
            }
            RequestLine::Recheck { endpoint } => Ok(Self::Recheck { endpoint: id(endpoint)? }),
            RequestLine::Reconfigure => Ok(Self::Reconfigure),
            RequestLine::Status => Ok(Self::Status),
        }
    }

    /// The line of it, with its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        line(&match self {
            Self::SelfTest { endpoint, wait } => RequestLine::SelfTest {
                endpoint: endpoint.to_string(),
                wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            },
            Self::Recheck { endpoint } => RequestLine::Recheck { endpoint: endpoint.to_string() },
            Self::Reconfigure => RequestLine::Reconfigure,
            Self::Status => RequestLine::Status,
        })
    }
}

impl Answer {
    /// The self-test that a record tells.
    #[must_use]
    pub fn self_test(by: RecordId) -> Self {
        Self::SelfTest(StoredAs { epoch: by.epoch.0, sequence: by.sequence.0 })
    }

    /// That an endpoint was not asked.
    #[must_use]
    pub fn not_asked(why: NotAsked) -> Self {
        let (reason, detail) = match why {
            NotAsked::NotConnected => (
                Refusal::NotConnected,
                "it is not connected, `roomtone-collector endpoints` says when it was last seen",
            ),
            NotAsked::UnderWay => (
                Refusal::UnderWay,
                "a self-test of it is under way, `roomtone-collector selftests` will list it",
            ),
            NotAsked::Busy => (Refusal::Busy, "too many requests are open, try again in a minute"),
        };
        refused(reason, detail.to_owned())
    }

    /// That an endpoint was asked and did not answer.
    #[must_use]
    pub fn no_answer(wait: Duration) -> Self {
        let detail = format!(
            "it was asked and gave no answer within {} s, `roomtone-collector selftests` will list one that comes late",
            wait.as_secs_f64()
        );
        refused(Refusal::NoAnswer, detail)
    }

    /// That the registry cannot be read.
    #[must_use]
    pub fn no_registry() -> Self {
        refused(Refusal::Busy, "the registry cannot be read now, see the log".to_owned())
    }

    /// That the fleet's book cannot be read.
    #[must_use]
    pub fn no_book() -> Self {
        refused(Refusal::Busy, "the fleet's book cannot be read now, see the log".to_owned())
    }

    /// That nobody listens to this line.
    #[must_use]
    pub fn busy() -> Self {
        refused(Refusal::Busy, "too many commands wait on the admin socket, try again".to_owned())
    }

    /// That a line was too long to be read.
    #[must_use]
    pub fn line_too_long() -> Self {
        refused(Refusal::Malformed, format!("a line has at most {LINE_BYTES_MAX} bytes"))
    }

    /// Reads a line; `None` where it is no answer that this version knows.
    #[must_use]
    pub fn from_line(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// The line of it, with its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        line(self)
    }
}

fn refused(reason: Refusal, detail: String) -> Answer {
    Answer::Refused { reason, detail }
}

fn line(value: &impl Serialize) -> String {
    let mut text =
        serde_json::to_string(value).expect("texts and numbers in structs are always JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(line: &[u8]) -> (Refusal, String) {
        match Request::from_line(line) {
            Err(Answer::Refused { reason, detail }) => (reason, detail),
            other => panic!("a refusal, found {other:?}"),
        }
    }

    #[test]
    fn request_and_answer_are_read_as_they_were_written() {
        let request = Request::SelfTest {
            endpoint: EndpointId([0x0f; 16]),
            wait: Duration::from_millis(1_500),
        };
        let line = request.to_line();
        assert_eq!(
            line,
            "{\"command\":\"selfTest\",\"endpoint\":\"0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f0f\",\"waitMs\":1500}\n"
        );
        assert_eq!(Request::from_line(line.as_bytes()), Ok(request));
        let by = RecordId { epoch: Epoch(u32::MAX), sequence: Sequence(7) };
        let line = Answer::self_test(by).to_line();
        assert_eq!(line, "{\"answer\":\"selfTest\",\"epoch\":4294967295,\"sequence\":7}\n");
        let Some(Answer::SelfTest(stored)) = Answer::from_line(line.as_bytes()) else {
            panic!("{line} is no answer");
        };
        assert_eq!(RecordId::from(stored), by);
    }

    #[test]
    fn recheck_and_status_are_read_as_they_were_written() {
        let recheck = Request::Recheck { endpoint: EndpointId([0x0f; 16]) };
        for request in [recheck, Request::Reconfigure, Request::Status] {
            assert_eq!(Request::from_line(request.to_line().as_bytes()), Ok(request));
        }
        let refusals = BTreeMap::from([("expired".to_owned(), 3)]);
        let version = "0.1.0".to_owned();
        let reports = Reports { kept: true, taken: 7, excess: 1, malformed: 0 };
        let disk = Disk { low: true, free_bytes: 1, needed_bytes: 2, batches_refused: 3 };
        let status = Status {
            version,
            uptime_s: 9,
            connected: 2,
            held: 1,
            enrolling: true,
            refusals,
            reports,
            disk,
        };
        let reconfigured = Answer::Reconfigured(Reconfigured { sent: 12 });
        let rechecked = Answer::Rechecked(Rechecked { cut: true });
        for answer in [Answer::Status(Box::new(status)), rechecked, reconfigured] {
            assert_eq!(Answer::from_line(answer.to_line().as_bytes()), Some(answer));
        }
    }

    #[test]
    fn line_that_is_no_request_is_refused_and_says_why() {
        for (line, said) in [
            (&b"\xff\x00"[..], "not a request"),
            (b"", "not a request"),
            (b"[]", "not a request"),
            (br#"{"command":"reboot"}"#, "unknown variant `reboot`"),
            (br#"{"command":"selfTest"}"#, "missing field `endpoint`"),
            (br#"{"command":"selfTest","endpoint":"oslo","waitMs":1}"#, "endpoint: "),
            (br#"{"command":"selfTest","endpoint":"oslo","waitMs":-1}"#, "not a request"),
            (br#"{"command":"selfTest","endpoint":"oslo","waitMs":120001}"#, "at most 120000"),
        ] {
            let (reason, detail) = refusal(line);
            assert_eq!(reason, Refusal::Malformed);
            assert!(detail.contains(said), "{detail}");
        }
        // Deep nesting ends at serde_json's own limit, not on the stack.
        refusal(&[b'['; LINE_BYTES_MAX]);
    }

    proptest! {
        /// Whatever comes, the answer is one line, and not many times longer than what it answers.
        #[test]
        fn any_line_is_answered_by_one_line(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            text in ".{0,100}",
        ) {
            let quoted = serde_json::to_string(&text).unwrap();
            let command = format!("{{\"command\":{quoted}}}");
            let endpoint =
                format!("{{\"command\":\"selfTest\",\"endpoint\":{quoted},\"waitMs\":1}}");
            for line in [&bytes[..], command.as_bytes(), endpoint.as_bytes()] {
                let Err(answer) = Request::from_line(line) else { continue };
                let said = answer.to_line();
                prop_assert_eq!(said.find('\n'), Some(said.len() - 1));
                prop_assert!(said.len() <= 6 * line.len() + 300, "{} bytes", said.len());
            }
        }
    }

    #[test]
    fn reason_of_a_later_collector_is_still_a_refusal() {
        let line = br#"{"answer":"refused","reason":"quarantined","detail":"it is","since":3}"#;
        let expected = Answer::Refused { reason: Refusal::Other, detail: "it is".to_owned() };
        assert_eq!(Answer::from_line(line), Some(expected));
        assert_eq!(Answer::from_line(br#"{"answer":"revoked"}"#), None);
    }
}
