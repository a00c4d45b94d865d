//! `roomtone-agent doctor`: one line per check, and an exit code for scripts.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::doctor::examine::examine;
use crate::doctor::{Finding, Verdict, judge};

/// What `doctor` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The config file that `run` is given
    #[arg(long, value_name = "FILE", default_value = "/etc/roomtone/agent.toml")]
    config: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Where run, proc, dev and sys lie; for tests
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// All findings, as text or JSON.
#[derive(Serialize)]
struct Shown {
    failed: usize,
    warnings: usize,
    findings: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    check: &'static str,
    verdict: &'static str,
    text: String,
}

/// Looks, prints, and fails where something fails.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let findings = judge(&examine(&options.config, &options.root));
    let count = |verdict| findings.iter().filter(|it| it.verdict == verdict).count();
    let (failed, warnings) = (count(Verdict::Fail), count(Verdict::Warn));
    let shown = Shown { failed, warnings, findings: findings.into_iter().map(row).collect() };
    super::print(&shown, options.json)?;
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", shown.findings.len());
    Ok(())
}

fn row(Finding { check, verdict, text }: Finding) -> Row {
    let verdict = match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    Row { check, verdict, text }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row { check, verdict, text } in &self.findings {
            writeln!(f, "{verdict:<4}  {check:<11}  {text}")?;
        }
        Ok(())
    }
}
