//! Audio devices: episodes of not functioning, and the ratios that they make.

use heapless::String;
use serde::{Deserialize, Serialize};

use crate::id::CallId;
use crate::limits::DEVICE_NAME_BYTES_MAX;
use crate::ratio::Ratio;
use crate::time::Stamp;

/// The side of the endpoint that a device serves. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeviceSide {
    /// A microphone.
    Capture,
    /// A loudspeaker.
    Render,
}

/// Why a device does not function (design section 4.3). Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeviceCause {
    /// It left the bus.
    Removed,
    /// It was opened and no first buffer came.
    NeverStarted,
    /// It ran and made no progress any more.
    Stalled,
    /// It delivers exact zeros although its floor is known not to be zero.
    ZeroSignal,
    /// It delivers one value that is not zero.
    ConstantSignal,
    /// It cannot be opened.
    OpenFailed,
    /// Its stream ended with an error.
    StreamError,
    /// It stayed suspended beyond the sound server's budget.
    Suspended,
    /// The call's audio goes elsewhere.
    WrongRoute,
    /// The sound server went away.
    ServerLost,
    /// A self-test did not hear itself.
    SelfTestFailed,
}

/// Whether an episode goes on. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EpisodeState {
    /// It goes on; `bad_us` counts up to now.
    Open,
    /// The device functions again.
    Recovered,
    /// The call ended first.
    Unrecovered,
}

/// One continuous stretch in which a device did not function. Sent when it begins, when it changes, when it ends; the
/// last one wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEpisode {
    /// Names the episode: 64 random bits.
    pub episode: u64,
    /// The call in which it matters, if one was on.
    pub call: Option<CallId>,
    /// The device's name as the kernel gives it.
    pub device: String<DEVICE_NAME_BYTES_MAX>,
    /// Microphone or loudspeaker.
    pub side: DeviceSide,
    /// Why.
    pub cause: DeviceCause,
    /// When it began, dated back to the last progress.
    pub onset: Stamp,
    /// Bad time so far, in microseconds, healthy stretches inside the episode excluded.
    pub bad_us: u64,
    /// Whether it goes on.
    pub state: EpisodeState,
}

/// A device's totals in one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSummary {
    /// The call.
    pub call: CallId,
    /// The device's name as the kernel gives it.
    pub device: String<DEVICE_NAME_BYTES_MAX>,
    /// Microphone or loudspeaker.
    pub side: DeviceSide,
    /// DeviceCapture- or DeviceRenderNotFunctioningEventRatio (MS-QoE 2.2.1.29): bad time over observed call time.
    pub not_functioning: Ratio,
    /// Time muted on purpose over observed call time.
    pub muted: Ratio,
    /// How many episodes.
    pub episodes: u32,
    /// Detector version that judged.
    pub detector: u16,
}
