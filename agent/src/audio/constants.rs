//! Every threshold of the detector in one table, each with its source.
//!
//! [`Thresholds`] can be overridden in the config; the rest are facts about kernels and devices. A change of a rule
//! or of a default is a new [`DETECTOR_VERSION`], because ratios judged by different rules do not compare.

use std::time::Duration;

/// The version of the rules, written into each summary.
pub const DETECTOR_VERSION: u16 = 1;

/// Set in a summary's version where a threshold is not the version's own: such ratios compare with none but their like.
pub const DETECTOR_ADJUSTED: u16 = 0x8000;

/// The longest id of a sound card, in bytes: `char id[16]` of `struct snd_card` with its terminating zero.
pub const CARD_ID_BYTES_MAX: usize = 15;

/// Events that wait to be drained, at most. One signal makes at most four (two states, an episode's change and its
/// end), so a shell that drains after each signal never comes near; beyond it the oldest go and are counted.
pub const EVENTS_MAX: usize = 64;

/// How often a device that is held open is polled (design section 4.3: four times a second).
pub const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Polls without progress before a device counts as stuck: one late poll may meet a stream that was restarted just
/// before.
pub const STUCK_POLLS_MIN: u8 = 2;

/// A row of opens counts as failed only where polls of single opens found nothing for this long in sum: the first
/// poll of a healthy open finds nothing either, and a sound of 200 ms is over before the second.
pub const BARREN_MIN: Duration = Duration::from_millis(500);

/// An open that ends sooner was refused: what plays or records for a moment fills a period and drains it.
pub const SHORT_OPEN: Duration = Duration::from_millis(100);

/// Opens of that kind in a row before they count as failed: a sound server that looks what a device can do makes a few.
pub const SHORT_OPENS_MIN: u8 = 8;

/// A carry older than this when it is read is not bridged: a service manager restarts within seconds, and nobody
/// watched a longer gap.
pub const RESTART_GAP_MAX: Duration = Duration::from_secs(60);

/// When a device counts as not functioning (design section 4.3). All are durations of `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thresholds {
    /// No progress for this long while running is a stall, unless four periods are longer. 1 s: mtrack's
    /// `LIVENESS_WINDOW`; Chromium's 12 s allow for macOS deferring callbacks, rigplane takes 3 s.
    pub stall: Duration,
    /// And no progress for this many periods: a period of 32,768 frames is 683 ms (HDA default). mtrack takes four.
    pub stall_periods: u32,
    /// No first progress for this long after the start: first callbacks take 55-70 ms under load, 2 s on a PulseAudio
    /// null sink; Chromium wedges at 5 s.
    pub never_started: Duration,
    /// A device that is opened again this soon after it was closed is opened by the same attempt: programs retry within
    /// a second; who waits longer has given up for the moment.
    pub retry_gap: Duration,
    /// A use outside of a call goes on for this long after its device was removed: as long as a call outlasts its last
    /// packet.
    pub use_idle: Duration,
    /// Held without running for this long after the machine or the device slept: PipeWire retries for 5 s, but a
    /// fault is to be seen in less.
    pub suspended: Duration,
    /// Exact zeros for this long: Jitsi's `SILENCE_PERIOD_MS`.
    pub zero_signal: Duration,
    /// One value for this long: as zeros.
    pub constant_signal: Duration,
    /// Audio without a run of zeros beyond `floor_gap` for this long proves that the floor is not zero: speech of 30
    /// s without one pause is rare.
    pub floor_learned: Duration,
    /// A run of zeros that starts the learning anew: a pause between words; dropped USB packets are shorter (1-20 ms).
    pub floor_gap: Duration,
    /// A run of zeros from which the device came back by itself, and which thereby proves a floor of zero: beyond any
    /// drop-out of a sound server.
    pub floor_zero: Duration,
    /// A removal so soon after a close is still a removal in use: the program saw the unplugging first. Two polls.
    pub held_grace: Duration,
    /// Without a poll of an open device for this long nothing is known of it: twenty polls; late polls under load
    /// were seen up to 3 s.
    pub observation_gap: Duration,
    /// Healthy for this long closes an episode: Muesli's 10 s, so that a loose plug is one episode.
    pub episode_healthy: Duration,
    /// How often an episode that goes on is told again, so that its length at the collector is never older; one that
    /// goes on for longer than ten times this is told whenever a tenth was added.
    pub episode_report: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(1),
            stall_periods: 4,
            never_started: Duration::from_secs(3),
            retry_gap: Duration::from_secs(2),
            use_idle: Duration::from_secs(15),
            suspended: Duration::from_secs(3),
            zero_signal: Duration::from_secs(4),
            constant_signal: Duration::from_secs(4),
            floor_learned: Duration::from_secs(30),
            floor_gap: Duration::from_millis(100),
            floor_zero: Duration::from_secs(1),
            held_grace: Duration::from_millis(500),
            observation_gap: Duration::from_secs(5),
            episode_healthy: Duration::from_secs(10),
            episode_report: Duration::from_secs(10),
        }
    }
}

impl Thresholds {
    /// The version that a summary names.
    #[must_use]
    pub fn detector(&self) -> u16 {
        let is_own = *self == Self::default();
        if is_own { DETECTOR_VERSION } else { DETECTOR_VERSION | DETECTOR_ADJUSTED }
    }
}
