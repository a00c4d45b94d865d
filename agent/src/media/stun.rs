//! STUN messages (RFC 8489 section 5) and the little of TURN (RFC 8656, \[MS-TURN\]) that hides media.
//!
//! Only what a passive observer needs: class, method, transaction id, one label, the address that an answer names and
//! the datagram inside a Send or Data message. Attributes are walked as far as they were captured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The transaction id of RFC 8489, or with the four bytes before it that of RFC 3489, where they are part of the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub u128);

/// What kind of message it is. RFC 8489 section 5, the two class bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageClass {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// Answers, well.
    Success,
    /// Answers, badly. A round trip all the same.
    Error,
}

/// The fixed part of one STUN message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StunHeader {
    /// Request, indication, success or error.
    pub class: MessageClass,
    /// Binding is 1, Allocate 3, Refresh 4, Send 6, Data 7.
    pub method: u16,
    /// What a request and its answer share.
    pub transaction: TransactionId,
}

/// The magic cookie of RFC 8489.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_BYTES: usize = 20;
const METHOD_SEND: u16 = 0x006;
const METHOD_DATA: u16 = 0x007;
/// \[MS-TURN\] 2.2.1: Send request 0x0004 and Data indication 0x0115, older than RFC 5766 and still what Teams relays
/// speak.
const MS_TURN_SEND_REQUEST: u16 = 0x0004;
const MS_TURN_DATA_INDICATION: u16 = 0x0115;
/// What may have a length that is no multiple of four: these, and Allocate with its answers.
const MS_TURN_KINDS: [u16; 5] =
    [MS_TURN_SEND_REQUEST, MS_TURN_DATA_INDICATION, 0x0003, 0x0103, 0x0113];
const ATTRIBUTE_DATA: u16 = 0x0013;
const ATTRIBUTE_XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// The number of the same attribute in drafts of RFC 5389, which Teams relays answer Allocate with (\[MS-TURN\]).
const MS_TURN_XOR_MAPPED_ADDRESS: u16 = 0x8020;
const ATTRIBUTE_SOFTWARE: u16 = 0x8022;

/// The SOFTWARE value by which a rehearsal makes itself known to every agent that sees its consent checks.
pub const REHEARSAL_SOFTWARE: &[u8] = b"roomtone rehearsal";

/// Parses the fixed header.
///
/// With the RFC 8489 cookie, or without it the RFC 3489 form. `None` where the length field disagrees with the
/// datagram: proprietary protocols begin with the same bytes.
#[must_use]
pub fn parse(bytes: &[u8], wire_bytes: u16) -> Option<StunHeader> {
    let head = bytes.first_chunk::<HEADER_BYTES>()?;
    let length = u16::from_be_bytes([head[2], head[3]]);
    let kind = u16::from_be_bytes([head[0], head[1]]);
    if kind >> 14 != 0
        || length % 4 != 0
        || usize::from(length) + HEADER_BYTES != usize::from(wire_bytes)
    {
        // Relays that speak [MS-TURN], and whoever asks them, send messages whose length is not a multiple of four.
        let ms_turn = head[4..8] == COOKIE
            && usize::from(length) + HEADER_BYTES == usize::from(wire_bytes)
            && MS_TURN_KINDS.contains(&kind);
        if !ms_turn {
            return None;
        }
    }
    let class = match (kind >> 7 & 2) | (kind >> 4 & 1) {
        0 => MessageClass::Request,
        1 => MessageClass::Indication,
        2 => MessageClass::Success,
        _ => MessageClass::Error,
    };
    let method = (kind & 0x000f) | (kind >> 1 & 0x0070) | (kind >> 2 & 0x0f80);
    let mut id = [0; 16];
    id.copy_from_slice(&head[4..20]);
    Some(StunHeader { class, method, transaction: TransactionId(u128::from_be_bytes(id)) })
}

/// Finds the datagram inside a TURN Send or Data message: its captured part and its length on the wire.
///
/// `None` for every other message, and where the DATA attribute was not captured.
#[must_use]
pub fn relayed(bytes: &[u8]) -> Option<(&[u8], u16)> {
    let kind = u16::from_be_bytes(*bytes.first_chunk()?);
    let rfc8656 =
        matches!(kind, 0x0010..=0x001f) && matches!(kind & 0x0f, METHOD_SEND | METHOD_DATA);
    if !rfc8656 && !matches!(kind, MS_TURN_SEND_REQUEST | MS_TURN_DATA_INDICATION) {
        return None;
    }
    Attributes::of(bytes)
        .find(|attribute| attribute.kind == ATTRIBUTE_DATA)
        .map(|attribute| (attribute.captured, attribute.wire_bytes))
}

/// Whether a message was sent by `roomtone-agent rehearse`.
#[must_use]
pub fn is_rehearsal(bytes: &[u8]) -> bool {
    Attributes::of(bytes).next().is_some_and(|attribute| {
        attribute.kind == ATTRIBUTE_SOFTWARE && attribute.captured == REHEARSAL_SOFTWARE
    })
}

/// The address to which an answer went, as its sender saw it: XOR-MAPPED-ADDRESS of RFC 8489 section 14.2.
///
/// `None` where the attribute is absent, malformed or not captured. MAPPED-ADDRESS will not do: middle boxes rewrite
/// it, and Teams relays put their own address there.
#[must_use]
pub fn reflexive(answer: &[u8]) -> Option<SocketAddr> {
    // Cookie and transaction id: what address and port are disguised with.
    let key: &[u8; 16] = answer.get(4..)?.first_chunk()?;
    if !key.starts_with(&COOKIE) {
        return None;
    }
    let attribute = Attributes::of(answer).find(|attribute| {
        matches!(attribute.kind, ATTRIBUTE_XOR_MAPPED_ADDRESS | MS_TURN_XOR_MAPPED_ADDRESS)
    })?;
    let (&[_, family, high, low], address) = attribute.captured.split_first_chunk()?;
    let port = u16::from_be_bytes([high ^ key[0], low ^ key[1]]);
    let ip = match (family, attribute.wire_bytes) {
        (1, 8) => {
            let address: &[u8; 4] = address.first_chunk()?;
            IpAddr::V4(Ipv4Addr::from(std::array::from_fn(|n| address[n] ^ key[n])))
        }
        (2, 20) => {
            let address: &[u8; 16] = address.first_chunk()?;
            let octets: [u8; 16] = std::array::from_fn(|n| address[n] ^ key[n]);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    (port != 0 && !ip.is_unspecified()).then(|| SocketAddr::new(ip, port))
}

struct Attribute<'a> {
    kind: u16,
    captured: &'a [u8],
    wire_bytes: u16,
}

struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    fn of(message: &'a [u8]) -> Self {
        Self { rest: message.get(HEADER_BYTES..).unwrap_or_default() }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let (head, value) = self.rest.split_first_chunk::<4>()?;
        let wire_bytes = u16::from_be_bytes([head[2], head[3]]);
        let length = usize::from(wire_bytes);
        self.rest = value.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute {
            kind: u16::from_be_bytes([head[0], head[1]]),
            captured: &value[..length.min(value.len())],
            wire_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{MessageClass, is_rehearsal, parse, reflexive, relayed};

    /// RFC 5769 section 2.1, the head of the sample request (108 bytes in all).
    const RFC_5769_REQUEST: [u8; 40] = [
        0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74,
        0x65, 0x73, 0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74,
    ];

    #[test]
    fn rfc_5769_sample_request_parses() {
        let header = parse(&RFC_5769_REQUEST, 108).unwrap();
        assert_eq!((header.class, header.method), (MessageClass::Request, 1));
        assert_eq!(header.transaction.0, 0x2112_a442_b7e7_a701_bc34_d686_fa87_dfae);
        assert!(!is_rehearsal(&RFC_5769_REQUEST));
    }

    #[test]
    fn classes_and_methods_come_out_of_their_scattered_bits() {
        // RFC 8489 figure 3; TURN types of RFC 8656 section 17.
        let table = [
            (0x0001, MessageClass::Request, 1),
            (0x0011, MessageClass::Indication, 1),
            (0x0101, MessageClass::Success, 1),
            (0x0111, MessageClass::Error, 1),
            (0x0113, MessageClass::Error, 3),
            (0x0109, MessageClass::Success, 9),
            (0x0801, MessageClass::Request, 0x201),
        ];
        for (kind, class, method) in table {
            let mut message = RFC_5769_REQUEST;
            message[..2].copy_from_slice(&u16::to_be_bytes(kind));
            let header = parse(&message, 108).unwrap();
            assert_eq!((header.class, header.method), (class, method), "{kind:#06x}");
        }
    }

    #[test]
    fn length_that_disagrees_with_the_datagram_is_not_stun() {
        assert_eq!(parse(&RFC_5769_REQUEST, 112), None);
        assert_eq!(parse(&RFC_5769_REQUEST[..19], 19), None);
        let mut odd = RFC_5769_REQUEST;
        odd[3] = 0x59;
        assert_eq!(parse(&odd, 109), None);
    }

    #[test]
    fn odd_length_is_taken_from_ms_turn_only() {
        // As a Teams relay answers Allocate: 133 bytes behind the head.
        let mut message = RFC_5769_REQUEST;
        message[..4].copy_from_slice(&[0x01, 0x03, 0, 133]);
        assert_eq!(parse(&message, 153).map(|header| header.method), Some(3));
        assert_eq!(parse(&message, 154), None);
        message[1] = 0x01; // a Binding answer
        assert_eq!(parse(&message, 153), None);
    }

    #[test]
    fn data_indication_gives_the_datagram_inside_even_when_cut() {
        let mut message = vec![0x00, 0x17, 0x00, 0x20, 0x21, 0x12, 0xa4, 0x42];
        message.extend([7; 12]);
        message.extend([0x00, 0x12, 0x00, 0x08, 0, 1, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66]);
        message.extend([0x00, 0x13, 0x00, 0x0e, 0x80, 0x6f, 0x00, 0x01]);
        assert_eq!(relayed(&message), Some((&[0x80, 0x6f, 0x00, 0x01][..], 14)));
        message[1] = 0x01; // a Binding request has no datagram inside
        assert_eq!(relayed(&message), None);
    }

    /// RFC 5769 sections 2.2 and 2.3: the heads of the sample responses, as far as XOR-MAPPED-ADDRESS.
    fn rfc_5769_response(attribute: &[u8]) -> Vec<u8> {
        let software = [0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63];
        let mut message = vec![0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42];
        message.extend(&RFC_5769_REQUEST[8..20]);
        message.extend(software);
        message.extend([0x74, 0x6f, 0x72, 0x20]);
        message.extend(attribute);
        message
    }

    const IPV4: [u8; 12] = [0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
    const IPV6: [u8; 24] = [
        0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1,
        0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
    ];

    #[test]
    fn rfc_5769_sample_responses_name_their_addresses() {
        let expected = "192.0.2.1:32853".parse().ok();
        assert_eq!(reflexive(&rfc_5769_response(&IPV4)), expected);
        let expected = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().ok();
        assert_eq!(reflexive(&rfc_5769_response(&IPV6)), expected);
    }

    #[test]
    fn address_that_is_cut_odd_or_nobodys_is_none() {
        for attribute in [&IPV4[..], &IPV6] {
            let message = rfc_5769_response(attribute);
            for captured in 0..message.len() {
                assert_eq!(reflexive(&message[..captured]), None, "{captured}");
            }
        }
        let changed = |at: usize, value: u8| {
            let mut attribute = IPV4;
            attribute[at] = value;
            reflexive(&rfc_5769_response(&attribute))
        };
        assert_eq!(changed(5, 2), None, "an IPv6 address of four bytes");
        assert_eq!(changed(5, 3), None, "no family");
        assert_eq!(changed(1, 0x01), None, "MAPPED-ADDRESS");
        let nobody = [0, 0x20, 0, 8, 0, 1, 0x21, 0x12, 0xe1, 0x12, 0xa6, 0x43];
        assert_eq!(reflexive(&rfc_5769_response(&nobody)), None, "port 0");
    }

    #[test]
    fn relays_of_teams_name_it_by_another_number() {
        let mut attribute = IPV4;
        attribute[0] = 0x80;
        let expected = "192.0.2.1:32853".parse().ok();
        assert_eq!(reflexive(&rfc_5769_response(&attribute)), expected);
    }

    #[test]
    fn rehearsal_is_known_by_its_first_attribute() {
        let mut message = RFC_5769_REQUEST[..20].to_vec();
        message.extend([0x80, 0x22, 0x00, 18]);
        message.extend(b"roomtone rehearsal\0\0");
        assert!(is_rehearsal(&message));
        assert!(!is_rehearsal(&message[..40]), "cut in the middle of the value");
    }
}
