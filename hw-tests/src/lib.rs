//! Drives the two binaries from outside, as an operator would.
//!
//! Knows them by their command lines, files and output only: what it shows holds for an installed roomtone too.
//! `pair` starts them, `play` is `make run`, `figures` is the part of `make bench` that needs both, `netns` gives
//! hosts to trials.

pub mod figures;
pub mod interrupt;
pub mod netns;
pub mod pair;
pub mod play;
pub mod process;
