//! Text from outside, made fit for a terminal: no control characters, no more room than it is given.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Writes control and invisible formatting characters as `\u{..}`, so that a peer's name cannot steer a terminal.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_formatting(character) {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Escapes, then cuts to `columns` of a terminal; what was cut shows as `…`.
#[must_use]
pub fn fit(text: &str, columns: usize) -> String {
    let text = escape(text);
    if text.width() <= columns {
        return text;
    }
    let mut fitted = String::new();
    let mut used = 0;
    for character in text.chars() {
        let width = character.width().unwrap_or(0);
        if used + width + 1 > columns {
            break;
        }
        used += width;
        fitted.push(character);
    }
    fitted.push('…');
    fitted
}

/// Bidirectional controls, joiners, tags and other invisible characters of general category Cf, and line separators.
fn is_formatting(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Microseconds since 1970 as RFC 3339 in UTC with milliseconds; `None` beyond the year 9999.
#[must_use]
pub fn rfc3339(wall_us: u64) -> Option<String> {
    (wall_us <= LAST_US).then(|| {
        let at: SystemTime = UNIX_EPOCH + Duration::from_micros(wall_us);
        humantime::format_rfc3339_millis(at).to_string()
    })
}

/// The day of a moment in UTC as `2026-11-22`; `None` beyond the year 9999.
#[must_use]
pub fn day(wall_us: u64) -> Option<String> {
    rfc3339(wall_us).map(|time| time.chars().take(10).collect())
}

/// When a day like `2026-11-22` begins in UTC, microseconds since 1970; `None` where it is none.
#[must_use]
pub fn parse_day(text: &str) -> Option<u64> {
    let at = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok()?;
    let us = u64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()?;
    // humantime takes 30 February for 2 March.
    (day(us).as_deref() == Some(text)).then_some(us)
}

/// Microseconds since 1970 as `11-22 23:59:00` in UTC for tables, `-` beyond the year 9999.
#[must_use]
pub fn short_time(wall_us: u64) -> String {
    match rfc3339(wall_us) {
        Some(time) => format!("{} {}", &time[5..10], &time[11..19]),
        None => "-".to_owned(),
    }
}

/// 9999-12-31T23:59:59.999999Z.
const LAST_US: u64 = 253_402_300_799_999_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_cannot_steer_the_terminal() {
        let name = "Oslo\u{1b}[2J\u{202e}4\r\n\u{9b}31m";
        assert_eq!(escape(name), r"Oslo\u{1b}[2J\u{202e}4\u{d}\u{a}\u{9b}31m");
        assert_eq!(escape("Tromsø 東京"), "Tromsø 東京");
    }

    #[test]
    fn fitted_text_is_never_wider_than_its_room() {
        assert_eq!(fit("Oslo 4", 6), "Oslo 4");
        assert_eq!(fit("Oslo 44", 6), "Oslo …");
        // 東 is two columns wide: three of them and the mark do not fit into six.
        assert_eq!(fit("東東東東", 6), "東東…");
        for columns in 1..20 {
            assert!(fit("a東\u{1b}b\u{301}c東東東東東", columns).width() <= columns);
        }
    }

    /// `date -u -d 2026-11-22 +%s` = 1795305600.
    #[test]
    fn days_read_back_as_they_are_written() {
        assert_eq!(parse_day("2026-11-22"), Some(1_795_305_600_000_000));
        assert_eq!(day(1_795_391_940_000_000).as_deref(), Some("2026-11-22"));
        for wrong in ["2026-02-30", "2026-13-01", "26-01-01", "1969-12-31", "", "2026-11-22T"] {
            assert_eq!(parse_day(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_beyond_the_calendar_are_no_panic() {
        assert_eq!(rfc3339(1_795_391_940_000_000).as_deref(), Some("2026-11-22T23:59:00.000Z"));
        assert_eq!(short_time(1_795_391_940_000_000), "11-22 23:59:00");
        assert_eq!((rfc3339(u64::MAX), short_time(u64::MAX)), (None, "-".to_owned()));
        assert!(rfc3339(LAST_US).is_some());
    }
}
