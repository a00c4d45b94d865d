//! The client events of MS-QoE 2.2.1.29: the share of a call, or the number of times in it, in which the endpoint
//! judged a condition bad.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::id::{CallId, LegNumber};
use crate::limits::CLIENT_EVENTS_MAX;
use crate::ratio::Ratio;

/// The client events of a call, or of one leg of it. Written when the call closes; the last one wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientEvents {
    /// The call.
    pub call: CallId,
    /// The leg that the network's events speak of; `None` for those of devices and host, which are the call's.
    pub leg: Option<LegNumber>,
    /// Version of the rules that judged; the highest bit is set where the operator adjusted one.
    pub rules: u16,
    /// Each event once, known or not.
    pub events: Vec<ClientEvent, CLIENT_EVENTS_MAX>,
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientEvent {
    /// Which.
    pub kind: ClientEventKind,
    /// How much of it there was.
    pub value: ClientEventValue,
}

/// How much of an event there was, or why nobody knows: unknown is never 0. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientEventValue {
    /// Time in the bad state over the time in which it could be told.
    Ratio(Ratio),
    /// Times in the call.
    Count(u32),
    /// It is not known.
    Unknown(UnknownBecause),
}

/// The conditions, in the order of MS-QoE 2.2.1.29. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ClientEventKind {
    /// The network made sent audio poor.
    NetworkSendQuality,
    /// The network made received audio poor.
    NetworkReceiveQuality,
    /// Delay made two-way talk suffer.
    NetworkDelay,
    /// Bandwidth was too low for good sent audio.
    NetworkBandwidthLow,
    /// Not enough CPU for audio.
    CpuInsufficient,
    /// The echo canceller fell back to half duplex.
    DeviceHalfDuplexAec,
    /// The loudspeaker did not function.
    DeviceRenderNotFunctioning,
    /// The microphone did not function.
    DeviceCaptureNotFunctioning,
    /// Gaps in played or captured audio.
    DeviceGlitches,
    /// Speech too close to noise.
    DeviceLowSnr,
    /// Speech too quiet.
    DeviceLowSpeechLevel,
    /// Captured audio was clipped.
    DeviceClipping,
    /// Echo in sent audio.
    DeviceEcho,
    /// Near-end speech too close to the echo.
    DeviceNearEndToEchoRatio,
    /// Several endpoints in one room: a count.
    DeviceMultipleEndpoints,
    /// Howling: a count.
    DeviceHowling,
    /// The loudspeaker's volume was 0.
    DeviceRenderZeroVolume,
    /// The loudspeaker was muted.
    DeviceRenderMute,
}

/// Why an event is not known. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UnknownBecause {
    /// It needs levels of the sound, and those are not read (`audio.levels`).
    LevelsNotRead,
    /// No device of that side was used in the call.
    NoDevice,
    /// The far end told nothing, or encrypted it.
    NoReports,
    /// The kernel of this machine has no such figure, or refuses it.
    NoSource,
    /// There was nothing to judge: no packet, no speech, no time.
    NothingObserved,
    /// It is known inside the calling program only.
    InsideProgram,
    /// This part of the agent is switched off.
    SwitchedOff,
}
