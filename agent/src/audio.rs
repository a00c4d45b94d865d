//! The audio watch: whether each microphone and loudspeaker functions, since when not, and why.
//!
//! [`function::Function`] judges one device in one direction from [`signal::Signal`]s; all that it knows of the
//! machine comes in as signals with their moments. Shells read the kernel and sound servers, turn what they see into
//! signals, and carry events and totals away. Audio itself never enters: a callback's buffer becomes a handful of
//! numbers in [`level`] and is forgotten.

pub mod accounting;
pub mod alsa_ctl;
pub mod alsa_proc;
pub mod attempt;
pub mod bell;
pub mod board;
pub mod carry;
pub mod chirp;
pub mod constants;
pub mod course;
pub mod cpal_host;
pub mod ears;
pub mod episode;
pub mod floor;
pub mod function;
pub mod inventory;
pub mod level;
pub mod level_queue;
pub mod listening;
pub mod selftest;
pub mod sensor;
pub mod servers;
pub mod signal;
pub mod source;
pub mod uevent;
pub mod watch;
