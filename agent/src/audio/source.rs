//! What a stream of ours is opened on, and in which format.
//!
//! A core: data that those who decide and the one who opens have in common.

/// A sound server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// PulseAudio.
    PulseAudio,
    /// PipeWire.
    PipeWire,
}

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The first of these ALSA names that exists.
    Alsa(Vec<String>),
    /// A server's default device.
    Server(Server),
}

/// How samples lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 16-bit integers.
    Bits16,
    /// 32-bit integers: a quiet microphone of 24 bits would look like zeros in 16.
    Bits32,
    /// 32-bit floats.
    Float,
}

/// A stream's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Frames per second.
    pub rate_hz: u32,
    /// Samples in a frame.
    pub channels: u16,
    /// How samples lie.
    pub width: Width,
}
