//! The text of a token: all that an agent needs to find a collector, to know it, and to be let in.
//!
//! ```text
//!  "rt1-" and, in lower-case base32 of RFC 4648 section 6 without padding:
//!   0         1                  33         41            73       75           76          76 + n
//!  | version | CA's SHA-256     | token id | secret      | port   | n, 1..=253 | host       | CRC32C |
//!  | 01      | 32 bytes         | 8 bytes  | 32 bytes    | u16    | u8         | n bytes    | u32    |
//! ```
//! Numbers are little-endian. The CRC32C covers everything before it, so that a slip of the pen is told as one before
//! any packet is sent. Either case is read; white space around the text is not part of it.

use core::fmt;

use heapless::{String, Vec};

use crate::enroll::{AuthorityFingerprint, TokenId, TokenSecret};
use crate::frame::CRC32C;
use crate::limits::{SERVER_NAME_BYTES_MAX, TOKEN_TEXT_BYTES_MAX};

/// What every token begins with: whose it is, and how to read on.
pub const PREFIX: &str = "rt1-";

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 76;
const CRC_BYTES: usize = 4;
const BYTES_MAX: usize = HEAD_BYTES + SERVER_NAME_BYTES_MAX + CRC_BYTES;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What a token says. It has no `Display`, so that no log line shows one by accident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The authority that issued the collector's certificate.
    pub authority: AuthorityFingerprint,
    /// Names the token.
    pub id: TokenId,
    /// Proves that the bearer was given it.
    pub secret: TokenSecret,
    /// The collector's host name or IP address; an IPv6 address without brackets.
    host: String<SERVER_NAME_BYTES_MAX>,
    /// The collector's UDP port.
    port: u16,
}

/// Why a text is no token. All of them are mended by copying the text again, but for `Version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// It does not begin with [`PREFIX`].
    Prefix,
    /// A character that no token has.
    Character {
        /// Where, counted in characters from 1.
        position: usize,
    },
    /// A part is missing, or something was added.
    Length,
    /// Something was mistyped.
    Checksum,
    /// A token of a later version: use a newer agent.
    Version {
        /// The version found.
        found: u8,
    },
    /// The host is no host name and no address, or the port is 0.
    Address,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix => write!(f, "a token begins with {PREFIX}"),
            Self::Character { position } => {
                write!(f, "character {position} occurs in no token, copy the token again")
            }
            Self::Length => f.write_str("the token is cut or has something added, copy it again"),
            Self::Checksum => f.write_str("the token has a wrong character, copy it again"),
            Self::Version { found } => {
                write!(f, "the token is of version {found}, this program reads version {VERSION}")
            }
            Self::Address => f.write_str("the token has no usable address, make another"),
        }
    }
}

impl core::error::Error for TokenError {}

impl Token {
    /// A token for the collector at `host` (an IPv6 address without brackets) and `port`.
    ///
    /// # Errors
    /// [`TokenError::Address`] where `host` is empty, too long or no host, or `port` is 0.
    pub fn new(
        authority: AuthorityFingerprint,
        id: TokenId,
        secret: TokenSecret,
        host: &str,
        port: u16,
    ) -> Result<Self, TokenError> {
        let is_host_byte =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_');
        if host.is_empty() || port == 0 || !host.bytes().all(is_host_byte) {
            return Err(TokenError::Address);
        }
        let host = String::try_from(host).map_err(|_| TokenError::Address)?;
        Ok(Self { authority, id, secret, host, port })
    }

    /// Reads a text.
    ///
    /// # Errors
    /// [`TokenError`]; none of them repeats the text.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let head = text.get(..PREFIX.len()).ok_or(TokenError::Prefix)?;
        if !head.eq_ignore_ascii_case(PREFIX) {
            return Err(TokenError::Prefix);
        }
        let bytes = decode(&text[PREFIX.len()..])?;
        let (content, stored) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(TokenError::Length)?;
        if CRC32C.checksum(content) != u32::from_le_bytes(*stored) {
            return Err(TokenError::Checksum);
        }
        match content.first() {
            Some(&VERSION) => {}
            Some(&found) => return Err(TokenError::Version { found }),
            None => return Err(TokenError::Length),
        }
        let (_, rest) = take::<1>(content)?;
        let (authority, rest) = take(rest)?;
        let (id, rest) = take(rest)?;
        let (secret, rest) = take(rest)?;
        let (port, rest) = take(rest)?;
        let ([length], host) = take(rest)?;
        if host.len() != usize::from(length) {
            return Err(TokenError::Length);
        }
        let host = str::from_utf8(host).map_err(|_| TokenError::Address)?;
        Self::new(
            AuthorityFingerprint(authority),
            TokenId(id),
            TokenSecret(secret),
            host,
            u16::from_le_bytes(port),
        )
    }

    /// Writes the text, for the person who carries it.
    #[must_use]
    pub fn to_text(&self) -> String<TOKEN_TEXT_BYTES_MAX> {
        let mut bytes: Vec<u8, BYTES_MAX> = Vec::new();
        let parts: [&[u8]; 7] = [
            &[VERSION],
            &self.authority.0,
            &self.id.0,
            &self.secret.0,
            &self.port.to_le_bytes(),
            &[self.host.len() as u8],
            self.host.as_bytes(),
        ];
        for part in parts {
            bytes.extend_from_slice(part).expect("BYTES_MAX is the sum of all parts");
        }
        let crc = CRC32C.checksum(&bytes).to_le_bytes();
        bytes.extend_from_slice(&crc).expect("BYTES_MAX is the sum of all parts");
        encode(&bytes)
    }

    /// The collector's host name or IP address; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The collector's UDP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Takes the next `N` bytes off the front.
fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), TokenError> {
    bytes.split_first_chunk().map(|(head, rest)| (*head, rest)).ok_or(TokenError::Length)
}

fn encode(bytes: &[u8]) -> String<TOKEN_TEXT_BYTES_MAX> {
    let mut text = String::new();
    let mut push = |character: u8| {
        text.push(char::from(character)).expect("TOKEN_TEXT_BYTES_MAX is that of BYTES_MAX");
    };
    PREFIX.bytes().for_each(&mut push);
    let (mut window, mut bits) = (0u32, 0u32);
    for &byte in bytes {
        window = window << 8 | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(ALPHABET[(window >> bits & 31) as usize]);
        }
    }
    if bits > 0 {
        push(ALPHABET[(window << (5 - bits) & 31) as usize]);
    }
    text
}

fn decode(text: &str) -> Result<Vec<u8, BYTES_MAX>, TokenError> {
    let mut bytes = Vec::new();
    let (mut window, mut bits) = (0u32, 0u32);
    for (index, character) in text.chars().enumerate() {
        let value = match character.to_ascii_lowercase() {
            letter @ 'a'..='z' => letter as u32 - 'a' as u32,
            digit @ '2'..='7' => digit as u32 - '2' as u32 + 26,
            _ => return Err(TokenError::Character { position: PREFIX.len() + index + 1 }),
        };
        window = window << 5 | value;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((window >> bits) as u8).map_err(|_| TokenError::Length)?;
        }
    }
    // Five bits or more would be a character too many; ones would make two texts of one token.
    if bits >= 5 {
        return Err(TokenError::Length);
    }
    if window & ((1 << bits) - 1) != 0 { Err(TokenError::Checksum) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(host: &str, port: u16) -> Token {
        Token::new(
            AuthorityFingerprint(core::array::from_fn(|i| i as u8)),
            TokenId([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]),
            TokenSecret([0xa5; 32]),
            host,
            port,
        )
        .unwrap()
    }

    /// `WIRE.md` 7.5 shows it too; made by another implementation of base32 and of the checksum.
    const EXAMPLE: &str = "rt1-aeaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb6ejcgncfkztxrcs2ljnfuws2\
                           ljnfuws2ljnfuws2ljnfuws2ljnfuws2ljnfuws2kuircjzg633nomxgk6dbnvygyzjoorsxg5ckjh3ak";

    #[test]
    fn text_has_a_known_form() {
        let text = token("rooms.example.test", 4433).to_text();
        assert_eq!(text, EXAMPLE);
        assert_eq!(Token::parse(&text), Ok(token("rooms.example.test", 4433)));
        // 76 bytes, a host of 18 and 4 of checksum: 98 bytes, 157 characters.
        assert_eq!(text.len(), PREFIX.len() + (98 * 8usize).div_ceil(5));
    }

    #[test]
    fn hosts_of_any_kind_come_back() {
        let longest: String<253> = core::iter::repeat_n('h', 253).collect();
        for (host, port) in [("h", 1), ("192.0.2.7", 443), ("2001:db8::7", u16::MAX), (&longest, 9)]
        {
            let text = token(host, port).to_text();
            let read = Token::parse(&text).unwrap();
            assert_eq!((read.host(), read.port()), (host, port));
        }
        assert_eq!(token(&longest, 9).to_text().len(), TOKEN_TEXT_BYTES_MAX);
    }

    #[test]
    fn upper_case_and_white_space_around_change_nothing() {
        let text = token("h", 1).to_text();
        let mut upper: String<600> = String::try_from("  ").unwrap();
        text.chars().for_each(|c| upper.push(c.to_ascii_uppercase()).unwrap());
        upper.push('\n').unwrap();
        assert_eq!(Token::parse(&upper), Ok(token("h", 1)));
    }

    #[test]
    fn every_mistyped_character_is_noticed() {
        let text = token("rooms.example.test", 4433).to_text();
        for at in PREFIX.len()..text.len() {
            for other in ALPHABET {
                let mut bytes: Vec<u8, 600> = Vec::from_slice(text.as_bytes()).unwrap();
                if bytes[at] == *other {
                    continue;
                }
                bytes[at] = *other;
                let refused = Token::parse(str::from_utf8(&bytes).unwrap());
                assert_eq!(refused, Err(TokenError::Checksum), "character {at}");
            }
        }
    }

    #[test]
    fn cut_and_foreign_texts_are_told_apart() {
        let text = token("rooms.example.test", 4433).to_text();
        for cut in PREFIX.len()..text.len() {
            let refused = Token::parse(&text[..cut]).unwrap_err();
            assert!(matches!(refused, TokenError::Length | TokenError::Checksum), "{refused:?}");
        }
        for foreign in ["", "rt", "rt2-aaaa", "ghp_abc", "é1-"] {
            assert_eq!(Token::parse(foreign), Err(TokenError::Prefix), "{foreign}");
        }
        assert_eq!(Token::parse("rt1-ab1"), Err(TokenError::Character { position: 7 }));
        let long: String<700> = PREFIX.chars().chain(core::iter::repeat_n('a', 690)).collect();
        assert_eq!(Token::parse(&long), Err(TokenError::Length));
    }

    /// A checksum that holds over what no writer of this version makes.
    #[test]
    fn sealed_nonsense_is_refused() {
        let sealed = |content: &[u8]| {
            let mut bytes: Vec<u8, BYTES_MAX> = Vec::from_slice(content).unwrap();
            bytes.extend_from_slice(&CRC32C.checksum(content).to_le_bytes()).unwrap();
            Token::parse(&encode(&bytes)).unwrap_err()
        };
        let mut content = [7; HEAD_BYTES + 1];
        assert_eq!(sealed(&content), TokenError::Version { found: 7 });
        content[0] = VERSION;
        assert_eq!(sealed(&content), TokenError::Length, "a host of one byte said to have seven");
        content[HEAD_BYTES - 1] = 1;
        assert_eq!(sealed(&content), TokenError::Address, "a host that is a control character");
        content[HEAD_BYTES] = b'h';
        content[HEAD_BYTES - 3..HEAD_BYTES - 1].copy_from_slice(&[0, 0]);
        assert_eq!(sealed(&content), TokenError::Address, "port 0");
        assert_eq!(sealed(&[]), TokenError::Length);
        assert_eq!(sealed(&[VERSION; 60]), TokenError::Length);
    }

    #[test]
    fn secret_is_not_shown() {
        use core::fmt::Write as _;
        let mut shown: String<1024> = String::new();
        write!(shown, "{:?}", token("h", 1)).unwrap();
        assert!(shown.contains("TokenSecret(..)") && !shown.contains("165"), "{shown}");
    }
}
