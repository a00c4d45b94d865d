//! What endpoints are to be set to and what became of it: lists, one endpoint's layers, the history.

use std::collections::BTreeMap;

use serde::Serialize;

use super::fleet::{hash, outcome, progress_name};
use super::table::{COLUMNS, NARROW, plain, right, text};
use crate::fleet::book::RevisionFacts;
use crate::fleet::plan::Plan;
use crate::fleet::rollout::Figures;
use crate::fleet::roster::Entry;
use crate::fleet::scope::Scope;
use crate::fleet::settings::Settings;
use crate::text::{escape, fit, rfc3339, short_time};

/// The room of a scope, of who did something and of a note.
const SCOPE_COLUMNS: usize = 26;
const WHO_COLUMNS: usize = 20;
const NOTE_COLUMNS: usize = 18;
/// The most reasons of a scope that are shown; JSON has them all.
const REASONS_SHOWN: usize = 5;

/// One scope with its current revision.
#[derive(Debug, Clone)]
pub struct ScopeView<'a> {
    /// Whom it is for, as people call them.
    pub label: String,
    /// The newest revision that was not taken back.
    pub current: &'a RevisionFacts,
    /// What became of it.
    pub figures: Figures,
}

/// `config list`.
#[must_use]
pub fn list(views: &[ScopeView<'_>]) -> String {
    if views.is_empty() {
        return "nothing is set: `config set` begins\n".to_owned();
    }
    let mut table = plain(
        &[
            "FOR",
            "REV",
            "%",
            "OF",
            "REACHES",
            "IN FORCE",
            "TRIAL",
            "WAITS",
            "REFUSED",
            "BACK",
            "NOT HEARD",
        ],
        NARROW,
    );
    right(&mut table, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    for ScopeView { label, current, figures } in views {
        table.add_row([
            fit(label, SCOPE_COLUMNS),
            current.revision.number.to_string(),
            current.revision.percent.to_string(),
            figures.endpoints.to_string(),
            figures.reached.to_string(),
            figures.in_force.to_string(),
            figures.on_trial.to_string(),
            figures.waits_for_call.to_string(),
            figures.refused.to_string(),
            figures.rolled_back.to_string(),
            figures.not_heard.to_string(),
        ]);
    }
    let mut out = text(&table);
    for ScopeView { label, figures, .. } in views {
        out += &reasons(label, figures);
    }
    out
}

fn reasons(label: &str, figures: &Figures) -> String {
    let mut told: Vec<_> = figures.reasons.iter().collect();
    told.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let line = |(reason, count): (&String, &u64)| {
        fit(&format!("{label}: refused or taken back by {count}: {reason}"), COLUMNS) + "\n"
    };
    told.into_iter().take(REASONS_SHOWN).map(line).collect()
}

/// `config show`: every scope with what it sets.
#[must_use]
pub fn show(views: &[ScopeView<'_>]) -> String {
    let mut out = list(views);
    for ScopeView { label, current, .. } in views {
        let RevisionFacts { revision, created_us, who, note, .. } = current;
        let head = format!(
            "{label}, revision {} ({} %), {} by {who}{}",
            revision.number,
            revision.percent,
            short_time(*created_us),
            if note.is_empty() { String::new() } else { format!(": {note}") },
        );
        out += &format!("\n{}\n{}", fit(&head, COLUMNS), settings(&revision.settings));
    }
    out
}

fn settings(settings: &Settings) -> String {
    if settings.is_of_later_version() {
        return "  of a later version, which alone can read it\n".to_owned();
    }
    if settings.is_empty() {
        return "  sets nothing\n".to_owned();
    }
    settings.iter().map(|(key, value)| format!("  {key} = {}\n", escape(value))).collect()
}

/// `config show E`: layer by layer, what comes of them, and what the endpoint says.
#[must_use]
pub fn endpoint(it: &Entry, plan: &Plan) -> String {
    let mut out = format!("{} ({})\n", escape(&it.name), it.endpoint);
    for (scope, revision) in plan.layers(it.endpoint, &it.site) {
        let head =
            format!("{} revision {} ({} %)", label(&scope), revision.number, revision.percent);
        out += &format!("\n{}\n{}", fit(&head, COLUMNS), settings(&revision.settings));
    }
    out.push('\n');
    match plan.wanted(it.endpoint, &it.site) {
        Some(wanted) => {
            out += &format!("to be set to {}\n{}", hash(wanted.hash), settings(&wanted.settings));
        }
        None if plan.layers(it.endpoint, &it.site).is_empty() => {
            out += "nobody has set anything for it\n";
        }
        None => out += "a later version set it: nothing is sent to it, it keeps what it has\n",
    }
    out.push('\n');
    let Some(state) = it.member().state else {
        return out + "it has not said what it is set to\n";
    };
    let in_force = state.in_force.map_or_else(|| "nothing of the collector's".to_owned(), hash);
    out += &format!("it is set to {}, in force: {in_force}\n", hash(state.effective));
    if let Some(latest) = &state.latest {
        let came = outcome(latest.outcome);
        let detail = if latest.detail.is_empty() { "" } else { ": " };
        out += &format!("latest {} {came}{detail}{}\n", hash(latest.hash), escape(&latest.detail));
    }
    out + &format!("so: {}\n", progress_name(it.progress))
}

/// A scope as it is shown where no endpoint's name is at hand.
fn label(scope: &Scope) -> String {
    match scope {
        Scope::Fleet => "fleet".to_owned(),
        Scope::Site(site) => format!("site {site}"),
        Scope::Endpoint(_) => "endpoint".to_owned(),
    }
}

/// `config history`.
#[must_use]
pub fn history(revisions: &[(String, RevisionFacts)]) -> String {
    if revisions.is_empty() {
        return "nothing was ever set\n".to_owned();
    }
    let mut table = plain(&["FOR", "REV", "WHEN (UTC)", "WHAT", "BY", "NOTE"], NARROW);
    right(&mut table, &[1]);
    for (label, it) in revisions {
        for step in it.steps.iter().rev() {
            let what = if step.percent == 0 {
                "taken back".to_owned()
            } else {
                format!("widened to {} %", step.percent)
            };
            table.add_row([
                fit(label, SCOPE_COLUMNS - 4),
                it.revision.number.to_string(),
                short_time(step.at_us),
                what,
                fit(&step.who, WHO_COLUMNS),
                String::new(),
            ]);
        }
        let keys = match it.revision.settings.len() {
            0 if it.revision.settings.is_of_later_version() => "of a later version".to_owned(),
            0 => "sets nothing".to_owned(),
            1 => "sets one key".to_owned(),
            keys => format!("sets {keys} keys"),
        };
        table.add_row([
            fit(label, SCOPE_COLUMNS - 4),
            it.revision.number.to_string(),
            short_time(it.created_us),
            keys,
            fit(&it.who, WHO_COLUMNS),
            fit(&it.note, NOTE_COLUMNS),
        ]);
    }
    text(&table)
}

/// `config list --json` and `config show --json`.
#[derive(Debug, Serialize)]
pub struct Scopes<'a> {
    scopes: Vec<ScopeJson<'a>>,
}

impl<'a> Scopes<'a> {
    /// The view of scopes.
    #[must_use]
    pub fn new(views: &'a [ScopeView<'a>]) -> Self {
        let scope = |it: &'a ScopeView<'a>| ScopeJson {
            revision: RevisionJson::new(it.current),
            figures: FiguresJson::new(&it.figures),
        };
        Self { scopes: views.iter().map(scope).collect() }
    }
}

#[derive(Debug, Serialize)]
struct ScopeJson<'a> {
    #[serde(flatten)]
    revision: RevisionJson<'a>,
    figures: FiguresJson<'a>,
}

/// `config history --json`.
#[derive(Debug, Serialize)]
pub struct History<'a> {
    revisions: Vec<RevisionJson<'a>>,
}

impl<'a> History<'a> {
    /// The view of revisions.
    #[must_use]
    pub fn new(revisions: &'a [(String, RevisionFacts)]) -> Self {
        Self { revisions: revisions.iter().map(|(_, it)| RevisionJson::new(it)).collect() }
    }
}

/// One revision as JSON.
#[derive(Debug, Serialize)]
struct RevisionJson<'a> {
    #[serde(flatten)]
    scope: ScopeName,
    revision: u32,
    percent: u8,
    settings: SettingsJson<'a>,
    text: String,
    created: Option<String>,
    who: &'a str,
    note: &'a str,
    steps: Vec<StepJson<'a>>,
}

/// Keys to values in TOML.
type SettingsJson<'a> = BTreeMap<&'static str, &'a str>;

#[derive(Debug, Serialize)]
struct StepJson<'a> {
    percent: u8,
    at: Option<String>,
    who: &'a str,
}

/// Whom a setting is for, as JSON.
#[derive(Debug, Serialize)]
struct ScopeName {
    scope: &'static str,
    site: Option<String>,
    endpoint: Option<String>,
}

impl ScopeName {
    fn new(scope: &Scope) -> Self {
        match scope {
            Scope::Fleet => Self { scope: "fleet", site: None, endpoint: None },
            Scope::Site(site) => Self { scope: "site", site: Some(site.clone()), endpoint: None },
            Scope::Endpoint(id) => {
                Self { scope: "endpoint", site: None, endpoint: Some(id.to_string()) }
            }
        }
    }
}

impl<'a> RevisionJson<'a> {
    fn new(it: &'a RevisionFacts) -> Self {
        Self {
            scope: ScopeName::new(&it.scope),
            revision: it.revision.number,
            percent: it.revision.percent,
            settings: it.revision.settings.iter().collect(),
            text: it.revision.settings.text(),
            created: rfc3339(it.created_us),
            who: &it.who,
            note: &it.note,
            steps: it
                .steps
                .iter()
                .map(|it| StepJson { percent: it.percent, at: rfc3339(it.at_us), who: &it.who })
                .collect(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FiguresJson<'a> {
    endpoints: u64,
    reached: u64,
    in_force: u64,
    on_trial: u64,
    waits_for_call: u64,
    refused: u64,
    rolled_back: u64,
    not_heard: u64,
    reasons: &'a BTreeMap<String, u64>,
}

impl<'a> FiguresJson<'a> {
    fn new(it: &'a Figures) -> Self {
        Self {
            endpoints: it.endpoints,
            reached: it.reached,
            in_force: it.in_force,
            on_trial: it.on_trial,
            waits_for_call: it.waits_for_call,
            refused: it.refused,
            rolled_back: it.rolled_back,
            not_heard: it.not_heard,
            reasons: &it.reasons,
        }
    }
}

/// `config show E --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint<'a> {
    endpoint: String,
    name: &'a str,
    site: &'a str,
    layers: Vec<LayerJson<'a>>,
    wanted: Option<WantedJson>,
    effective: Option<String>,
    in_force: Option<String>,
    latest: Option<LatestJson<'a>>,
    progress: &'static str,
}

#[derive(Debug, Serialize)]
struct LayerJson<'a> {
    #[serde(flatten)]
    scope: ScopeName,
    revision: u32,
    percent: u8,
    settings: SettingsJson<'a>,
}

#[derive(Debug, Serialize)]
struct WantedJson {
    hash: String,
    text: String,
}

#[derive(Debug, Serialize)]
struct LatestJson<'a> {
    hash: String,
    outcome: &'static str,
    detail: &'a str,
}

impl<'a> Endpoint<'a> {
    /// The view of one endpoint.
    #[must_use]
    pub fn new(it: &'a Entry, plan: &'a Plan) -> Self {
        let state = it.member().state;
        let layers = plan.layers(it.endpoint, &it.site).into_iter();
        Self {
            endpoint: it.endpoint.to_string(),
            name: &it.name,
            site: &it.site,
            layers: layers
                .map(|(scope, revision)| LayerJson {
                    scope: ScopeName::new(&scope),
                    revision: revision.number,
                    percent: revision.percent,
                    settings: revision.settings.iter().collect(),
                })
                .collect(),
            wanted: plan
                .wanted(it.endpoint, &it.site)
                .map(|it| WantedJson { hash: hash(it.hash), text: it.settings.text() }),
            effective: state.map(|it| hash(it.effective)),
            in_force: state.and_then(|it| it.in_force).map(hash),
            latest: state.and_then(|it| it.latest.as_ref()).map(|it| LatestJson {
                hash: hash(it.hash),
                outcome: outcome(it.outcome),
                detail: &it.detail,
            }),
            progress: progress_name(it.progress),
        }
    }
}

/// What a change came to: `config set|unset|rollback|promote --json`.
#[derive(Debug, Serialize)]
pub struct Change {
    #[serde(flatten)]
    scope: ScopeName,
    revision: Option<u32>,
    percent: u8,
    changed: bool,
    endpoints: u64,
    reached: u64,
    sent: Option<u64>,
}

impl Change {
    /// What came of a deed: the current revision of a scope afterwards, and how many connected endpoints were sent it
    /// where a running `serve` said.
    #[must_use]
    pub fn new(
        scope: &Scope,
        plan: &Plan,
        figures: &Figures,
        (changed, sent): (Changed, Option<u64>),
    ) -> Self {
        let current = plan.current(scope);
        Self {
            scope: ScopeName::new(scope),
            revision: current.map(|it| it.number),
            percent: current.map_or(0, |it| it.percent),
            changed: changed == Changed::Yes,
            endpoints: figures.endpoints,
            reached: figures.reached,
            sent,
        }
    }

    /// The same for a person.
    #[must_use]
    pub fn text(&self, label: &str) -> String {
        let label = escape(label);
        let Self { revision, percent, endpoints, reached, .. } = self;
        let now = match revision {
            Some(number) => {
                let unchanged = if self.changed { "" } else { " as before" };
                format!(
                    "{label}: revision {number}{unchanged} ({percent} %), reaches {reached} of {endpoints} endpoints"
                )
            }
            None => format!("{label}: nothing is set"),
        };
        let sent = match self.sent {
            Some(sent) => format!("; sent to {sent} that are connected and lacked it"),
            None if self.changed => "; a running `serve` sends it within a second".to_owned(),
            None => String::new(),
        };
        format!("{now}{sent}\n")
    }
}

/// Whether a deed changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Yes.
    Yes,
    /// It was so already.
    No,
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::id::EndpointId;
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::fleet::book::Step;
    use crate::fleet::plan::Revision;

    const WILD: &str = "東京\u{1b}[31m\u{202e}会議室会議室会議室会議室会議室会議室会議室会議室";

    #[test]
    fn no_name_note_or_reason_steers_the_terminal_or_widens_a_table() {
        let settings = Settings::from_arguments(["log.level=\u{202e}x", "audio.levels=true"]);
        let step = |percent| Step { percent, at_us: u64::MAX, who: WILD.to_owned() };
        let current = RevisionFacts {
            scope: Scope::Site(WILD.to_owned()),
            revision: Revision { number: 999, percent: 100, settings: settings.unwrap() },
            created_us: u64::MAX,
            who: WILD.to_owned(),
            note: WILD.to_owned(),
            steps: vec![step(100), step(0)],
        };
        let most = 99_999;
        let figures = Figures {
            endpoints: most,
            reached: most,
            in_force: most,
            on_trial: most,
            waits_for_call: most,
            refused: most,
            rolled_back: most,
            not_heard: most,
            reasons: BTreeMap::from([(WILD.repeat(2), u64::MAX)]),
        };
        let view =
            ScopeView { label: WILD.to_owned(), current: &current, figures: figures.clone() };
        let texts = [show(&[view]), history(&[(WILD.to_owned(), current.clone())])];
        for line in texts.iter().flat_map(|text| text.lines()) {
            assert!(line.width() <= COLUMNS, "{} columns: {line}", line.width());
        }
        let plan = Plan::new([(current.scope.clone(), current.revision.clone())]);
        let change = Change::new(&current.scope, &plan, &figures, (Changed::Yes, None)).text(WILD);
        for text in texts.iter().chain([&change]) {
            let is_plain = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
            assert!(text.chars().all(is_plain), "{text:?}");
        }
        assert_eq!(plan.reaching(&current.scope, EndpointId([1; 16])).unwrap().number, 999);
    }
}
