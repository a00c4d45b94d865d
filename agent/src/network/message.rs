//! Netlink messages and their attributes, as bytes (RFC 3549 section 2.2).
//!
//! A core: builds requests, takes answers apart. Whatever the lengths say, nothing beyond the bytes is read, and what
//! does not fit ends the walk. All numbers are of the machine's own byte order.

/// A head of a message: length, type, flags, sequence, port.
const HEAD_BYTES: usize = 16;
/// A head of an attribute: length, type.
const ATTRIBUTE_HEAD_BYTES: usize = 4;
/// Without the two bits that say what the payload is (`NLA_TYPE_MASK`).
const ATTRIBUTE_MASK: u16 = 0x3fff;

const ERROR: u16 = 2;
const DONE: u16 = 3;

/// The bit that every request has.
const REQUEST: u16 = 0x001;
/// All objects, not one.
const DUMP: u16 = 0x300;

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// One object: one answer comes, or an error.
    One,
    /// All of them: any number of answers, then an end.
    All,
}

/// Builds a request: `head` is the fixed part of its type, attributes follow.
///
/// # Panics
/// Where a request would be longer than 64 KiB; ours have some 60 bytes.
#[must_use]
pub fn request(kind: u16, ask: Ask, head: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let flags = match ask {
        Ask::One => REQUEST,
        Ask::All => REQUEST | DUMP,
    };
    let mut bytes = vec![0; HEAD_BYTES];
    bytes.extend_from_slice(head);
    for (attribute, payload) in attributes {
        pad(&mut bytes);
        let length = u16::try_from(ATTRIBUTE_HEAD_BYTES + payload.len());
        bytes.extend_from_slice(&length.expect("a payload of ours is some bytes").to_ne_bytes());
        bytes.extend_from_slice(&attribute.to_ne_bytes());
        bytes.extend_from_slice(payload);
    }
    pad(&mut bytes);
    let length = u32::try_from(bytes.len()).expect("a request of ours is some bytes");
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    // Sequence and port stay 0: one question at a time on a socket of its own, and the kernel knows whose it is.
    bytes
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// An object: the fixed part of its type, and attributes.
    Object(&'a [u8]),
    /// No more comes.
    End,
    /// The kernel refuses; a number of errno(3).
    Refused(i32),
}

/// The parts in what one read brought; cut short where a length does not fit.
pub fn parts(mut bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(array(bytes, 0)?)).ok()?;
        let kind = u16::from_ne_bytes(array(bytes, 4)?);
        let body = bytes.get(HEAD_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(match kind {
            DONE => Part::End,
            ERROR => match array(body, 0).map(i32::from_ne_bytes) {
                Some(0) | None => Part::End,
                Some(errno) => Part::Refused(errno.saturating_neg()),
            },
            _ => Part::Object(body),
        })
    })
}

/// The attributes behind the fixed part of an object, or inside of a nested attribute.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(array(bytes, 0)?));
        let kind = u16::from_ne_bytes(array(bytes, 2)?);
        let payload = bytes.get(ATTRIBUTE_HEAD_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & ATTRIBUTE_MASK, payload))
    })
}

/// The first attribute of a kind.
#[must_use]
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, payload)| (found == kind).then_some(payload))
}

/// A number of 32 bits.
#[must_use]
pub fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_ne_bytes)
}

/// `N` bytes at a place.
#[must_use]
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 16 bytes of head, 4 of the fixed part, 4 + 3 + 1 of the first attribute, 4 + 4 of the second: 36.
    #[test]
    fn request_is_padded_and_reads_back() {
        let bytes = request(18, Ask::All, &[1, 2, 3, 4], &[(3, b"abc"), (29, &[8, 0, 0, 0])]);
        assert_eq!(bytes.len(), 36);
        assert_eq!(u16::from_ne_bytes([bytes[6], bytes[7]]), 0x301);
        let parts: Vec<_> = parts(&bytes).collect();
        let [Part::Object(body)] = parts[..] else { panic!("{parts:?}") };
        assert_eq!(body[..4], [1, 2, 3, 4]);
        assert_eq!(attribute(&body[4..], 3), Some(b"abc".as_slice()));
        assert_eq!(
            attribute(&body[4..], 29).and_then(number),
            Some(u32::from_ne_bytes([8, 0, 0, 0]))
        );
    }

    #[test]
    fn end_and_refusal_are_told_apart() {
        let mut bytes = request(DONE, Ask::One, &[0; 4], &[]);
        bytes.extend(request(ERROR, Ask::One, &(-19i32).to_ne_bytes(), &[]));
        bytes.extend(request(ERROR, Ask::One, &0i32.to_ne_bytes(), &[]));
        bytes.extend(request(ERROR, Ask::One, &i32::MIN.to_ne_bytes(), &[]));
        let parts: Vec<_> = parts(&bytes).collect();
        assert_eq!(parts, [Part::End, Part::Refused(19), Part::End, Part::Refused(i32::MAX)]);
    }

    #[test]
    fn length_that_does_not_fit_ends_the_walk() {
        let whole = request(18, Ask::One, &[0; 4], &[(3, b"abc"), (4, b"")]);
        for length in [0u32, 15, 100, u32::MAX] {
            let mut bytes = whole.clone();
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(parts(&bytes).count(), 0, "{length}");
        }
        for length in [0u16, 3, 100, u16::MAX] {
            let mut bytes = whole[20..].to_vec();
            bytes[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(attributes(&bytes).count(), 0, "{length}");
        }
        assert_eq!(attributes(&whole[20..]).count(), 2);
    }
}
