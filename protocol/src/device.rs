//! Audio devices: episodes of not functioning, the ratios that they make, and self-tests.

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
    /// It ended otherwise: with its call, or because nobody wants the device any more.
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
    /// Detector version that judged; the highest bit is set where the operator adjusted a threshold.
    pub detector: u16,
    /// Time with a volume of zero over observed call time (for a loudspeaker MS-QoE `renderZeroVolumeEventRatio`).
    ///
    /// In the extension block: `None` where the writer does not know it or is older than the field.
    #[serde(skip)]
    pub zero_volume: Option<Ratio>,
    /// Overruns and underruns in the call, each a gap that can be heard but no fault.
    ///
    /// In the extension block, as `zero_volume`.
    #[serde(skip)]
    pub glitches: Option<u32>,
}

/// How a self-test ended: a short quiet chirp through a loudspeaker, looked for in a microphone. Appended, never
/// reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SelfTestOutcome {
    /// The microphone heard the loudspeaker: both function.
    Heard,
    /// The microphone delivered a living signal, and the chirp was not in it.
    NotHeard,
    /// The microphone delivered nothing but one value, zero or another.
    NoSignal,
    /// The microphone could not be opened, or its stream ended early.
    CaptureFailed,
    /// The loudspeaker could not be opened, or its stream ended early.
    RenderFailed,
    /// Another process holds one of the two; nothing is said about them.
    Busy,
    /// A call was on, so nothing was tried.
    InCall,
    /// One of the two is not there.
    NoDevice,
}

/// What a self-test found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// When it ended.
    pub ended: Stamp,
    /// Whether the collector asked for it ([`Control::SelfTest`](crate::control::Control::SelfTest)); else somebody at
    /// the endpoint did.
    pub requested: bool,
    /// The microphone's name as the kernel gives it; empty where there was none to name.
    pub capture: String<DEVICE_NAME_BYTES_MAX>,
    /// The loudspeaker's name, likewise.
    pub render: String<DEVICE_NAME_BYTES_MAX>,
    /// How it ended.
    pub outcome: SelfTestOutcome,
    /// Level of what the microphone delivered while the chirp was looked for, in 0.1 dB relative to full scale: 0 is
    /// full scale, all else is below. `None` where there was no signal to measure.
    pub level_db_tenths: Option<i16>,
    /// From handing the chirp to the loudspeaker to its arrival in the microphone's buffers, in microseconds; `None`
    /// where it was not heard.
    pub delay_us: Option<u32>,
}
