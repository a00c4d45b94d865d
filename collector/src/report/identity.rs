//! Tokens, enrolled endpoints and the state of a running `serve`, as tables and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::fleet::{self, Shown};
use super::table::{NAME_COLUMNS, NARROW, plain, text};
use crate::admin::dialogue::{Disk, Reports, Status};
use crate::fleet::roster::Entry;
use crate::identity::standing::{EndpointStanding, GRACE_US, Machine};
use crate::identity::token::{TokenFacts, TokenState};
use crate::text::{escape, fit, rfc3339, short_time};

/// The room of a site's name in the list of endpoints.
const SITE_COLUMNS: usize = 12;

/// A token that was made just now: the only place that holds its text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewToken<'a> {
    token: &'a str,
    #[serde(flatten)]
    facts: TokenView<'a>,
}

impl<'a> NewToken<'a> {
    /// The view of a token and its text.
    #[must_use]
    pub fn new(facts: &'a TokenFacts, token: &'a str, now_us: u64) -> Self {
        Self { token, facts: TokenView::new(facts, now_us) }
    }
}

/// `token list --json`.
#[derive(Debug, Serialize)]
pub struct Tokens<'a> {
    tokens: Vec<TokenView<'a>>,
}

impl<'a> Tokens<'a> {
    /// The view of tokens.
    #[must_use]
    pub fn new(tokens: &'a [TokenFacts], now_us: u64) -> Self {
        Self { tokens: tokens.iter().map(|it| TokenView::new(it, now_us)).collect() }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenView<'a> {
    id: String,
    state: &'static str,
    site: &'a str,
    uses: u32,
    uses_max: u32,
    created: Option<String>,
    expires: Option<String>,
}

impl<'a> TokenView<'a> {
    fn new(token: &'a TokenFacts, now_us: u64) -> Self {
        Self {
            id: token.id.to_string(),
            state: token_state(token.state(now_us)),
            site: &token.site,
            uses: token.uses,
            uses_max: token.uses_max,
            created: rfc3339(token.created_us),
            expires: rfc3339(token.expires_us),
        }
    }
}

fn token_state(state: TokenState) -> &'static str {
    match state {
        TokenState::Open => "open",
        TokenState::Used => "used",
        TokenState::Expired => "expired",
        TokenState::Revoked => "revoked",
    }
}

/// `token list`.
#[must_use]
pub fn tokens(tokens: &[TokenFacts], now_us: u64) -> String {
    if tokens.is_empty() {
        return "no tokens\n".to_owned();
    }
    let mut table = plain(&["TOKEN", "STATE", "SITE", "USED", "CREATED", "EXPIRES"], NARROW);
    for it in tokens {
        table.add_row(vec![
            it.id.to_string(),
            token_state(it.state(now_us)).to_owned(),
            fit(&it.site, NAME_COLUMNS),
            format!("{} of {}", it.uses, it.uses_max),
            short_time(it.created_us),
            short_time(it.expires_us),
        ]);
    }
    text(&table)
}

/// `endpoint list --json`.
#[derive(Debug, Serialize)]
pub struct Endpoints<'a> {
    endpoints: Vec<EndpointView<'a>>,
}

impl<'a> Endpoints<'a> {
    /// The view of endpoints.
    #[must_use]
    pub fn new(endpoints: &'a [EndpointStanding], now_us: u64) -> Self {
        Self { endpoints: endpoints.iter().map(|it| EndpointView::new(it, now_us)).collect() }
    }
}

/// `endpoint show --json`.
#[derive(Debug, Serialize)]
pub struct ShownEndpoint<'a> {
    #[serde(flatten)]
    endpoint: Named<'a>,
    machines: Vec<MachineView<'a>>,
    #[serde(flatten)]
    shown: Shown<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Named<'a> {
    Enrolled(EndpointView<'a>),
    NotEnrolled { endpoint: String, name: &'a str, site: &'a str, state: &'static str },
}

impl<'a> ShownEndpoint<'a> {
    /// The view of one endpoint.
    #[must_use]
    pub fn new(it: &'a Entry, machines: &'a [Machine], now_us: u64) -> Self {
        let holder = it.standing.as_ref().and_then(|known| known.boot);
        let machine = |it: &'a Machine| MachineView {
            boot: it.boot.to_string(),
            address: &it.remote,
            first: rfc3339(it.first_us),
            holds: holder == Some(it.boot),
        };
        let endpoint = match &it.standing {
            Some(known) => Named::Enrolled(EndpointView::new(known, now_us)),
            None => Named::NotEnrolled {
                endpoint: it.endpoint.to_string(),
                name: &it.name,
                site: &it.site,
                state: "notEnrolled",
            },
        };
        let machines = machines.iter().map(machine).collect();
        Self { endpoint, machines, shown: Shown::new(it) }
    }
}

/// The head of `endpoint show` for one with a certificate of somebody else's making.
#[must_use]
pub fn not_enrolled(it: &Entry) -> String {
    format!(
        "endpoint   {} ({})\nstate      not enrolled here: its certificate was made otherwise\n",
        escape(&it.name),
        it.endpoint
    )
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointView<'a> {
    endpoint: String,
    name: &'a str,
    site: &'a str,
    state: &'static str,
    enrolled: Option<String>,
    issued: Option<String>,
    expires: Option<String>,
    revoked: Option<String>,
    cloned: Option<String>,
    serial: String,
    key_sha256: String,
}

impl<'a> EndpointView<'a> {
    fn new(known: &'a EndpointStanding, now_us: u64) -> Self {
        Self {
            endpoint: known.endpoint.to_string(),
            name: &known.name,
            site: &known.site,
            state: state(known, now_us),
            enrolled: rfc3339(known.enrolled_us),
            issued: rfc3339(known.issued_us),
            expires: rfc3339(known.expires_us),
            revoked: known.revoked_us.and_then(rfc3339),
            cloned: known.cloned_us.and_then(rfc3339),
            serial: hex(&known.serial),
            key_sha256: hex(&known.key.0),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MachineView<'a> {
    boot: String,
    address: &'a str,
    first: Option<String>,
    holds: bool,
}

fn state(known: &EndpointStanding, now_us: u64) -> &'static str {
    if known.revoked_us.is_some() {
        "revoked"
    } else if known.cloned_us.is_some() {
        "cloned"
    } else if now_us < known.expires_us {
        "valid"
    } else if now_us - known.expires_us < GRACE_US {
        "renewable"
    } else {
        "expired"
    }
}

/// `endpoint list`.
#[must_use]
pub fn endpoints(endpoints: &[EndpointStanding], now_us: u64) -> String {
    if endpoints.is_empty() {
        return "no endpoint was enrolled here\n".to_owned();
    }
    let mut table = plain(&["ENDPOINT", "NAME", "SITE", "STATE", "EXPIRES"], NARROW);
    for it in endpoints {
        table.add_row(vec![
            it.endpoint.to_string(),
            fit(&it.name, NAME_COLUMNS),
            fit(&it.site, SITE_COLUMNS),
            state(it, now_us).to_owned(),
            short_time(it.expires_us),
        ]);
    }
    text(&table)
}

/// `endpoint show`.
#[must_use]
pub fn endpoint(known: &EndpointStanding, machines: &[Machine], now_us: u64) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: String| out += &format!("{label:<11}{value}\n");
    line("endpoint", format!("{} ({})", escape(&known.name), known.endpoint));
    line("site", if known.site.is_empty() { "-".to_owned() } else { escape(&known.site) });
    line("state", state(known, now_us).to_owned());
    line("enrolled", short_time(known.enrolled_us));
    line("issued", short_time(known.issued_us));
    line("expires", short_time(known.expires_us));
    line("serial", hex(&known.serial));
    line("key", format!("sha256 {}", hex(&known.key.0)));
    if let Some(revoked_us) = known.revoked_us {
        line("revoked", short_time(revoked_us));
    }
    if let Some(cloned_us) = known.cloned_us {
        let advice = "enrol the other machine anew, then `endpoint clear`";
        line("cloned", format!("{}: two machines use it; {advice}", short_time(cloned_us)));
    }
    if machines.is_empty() {
        return out;
    }
    let mut table = plain(&["MACHINE (BOOT ID)", "CAME FROM", "FIRST", ""], NARROW);
    for it in machines {
        table.add_row(vec![
            it.boot.to_string(),
            escape(&it.remote),
            short_time(it.first_us),
            if known.boot == Some(it.boot) { "holds it".to_owned() } else { String::new() },
        ]);
    }
    out + "\n" + &text(&table)
}

/// `status --json`.
#[derive(Debug, Serialize)]
pub struct StatusView<'a> {
    #[serde(flatten)]
    status: &'a Status,
    endpoints: BTreeMap<&'static str, u64>,
}

impl<'a> StatusView<'a> {
    /// The view of a running `serve` and its endpoints.
    #[must_use]
    pub fn new(status: &'a Status, entries: &[Entry]) -> Self {
        Self { status, endpoints: fleet::named(entries) }
    }
}

/// `status`.
#[must_use]
pub fn status(status: &Status, entries: &[Entry]) -> String {
    let Status { version, uptime_s, connected, held, enrolling, refusals, reports, disk } = status;
    let enrolling = if *enrolling { "enrolling" } else { "not enrolling" };
    let version = escape(version);
    let mut out =
        format!("version {version}, up {uptime_s} s, {connected} connected, {enrolling}\n");
    out += &format!("{}\n", fleet::summary(entries));
    let Reports { kept, taken, excess, malformed } = reports;
    out += &if *kept {
        format!(
            "heartbeats: {taken} taken, {excess} came too fast, {malformed} contradicted themselves\n"
        )
    } else {
        "heartbeats are not kept and no endpoint is configured: the log says why\n".to_owned()
    };
    if *held > 0 {
        out +=
            &format!("{held} sent more than limits.endpoint_burst and are taken at their pace\n");
    }
    let Disk { low, free_bytes, needed_bytes, batches_refused } = disk;
    let (free_mib, needed_mib) = (free_bytes >> 20, needed_bytes >> 20);
    out +=
        &format!("disk: {free_mib} MiB free, records are stored while it has {needed_mib} MiB\n");
    if *low {
        out += "records are NOT STORED now, agents keep them: make room on the disk\n";
    }
    if *batches_refused > 0 {
        out += &format!("batches not stored for want of space: {batches_refused}\n");
    }
    if refusals.is_empty() {
        return out + "nobody was turned away\n";
    }
    out += "turned away since the start:\n";
    for (reason, count) in refusals {
        out += &format!("  {count:>8} {}\n", escape(reason));
    }
    out
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
