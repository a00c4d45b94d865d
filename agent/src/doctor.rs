//! `roomtone-agent doctor`: from what a host is like to what is wrong with it and what to do.
//!
//! This file judges; [`examine`] looks. Three verdicts: `ok`; `warn`, the agent runs and something is missing from its
//! figures or will go wrong later; `fail`, the agent does not run or its figures do not arrive. What could not be
//! looked at, because something before it failed, is not told at all: the first failure is what to mend.

pub mod examine;

use roomtone_protocol::configuration::{Arrival, Outcome};

use crate::identity::certificate::{Age, Certificate};
use crate::show::{hex, rfc3339};

/// What was found on a host. `None` where a check had no ground to stand on, such as no config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The config file, or what is wrong with it.
    pub config: Result<String, String>,
    /// What became of the collector's latest configuration, where one came.
    pub configuration: Option<Result<Arrival, String>>,
    /// The kernel's release, as `6.1.0-18-amd64`.
    pub kernel: String,
    /// Whether this process is root, who may do what the service's user may not.
    pub is_root: bool,
    /// The wall clock, in microseconds since 1970.
    pub wall_us: u64,
    /// Who keeps the clock.
    pub time: TimeSource,
    /// The certificate's file.
    pub certificate: Option<Result<Certificate, String>>,
    /// The permission bits of the key's file.
    pub key_mode: Option<u32>,
    /// Whether TLS can be set up with certificate, key and authority.
    pub identity: Option<Result<(), String>>,
    /// A QUIC handshake with the collector.
    pub collector: Option<Reached>,
    /// Whether packet heads can be read.
    pub tap: Option<Result<String, String>>,
    /// Whether the tap's interface is down.
    pub is_interface_down: bool,
    /// The sound cards' devices, or why there are none.
    pub sound: Result<Sound, String>,
    /// The spool's folder.
    pub spool: Option<Spool>,
    /// The context socket.
    pub context: Option<Socket>,
}

/// Who keeps the clock, as far as files tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// systemd-timesyncd says that it is synchronised.
    Synchronised,
    /// chrony or ntpd runs; whether it is synchronised only its own tools tell.
    Daemon,
    /// None that is known.
    Unknown,
}

/// How far a handshake with the collector came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// To its end, and TLS has nothing against the certificate; what only a Hello tells (revoked, cloned) is not asked.
    Handshake {
        /// Name resolution and handshake.
        took_ms: u64,
    },
    /// Not to its end, in the uplink's own words.
    No(String),
}

/// The sound devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sound {
    /// Microphones.
    pub capture: usize,
    /// Loudspeakers.
    pub render: usize,
    /// Cards whose mixer this process may not open.
    pub closed_cards: usize,
}

/// The spool's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// The folder, or the nearest one above that is there.
    pub path: String,
    /// Why it cannot be written to.
    pub refused: Option<String>,
    /// Free bytes for this process.
    pub free_bytes: u64,
    /// Free inodes; `None` where the file system counts none.
    pub free_inodes: Option<u64>,
    /// What the spool may take.
    pub bytes_max: u64,
    /// What it leaves to others.
    pub headroom_bytes: u64,
    /// The inodes that it leaves to others.
    pub inodes_min: u64,
}

/// The context socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// An agent answers there.
    Answers,
    /// Nobody does, and its folder is there.
    Silent,
    /// Its folder is missing.
    NoFolder,
    /// This process may not open it.
    NoPermission,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The agent runs, and something is missing or will be.
    Warn,
    /// The agent does not run, or its figures do not arrive.
    Fail,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, one word.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was seen, and what to do where it is not as it should be.
    pub text: String,
}

/// Judges a host, in the order in which one would mend it.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |check, (verdict, text): (Verdict, String)| {
        findings.push(Finding { check, verdict, text });
    };
    find("config", told(&facts.config));
    if let Some(latest) = &facts.configuration {
        find("settings", settings(latest));
    }
    if facts.is_root {
        let text = "run as root, who may do more than the service's user: what that one may do is not checked";
        find("user", (Verdict::Warn, text.to_owned()));
    }
    find("kernel", kernel(&facts.kernel));
    find("clock", clock(facts.time));
    if let Some(certificate) = &facts.certificate {
        find(
            "certificate",
            match certificate {
                Ok(certificate) => validity(certificate, facts.wall_us),
                Err(problem) => (Verdict::Fail, format!("{problem}; run `roomtone-agent enroll`")),
            },
        );
    }
    if let Some(mode) = facts.key_mode {
        find("key", key(mode));
    }
    if let Some(identity) = &facts.identity {
        let fits = "certificate, key and authority fit".to_owned();
        find("identity", told(&identity.clone().map(|()| fits)));
    }
    match &facts.collector {
        None => {}
        Some(Reached::Handshake { took_ms }) => {
            find("collector", (Verdict::Ok, format!("reached over UDP in {took_ms} ms")));
        }
        Some(Reached::No(problem)) => find("collector", (Verdict::Fail, problem.clone())),
    }
    if let Some(tap) = &facts.tap {
        find("tap", told(tap));
    }
    if facts.is_interface_down {
        let text = "the interface of tap.interface is down: no packet will be seen until it is up";
        find("interface", (Verdict::Warn, text.to_owned()));
    }
    find("sound", sound(&facts.sound));
    if let Some(spool) = &facts.spool {
        find("spool", room(spool));
    }
    if let Some(context) = facts.context {
        find("agent", agent(context));
    }
    findings
}

fn told(result: &Result<String, String>) -> (Verdict, String) {
    match result {
        Ok(text) => (Verdict::Ok, text.clone()),
        Err(text) => (Verdict::Fail, text.clone()),
    }
}

fn settings(latest: &Result<Arrival, String>) -> (Verdict, String) {
    let Arrival { hash, outcome, detail } = match latest {
        Ok(latest) => latest,
        Err(why) => {
            let text = format!("what the collector set is of no use ({why}): the file holds alone");
            return (Verdict::Warn, text);
        }
    };
    let hash = hex(&hash.0);
    let make_another = "make another revision at the collector";
    match outcome {
        Outcome::InForce => {
            (Verdict::Ok, format!("the collector's configuration {hash} is in force"))
        }
        Outcome::OnTrial => {
            (Verdict::Ok, format!("the collector's configuration {hash} is in force on trial"))
        }
        Outcome::WaitsForCall => (
            Verdict::Ok,
            format!("the collector's configuration {hash} waits for the end of a call"),
        ),
        Outcome::Refused => (
            Verdict::Warn,
            format!("the collector's configuration {hash} was refused ({detail}): {make_another}"),
        ),
        Outcome::RolledBack => (
            Verdict::Warn,
            format!(
                "the collector's configuration {hash} was taken back ({detail}): {make_another}"
            ),
        ),
    }
}

fn kernel(release: &str) -> (Verdict, String) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return (Verdict::Warn, format!("the kernel's release {release:?} is none that is known"));
    };
    if (major, minor) < KERNEL_MIN {
        let text =
            format!("Linux {release} cannot lock a filter, as the tap does: use 3.9 or later");
        return (Verdict::Fail, text);
    }
    (Verdict::Ok, format!("Linux {release}"))
}

fn clock(time: TimeSource) -> (Verdict, String) {
    match time {
        TimeSource::Synchronised => (Verdict::Ok, "synchronised by systemd-timesyncd".to_owned()),
        TimeSource::Daemon => (
            Verdict::Ok,
            "chrony or ntpd runs; `chronyc tracking` or `ntpq -p` tells more".to_owned(),
        ),
        TimeSource::Unknown => (
            Verdict::Warn,
            "nothing that is known keeps this clock: enable systemd-timesyncd, chrony or ntpd"
                .to_owned(),
        ),
    }
}

fn validity(certificate: &Certificate, wall_us: u64) -> (Verdict, String) {
    let Certificate { endpoint, not_before_us, not_after_us, .. } = *certificate;
    let (now, begin, end) = (rfc3339(wall_us), rfc3339(not_before_us), rfc3339(not_after_us));
    match certificate.age(wall_us) {
        Age::NotYetValid => (
            Verdict::Fail,
            format!("good from {begin} on, and the clock says {now}: set the clock"),
        ),
        Age::Expired if wall_us - not_after_us < FORGIVEN_US => (
            Verdict::Warn,
            format!(
                "good until {end}, and the clock says {now}: set the clock if that is wrong; \
                 else a running agent renews it as soon as it reaches the collector, for 90 days from that end"
            ),
        ),
        Age::Expired => (
            Verdict::Fail,
            format!("good until {end}, and the clock says {now}: set the clock, or enrol anew"),
        ),
        Age::Valid => {
            let (life, left) = (not_after_us - not_before_us, not_after_us - wall_us);
            let text = format!("endpoint {endpoint}, good until {end}");
            // Renewal is due at three quarters of the life at the latest; at five sixths it has failed for days.
            if left < life / 6 {
                let why = "a running agent would have renewed it for days: its log says why it was not; start it, \
                           replace the files as they were placed, or enrol anew";
                (Verdict::Warn, format!("{text}: {why}"))
            } else {
                (Verdict::Ok, text)
            }
        }
    }
}

fn key(mode: u32) -> (Verdict, String) {
    if mode & 0o077 == 0 {
        (Verdict::Ok, format!("mode {mode:04o}"))
    } else {
        (
            Verdict::Warn,
            format!("mode {mode:04o} lets others read the private key: chmod 0600, and enrol anew"),
        )
    }
}

fn sound(sound: &Result<Sound, String>) -> (Verdict, String) {
    match sound {
        Err(problem) => (Verdict::Warn, problem.clone()),
        Ok(Sound { capture: 0, render: 0, .. }) => {
            (Verdict::Warn, "no microphone and no loudspeaker is seen: plug one in".to_owned())
        }
        Ok(Sound { capture, render, closed_cards: 0 }) => {
            (Verdict::Ok, format!("microphones {capture}, loudspeakers {render}"))
        }
        Ok(Sound { capture, render, closed_cards }) => (
            Verdict::Warn,
            format!(
                "microphones {capture}, loudspeakers {render}; the mixers of {closed_cards} cards are closed: \
                 put the agent's user into the group audio"
            ),
        ),
    }
}

fn room(spool: &Spool) -> (Verdict, String) {
    let Spool { path, refused, free_bytes, free_inodes, bytes_max, headroom_bytes, inodes_min } =
        spool;
    if let Some(refused) = refused {
        let advice = "make it the agent's user's own, or set spool.directory";
        return (Verdict::Fail, format!("{path} cannot be written to ({refused}): {advice}"));
    }
    let mib = |bytes: u64| bytes >> 20;
    if free_bytes <= headroom_bytes || free_inodes.is_some_and(|free| free <= *inodes_min) {
        let inodes = free_inodes.map_or_else(|| "any number of".to_owned(), |it| it.to_string());
        let text = format!(
            "{path} has {} MiB and {inodes} inodes free, which the spool leaves to others: make room, \
             or nothing is kept while the collector is away",
            mib(*free_bytes)
        );
        return (Verdict::Fail, text);
    }
    if free_bytes - headroom_bytes < *bytes_max {
        let text = format!(
            "{path} has {} MiB free, less than spool.bytes_max and spool.headroom: a long outage would shed earlier",
            mib(*free_bytes)
        );
        return (Verdict::Warn, text);
    }
    (Verdict::Ok, format!("{path}, {} MiB free", mib(*free_bytes)))
}

fn agent(context: Socket) -> (Verdict, String) {
    match context {
        Socket::Answers => (Verdict::Ok, "an agent is running".to_owned()),
        Socket::Silent => (Verdict::Warn, "no agent answers at context.socket: start it".to_owned()),
        Socket::NoFolder => (
            Verdict::Warn,
            "no agent is running, or the folder of context.socket is missing: RuntimeDirectory=roomtone makes it"
                .to_owned(),
        ),
        Socket::NoPermission => {
            (Verdict::Ok, "this user may not ask at context.socket whether an agent is running".to_owned())
        }
    }
}

/// For how long after its end a certificate may be renewed (WIRE.md section 7.6): 90 days.
const FORGIVEN_US: u64 = 90 * 86_400_000_000;

/// TPACKET_V3 came with Linux 3.2 (packet(7)), SO_LOCK_FILTER with 3.9 (socket(7)).
const KERNEL_MIN: (u32, u32) = (3, 9);

#[cfg(test)]
mod tests {
    use roomtone_protocol::configuration::ConfigurationHash;
    use roomtone_protocol::id::EndpointId;

    use super::*;

    const DAY_US: u64 = 86_400_000_000;

    fn healthy() -> Facts {
        Facts {
            config: Ok("agent.toml".to_owned()),
            configuration: None,
            kernel: "6.1.0-18-amd64".to_owned(),
            is_root: false,
            wall_us: 100 * DAY_US,
            time: TimeSource::Synchronised,
            certificate: Some(Ok(Certificate {
                endpoint: EndpointId([7; 16]),
                not_before_us: 90 * DAY_US,
                not_after_us: 120 * DAY_US,
                public_key: Vec::new(),
            })),
            key_mode: Some(0o600),
            identity: Some(Ok(())),
            collector: Some(Reached::Handshake { took_ms: 12 }),
            tap: Some(Ok("any".to_owned())),
            is_interface_down: false,
            sound: Ok(Sound { capture: 1, render: 2, closed_cards: 0 }),
            spool: Some(Spool {
                path: "spool".to_owned(),
                refused: None,
                free_bytes: 200 << 20,
                free_inodes: Some(10_000),
                bytes_max: 100 << 20,
                headroom_bytes: 10 << 20,
                inodes_min: 100,
            }),
            context: Some(Socket::Answers),
        }
    }

    #[test]
    fn healthy_host_is_ok_in_every_line() {
        let findings = judge(&healthy());
        assert_eq!(findings.len(), 11);
        assert!(findings.iter().all(|it| it.verdict == Verdict::Ok), "{findings:?}");
    }

    #[test]
    fn each_fault_is_one_line_with_its_verdict_and_what_to_do() {
        type Spoil = fn(&mut Facts);
        let table: &[(&str, Verdict, &str, Spoil)] = &[
            ("config", Verdict::Fail, "no such file", |f| f.config = Err("no such file".into())),
            ("user", Verdict::Warn, "service's user", |f| f.is_root = true),
            ("kernel", Verdict::Fail, "3.9 or later", |f| f.kernel = "2.6.32".into()),
            ("kernel", Verdict::Warn, "none that is known", |f| f.kernel = "plan9".into()),
            ("clock", Verdict::Warn, "systemd-timesyncd", |f| f.time = TimeSource::Unknown),
            ("certificate", Verdict::Fail, "enroll", |f| f.certificate = Some(Err("gone".into()))),
            ("certificate", Verdict::Fail, "set the clock", |f| f.wall_us = 89 * DAY_US),
            ("certificate", Verdict::Warn, "renews it", |f| f.wall_us = 120 * DAY_US),
            ("certificate", Verdict::Warn, "renews it", |f| f.wall_us = 210 * DAY_US - 1),
            ("certificate", Verdict::Fail, "enrol anew", |f| f.wall_us = 210 * DAY_US),
            // Five sixths of 30 days are day 115.
            ("certificate", Verdict::Warn, "enrol anew", |f| f.wall_us = 115 * DAY_US + 1),
            ("key", Verdict::Warn, "chmod 0600", |f| f.key_mode = Some(0o640)),
            ("identity", Verdict::Fail, "differ", |f| f.identity = Some(Err("differ".into()))),
            ("collector", Verdict::Fail, "no answer", |f| {
                f.collector = Some(Reached::No("no answer".into()));
            }),
            ("tap", Verdict::Fail, "CAP_NET_RAW", |f| f.tap = Some(Err("CAP_NET_RAW".into()))),
            ("interface", Verdict::Warn, "is down", |f| f.is_interface_down = true),
            ("sound", Verdict::Warn, "hidden", |f| f.sound = Err("hidden".into())),
            ("sound", Verdict::Warn, "plug one in", |f| {
                f.sound = Ok(Sound { capture: 0, render: 0, closed_cards: 0 });
            }),
            ("sound", Verdict::Warn, "group audio", |f| {
                f.sound = Ok(Sound { capture: 1, render: 1, closed_cards: 1 });
            }),
            ("spool", Verdict::Fail, "spool.directory", |f| {
                f.spool.as_mut().unwrap().refused = Some("denied".into());
            }),
            ("spool", Verdict::Fail, "make room", |f| {
                f.spool.as_mut().unwrap().free_bytes = 10 << 20;
            }),
            ("spool", Verdict::Fail, "make room", |f| {
                f.spool.as_mut().unwrap().free_inodes = Some(100);
            }),
            // 100 MiB of spool and 10 MiB of headroom.
            ("spool", Verdict::Warn, "shed earlier", |f| {
                f.spool.as_mut().unwrap().free_bytes = (110 << 20) - 1;
            }),
            ("agent", Verdict::Warn, "start it", |f| f.context = Some(Socket::Silent)),
            ("agent", Verdict::Warn, "RuntimeDirectory", |f| f.context = Some(Socket::NoFolder)),
        ];
        for (check, verdict, words, spoil) in table {
            let mut facts = healthy();
            spoil(&mut facts);
            let bad: Vec<Finding> =
                judge(&facts).into_iter().filter(|it| it.verdict > Verdict::Ok).collect();
            assert_eq!(bad.len(), 1, "{check} {words}: {bad:?}");
            assert_eq!((bad[0].check, bad[0].verdict), (*check, *verdict), "{bad:?}");
            assert!(bad[0].text.contains(words) && !bad[0].text.contains('\n'), "{bad:?}");
        }
    }

    #[test]
    fn file_systems_without_inodes_have_enough_of_them() {
        let mut facts = healthy();
        facts.spool.as_mut().unwrap().free_inodes = None;
        assert!(judge(&facts).iter().all(|it| it.verdict == Verdict::Ok));
    }

    #[test]
    fn configuration_that_is_not_in_force_is_told_with_its_reason() {
        let told = |latest| {
            let facts = Facts { configuration: Some(latest), ..healthy() };
            let found = judge(&facts).into_iter().find(|it| it.check == "settings").unwrap();
            (found.verdict, found.text)
        };
        let arrival = |outcome, detail: &str| {
            let hash = ConfigurationHash([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
            Ok(Arrival { hash, outcome, detail: detail.try_into().unwrap() })
        };
        assert_eq!(told(arrival(Outcome::InForce, "")).0, Verdict::Ok);
        assert_eq!(
            told(arrival(Outcome::Refused, "unknown key")),
            (
                Verdict::Warn,
                "the collector's configuration 1122334455667788 was refused (unknown key): \
                 make another revision at the collector"
                    .to_owned()
            )
        );
        assert_eq!(told(arrival(Outcome::RolledBack, "not reached")).0, Verdict::Warn);
        assert_eq!(told(Err("damaged".to_owned())).0, Verdict::Warn);
        assert!(judge(&healthy()).iter().all(|it| it.check != "settings"));
    }
}
