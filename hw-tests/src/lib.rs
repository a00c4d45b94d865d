//! Drives the two binaries from outside, as an operator would.
//!
//! Knows them by their command lines, files and output only: what it shows holds for an installed roomtone too.
//! `pair` starts them, `play` is `make run`, `figures` is the part of `make bench` that needs both, `netns` gives
//! hosts to trials. `bench` runs `trials` of sound devices on a `stage`: in a `guest` with a `headset` made of
//! software, or on devices that lie on a desk.

pub mod bench;
pub mod figures;
pub mod guest;
pub mod headset;
pub mod interrupt;
pub mod netns;
pub mod pair;
pub mod play;
pub mod process;
pub mod stage;
pub mod trials;
