//! Arbitrary text as a token: what is read is written again in one form, and nothing else is read as the same.

use roomtone_protocol::token::Token;

/// Takes the bytes as text, as far as they are.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(token) = Token::parse(text) else { return };
    let again = token.to_text();
    assert!(again.eq_ignore_ascii_case(text.trim()), "one token, two texts");
    assert_eq!(Token::parse(&again), Ok(token));
}
