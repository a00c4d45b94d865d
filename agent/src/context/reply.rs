//! What the agent answers on the context socket: one JSON object per line, read again by `roomtone-agent call`.

use roomtone_protocol::call::CallPurpose;
use serde::{Deserialize, Serialize};

use super::register::Register;
use crate::clock::WallOffset;
use crate::show;

/// The longest answer that a client reads: the longest of ours has some 500 bytes.
pub const REPLY_BYTES_MAX: usize = 4 * 1024;

/// An answer: how things stand, or why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// It was done; this is how things stand now.
    Done(Status),
    /// It was not done.
    Refused {
        /// False.
        ok: bool,
        /// What was wrong and what to do.
        error: String,
    },
}

/// Whether a call is on, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// True.
    pub ok: bool,
    /// Whether a call is on.
    pub in_call: bool,
    /// What keeps it open: `context` or `media`; null outside of calls.
    pub source: Option<String>,
    /// Its id at the collector.
    pub call: Option<String>,
    /// When it began, RFC 3339 in UTC.
    pub since: Option<String>,
    /// Whether it only tries out an installation.
    pub rehearsal: Option<bool>,
    /// How many legs it had so far.
    pub legs: Option<u16>,
    /// The open context; null where there is none.
    pub context: Option<ContextStatus>,
}

/// The open context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextStatus {
    /// The room application's name of the call.
    pub id: String,
    /// What carries it.
    pub service: Option<String>,
    /// When it began, RFC 3339 in UTC.
    pub since: String,
}

impl Reply {
    /// How things stand.
    #[must_use]
    pub fn done(register: &Register, wall: WallOffset) -> Self {
        let call = register.call();
        let context = register.open().map(|open| ContextStatus {
            id: open.id.as_str().to_owned(),
            service: open.service.as_ref().map(|service| service.as_str().to_owned()),
            since: show::rfc3339(wall.stamp(open.since).wall_us),
        });
        let source = if context.is_some() { "context" } else { "media" };
        Self::Done(Status {
            ok: true,
            in_call: call.is_some(),
            source: call.map(|_| source.to_owned()),
            call: call.map(|call| call.call.to_string()),
            since: call.map(|call| show::rfc3339(call.since_us)),
            rehearsal: call.map(|call| call.purpose == CallPurpose::Rehearsal),
            legs: call.map(|call| call.legs),
            context,
        })
    }

    /// Why nothing was done.
    #[must_use]
    pub fn refused(error: &(impl std::error::Error + ?Sized)) -> Self {
        Self::Refused { ok: false, error: error.to_string() }
    }

    /// The line that travels, with its end.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let mut line =
            serde_json::to_vec(self).expect("an object of texts, numbers and null is JSON");
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;

    #[test]
    fn reply_has_all_keys_and_is_read_back() {
        let reply = Reply::done(&Register::default(), WallOffset::from_readings(0, Moment::ORIGIN));
        let line = reply.line();
        assert_eq!(
            std::str::from_utf8(&line).unwrap(),
            "{\"ok\":true,\"inCall\":false,\"source\":null,\"call\":null,\"since\":null,\
             \"rehearsal\":null,\"legs\":null,\"context\":null}\n"
        );
        assert_eq!(serde_json::from_slice::<Reply>(&line).unwrap(), reply);
        let refused = Reply::refused(&super::super::line::LineError::Command);
        let line = refused.line();
        assert_eq!(
            std::str::from_utf8(&line).unwrap(),
            "{\"ok\":false,\"error\":\"give either call (begin or end) or status (true)\"}\n"
        );
        assert_eq!(serde_json::from_slice::<Reply>(&line).unwrap(), refused);
    }
}
