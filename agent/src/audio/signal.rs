//! What shells tell the machine: everything that can be seen of a device, and nothing judged.
//!
//! Signals of one device come in the order of their moments, each as soon as it was seen. A device that is held open
//! is polled ([`Signal::Progress`]) every 250 ms; one that nobody holds needs no poll.

use std::time::Duration;

use heapless::String;
use roomtone_protocol::device::DeviceSide;
use serde::{Deserialize, Serialize};

use super::constants::CARD_ID_BYTES_MAX;
use super::level::LevelReport;

/// Names one direction of one PCM for as long as the card keeps its id, replugging included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceKey {
    /// The kernel's id of the card, as in `/proc/asound/<id>`.
    pub card: String<CARD_ID_BYTES_MAX>,
    /// The PCM's number on its card.
    pub pcm: u8,
    /// Microphone or loudspeaker.
    pub side: DeviceSide,
}

/// What happened to a device, or was read from it.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    /// The kernel announced it, or it was found in the inventory.
    Appeared,
    /// It left the bus. To be sent before, or instead of, [`Self::Closed`]: a status file that vanished is no closed
    /// device.
    Removed,
    /// A process holds it open. Repeated with the same figures it changes nothing.
    Opened {
        /// Frames per second.
        rate_hz: u32,
        /// Frames between two interrupts.
        period_frames: u32,
        /// Frames in the ring.
        buffer_frames: u32,
        /// Who holds it; `None` where the kernel does not tell.
        owner_pid: Option<u32>,
    },
    /// One reading of the status of a device that is held open.
    Progress {
        /// The stream's state.
        pcm_state: PcmState,
        /// The hardware's position, which may start over at any time.
        hw_ptr_frames: u64,
    },
    /// An overrun or underrun that no poll saw, as an active stream reports it.
    Xrun,
    /// Nobody holds it any more.
    Closed,
    /// Another process opened it and closed it again before anybody could look.
    Tried,
    /// Its mixer, its own button or its server muted it, or no longer.
    Muted(bool),
    /// Its volume was set to zero, or is above it again.
    VolumeZero(bool),
    /// What its samples were like.
    Levels(LevelReport),
    /// Our own attempt to open it ended without a stream.
    OpenFailed {
        /// Why.
        failure: OpenFailure,
        /// How long ago the attempt began: a hung control request blocks for 5 s.
        waited: Duration,
    },
    /// Our own stream on it ended by an error that is neither an overrun nor a removal.
    StreamError,
    /// The machine, or the device, slept: `/sys/power/suspend_stats/success` rose, or `CLOCK_BOOTTIME` ran ahead of
    /// `CLOCK_MONOTONIC`.
    Suspended,
    /// The sound server that held it went away.
    ServerLost,
    /// A sound server answers again.
    ServerBack,
    /// The call's audio goes to another device although this one is chosen, or no longer does.
    WrongRoute(bool),
    /// A self-test ended.
    SelfTest(SelfTestOutcome),
    /// It cannot be watched. Ended by the next thing seen of it.
    Unobservable(Blindness),
}

/// The state of a PCM as `/proc/asound/.../status` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PcmState {
    /// Open without parameters.
    Open,
    /// With parameters, not prepared.
    Setup,
    /// Ready to start.
    Prepared,
    /// Moving.
    Running,
    /// Stopped by an overrun or underrun.
    Xrun,
    /// Playing its last frames.
    Draining,
    /// Paused by its program.
    Paused,
    /// Stopped by the power management.
    Suspended,
    /// Its hardware is gone.
    Disconnected,
}

/// Why an attempt to open a device failed, by what it says of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenFailure {
    /// Another process holds it: no fault.
    Busy,
    /// We may not open it: nothing is known of the device.
    NoPermission,
    /// It does not support what was asked: no fault of the device.
    Unsupported,
    /// It did not answer, or answered with an error.
    Fault,
}

/// What a self-test found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelfTestOutcome {
    /// The chirp was heard.
    Passed,
    /// It was not.
    Failed,
}

/// Why a device cannot be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blindness {
    /// `/proc/asound` or `/dev/snd` may not be read.
    NoPermission,
    /// There is no sound subsystem, or it went away.
    NoSubsystem,
    /// What was read made no sense.
    Unreadable,
    /// The polls of an open device stopped.
    NotPolled,
}
