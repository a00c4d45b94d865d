//! What an operator asks of a running `serve`: over a unix socket beside the store, one JSON object per line.
//!
//! [`dialogue`] knows the lines and what they mean, [`socket`] listens for them, [`client`] is the other end, for the
//! command line. A command is a variant of [`dialogue::Request`] and its answer; the socket is for whoever may read the
//! store, and nobody else.

pub mod client;
pub mod dialogue;
pub mod socket;
