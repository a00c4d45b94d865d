//! Certificates as text (RFC 7468).

/// A certificate in DER as PEM: base64 (RFC 4648 section 4) in lines of 64.
pub(super) fn certificate(der: &[u8]) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let byte = |index| u32::from(three.get(index).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for digit in 0..4 {
                let value = (bits >> (18 - 6 * digit) & 63) as usize;
                // One byte makes two digits, two make three.
                text.push(if digit <= three.len() { char::from(DIGITS[value]) } else { '=' });
            }
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 section 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        let table = [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in table {
            let text = certificate(plain.as_bytes());
            assert_eq!(text.lines().nth(1), Some(coded));
        }
    }

    #[test]
    fn lines_have_64_digits() {
        let text = certificate(&[0; 100]);
        // 100 bytes are 33 threes and one byte, 136 digits.
        let lengths: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(lengths, [27, 64, 64, 8, 25]);
    }
}
