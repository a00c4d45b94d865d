//! What must hold for any input of each decoder and core; shared with the fuzz targets in `fuzz/`.

pub(crate) mod block;
pub(crate) mod capture_file;
pub(crate) mod configuration;
pub(crate) mod context;
pub(crate) mod host;
pub(crate) mod ledger;
pub(crate) mod link;
pub(crate) mod netlink;
pub(crate) mod rtcp;
pub(crate) mod rtp;
pub(crate) mod stun_turn;
pub(crate) mod watch;
