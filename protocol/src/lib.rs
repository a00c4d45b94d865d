//! The wire between a roomtone agent (or a headset) and a collector.
//!
//! `no_std`, no allocator, no floats, no `unsafe`. Every message has one fixed capacity, so a reader knows before the
//! first byte how much memory a peer can make it use. The normative text is `WIRE.md`; where this crate and that text
//! disagree, the crate is wrong.
//!
//! A *frame* is a hand-coded header ([`frame::Header`]) and a postcard body. Link frames ([`Hello`](hello::Hello),
//! [`HelloReply`](hello::HelloReply), [`Ack`](ack::Ack), [`Control`](control::Control), those of [`enroll`],
//! [`configuration`] and [`health`]) steer one connection; record frames carry one [`Record`](record::Record) that is
//! known for ever by (endpoint, epoch, sequence). [`probe`] has what travels beside the frames and is kept by nobody.
#![no_std]
#![forbid(unsafe_code)]

pub mod ack;
pub mod call;
pub mod client_event;
pub mod configuration;
pub mod control;
pub mod device;
pub mod enroll;
pub mod error;
mod extension;
pub mod frame;
pub mod health;
pub mod heard;
pub mod hello;
pub mod host;
pub mod id;
pub mod interval;
pub mod limits;
pub mod loss;
pub mod media;
pub mod message;
pub mod network;
pub mod path;
pub mod probe;
pub mod ratio;
pub mod record;
pub mod stamp;
pub mod time;
pub mod token;
