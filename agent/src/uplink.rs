//! uplink (being written).
