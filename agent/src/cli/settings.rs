//! `roomtone-agent config`: every key with its value in force and who set it.

use std::fmt;
use std::path::PathBuf;

use roomtone_protocol::configuration::Arrival;
use serde::Serialize;

use crate::config::layers::{Local, Setting, Source, effective};
use crate::configuration::file::{FILE, Found, look};
use crate::configuration::{Kept, hash};
use crate::show::{self, hex};

/// What `config` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The config file that `run` is given
    #[arg(long, value_name = "FILE", default_value = "/etc/roomtone/agent.toml")]
    config: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    keys: Vec<Row>,
    /// The hash that the collector is told.
    effective: String,
    in_force: Option<String>,
    latest: Option<Latest>,
    /// Why nothing is known of the collector's text.
    unknown: Option<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    key: &'static str,
    value: String,
    source: &'static str,
}

#[derive(Debug, Serialize)]
struct Latest {
    hash: String,
    outcome: &'static str,
    detail: String,
}

/// Looks and prints.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    // What lies beside a file without a folder in its name lies in this process's own.
    let path = std::path::absolute(&options.config).unwrap_or_else(|_| options.config.clone());
    let local = Local::load(&path)?;
    let (kept, unknown) = match look(&local.config().spool.beside(FILE)) {
        Found::Kept(kept) => (kept, None),
        Found::Useless(why) => (Kept::default(), Some(why)),
    };
    super::print(&shown(&local, &kept, unknown), options.json)
}

fn shown(local: &Local, kept: &Kept, unknown: Option<String>) -> Shown {
    let text = kept.text().filter(|text| local.with(text).is_ok());
    let config = text.and_then(|text| local.with(text).ok());
    let effective = effective(config.as_ref().unwrap_or(local.config()));
    Shown {
        keys: local.settings(text.map(|text| text.as_str())).into_iter().map(row).collect(),
        effective: hex(&hash(&effective).0),
        in_force: text.map(|text| hex(&hash(text).0)),
        latest: kept.latest().map(|Arrival { hash, outcome, detail }| Latest {
            hash: hex(&hash.0),
            outcome: show::outcome(outcome),
            detail: detail.as_str().to_owned(),
        }),
        unknown,
    }
}

fn row(Setting { key, value, source }: Setting) -> Row {
    let source = match source {
        Source::Default => "default",
        Source::Enrolment => "enrolment",
        Source::Collector => "collector",
        Source::File => "file",
    };
    Row { key, value, source }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, effective, in_force, latest, unknown } = self;
        for Row { key, value, source } in keys {
            writeln!(f, "{source:<9}  {key:<21}  {value}")?;
        }
        writeln!(f, "\neffective {effective}")?;
        match in_force {
            Some(hash) => writeln!(f, "of the collector's configurations {hash} is in force")?,
            None => writeln!(f, "no configuration of the collector is in force")?,
        }
        if let Some(Latest { hash, outcome, detail }) = latest {
            let colon = if detail.is_empty() { "" } else { ": " };
            writeln!(f, "the latest that came is {hash}, {outcome}{colon}{detail}")?;
        }
        if let Some(why) = unknown {
            writeln!(f, "what the collector set cannot be read ({why}): look as root")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use roomtone_protocol::configuration::Configuration;

    use super::*;
    use crate::clock::Moment;
    use crate::configuration::{Keeper, Verdict, reason};

    fn local() -> Local {
        let text = "[collector]\naddress = \"collector.example:4433\"\n[log]\nlevel = \"warn\"\n";
        Local::parse(text, Path::new("/etc/roomtone/agent.toml")).unwrap()
    }

    fn arrive(keeper: &mut Keeper, text: &str, verdict: Verdict) {
        let configuration = Configuration { hash: hash(text), text: text.try_into().unwrap() };
        keeper.handle_arrival(configuration, verdict, Moment::ORIGIN);
    }

    #[test]
    fn each_key_stands_with_who_set_it_and_the_refused_text_with_its_reason() {
        let mut keeper = Keeper::begin(Kept::default());
        arrive(&mut keeper, "media.call_idle = '30s'\nlog.level = 'info'", Verdict::Same);
        arrive(&mut keeper, "log.level = 'loud'", Verdict::Refused(reason("not so loud")));
        let text = shown(&local(), keeper.kept(), None).to_string();
        for line in [
            "default    spool.inodes_min       100",
            "collector  media.call_idle        \"30s\"",
            "file       log.level              \"warn\"",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(text.ends_with(", refused: not so loud\n"), "{text}");
        let json = serde_json::to_value(shown(&local(), keeper.kept(), None)).unwrap();
        assert_eq!(json["latest"]["outcome"], "refused");
        assert_eq!(json["inForce"].as_str().unwrap().len(), 16);
    }

    #[test]
    fn without_a_word_of_the_collector_the_file_and_the_defaults_stand() {
        let shown = shown(&local(), &Kept::default(), Some("permission denied".to_owned()));
        assert_eq!((shown.in_force.as_deref(), shown.latest.is_none()), (None, true));
        assert!(shown.to_string().ends_with("(permission denied): look as root\n"));
    }
}
