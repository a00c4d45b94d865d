//! Rule sets as TOML: the format of those that come with the collector, and of an operator's own.
//!
//! Nothing is guessed: an unknown key, word or unit, a number with too many digits, a metric that is bounded twice is
//! refused, and the error names the line. Bounds are text with their unit (`"30 ms"`, `"0.005"`), so that no float
//! comes between what is published and what is compared. A file has at most [`FILE_BYTES_MAX`] bytes and
//! [`RULES_MAX`] rules of each kind, a text [`TEXT_CHARACTERS_MAX`] characters.

use serde::Deserialize;
use toml::Spanned;

use super::rules::{
    Bound, Colour, ItemRule, Metric, Precondition, Relation, Rule, RuleSet, RulesName, SetupRule,
    Unit, built_in_ids, built_in_text,
};
use crate::identity::digest::sha256;

/// The largest file, in bytes: eight times the largest built-in one.
pub const FILE_BYTES_MAX: usize = 64 * 1024;
/// The most `[[poor]]` and the most `[[item]]` rules.
pub const RULES_MAX: usize = 64;
/// The longest title or source, in characters.
pub const TEXT_CHARACTERS_MAX: usize = 200;
/// The longest id, in characters.
pub const ID_CHARACTERS_MAX: usize = 32;
/// The format that this version reads.
const FORMAT: i64 = 1;

/// Why a file is no rule set. Each says what to change; texts are not escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleFileError {
    /// It is larger than any rule set.
    #[error("{found} bytes are no rule set, one has at most {FILE_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A line is wrong.
    #[error("line {line}: {what}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Something is missing that no line can be named for.
    #[error("{what}")]
    Whole {
        /// What.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: Spanned<i64>,
    id: Spanned<String>,
    version: Spanned<i64>,
    title: Spanned<String>,
    precondition: Option<FilePrecondition>,
    setup: Option<FileSetup>,
    #[serde(default)]
    poor: Vec<FileRule>,
    #[serde(default)]
    item: Vec<FileItem>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePrecondition {
    packets_above: Spanned<i64>,
    source: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSetup {
    first_code: Spanned<i64>,
    last_code: Spanned<i64>,
    source: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    metric: Spanned<String>,
    above: Option<Spanned<String>>,
    at_least: Option<Spanned<String>>,
    source: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileItem {
    metric: Spanned<String>,
    colour: Spanned<String>,
    above: Option<Spanned<String>>,
    at_least: Option<Spanned<String>>,
    source: Spanned<String>,
}

/// Reads an operator's rule set.
///
/// # Errors
/// [`RuleFileError`], also where it has the id of a built-in set and another content.
pub fn read(bytes: &[u8]) -> Result<RuleSet, RuleFileError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(RuleFileError::TooLarge { found: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| RuleFileError::NotUtf8)?;
    let rules = read_built_in(text)?;
    if built_in_text(&rules.name.id).is_some_and(|built_in| built_in != text) {
        let id = &rules.name.id;
        let what = format!("id `{id}` is that of a built-in rule set: choose another one");
        return Err(RuleFileError::Whole { what });
    }
    Ok(rules)
}

/// Reads a rule set whatever its id.
pub(super) fn read_built_in(text: &str) -> Result<RuleSet, RuleFileError> {
    let lines = Lines { text };
    let file: File = toml::from_str(text).map_err(|error: toml::de::Error| {
        let what = error.message().lines().next().unwrap_or_default().to_owned();
        match error.span() {
            Some(span) => lines.wrong(span.start, what),
            None => RuleFileError::Whole { what },
        }
    })?;
    if *file.format.get_ref() != FORMAT {
        let found = file.format.get_ref();
        let what = format!("format {found} is not known, use {FORMAT}");
        return Err(lines.at(&file.format, what));
    }
    let name = RulesName {
        id: lines.id(&file.id)?,
        version: lines.number(&file.version, 1..=1_000_000)?,
        hash: hash(text),
    };
    let title = lines.text(&file.title)?;
    let precondition = file.precondition.map(|it| -> Result<_, RuleFileError> {
        Ok(Precondition {
            packets_above: lines.number(&it.packets_above, 0..=1_000_000)?,
            source: lines.text(&it.source)?,
        })
    });
    let setup = file.setup.map(|it| lines.setup(&it));
    for (found, word) in [(file.poor.len(), "poor"), (file.item.len(), "item")] {
        if found > RULES_MAX {
            let what = format!("{found} rules `{word}`, a rule set has at most {RULES_MAX}");
            return Err(RuleFileError::Whole { what });
        }
    }
    let mut poor: Vec<Rule> = Vec::with_capacity(file.poor.len());
    for it in &file.poor {
        let rule = lines.rule(&it.metric, &it.above, &it.at_least, &it.source)?;
        if poor.iter().any(|earlier| earlier.metric == rule.metric) {
            let what = format!("`{}` makes poor by an earlier rule already", rule.metric.word());
            return Err(lines.at(&it.metric, what));
        }
        poor.push(rule);
    }
    let items = file.item.iter().map(|it| {
        let colour = match it.colour.get_ref().as_str() {
            "yellow" => Colour::Yellow,
            "red" => Colour::Red,
            _ => return Err(lines.at(&it.colour, "a colour is yellow or red".to_owned())),
        };
        let rule = lines.rule(&it.metric, &it.above, &it.at_least, &it.source)?;
        Ok(ItemRule { colour, rule })
    });
    let items = items.collect::<Result<Vec<_>, _>>()?;
    let setup = setup.transpose()?;
    if poor.is_empty() && setup.is_none() {
        let what = "nothing makes a call poor: add a [[poor]] rule or [setup]".to_owned();
        return Err(RuleFileError::Whole { what });
    }
    Ok(RuleSet { name, title, precondition: precondition.transpose()?, setup, poor, items })
}

fn hash(text: &str) -> String {
    sha256(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The text that errors count lines in.
struct Lines<'a> {
    text: &'a str,
}

impl Lines<'_> {
    fn wrong(&self, offset: usize, what: String) -> RuleFileError {
        let head = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let line = head.iter().filter(|byte| **byte == b'\n').count() + 1;
        RuleFileError::Line { line, what }
    }

    fn at<T>(&self, place: &Spanned<T>, what: String) -> RuleFileError {
        self.wrong(place.span().start, what)
    }

    fn number<N: TryFrom<i64>>(
        &self,
        found: &Spanned<i64>,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<N, RuleFileError> {
        let value = *found.get_ref();
        let inside = range.contains(&value).then_some(value);
        inside.and_then(|value| N::try_from(value).ok()).ok_or_else(|| {
            let (first, last) = (range.start(), range.end());
            self.at(found, format!("use a whole number in {first}..={last}"))
        })
    }

    fn id(&self, found: &Spanned<String>) -> Result<String, RuleFileError> {
        let id = found.get_ref();
        let is_good = (1..=ID_CHARACTERS_MAX).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !is_good {
            let what = format!("an id has 1 to {ID_CHARACTERS_MAX} of a-z, 0-9 and `-`");
            return Err(self.at(found, what));
        }
        Ok(id.clone())
    }

    fn text(&self, found: &Spanned<String>) -> Result<String, RuleFileError> {
        let text = found.get_ref();
        let is_good = !text.is_empty()
            && text.chars().count() <= TEXT_CHARACTERS_MAX
            && !text.chars().any(char::is_control);
        if !is_good {
            let what =
                format!("use 1 to {TEXT_CHARACTERS_MAX} characters and no control characters");
            return Err(self.at(found, what));
        }
        Ok(text.clone())
    }

    fn setup(&self, it: &FileSetup) -> Result<SetupRule, RuleFileError> {
        let rule = SetupRule {
            first: self.number(&it.first_code, 0..=65_535)?,
            last: self.number(&it.last_code, 0..=65_535)?,
            source: self.text(&it.source)?,
        };
        if rule.last < rule.first {
            return Err(self.at(&it.last_code, "it is below first_code".to_owned()));
        }
        Ok(rule)
    }

    fn rule(
        &self,
        metric: &Spanned<String>,
        above: &Option<Spanned<String>>,
        at_least: &Option<Spanned<String>>,
        source: &Spanned<String>,
    ) -> Result<Rule, RuleFileError> {
        let known = Metric::ALL.into_iter().find(|it| it.word() == metric.get_ref());
        let Some(known) = known else {
            let words = Metric::ALL.map(Metric::word).join(", ");
            return Err(self.at(metric, format!("no such metric: use one of {words}")));
        };
        let (relation, bound) = match (above, at_least) {
            (Some(bound), None) => (Relation::Above, bound),
            (None, Some(bound)) => (Relation::AtLeast, bound),
            (None, None) | (Some(_), Some(_)) => {
                return Err(self.at(metric, "it takes either `above` or `at_least`".to_owned()));
            }
        };
        let unit = known.unit();
        let steps = steps(bound.get_ref(), unit).ok_or_else(|| {
            let (digits, most) = (unit.digits(), unit.text(unit.steps_max()));
            let what = format!(
                "use a number like \"{}\", at most {most}, with digits behind the point: {digits} or fewer",
                unit.text(unit.steps_max() / 20)
            );
            self.at(bound, what)
        })?;
        // Nothing measured is below 0: such a rule would break on what is best.
        if steps == 0 && relation == Relation::AtLeast {
            return Err(self.at(bound, "at least 0 is everything".to_owned()));
        }
        let bound = Bound { relation, steps };
        Ok(Rule { metric: known, bound, source: self.text(source)? })
    }
}

/// A number with its unit in steps, exactly.
fn steps(text: &str, unit: Unit) -> Option<u64> {
    let number = text.strip_suffix(unit.suffix())?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |it: &str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit());
    let digits = unit.digits() as usize;
    // Longer ones could not be within the bounds, and would not fit.
    if !is_digits(whole) || !is_digits(part) || whole.len() > 9 || part.len() > digits {
        return None;
    }
    let scale = 10u64.pow(unit.digits());
    let part: u64 = format!("{part:0<digits$}").parse().ok()?;
    let steps = whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(part)?;
    (steps <= unit.steps_max()).then_some(steps)
}

/// The ids of the built-in sets, as text for an error or a help.
#[must_use]
pub fn built_in_words() -> String {
    built_in_ids().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "rule_file_tests.rs"]
mod tests;
