//! How a fleet is configured: a text on the way down, and what became of it on the way up.
//!
//! The collector decides which settings an endpoint gets; the agent alone knows whether they are valid, and keeps none
//! that cost it its collector. Neither side ever needs the other's parser: what travels is the text of a config file.

use heapless::String;
use serde::{Deserialize, Serialize};

use crate::limits::{CONFIGURATION_BYTES_MAX, REASON_BYTES_MAX};

/// Which keys of an agent's config a collector may set, as `section.key`, in the order in which they are told.
///
/// Nothing here names a file, an address or an identity: a collector can neither redirect an agent nor make it write
/// elsewhere. Appended only; an agent refuses a text with a key that it does not know.
pub const KEYS: [&str; 18] = [
    "spool.bytes_max",
    "spool.headroom",
    "spool.inodes_min",
    "tap.snap_bytes",
    "tap.ring_bytes",
    "tap.block_timeout",
    "media.call_idle",
    "audio.watch",
    "audio.levels",
    "audio.stall",
    "audio.never_started",
    "audio.suspended",
    "audio.zero_signal",
    "audio.constant_signal",
    "audio.episode_healthy",
    "health.interval",
    "log.level",
    "path.probe",
];

/// The text of a configuration.
pub type Text = String<CONFIGURATION_BYTES_MAX>;

/// Names a configuration by its content: the first eight bytes of the SHA-256 of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConfigurationHash(pub [u8; 8]);

/// What the collector wants an endpoint to be set to; replaces what it wanted before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The hash of `text`.
    pub hash: ConfigurationHash,
    /// TOML with keys of [`KEYS`] only; empty where the collector sets nothing.
    pub text: Text,
}

/// What an endpoint is set to, from whatever source: its own file, its collector's text, the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveConfiguration {
    /// The hash of `text`.
    pub hash: ConfigurationHash,
    /// TOML with every key of [`KEYS`] that the agent knows, in their order.
    pub text: Text,
}

/// What became of the collector's configuration at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationState {
    /// The hash of what the endpoint is set to.
    pub effective: ConfigurationHash,
    /// The collector's configuration that is in force; `None` where there is none.
    pub in_force: Option<ConfigurationHash>,
    /// The latest that came, and what became of it; `None` where none ever came.
    pub latest: Option<Arrival>,
}

/// A configuration that came, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Which.
    pub hash: ConfigurationHash,
    /// What became of it.
    pub outcome: Outcome,
    /// One line for a person; empty where nothing is to be said.
    pub detail: String<REASON_BYTES_MAX>,
}

/// What became of a configuration. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It is in force, and the collector was reached with it.
    InForce,
    /// It is in force on trial: without the collector it is taken back.
    OnTrial,
    /// It waits for the end of a call.
    WaitsForCall,
    /// It is not valid; `detail` says which key and why. It was never in force.
    Refused,
    /// With it the collector was not reached, or the agent did not stay up: what was before is in force again.
    RolledBack,
}
