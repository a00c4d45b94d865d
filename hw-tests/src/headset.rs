//! A USB Audio Class 1 headset of our own, on a bus of our own.
//!
//! The kernel's stock `vhci_hcd` (USB/IP) takes it for a device on a wire, and the stock `snd-usb-audio` drives it:
//! what an agent sees of it is what it sees of any headset. Full duplex, mute and volume in both directions, a button
//! that mutes the microphone and tells so through the status interrupt. It breaks on command.
//!
//! ```text
//! snd-usb-audio ── vhci_hcd ══ socket pair ══ serve ── usbip ── device ── { descriptors, signal }
//!                                               └── command socket ── command
//! ```
//! `descriptors`, `usbip`, `signal`, `command` and `device` are cores; `serve` is the shell. Needs root and the
//! module `vhci-hcd`, and so belongs into a guest: a hung device can hold a kernel worker for seconds.

pub mod command;
pub mod descriptors;
pub mod device;
pub mod serve;
pub mod signal;
pub mod usbip;
