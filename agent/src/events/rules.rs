//! The client events of MS-QoE 2.2.1.29, each with its rule, its threshold and its source: the single table for the
//! judge, for the README and for tests.
//!
//! A core. Microsoft names the events and says what a ratio is, the share of a call in which the endpoint judged a
//! condition bad; what the client's own conditions are is nowhere published. So each condition is ours, or the
//! published classification of whole streams applied to ten seconds, and the table says which.

use roomtone_protocol::client_event::ClientEventKind;

/// Version of the rules below. Whoever changes a condition or a threshold raises it.
pub const RULES_VERSION: u16 = 1;

/// Concealed audio of an interval above which it was poor, in millionths (CQD 2018-2020).
pub const CONCEALED_PPM: u64 = 70_000;
/// Packets lost of those expected above which an interval was poor, in millionths (CQD).
pub const LOST_PPM: u64 = 100_000;
/// Mean jitter of an interval above which it was poor, in microseconds (CQD).
pub const JITTER_US: u64 = 30_000;
/// Mean round trip of an interval above which it was poor, in microseconds (CQD).
pub const ROUND_TRIP_US: u64 = 500_000;
/// Packets of a stream that an interval needs to be judged: one second at 20 ms, a tenth of what CQD asks of a stream.
pub const PACKETS_MIN: u64 = 50;
/// Share of an interval in which some task waited for a core above which CPU was short, in permille.
pub const CPU_PRESSURE_PERMILLE: u16 = 250;
/// Busy share of all cores above which CPU was short, in permille.
pub const CPU_BUSY_PERMILLE: u16 = 950;
/// What one overrun or underrun spoils, in microseconds.
pub const GLITCH_US: u64 = 1_000_000;
/// Samples at full scale in a stretch of a microphone's levels above which it was clipped.
pub const CLIPPED_SAMPLES: u32 = 10;

/// One event as people read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Which.
    pub kind: ClientEventKind,
    /// Its name in MS-QoE.
    pub name: &'static str,
    /// When a stretch of time is bad, and of which time a ratio is the share; or why the endpoint cannot tell.
    pub rule: &'static str,
    /// Where the rule and its threshold come from.
    pub source: &'static str,
}

/// All events, in the order of the wire.
pub const RULES: [Rule; 18] = [
    Rule {
        kind: ClientEventKind::NetworkSendQuality,
        name: "NetworkSendQualityEventRatio",
        rule: "not known (no reports): what the far end received, it tells in RTCP, which calls encrypt",
        source: "-",
    },
    Rule {
        kind: ClientEventKind::NetworkReceiveQuality,
        name: "NetworkReceiveQualityEventRatio",
        rule: "intervals with received audio that concealed > 7 %, lost > 10 % or had jitter > 30 ms, of those with \
               50 packets; loss and concealment do not count where the tap itself lost packets",
        source: "CQD's limits of a stream, applied to 10 s",
    },
    Rule {
        kind: ClientEventKind::NetworkDelay,
        name: "NetworkDelayEventRatio",
        rule: "intervals with a mean round trip > 500 ms, of those with one",
        source: "CQD's limit of a stream, applied to 10 s",
    },
    Rule {
        kind: ClientEventKind::NetworkBandwidthLow,
        name: "NetworkBandwidthLowEventRatio",
        rule: "not known (inside the program): how much the path could carry, only the sender estimates",
        source: "-",
    },
    Rule {
        kind: ClientEventKind::CpuInsufficient,
        name: "CPUInsufficientEventRatio",
        rule: "host intervals with PSI some of the CPU > 25 %, or all cores busy > 95 %, of those in the call",
        source: "ours: a task that waits for a quarter of 10 s misses audio periods of 10 to 20 ms",
    },
    Rule {
        kind: ClientEventKind::DeviceHalfDuplexAec,
        name: "DeviceHalfDuplexAECEventRatio",
        rule: "not known (inside the program)",
        source: "-",
    },
    Rule {
        kind: ClientEventKind::DeviceRenderNotFunctioning,
        name: "DeviceRenderNotFunctioningEventRatio",
        rule: "time in which the loudspeaker did not function, of the observed time; the worst one used",
        source: "the device watch",
    },
    Rule {
        kind: ClientEventKind::DeviceCaptureNotFunctioning,
        name: "DeviceCaptureNotFunctioningEventRatio",
        rule: "the same of the microphone",
        source: "the device watch",
    },
    Rule {
        kind: ClientEventKind::DeviceGlitches,
        name: "DeviceGlitchesEventRatio",
        rule: "a second for each overrun and underrun, of the observed time; the worst device of both sides",
        source: "ours: the kernel counts them and tells no length; Chromium bounds one by a second, too",
    },
    Rule {
        kind: ClientEventKind::DeviceLowSnr,
        name: "DeviceLowSNREventRatio",
        rule: "not known (levels not read): broadband levels do not tell speech from noise",
        source: "-",
    },
    Rule {
        kind: ClientEventKind::DeviceLowSpeechLevel,
        name: "DeviceLowSpeechLevelEventRatio",
        rule: "not known (levels not read), for the same reason",
        source: "-",
    },
    Rule {
        kind: ClientEventKind::DeviceClipping,
        name: "DeviceClippingEventRatio",
        rule: "stretches of a quarter of a second with > 10 samples at full scale, of the time listened along \
               (`audio.levels`), all microphones together",
        source: "ours: a single click is no clipping, a voice that is too loud clips in every period",
    },
    Rule {
        kind: ClientEventKind::DeviceEcho,
        name: "DeviceEchoEventRatio",
        rule: "not known (inside the program)",
        source: "-",
    },
    Rule {
        kind: ClientEventKind::DeviceNearEndToEchoRatio,
        name: "DeviceNearEndToEchoRatioEventRatio",
        rule: "not known (inside the program)",
        source: "-",
    },
    Rule {
        kind: ClientEventKind::DeviceMultipleEndpoints,
        name: "DeviceMultipleEndpointsEventCount",
        rule: "not known (inside the program): it listens for other endpoints in the room",
        source: "-",
    },
    Rule {
        kind: ClientEventKind::DeviceHowling,
        name: "DeviceHowlingEventCount",
        rule: "not known (inside the program): a tone that grows shows in a spectrum, and only levels leave the audio",
        source: "-",
    },
    Rule {
        kind: ClientEventKind::DeviceRenderZeroVolume,
        name: "DeviceRenderZeroVolumeEventRatio",
        rule: "time with a volume of 0, of the observed time; the loudspeaker with most of it",
        source: "the device watch",
    },
    Rule {
        kind: ClientEventKind::DeviceRenderMute,
        name: "DeviceRenderMuteEventRatio",
        rule: "time muted, of the observed time; the loudspeaker with most of it",
        source: "the device watch",
    },
];

/// Writes the table as Markdown for the README.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| event | bad, of what | source |\n|---|---|---|\n");
    for Rule { name, rule, source, .. } in RULES {
        text.push_str(&format!("| {name} | {rule} | {source} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_every_event_once_in_the_order_of_the_wire() {
        assert!(RULES.is_sorted_by(|a, b| a.kind < b.kind));
        assert_eq!(RULES.len(), roomtone_protocol::limits::CLIENT_EVENTS_MAX);
    }

    /// The README's table is this file's; `ROOMTONE_GOLDEN=write` puts it there.
    #[test]
    fn readme_tells_of_every_event() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(file).unwrap();
        let (begin, end) = ("<!-- client events -->\n", "<!-- end of client events -->");
        let (head, rest) = readme.split_once(begin).expect("the README has the first marker");
        let (table, tail) = rest.split_once(end).expect("the README has the second marker");
        if std::env::var_os("ROOMTONE_GOLDEN").is_some_and(|value| value == "write") {
            let text = [head, begin, &markdown(), end, tail].concat();
            return std::fs::write(file, text).unwrap();
        }
        assert_eq!(table, markdown(), "write the table anew with ROOMTONE_GOLDEN=write");
    }

    #[test]
    fn thresholds_of_the_table_are_those_that_judge() {
        let rule =
            |kind| RULES.iter().find(|rule| rule.kind == kind).map(|rule| rule.rule).unwrap();
        let receive = rule(ClientEventKind::NetworkReceiveQuality);
        for (name, value) in [
            ("concealed > 7 %", CONCEALED_PPM / 10_000),
            ("lost > 10 %", LOST_PPM / 10_000),
            ("jitter > 30 ms", JITTER_US / 1_000),
            ("50 packets", PACKETS_MIN),
        ] {
            assert!(receive.contains(name) && name.contains(&value.to_string()), "{name}");
        }
        assert!(
            rule(ClientEventKind::NetworkDelay).contains(&format!("{} ms", ROUND_TRIP_US / 1_000))
        );
        let cpu = rule(ClientEventKind::CpuInsufficient);
        for permille in [CPU_PRESSURE_PERMILLE, CPU_BUSY_PERMILLE] {
            assert!(cpu.contains(&format!("> {} %", permille / 10)), "{permille}");
        }
        let clipped = format!("> {CLIPPED_SAMPLES} samples");
        assert!(rule(ClientEventKind::DeviceClipping).contains(&clipped));
    }
}
