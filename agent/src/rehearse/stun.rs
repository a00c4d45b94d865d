//! The STUN messages of a rehearsal (RFC 8489): binding requests as consent checks (RFC 7675) and
//! the success responses to them.
//!
//! SOFTWARE is the first attribute of every message and says `roomtone rehearsal`, so that whoever
//! sees the leg, with a snap length of 128 bytes or more, can label it. FINGERPRINT is the last one.
//! There is no MESSAGE-INTEGRITY: both ends belong to the rehearsal and nothing is protected.

use std::net::{IpAddr, SocketAddr};

/// The value of SOFTWARE in every message of a rehearsal.
pub const SOFTWARE: &str = "roomtone rehearsal";

/// A transaction id (RFC 8489 section 5).
pub(super) type Transaction = [u8; 12];

const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const HEADER_BYTES: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const ATTRIBUTE_XOR_MAPPED_ADDRESS: u16 = 0x0020;
const ATTRIBUTE_SOFTWARE: u16 = 0x8022;
const ATTRIBUTE_FINGERPRINT: u16 = 0x8028;
/// RFC 8489 section 14.7: the CRC-32 is XORed with this, the ASCII of "STUN".
const FINGERPRINT_XOR: u32 = 0x5354_554E;
const FINGERPRINT_BYTES: usize = 8;
const CRC32: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// What a message is to a rehearsal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A binding request.
    Request,
    /// A binding success response.
    Success,
}

/// As much of a message as a party needs in order to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) class: Class,
    pub(super) transaction: Transaction,
    /// Whether its SOFTWARE is [`SOFTWARE`].
    pub(super) is_rehearsal: bool,
}

/// Returns a consent check.
pub(super) fn request(transaction: Transaction) -> Vec<u8> {
    sealed(BINDING_REQUEST, transaction, None)
}

/// Returns the answer to the check that came from `source`.
pub(super) fn response(transaction: Transaction, source: SocketAddr) -> Vec<u8> {
    sealed(BINDING_SUCCESS, transaction, Some(source))
}

/// Reads a message; `None` for anything but a binding request or success with a valid FINGERPRINT
/// at its end.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    let (header, attributes) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let class = match u16::from_be_bytes([header[0], header[1]]) {
        BINDING_REQUEST => Class::Request,
        BINDING_SUCCESS => Class::Success,
        _ => return None,
    };
    if usize::from(u16::from_be_bytes([header[2], header[3]])) != attributes.len()
        || header[4..8] != COOKIE
    {
        return None;
    }
    let (covered, seal) = bytes.split_last_chunk::<FINGERPRINT_BYTES>()?;
    if *seal != fingerprint(covered) {
        return None;
    }
    let mut transaction = [0; 12];
    transaction.copy_from_slice(&header[8..]);
    Some(Message { class, transaction, is_rehearsal: is_rehearsal(attributes) })
}

/// Whether these bytes are a consent check of a rehearsal.
pub(super) fn is_check(bytes: &[u8]) -> bool {
    read(bytes).is_some_and(|message| message.class == Class::Request && message.is_rehearsal)
}

/// Whether the first attribute is our SOFTWARE.
fn is_rehearsal(attributes: &[u8]) -> bool {
    attributes
        .strip_prefix(&attribute_head(ATTRIBUTE_SOFTWARE, SOFTWARE.len()))
        .is_some_and(|value| value.starts_with(SOFTWARE.as_bytes()))
}

/// A whole message; a length field covers FINGERPRINT too while its CRC is taken (section 14.7).
fn sealed(kind: u16, transaction: Transaction, mapped: Option<SocketAddr>) -> Vec<u8> {
    let mut message = Vec::with_capacity(76);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(&COOKIE);
    message.extend_from_slice(&transaction);
    push_attribute(&mut message, ATTRIBUTE_SOFTWARE, SOFTWARE.as_bytes());
    if let Some(mapped) = mapped {
        push_mapped(&mut message, mapped, &transaction);
    }
    let length = (message.len() - HEADER_BYTES + FINGERPRINT_BYTES) as u16; // at most 56
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let seal = fingerprint(&message);
    message.extend_from_slice(&seal);
    message
}

/// XOR-MAPPED-ADDRESS (RFC 8489 section 14.2): the port under the cookie's first half, the address
/// under the cookie and, for IPv6, the transaction id.
fn push_mapped(message: &mut Vec<u8>, mapped: SocketAddr, transaction: &Transaction) {
    let port = mapped.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
    let mask = COOKIE.iter().chain(transaction);
    let mut value = vec![0];
    let push = |family: u8, octets: &[u8]| {
        value.push(family);
        value.extend_from_slice(&port.to_be_bytes());
        value.extend(octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask));
    };
    match mapped.ip() {
        IpAddr::V4(ip) => push(1, &ip.octets()),
        IpAddr::V6(ip) => push(2, &ip.octets()),
    }
    push_attribute(message, ATTRIBUTE_XOR_MAPPED_ADDRESS, &value);
}

/// An attribute, padded with zeros to a multiple of four bytes.
fn push_attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&attribute_head(kind, value.len()));
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn attribute_head(kind: u16, value_bytes: usize) -> [u8; 4] {
    let [kind_high, kind_low] = kind.to_be_bytes();
    let [high, low] = (value_bytes as u16).to_be_bytes(); // ours are at most 20
    [kind_high, kind_low, high, low]
}

/// FINGERPRINT over everything before it.
fn fingerprint(covered: &[u8]) -> [u8; FINGERPRINT_BYTES] {
    let [a, b, c, d] = (CRC32.checksum(covered) ^ FINGERPRINT_XOR).to_be_bytes();
    let [e, f, g, h] = attribute_head(ATTRIBUTE_FINGERPRINT, 4);
    [e, f, g, h, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transaction id of the samples in RFC 5769.
    const TRANSACTION: Transaction =
        [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    /// RFC 5769 section 2.1, sample request.
    const SAMPLE_REQUEST: [u8; 108] = [
        0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74,
        0x65, 0x73, 0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e,
        0x00, 0x01, 0xff, 0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36,
        0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20,
        0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e,
        0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5,
        0x7a, 0x3b, 0xcf,
    ];

    #[test]
    fn request_is_software_then_fingerprint_byte_for_byte() {
        let request = request(TRANSACTION);
        let mut expected = vec![0x00, 0x01]; // binding request
        expected.extend([0x00, 32]); // SOFTWARE 4 + 18 + 2 of padding, FINGERPRINT 4 + 4
        expected.extend([0x21, 0x12, 0xa4, 0x42]);
        expected.extend(TRANSACTION);
        expected.extend([0x80, 0x22, 0x00, 18]);
        expected.extend(b"roomtone rehearsal\0\0");
        expected.extend([0x80, 0x28, 0x00, 0x04]);
        assert_eq!(request[..48], expected);
        assert_eq!(request.len(), 52);
        // The checksum's own proof is the RFC's sample below.
        assert_eq!(
            read(&request),
            Some(Message { class: Class::Request, transaction: TRANSACTION, is_rehearsal: true })
        );
    }

    #[test]
    fn fingerprint_agrees_with_the_samples_of_rfc_5769() {
        let message = read(&SAMPLE_REQUEST).expect("the RFC's own sample is valid");
        assert_eq!(message.class, Class::Request);
        assert_eq!(message.transaction, TRANSACTION);
        assert!(!message.is_rehearsal, "its SOFTWARE is `STUN test client`");
    }

    #[test]
    fn mapped_address_is_that_of_rfc_5769() {
        // Section 2.2: 192.0.2.1 port 32853 reads a1 47 e1 12 a6 43 under the mask.
        let response = response(TRANSACTION, "192.0.2.1:32853".parse().unwrap());
        assert_eq!(response[..2], [0x01, 0x01]);
        assert_eq!(
            response[44..56],
            [0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]
        );
        // Section 2.3: [2001:db8:1234:5678:11:2233:4455:6677]:32853.
        let mapped = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        assert_eq!(
            super::response(TRANSACTION, mapped)[44..68],
            [
                0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3,
                0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
            ]
        );
    }

    #[test]
    fn truncated_or_flipped_message_is_not_read() {
        let request = request(TRANSACTION);
        for length in 0..request.len() {
            assert_eq!(read(&request[..length]), None, "cut to {length} bytes");
        }
        for bit in 0..request.len() * 8 {
            let mut flipped = request.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&flipped), None, "bit {bit} flipped");
        }
    }
}
