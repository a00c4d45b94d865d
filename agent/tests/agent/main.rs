//! One binary for all of the agent's integration tests: linking costs more than running.
#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy.toml covers test functions only"
)]

mod audio_sensor;
mod audio_watch;
mod captures;
mod config_file;
mod configuration;
mod context_socket;
mod corpora;
mod devices_cli;
mod doctor_cli;
mod enroll;
mod frames;
mod function;
mod fuzz_bodies;
mod leg_records;
mod media;
mod media_context;
mod network_answers;
mod network_kinds;
mod package_scripts;
mod path_watch;
mod playout;
mod properties;
mod rehearse_loopback;
mod renewal;
mod selftest_cli;
mod set_by_collector;
mod sound_tree;
mod spool_disk;
mod spool_kill;
mod surroundings;
mod tap_block;
mod tap_file;
mod tap_filter;
mod tap_link;
mod tap_live;
mod tap_opener;
mod truth;
mod uplink_exchange;
mod uplink_quic;
mod uplink_resume;
mod uplink_words;
mod world;
mod writer;
mod wrong_answers;
