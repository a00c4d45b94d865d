//! The house linter, as an ordinary test: what rustfmt and clippy cannot know about this project.
//!
//! One test per rule; a finding is `file:line` and the reason of the rule. Looks at every file of the checkout but
//! what tools make, so a file is checked before it is committed. Rules on code look at code: comments are cut off, and
//! so is everything from a file's `#[cfg(test)]` on, which in this project stands at its foot.

use std::fs;
use std::path::{Path, PathBuf};

/// One text file of the checkout, its path counted from the top with `/` between folders.
struct Source {
    path: String,
    text: String,
}

/// What tools fill: git's own, build products, fuzzers' inputs, what `make run` keeps.
const NOT_OURS: [&str; 6] = [".git", ".state", "target", "corpus", "artifacts", "coverage"];

fn top() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("this crate lies in the workspace").to_owned()
}

/// All text files; what is not UTF-8 has no lines to complain about.
fn sources() -> Vec<Source> {
    let top = top();
    let mut folders = vec![top.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the checkout is readable") {
            let path = entry.expect("the checkout is readable").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if NOT_OURS.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path.strip_prefix(&top).expect("found below the top");
                found.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn rust() -> Vec<Source> {
    let mut found = sources();
    found.retain(|source| source.path.ends_with(".rs"));
    assert!(found.len() > 50, "only {} files found: the walk is broken", found.len());
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines of code with their numbers, from 1: without comments, without the tests at the foot.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
}

/// Fails with all findings, each on a line of its own.
fn none(findings: Vec<String>, reason: &str) {
    assert!(findings.is_empty(), "\n{}\nwhy: {reason}\n", findings.join("\n"));
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let silent = rust().into_iter().filter(|source| !source.text.starts_with("//!"));
    none(
        silent.map(|source| format!("{}:1: no `//!` line", source.path)).collect(),
        "a reader decides by the first sentence whether a line belongs into a file",
    );
}

/// Code is rustfmt's affair, at 100 columns.
const COMMENT_COLUMNS_MAX: usize = 120;

#[test]
fn comments_fit_beside_a_second_window() {
    let mut findings = Vec::new();
    for source in rust() {
        for (index, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if line.trim_start().starts_with("//") && columns > COMMENT_COLUMNS_MAX {
                findings.push(format!("{}:{}: {columns} columns", source.path, index + 1));
            }
        }
    }
    none(findings, "comments are wrapped at 120 columns, so that two files fit side by side");
}

const LINES_MAX: usize = 800;

#[test]
fn no_file_outgrows_its_noun() {
    let long = rust().into_iter().filter(|source| source.text.lines().count() > LINES_MAX);
    none(
        long.map(|source| format!("{}:{LINES_MAX}: goes on", source.path)).collect(),
        "beyond 800 lines a file is about two things: find the second noun and give it a file",
    );
}

/// File names that say nothing about what is inside.
const DRAWERS: [&str; 8] =
    ["utils", "util", "helpers", "common", "misc", "manager", "service", "types"];

#[test]
fn no_file_is_a_drawer() {
    let drawer = |source: &Source| {
        let name = source.path.rsplit('/').next().unwrap_or_default();
        DRAWERS.contains(&name.trim_end_matches(".rs"))
    };
    none(
        rust()
            .iter()
            .filter(|s| drawer(s))
            .map(|s| format!("{}:1: says nothing", s.path))
            .collect(),
        "what fits no file's first sentence needs a noun of its own, not a drawer",
    );
}

/// Whether a file is `place`, or below it where that ends in `/`.
fn lies_in(path: &str, place: &str) -> bool {
    path == place || (place.ends_with('/') && path.starts_with(place))
}

/// What decides: a path ending in `/` stands for all files below it.
const CORES: &[&str] = &[
    "protocol/src/",
    "agent/src/audio/accounting.rs",
    "agent/src/audio/attempt.rs",
    "agent/src/audio/alsa_ctl/controls.rs",
    "agent/src/audio/alsa_proc/parse.rs",
    "agent/src/audio/board.rs",
    "agent/src/audio/carry.rs",
    "agent/src/audio/chirp.rs",
    "agent/src/audio/constants.rs",
    "agent/src/audio/course.rs",
    "agent/src/audio/episode.rs",
    "agent/src/audio/floor.rs",
    "agent/src/audio/function.rs",
    "agent/src/audio/inventory.rs",
    "agent/src/audio/level.rs",
    "agent/src/audio/listening.rs",
    "agent/src/audio/selftest/choice.rs",
    "agent/src/audio/signal.rs",
    "agent/src/audio/source.rs",
    "agent/src/audio/function/",
    "agent/src/clock.rs",
    "agent/src/configuration.rs",
    "agent/src/context/line.rs",
    "agent/src/context/register.rs",
    "agent/src/doctor.rs",
    "agent/src/events.rs",
    "agent/src/events/",
    "agent/src/health.rs",
    "agent/src/host/course.rs",
    "agent/src/host/figures.rs",
    "agent/src/identity/certificate.rs",
    "agent/src/identity/digest.rs",
    "agent/src/identity/pem.rs",
    "agent/src/identity/renewal.rs",
    "agent/src/identity/trusted_time.rs",
    "agent/src/network/carrier.rs",
    "agent/src/network/message.rs",
    "agent/src/network/route.rs",
    "agent/src/network/told.rs",
    "agent/src/network/wireless.rs",
    "agent/src/open_call.rs",
    "agent/src/media.rs",
    "agent/src/media/",
    "agent/src/path.rs",
    "agent/src/path/jitter.rs",
    "agent/src/path/prober.rs",
    "agent/src/path/schedule.rs",
    "agent/src/path/session.rs",
    "agent/src/report.rs",
    "agent/src/report/",
    "agent/src/rehearse/impair.rs",
    "agent/src/rehearse/random.rs",
    "agent/src/rehearse/rtp.rs",
    "agent/src/rehearse/stun.rs",
    "agent/src/rehearse/talker.rs",
    "agent/src/spool/catalog.rs",
    "agent/src/spool/ledger.rs",
    "agent/src/spool/segment.rs",
    "agent/src/tap/block.rs",
    "agent/src/tap/filter.rs",
    "agent/src/tap/link.rs",
    "agent/src/tap/record.rs",
    "agent/src/tap/skip.rs",
    "agent/src/uplink/backoff.rs",
    "agent/src/uplink/cause.rs",
    "agent/src/uplink/exchange.rs",
    "agent/src/uplink/inbox.rs",
    "agent/src/uplink/limits.rs",
    "agent/src/uplink/window.rs",
    "agent/src/clock/packet_clock.rs",
    "collector/src/call.rs",
    "collector/src/call/",
    "collector/src/classify.rs",
    "collector/src/classify/",
    "collector/src/admin/dialogue.rs",
    "collector/src/fleet/condition.rs",
    "collector/src/fleet/heartbeat.rs",
    "collector/src/fleet/plan.rs",
    "collector/src/fleet/rollout.rs",
    "collector/src/fleet/scope.rs",
    "collector/src/fleet/session.rs",
    "collector/src/fleet/settings.rs",
    "collector/src/identity/pace.rs",
    "collector/src/identity/reach.rs",
    "collector/src/identity/refusal.rs",
    "collector/src/identity/standing.rs",
    "collector/src/identity/token.rs",
    "collector/src/ingest/allowance.rs",
    "collector/src/ingest/exchange.rs",
    "collector/src/ingest/headroom.rs",
    "collector/src/ingest/receipt.rs",
    "collector/src/ingest/request.rs",
    "collector/src/likeness.rs",
    "collector/src/naming.rs",
    "collector/src/networks.rs",
    "collector/src/networks/",
    "collector/src/reflector/sessions.rs",
    "collector/src/report/watch.rs",
    "collector/src/store/code.rs",
    "collector/src/store/ledger.rs",
    "collector/src/store/memory.rs",
    "collector/src/store/rollup.rs",
    "hw-tests/src/headset/descriptors.rs",
    "hw-tests/src/headset/device.rs",
    "hw-tests/src/headset/usbip.rs",
];

/// What a core never names: I/O, clocks, randomness, threads, async.
const BARRED: [&str; 13] = [
    "tokio",
    "UdpSocket",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "::now(",
    "SystemTime",
    "getrandom",
    "println!",
    "cpal",
    "quinn",
    "async fn",
];

fn barred_in(text: &str) -> Vec<(usize, &'static str)> {
    let hits = |(number, line): (usize, &str)| {
        let words: Vec<_> = BARRED.into_iter().filter(|word| line.contains(word)).collect();
        words.into_iter().map(move |word| (number, word))
    };
    code(text).flat_map(hits).collect()
}

#[test]
fn cores_neither_wait_nor_ask_for_the_time() {
    let rust = rust();
    let mut findings = Vec::new();
    for core in CORES {
        let files: Vec<_> = rust.iter().filter(|source| lies_in(&source.path, core)).collect();
        assert!(!files.is_empty(), "no file {core}: bring this list up to date");
        for source in files {
            let barred = barred_in(&source.text).into_iter();
            findings.extend(barred.map(|(n, word)| format!("{}:{n}: `{word}`", source.path)));
        }
    }
    none(
        findings,
        "a core takes bytes and moments as arguments; only so can a test put any of them to it",
    );
}

#[test]
fn barred_words_count_in_code_and_nowhere_else() {
    let text =
        "//! quinn\nfn a() {} // tokio\nlet at = Instant::now();\n#[cfg(test)]\nuse std::fs;\n";
    assert_eq!(barred_in(text), [(3, "::now(")]);
}

/// A foreign crate and the files that may name it; a path ending in `/` stands for all files below it.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "quinn",
        &[
            "agent/src/enroll/quic.rs",
            "agent/src/uplink/quic.rs",
            "agent/src/uplink/quic/",
            "collector/src/ingest/quic.rs",
            "collector/src/ingest/quic/",
        ],
    ),
    (
        "rustls",
        &[
            "agent/src/enroll/quic.rs",
            "agent/src/uplink/quic.rs",
            "collector/src/dev_certificates.rs",
            "collector/src/identity/authority.rs",
            "collector/src/ingest/quic.rs",
            "collector/src/ingest/tls.rs",
        ],
    ),
    (
        "rcgen",
        &[
            "agent/src/identity/key.rs",
            "collector/src/dev_certificates.rs",
            "collector/src/identity/authority.rs",
        ],
    ),
    ("ring", &["agent/src/identity/digest.rs", "collector/src/identity/digest.rs"]),
    ("x509_parser", &["agent/src/identity/certificate.rs", "collector/src/ingest/certificate.rs"]),
    ("libc", &["agent/src/tap/kernel.rs"]),
    ("if_addrs", &["agent/src/tap/local.rs"]),
    (
        "rusqlite",
        &[
            "collector/src/fleet/book.rs",
            "collector/src/fleet/book/",
            "collector/src/fleet/live_tests.rs",
            "collector/src/identity/registry.rs",
            "collector/src/identity/registry_tests.rs",
            "collector/src/judge/book.rs",
            "collector/src/judge/book/",
            "collector/src/store/sqlite.rs",
            "collector/src/store/sqlite/",
        ],
    ),
    ("postcard", &["protocol/src/"]),
    (
        "alsa",
        &[
            "agent/src/audio/alsa_ctl.rs",
            "agent/src/audio/cpal_host.rs",
            "hw-tests/src/stage/stubborn.rs",
        ],
    ),
    ("cpal", &["agent/src/audio/cpal_host.rs"]),
    (
        "toml",
        &[
            "agent/src/config.rs",
            "agent/src/config/layers.rs",
            "agent/src/identity/issuer.rs",
            "collector/src/classify/rule_file.rs",
            "collector/src/config.rs",
            "collector/src/fleet/settings.rs",
            "collector/src/identity/init.rs",
            "hw-tests/src/bench/definition.rs",
        ],
    ),
    ("strsim", &["agent/src/config.rs", "collector/src/likeness.rs"]),
    (
        "humantime",
        &[
            "agent/src/config/layers.rs",
            "agent/src/config/raw.rs",
            "agent/src/rehearse/options.rs",
            "agent/src/show.rs",
            "collector/src/cli.rs",
            "collector/src/cli/identity.rs",
            "collector/src/text.rs",
            "hw-tests/src/stage/call.rs",
        ],
    ),
    (
        "comfy_table",
        &["agent/src/analyze.rs", "agent/src/show.rs", "collector/src/report/table.rs"],
    ),
    ("csv_core", &["collector/src/networks/rows.rs"]),
    ("sysinfo", &["agent/src/host/machine.rs"]),
    ("tracing_subscriber", &["agent/src/telemetry.rs", "collector/src/telemetry.rs"]),
    ("anyhow", &["agent/src/cli.rs", "agent/src/cli/", "hw-tests/src/"]),
    ("rand", &[]),
];

/// Whether a line of code names a crate: as the head of a path, not as a module of ours with the same name.
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let behind = &line[at + name.len()..];
        let is_head =
            before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':' || c == '"'));
        is_head && (behind.starts_with("::") || line.trim() == format!("use {name};"))
    })
}

#[test]
fn foreign_crates_stop_at_their_file() {
    let mut findings = Vec::new();
    let of_a_program = |source: &&Source| source.path.contains("/src/");
    for source in rust().iter().filter(of_a_program) {
        for (name, homes) in FOREIGN {
            if homes.iter().any(|place| lies_in(&source.path, place)) {
                continue;
            }
            let lines = code(&source.text).filter(|(_, line)| names(line, name));
            findings.extend(lines.map(|(number, _)| format!("{}:{number}: {name}", source.path)));
        }
    }
    none(
        findings,
        "a crate that stops at one file can be replaced there; its types in our signatures cannot",
    );
}

#[test]
fn a_crate_is_known_by_the_head_of_a_path() {
    assert!(names("use alsa::Mixer;", "alsa"));
    assert!(names("let a: Result<alsa::Ctl<'_>, _>;", "alsa"));
    assert!(!names("use crate::audio::alsa::Reader;", "alsa"));
    assert!(!names("let file_alsa = alsactl::open();", "alsa"));
}

/// Files of the programs that may step outside of what the compiler proves.
const UNSAFE: [&str; 1] = ["agent/src/tap/kernel.rs"];

#[test]
fn unsafe_code_stops_at_its_file() {
    let mut findings = Vec::new();
    let of_a_program = |source: &&Source| source.path.contains("/src/");
    let outside = |source: &&Source| {
        let apart = source.path.starts_with("protocol/no-std-proof/");
        !apart && !UNSAFE.contains(&source.path.as_str())
    };
    for source in rust().iter().filter(of_a_program).filter(outside) {
        let lines = code(&source.text).filter(|(_, line)| {
            let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            words.any(|word| word == "unsafe")
        });
        findings.extend(lines.map(|(number, _)| format!("{}:{number}: unsafe", source.path)));
    }
    none(findings, "what the compiler does not prove a person must: they look at one file");
}

#[test]
fn agent_and_collector_know_only_the_protocol() {
    let mut findings = Vec::new();
    for part in ["protocol", "agent", "collector", "hw-tests"] {
        let file = format!("{part}/Cargo.toml");
        for (index, line) in read(&file).lines().enumerate() {
            let Some(name) = line.split(['=', '.', ' ']).next() else { continue };
            let allowed = name == "roomtone-protocol" && part != "protocol";
            if name.starts_with("roomtone-") && !allowed {
                findings.push(format!("{file}:{}: {name}", index + 1));
            }
        }
    }
    none(
        findings,
        "agents and collectors of different versions meet in the field: what both know is the wire, and nothing else",
    );
}

#[test]
fn nothing_is_left_half_done() {
    // Put together here, so that this file does not find itself.
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("X", "XX:"),
        concat!("#[ig", "nore"),
    ];
    let mut findings = Vec::new();
    for source in rust() {
        for (index, line) in source.text.lines().enumerate() {
            let found = marks.into_iter().filter(|mark| line.contains(mark));
            findings.extend(found.map(|mark| format!("{}:{}: {mark}", source.path, index + 1)));
        }
    }
    none(findings, "what is not done is either written down as a known limit or done");
}

#[test]
fn no_file_knows_one_machine() {
    let homes = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];
    let mut findings = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            let found = homes.into_iter().filter(|home| {
                // Behind a word it is a folder of somebody's project, and no machine's.
                let mut hits = line.match_indices(home);
                hits.any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| !(c.is_alphanumeric() || "_.-*}".contains(c)))
                })
            });
            findings.extend(found.map(|home| format!("{}:{}: {home}", source.path, index + 1)));
        }
    }
    none(findings, "a path of one machine is wrong on all others");
}

/// What the README names between backticks or as a link's target, if it is a path of ours.
fn paths_in(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let quoted = line.split('`').skip(1).step_by(2).filter(|quoted| {
        let folders = ["protocol/", "agent/", "collector/", "hw-tests/", ".ci/"];
        folders.iter().any(|folder| quoted.starts_with(folder)) && !quoted.contains([' ', '*', '{'])
    });
    targets.chain(quoted).collect()
}

#[test]
fn the_readme_points_at_what_exists() {
    let (top, mut findings, mut count) = (top(), Vec::new(), 0);
    for (index, line) in read("README.md").lines().enumerate() {
        for path in paths_in(line) {
            count += 1;
            if !top.join(path).exists() {
                findings.push(format!("README.md:{}: {path}", index + 1));
            }
        }
    }
    assert!(count > 20, "only {count} paths in README.md: the search is broken");
    none(findings, "a map with places that do not exist is worse than none");
}

#[test]
fn paths_are_found_in_links_and_between_backticks() {
    let line = "see [the wire](protocol/WIRE.md), `agent/src/daemon.rs`, `make run`, [x](#there)";
    assert_eq!(paths_in(line), ["protocol/WIRE.md", "agent/src/daemon.rs"]);
}

#[test]
fn both_changelogs_know_the_version() {
    let manifest = read("Cargo.toml");
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \""))
        .and_then(|rest| rest.split('"').next())
        .expect("the workspace has a version");
    for part in ["agent", "collector"] {
        let file = format!("{part}/CHANGELOG.md");
        let head = format!("## {version}");
        assert!(
            read(&file).lines().any(|line| line.starts_with(&head)),
            "{file}: no heading `{head}`: an operator could not tell what this version brings"
        );
    }
}
