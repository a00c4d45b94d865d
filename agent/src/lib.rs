//! The roomtone agent: measures call legs and audio devices on the endpoint and ships the figures.
//!
//! Cores decide and never wait; shells wait and never decide. `daemon` joins them.

pub mod analyze;
pub mod audio;
pub mod cli;
pub mod clock;
pub mod config;
pub mod configuration;
pub mod context;
pub mod daemon;
pub mod doctor;
pub mod enroll;
pub mod events;
pub mod health;
pub mod host;
pub mod identity;
pub mod media;
pub mod network;
pub mod observe;
pub mod open_call;
pub mod path;
pub mod rehearse;
pub mod report;
pub mod show;
pub mod spool;
pub mod systemd;
pub mod tap;
pub mod telemetry;
pub mod uplink;
