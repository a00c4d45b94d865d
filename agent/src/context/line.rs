//! A line of the context socket: one JSON object, one command.
//!
//! ```text
//! {"call":"begin","id":"…","service":"teams","whileConnected":true}    service and whileConnected may be left out
//! {"call":"end","id":"…"}                                              without an id whichever call is open
//! {"status":true}
//! ```
//! There is no key for a subject, a name or a number: what a meeting is called and who is in it stays outside of the
//! agent. An unknown key is refused, so that nobody believes it was kept.
//!
//! A core. Lines come from any process that may open the socket: a line has [`LINE_BYTES_MAX`] bytes at most, each
//! value a length and an alphabet of its own.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The longest line, its end included: the longest id and service with all keys take some 250 bytes.
pub const LINE_BYTES_MAX: usize = 1024;
/// The longest id of a context, in characters: ids of Teams meetings have some 90.
pub const ID_CHARS_MAX: usize = 128;
/// The longest name of a service, in characters.
pub const SERVICE_CHARS_MAX: usize = 32;
/// The service whose calls count as rehearsals.
const REHEARSAL: &str = "rehearsal";
/// How much of a parser's message is repeated.
const PROBLEM_CHARS_MAX: usize = 160;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A call begins.
    Begin(Begin),
    /// A call ends.
    End {
        /// Which; whichever is open where it is absent.
        id: Option<ContextId>,
    },
    /// Nothing but an answer.
    Status,
}

/// A call that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// The room application's name of it.
    pub id: ContextId,
    /// What carries it.
    pub service: Option<Service>,
    /// Whether it ends with the client's connection.
    pub while_connected: bool,
}

/// The room application's own name of a call: 1 to 128 visible ASCII characters. Compared, shown to whoever may open
/// the socket, never recorded and never sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextId(String);

impl ContextId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContextId {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        let fits = (1..=ID_CHARS_MAX).contains(&text.len());
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits && plain { Ok(Self(text.to_owned())) } else { Err(LineError::Id) }
    }
}

/// What carries a call, such as `teams`: 1 to 32 lower-case letters, digits, hyphens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service(String);

impl Service {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its calls only try out an installation.
    #[must_use]
    pub fn is_rehearsal(&self) -> bool {
        self.0 == REHEARSAL
    }
}

impl FromStr for Service {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        let fits = (1..=SERVICE_CHARS_MAX).contains(&text.len());
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if fits && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(LineError::Service)
        }
    }
}

/// Why a line is no command. The client reads the message and mends its line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// No end of line within [`LINE_BYTES_MAX`]. What follows cannot be told from it.
    #[error("the line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// Not one JSON object.
    #[error("not a JSON object on one line")]
    NotAnObject,
    /// Not JSON, or an unknown key, or a value of another type.
    #[error("{problem}")]
    Json {
        /// What the parser says, short and on one line.
        problem: String,
    },
    /// Neither or both of the two commands.
    #[error("give either call (begin or end) or status (true)")]
    Command,
    /// A begin without an id.
    #[error("begin needs an id")]
    NoId,
    /// A key that another command takes.
    #[error("{key} goes with {with} only")]
    Misplaced {
        /// The key.
        key: &'static str,
        /// The commands that take it.
        with: &'static str,
    },
    /// An id of another length or alphabet.
    #[error("an id is 1 to {ID_CHARS_MAX} visible ASCII characters without blanks")]
    Id,
    /// A service of another length or alphabet.
    #[error(
        "a service is 1 to {SERVICE_CHARS_MAX} lower-case letters, digits or hyphens, such as teams"
    )]
    Service,
}

/// The line as it stands.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    call: Option<String>,
    id: Option<String>,
    service: Option<String>,
    while_connected: Option<bool>,
    status: Option<bool>,
}

/// Reads a line, with or without its end.
///
/// # Errors
/// [`LineError`], for the client to read.
pub fn parse(line: &[u8]) -> Result<Command, LineError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineError::TooLong);
    }
    // An array would be taken for the object's values in their order.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(LineError::NotAnObject);
    }
    let raw: Raw = serde_json::from_slice(line).map_err(|error| LineError::Json {
        problem: error
            .to_string()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(PROBLEM_CHARS_MAX)
            .collect(),
    })?;
    raw.check()
}

impl Raw {
    fn check(self) -> Result<Command, LineError> {
        let begin_only = |given: bool, key| match given {
            true => Err(LineError::Misplaced { key, with: "begin" }),
            false => Ok(()),
        };
        let id = self.id.as_deref().map(str::parse).transpose()?;
        match (self.call.as_deref(), self.status) {
            (Some("begin"), None) => Ok(Command::Begin(Begin {
                id: id.ok_or(LineError::NoId)?,
                service: self.service.as_deref().map(str::parse).transpose()?,
                while_connected: self.while_connected.unwrap_or(false),
            })),
            (Some("end"), None) => {
                begin_only(self.service.is_some(), "service")?;
                begin_only(self.while_connected.is_some(), "whileConnected")?;
                Ok(Command::End { id })
            }
            (None, Some(true)) => {
                if id.is_some() {
                    return Err(LineError::Misplaced { key: "id", with: "begin and end" });
                }
                begin_only(self.service.is_some(), "service")?;
                begin_only(self.while_connected.is_some(), "whileConnected")?;
                Ok(Command::Status)
            }
            (Some(_) | None, Some(_) | None) => Err(LineError::Command),
        }
    }
}

/// Cuts what arrives into lines.
#[derive(Debug)]
pub struct Lines {
    bytes: [u8; LINE_BYTES_MAX],
    length: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self { bytes: [0; LINE_BYTES_MAX], length: 0 }
    }
}

impl Lines {
    /// Room for what arrives next; never empty after [`Self::poll_line`] said that no line is whole.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.length..]
    }

    /// Notes how many bytes were put into [`Self::space`].
    pub fn handle_arrived(&mut self, count: usize) {
        self.length = (self.length + count).min(LINE_BYTES_MAX);
    }

    /// Whether a line has begun and not ended.
    #[must_use]
    pub fn is_amid(&self) -> bool {
        self.length > 0
    }

    /// The next whole line, without its end; `None` while there is none.
    ///
    /// # Errors
    /// [`LineError::TooLong`] where the room is full and holds no whole line: of no more use then.
    pub fn poll_line(&mut self) -> Option<Result<Vec<u8>, LineError>> {
        let Some(end) = self.bytes[..self.length].iter().position(|byte| *byte == b'\n') else {
            return (self.length == LINE_BYTES_MAX).then_some(Err(LineError::TooLong));
        };
        let line = self.bytes[..end].to_vec();
        self.bytes.copy_within(end + 1..self.length, 0);
        self.length -= end + 1;
        Some(Ok(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, String> {
        parse(line.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn commands_are_read() {
        let begin = |service: Option<&str>, while_connected| {
            let service = service.map(|name| name.parse().unwrap());
            Ok(Command::Begin(Begin { id: "a:1@x".parse().unwrap(), service, while_connected }))
        };
        assert_eq!(read(r#"{"call":"begin","id":"a:1@x"}"#), begin(None, false));
        assert_eq!(
            read(
                " {\"call\":\"begin\",\"id\":\"a:1@x\",\"service\":\"teams\",\"whileConnected\":true}\r"
            ),
            begin(Some("teams"), true)
        );
        assert_eq!(read(r#"{"call":"end"}"#), Ok(Command::End { id: None }));
        let id = Some("7".parse().unwrap());
        assert_eq!(read(r#"{"call":"end","id":"7"}"#), Ok(Command::End { id }));
        assert_eq!(read(r#"{"status":true}"#), Ok(Command::Status));
    }

    #[test]
    fn wrong_lines_are_refused_with_what_is_wrong() {
        let long = format!(r#"{{"call":"begin","id":"{}"}}"#, "x".repeat(129));
        let endless = format!(r#"{{"call":"{}"}}"#, "x".repeat(LINE_BYTES_MAX));
        let table = [
            ("", "not a JSON object"),
            ("[\"begin\",\"1\",null,null,null]", "not a JSON object"),
            ("status", "not a JSON object"),
            ("{", "EOF"),
            ("{} {}", "trailing characters"),
            ("{}", "give either call"),
            (r#"{"status":false}"#, "give either call"),
            (r#"{"call":"begin","id":"1","status":true}"#, "give either call"),
            (r#"{"call":"mute","id":"1"}"#, "give either call"),
            (r#"{"call":"begin"}"#, "begin needs an id"),
            (r#"{"call":"begin","id":""}"#, "an id is"),
            (r#"{"call":"begin","id":"a b"}"#, "an id is"),
            (r#"{"call":"begin","id":"\u001b[2J"}"#, "an id is"),
            (long.as_str(), "an id is"),
            (r#"{"call":"begin","id":"1","service":"Teams"}"#, "a service is"),
            (r#"{"call":"begin","id":"1","subject":"pay"}"#, "unknown field `subject`"),
            (r#"{"call":"begin","id":"1","id":"2"}"#, "duplicate field `id`"),
            (r#"{"call":"begin","id":1}"#, "invalid type"),
            (r#"{"call":"end","service":"teams"}"#, "service goes with begin only"),
            (r#"{"status":true,"id":"1"}"#, "id goes with begin and end only"),
            (endless.as_str(), "longer than 1024 bytes"),
        ];
        for (line, said) in table {
            let refused = read(line).unwrap_err();
            assert!(refused.contains(said), "{line}: {refused}");
        }
    }

    #[test]
    fn foreign_text_in_a_message_is_short_and_on_one_line() {
        let line = format!("{{\"\\u001b[2J\\n{}\":1}}", "y".repeat(900));
        let refused = read(&line).unwrap_err();
        assert!(refused.chars().count() <= PROBLEM_CHARS_MAX, "{refused}");
        assert!(!refused.contains(char::is_control), "{refused:?}");
    }

    #[test]
    fn lines_are_cut_where_they_end_however_they_arrive() {
        let text = b"{\"status\":true}\n\n{\"call\":\"end\"}\nrest";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut cut = Vec::new();
            for piece in text.chunks(size) {
                lines.space()[..piece.len()].copy_from_slice(piece);
                lines.handle_arrived(piece.len());
                cut.extend(std::iter::from_fn(|| lines.poll_line()));
            }
            let cut: Vec<_> = cut.into_iter().map(Result::unwrap).collect();
            assert_eq!(cut, [&b"{\"status\":true}"[..], b"", b"{\"call\":\"end\"}"], "{size}");
            assert!(lines.is_amid());
        }
    }

    #[test]
    fn line_without_an_end_is_given_up_when_the_room_is_full() {
        let mut lines = Lines::default();
        let room = lines.space().len();
        lines.space().fill(b'x');
        lines.handle_arrived(room);
        assert_eq!(lines.poll_line(), Some(Err(LineError::TooLong)));
    }
}
