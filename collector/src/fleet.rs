//! The fleet: what its endpoints are to be set to, and how they are.
//!
//! An operator's settings lie in layers ([`scope`]), each with its revisions; [`plan`] merges them into what one
//! endpoint is to have, and a new revision may go to a share of its endpoints first. What an endpoint says of itself
//! comes back as heartbeats: [`session`] follows one connection, [`roster`] joins all that is known of each endpoint,
//! [`condition`] judges it, [`rollout`] counts. [`book`] keeps both on disk, beside the registry; [`live`] is the
//! part of a running `serve`.
//!
//! Values are judged by agents alone: a collector knows the keys and not what they take.

pub mod book;
pub mod condition;
pub mod heartbeat;
pub mod live;
pub mod plan;
pub mod rollout;
pub mod roster;
pub mod scope;
pub mod session;
pub mod settings;
