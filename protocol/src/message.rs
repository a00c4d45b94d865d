//! Everything that a frame can carry, and the kind byte of each.

use serde::{Deserialize, Serialize};

use crate::ack::Ack;
use crate::client_event::ClientEvents;
use crate::configuration::{Configuration, EffectiveConfiguration};
use crate::control::Control;
use crate::enroll::{EnrollReply, EnrollRequest, RenewReply, RenewRequest};
use crate::error::DecodeError;
use crate::extension::{self, Block};
use crate::health::Health;
use crate::hello::{Hello, HelloReply};
use crate::record::Record;

/// The content of one frame.
// As with `Record`: no allocator, one at a time.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Opens a connection, agent to collector.
    Hello(Hello),
    /// Answers it.
    HelloReply(HelloReply),
    /// Everything below is on disk, collector to agent.
    Ack(Ack),
    /// A request, collector to agent.
    Control(Control),
    /// Asks for an identity, agent to collector, on an enrolment connection.
    EnrollRequest(EnrollRequest),
    /// Answers it.
    EnrollReply(EnrollReply),
    /// Asks for the next certificate, agent to collector.
    RenewRequest(RenewRequest),
    /// Answers it.
    RenewReply(RenewReply),
    /// What the endpoint is to be set to, collector to agent.
    Configuration(Configuration),
    /// What it is set to, agent to collector.
    EffectiveConfiguration(EffectiveConfiguration),
    /// How the agent is, agent to collector.
    Health(Health),
    /// A record, agent to collector; the frame's header gives its id.
    Record(Record),
}

/// Kind bytes. 0x01..=0x0f steer a connection, 0x10..=0x7f are records, the rest is free. Never reused.
pub mod kind {
    /// [`Message::Hello`](super::Message::Hello).
    pub const HELLO: u8 = 0x01;
    /// [`Message::HelloReply`](super::Message::HelloReply).
    pub const HELLO_REPLY: u8 = 0x02;
    /// [`Message::Ack`](super::Message::Ack).
    pub const ACK: u8 = 0x03;
    /// [`Message::Control`](super::Message::Control).
    pub const CONTROL: u8 = 0x04;
    /// [`Message::EnrollRequest`](super::Message::EnrollRequest).
    pub const ENROLL_REQUEST: u8 = 0x05;
    /// [`Message::EnrollReply`](super::Message::EnrollReply).
    pub const ENROLL_REPLY: u8 = 0x06;
    /// [`Message::RenewRequest`](super::Message::RenewRequest).
    pub const RENEW_REQUEST: u8 = 0x07;
    /// [`Message::RenewReply`](super::Message::RenewReply).
    pub const RENEW_REPLY: u8 = 0x08;
    /// [`Message::Configuration`](super::Message::Configuration).
    pub const CONFIGURATION: u8 = 0x09;
    /// [`Message::EffectiveConfiguration`](super::Message::EffectiveConfiguration).
    pub const EFFECTIVE_CONFIGURATION: u8 = 0x0a;
    /// [`Message::Health`](super::Message::Health).
    pub const HEALTH: u8 = 0x0b;
    /// [`Record::CallOpened`](crate::record::Record::CallOpened).
    pub const CALL_OPENED: u8 = 0x10;
    /// [`Record::CallClosed`](crate::record::Record::CallClosed).
    pub const CALL_CLOSED: u8 = 0x11;
    /// [`Record::LegOpened`](crate::record::Record::LegOpened).
    pub const LEG_OPENED: u8 = 0x12;
    /// [`Record::LegIntervals`](crate::record::Record::LegIntervals).
    pub const LEG_INTERVALS: u8 = 0x13;
    /// [`Record::LegSummary`](crate::record::Record::LegSummary).
    pub const LEG_SUMMARY: u8 = 0x14;
    /// [`Record::DeviceEpisode`](crate::record::Record::DeviceEpisode).
    pub const DEVICE_EPISODE: u8 = 0x15;
    /// [`Record::DeviceSummary`](crate::record::Record::DeviceSummary).
    pub const DEVICE_SUMMARY: u8 = 0x16;
    /// [`Record::HostInterval`](crate::record::Record::HostInterval).
    pub const HOST_INTERVAL: u8 = 0x17;
    /// [`Record::PathInterval`](crate::record::Record::PathInterval).
    pub const PATH_INTERVAL: u8 = 0x18;
    /// [`Record::LossReceipt`](crate::record::Record::LossReceipt).
    pub const LOSS_RECEIPT: u8 = 0x19;
    /// [`Record::SelfTest`](crate::record::Record::SelfTest).
    pub const SELF_TEST: u8 = 0x1a;
    /// [`Record::NetworkAttachment`](crate::record::Record::NetworkAttachment).
    pub const NETWORK_ATTACHMENT: u8 = 0x1b;
    /// [`Record::ClientEvents`](crate::record::Record::ClientEvents).
    pub const CLIENT_EVENTS: u8 = 0x1c;

    /// Whether a kind, known or not, is a record: it has an id, is stored or counted, and is acked.
    #[must_use]
    pub const fn is_record(kind: u8) -> bool {
        kind >= 0x10 && kind < 0x80
    }
}

impl Message {
    /// The kind byte of its frame.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::HelloReply(_) => kind::HELLO_REPLY,
            Self::Ack(_) => kind::ACK,
            Self::Control(_) => kind::CONTROL,
            Self::EnrollRequest(_) => kind::ENROLL_REQUEST,
            Self::EnrollReply(_) => kind::ENROLL_REPLY,
            Self::RenewRequest(_) => kind::RENEW_REQUEST,
            Self::RenewReply(_) => kind::RENEW_REPLY,
            Self::Configuration(_) => kind::CONFIGURATION,
            Self::EffectiveConfiguration(_) => kind::EFFECTIVE_CONFIGURATION,
            Self::Health(_) => kind::HEALTH,
            Self::Record(record) => match record {
                Record::CallOpened(_) => kind::CALL_OPENED,
                Record::CallClosed(_) => kind::CALL_CLOSED,
                Record::LegOpened(_) => kind::LEG_OPENED,
                Record::LegIntervals(_) => kind::LEG_INTERVALS,
                Record::LegSummary(_) => kind::LEG_SUMMARY,
                Record::DeviceEpisode(_) => kind::DEVICE_EPISODE,
                Record::DeviceSummary(_) => kind::DEVICE_SUMMARY,
                Record::HostInterval(_) => kind::HOST_INTERVAL,
                Record::PathInterval(_) => kind::PATH_INTERVAL,
                Record::LossReceipt(_) => kind::LOSS_RECEIPT,
                Record::SelfTest(_) => kind::SELF_TEST,
                Record::NetworkAttachment(_) => kind::NETWORK_ATTACHMENT,
                Record::ClientEvents(_) => kind::CLIENT_EVENTS,
            },
        }
    }

    /// Writes the body into `buffer` and returns its length; `None` where the buffer is too small.
    pub(crate) fn encode_body(&self, buffer: &mut [u8]) -> Option<usize> {
        match self {
            Self::Hello(body) => encode_with_block(body, buffer),
            Self::HelloReply(body) => encode(body, buffer),
            Self::Ack(body) => encode(body, buffer),
            Self::Control(body) => encode(body, buffer),
            Self::EnrollRequest(body) => encode(body, buffer),
            Self::EnrollReply(body) => encode(body, buffer),
            Self::RenewRequest(body) => encode(body, buffer),
            Self::RenewReply(body) => encode(body, buffer),
            Self::Configuration(body) => encode(body, buffer),
            Self::EffectiveConfiguration(body) => encode(body, buffer),
            Self::Health(body) => encode(body, buffer),
            Self::Record(record) => match record {
                Record::CallOpened(body) => encode(body, buffer),
                Record::CallClosed(body) => encode(body, buffer),
                Record::LegOpened(body) => encode(body, buffer),
                Record::LegIntervals(body) => encode_with_block(body, buffer),
                Record::LegSummary(body) => encode_with_block(body, buffer),
                Record::DeviceEpisode(body) => encode(body, buffer),
                Record::DeviceSummary(body) => encode_with_block(body, buffer),
                Record::HostInterval(body) => encode_with_block(body, buffer),
                Record::PathInterval(body) => encode_with_block(body, buffer),
                Record::LossReceipt(body) => encode(body, buffer),
                Record::SelfTest(body) => encode(body, buffer),
                Record::NetworkAttachment(body) => encode(body, buffer),
                Record::ClientEvents(body) => encode(body, buffer),
            },
        }
    }

    /// Reads the body of a frame of this kind; `Ok(None)` for a kind that this version does not know.
    ///
    /// Bytes behind the fields that this version knows are a later version's extension block and are ignored.
    pub(crate) fn decode_body(kind: u8, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        let record = match kind {
            kind::HELLO => return decode_with_block(kind, body).map(|b| Some(Self::Hello(b))),
            kind::HELLO_REPLY => return decode(kind, body).map(|b| Some(Self::HelloReply(b))),
            kind::ACK => return decode(kind, body).map(|b| Some(Self::Ack(b))),
            kind::CONTROL => return decode(kind, body).map(|b| Some(Self::Control(b))),
            kind::ENROLL_REQUEST => {
                return decode(kind, body).map(|b| Some(Self::EnrollRequest(b)));
            }
            kind::ENROLL_REPLY => return decode(kind, body).map(|b| Some(Self::EnrollReply(b))),
            kind::RENEW_REQUEST => return decode(kind, body).map(|b| Some(Self::RenewRequest(b))),
            kind::RENEW_REPLY => return decode(kind, body).map(|b| Some(Self::RenewReply(b))),
            kind::CONFIGURATION => {
                return decode(kind, body).map(|b| Some(Self::Configuration(b)));
            }
            kind::EFFECTIVE_CONFIGURATION => {
                return decode(kind, body).map(|b| Some(Self::EffectiveConfiguration(b)));
            }
            kind::HEALTH => return decode(kind, body).map(|b| Some(Self::Health(b))),
            kind::CALL_OPENED => Record::CallOpened(decode(kind, body)?),
            kind::CALL_CLOSED => Record::CallClosed(decode(kind, body)?),
            kind::LEG_OPENED => Record::LegOpened(decode(kind, body)?),
            kind::LEG_INTERVALS => Record::LegIntervals(decode_with_block(kind, body)?),
            kind::LEG_SUMMARY => Record::LegSummary(decode_with_block(kind, body)?),
            kind::DEVICE_EPISODE => Record::DeviceEpisode(decode(kind, body)?),
            kind::DEVICE_SUMMARY => Record::DeviceSummary(decode_with_block(kind, body)?),
            kind::HOST_INTERVAL => Record::HostInterval(decode_with_block(kind, body)?),
            kind::PATH_INTERVAL => Record::PathInterval(decode_with_block(kind, body)?),
            kind::LOSS_RECEIPT => Record::LossReceipt(decode(kind, body)?),
            kind::SELF_TEST => Record::SelfTest(decode(kind, body)?),
            kind::NETWORK_ATTACHMENT => Record::NetworkAttachment(decode(kind, body)?),
            kind::CLIENT_EVENTS => Record::ClientEvents(decode_client_events(body)?),
            _ => return Ok(None),
        };
        Ok(Some(Self::Record(record)))
    }
}

fn encode<T: Serialize>(body: &T, buffer: &mut [u8]) -> Option<usize> {
    postcard::to_slice(body, buffer).ok().map(|written| written.len())
}

fn decode<'a, T: Deserialize<'a>>(kind: u8, body: &'a [u8]) -> Result<T, DecodeError> {
    postcard::take_from_bytes(body)
        .map(|(value, _extension)| value)
        .map_err(|_| DecodeError::Body { kind })
}

fn encode_with_block<T: Serialize + Block>(body: &T, buffer: &mut [u8]) -> Option<usize> {
    let length = encode(body, buffer)?;
    let mut block = extension::Writer::new(buffer.get_mut(length..)?);
    body.write_block(&mut block)?;
    Some(length + block.bytes())
}

fn decode_with_block<'a, T: Deserialize<'a> + Block>(
    kind: u8,
    body: &'a [u8],
) -> Result<T, DecodeError> {
    let wrong = DecodeError::Body { kind };
    let (mut value, block): (T, _) = postcard::take_from_bytes(body).map_err(|_| wrong)?;
    value.read_block(&mut extension::Reader::new(block)).ok_or(wrong)?;
    value.is_consistent().then_some(value).ok_or(wrong)
}

/// Each event stands once and in order.
fn decode_client_events(body: &[u8]) -> Result<ClientEvents, DecodeError> {
    let events: ClientEvents = decode(kind::CLIENT_EVENTS, body)?;
    let is_ordered = events.events.is_sorted_by(|a, b| a.kind < b.kind);
    is_ordered.then_some(events).ok_or(DecodeError::Body { kind: kind::CLIENT_EVENTS })
}
