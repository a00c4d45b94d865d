//! Which known key a wrong one was probably meant to be: the only file that measures words.

/// How alike a key must be to be offered instead (Jaro-Winkler, 0 to 1); below, the nearest word is no likely slip.
const LIKENESS_MIN: f64 = 0.75;

/// Finds the known word that is most like `key` among `section.key`s.
///
/// A section alone is measured against sections, and against keys without theirs; a whole key against whole keys.
pub fn nearest(key: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    let mut candidates: Vec<(f64, &'static str)> = Vec::new();
    for option in known {
        let (section, name) = option.split_once('.').unwrap_or((option, ""));
        if key.contains('.') {
            candidates.push((strsim::jaro_winkler(key, option), option));
        } else {
            candidates.push((strsim::jaro_winkler(key, section), section));
            candidates.push((strsim::jaro_winkler(key, name), option));
        }
    }
    candidates
        .into_iter()
        .filter(|(likeness, _)| *likeness > LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slip_of_the_pen_is_recognised_and_noise_is_not() {
        let known = ["audio.levels", "audio.stall", "log.level"];
        assert_eq!(nearest("audio.level", known), Some("audio.levels"));
        assert_eq!(nearest("levels", known), Some("audio.levels"));
        assert_eq!(nearest("logs", known), Some("log"));
        assert_eq!(nearest("collector.address", known), None);
    }
}
