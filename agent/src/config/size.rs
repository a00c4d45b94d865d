//! Sizes as an operator writes them.

/// Reads a size in bytes: a whole number, then `KiB`, `MiB` or `GiB` (powers of 1,024), or `B`, or nothing for bytes.
///
/// Blanks between number and unit are allowed; decimal units (`kB`, `MB`) are not, because half of their readers mean
/// the binary ones. `None` where the text is no such size or exceeds 64 bits.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Writes a size as [`parse_size`] reads it, in the largest unit of which it is a whole number.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for (bytes, text) in [(0, "0B"), (144, "144B"), (1 << 20, "1MiB"), (1536, "1536B")] {
            assert_eq!(format_size(bytes), text);
            assert_eq!(parse_size(text), Some(bytes));
        }
        assert_eq!(format_size(64 << 30), "64GiB");
        assert_eq!(format_size(524_288), "512KiB");
    }

    #[test]
    fn sizes_are_binary_and_nothing_else() {
        let table = [
            ("0", Some(0)),
            ("512", Some(512)),
            ("7B", Some(7)),
            ("64KiB", Some(65_536)),
            (" 100 MiB ", Some(104_857_600)),
            ("2GiB", Some(2_147_483_648)),
            ("100MB", None),
            ("1.5MiB", None),
            ("-1", None),
            ("", None),
            ("MiB", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("18014398509481984KiB", None),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
    }
}
