//! What trials found: printed as it comes, and written as one JSON array.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What one trial found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The bench's name.
    pub bench: String,
    /// The trial's name.
    pub trial: String,
    /// Whether it passed; `None` where it was not run, which is neither.
    pub passed: Option<bool>,
    /// What was measured.
    #[serde(flatten)]
    pub finding: Finding,
    /// Why it failed or was not run.
    pub reason: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// What a trial measured; `None` where it measures no such thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The cause that the collector showed.
    pub cause: Option<String>,
    /// The episode's onset against the moment of the fault, in ms; positive is late.
    pub onset_error_ms: Option<f64>,
    /// From the fault until an episode was visible at the collector, in ms.
    pub detection_ms: Option<f64>,
    /// The device's ratio as the collector showed it.
    pub ratio: Option<PartOfWhole>,
    /// The same as it was scripted.
    pub truth: Option<PartOfWhole>,
    /// In words, what else was seen.
    pub seen: Option<String>,
}

/// A ratio with both its times, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartOfWhole {
    /// Bad time.
    pub part_us: u64,
    /// Observed time.
    pub whole_us: u64,
}

impl Outcome {
    /// A trial that did not take place.
    #[must_use]
    pub fn not_run(bench: &str, trial: &str, reason: &str) -> Self {
        Self::without_finding(bench, trial, None, reason)
    }

    /// A trial that failed.
    #[must_use]
    pub fn failed(bench: &str, trial: &str, reason: &str) -> Self {
        Self::without_finding(bench, trial, Some(false), reason)
    }

    fn without_finding(bench: &str, trial: &str, passed: Option<bool>, reason: &str) -> Self {
        Self {
            bench: bench.to_owned(),
            trial: trial.to_owned(),
            passed,
            finding: Finding::default(),
            reason: Some(reason.to_owned()),
            seconds: 0.0,
        }
    }

    /// One line for people.
    fn line(&self) -> String {
        let word = match self.passed {
            Some(true) => "passed",
            Some(false) => "FAILED",
            None => "not run",
        };
        let mut line = format!("{word:<8} {:<44} {:>5.1} s", self.trial, self.seconds);
        let finding = &self.finding;
        if let Some(cause) = &finding.cause {
            line += &format!("  {cause}");
        }
        if let Some(error) = finding.onset_error_ms {
            line += &format!("  onset {error:+.0} ms");
        }
        if let Some(detection) = finding.detection_ms {
            line += &format!("  visible after {detection:.0} ms");
        }
        if let (Some(ratio), Some(truth)) = (finding.ratio, finding.truth) {
            line += &format!("  {ratio} for {truth}");
        }
        for words in [&finding.seen, &self.reason].into_iter().flatten() {
            line += &format!("  {words}");
        }
        line
    }
}

impl std::fmt::Display for PartOfWhole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |us: u64| us as f64 / 1e6;
        write!(f, "{:.2}/{:.2} s", seconds(self.part_us), seconds(self.whole_us))
    }
}

/// All outcomes of a run.
#[derive(Debug, Default)]
pub struct Report {
    outcomes: Vec<Outcome>,
}

impl Report {
    /// Takes an outcome and prints it.
    pub fn add(&mut self, outcome: Outcome) {
        println!("{}", outcome.line());
        self.outcomes.push(outcome);
    }

    /// Writes them.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.outcomes)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Prints the counts; true where something passed and nothing failed: a run that proved nothing is not green.
    #[must_use]
    pub fn summary(&self) -> bool {
        let count = |passed| self.outcomes.iter().filter(|o| o.passed == passed).count();
        let (passed, failed, not_run) = (count(Some(true)), count(Some(false)), count(None));
        println!("{passed} passed, {failed} failed, {not_run} not run");
        failed == 0 && passed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_says_what_was_not_run_and_never_counts_it_as_passed() {
        let mut report = Report::default();
        report.add(Outcome::not_run("physical", "unplug", "no sound card"));
        let json = serde_json::to_value(&report.outcomes).unwrap();
        assert_eq!(json[0]["passed"], serde_json::Value::Null);
        assert_eq!(json[0]["reason"], "no sound card");
        assert!(report.outcomes[0].line().starts_with("not run"));
        assert!(!report.summary());
        report.add(Outcome { passed: Some(true), ..report.outcomes[0].clone() });
        assert!(report.summary());
        report.add(Outcome::failed("virtual", "stall", "no episode"));
        assert!(!report.summary());
    }

    #[test]
    fn outcome_survives_the_way_out_of_the_guest() {
        let mut outcome = Outcome::failed("virtual", "stall", "late");
        outcome.finding.detection_ms = Some(1_234.5);
        outcome.finding.ratio = Some(PartOfWhole { part_us: 1, whole_us: 2 });
        let line = serde_json::to_string(&outcome).unwrap();
        assert!(line.contains("\"detectionMs\":1234.5") && line.contains("\"partUs\":1"));
        assert_eq!(serde_json::from_str::<Outcome>(&line).unwrap(), outcome);
    }
}
