//! One binary for all of the agent's scenario tests: linking costs more than running.

mod media;
mod truth;
mod world;
