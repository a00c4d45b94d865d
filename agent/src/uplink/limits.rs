//! Bounds of the link: bytes in flight, patience with a collector, pauses between attempts.

use std::time::Duration;

/// Bounds of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most record bytes in flight; at least `FRAME_BYTES_MAX`, else nothing could be sent.
    pub window_bytes: usize,
    /// How long a collector may take to answer the Hello.
    pub hello_timeout: Duration,
    /// How long records may be in flight without any ack progress.
    pub progress_timeout: Duration,
    /// How long a collector that announced its departure may take to acknowledge what it has.
    pub leave_timeout: Duration,
    /// How long a collector may take to answer a request for a certificate.
    pub renew_timeout: Duration,
    /// How long the end of the agent waits for the last acks.
    pub flush_timeout: Duration,
    /// The longest pause after a first failure.
    pub backoff_base: Duration,
    /// The longest pause of all, but after a refusal of who this endpoint is.
    pub backoff_ceiling: Duration,
    /// The longest pause after the first refusal of who this endpoint is; it is never less than half of it.
    pub refusal_base: Duration,
    /// The longest pause after many of them.
    pub refusal_ceiling: Duration,
}

impl Default for Limits {
    /// 256 KiB is a day of one room's records, and far below QUIC's send window of 1 MiB. 10 s for the Hello and 30 s
    /// without progress are ten group commits of a slow collector disk and more. 60 s of full jitter spread 10,000
    /// agents to 170 handshakes a second, a sixth of what one collector core does. 30 s for a certificate are a
    /// signature behind hundreds of others.
    ///
    /// One to two hours after a refusal of who this endpoint is, then two to four, then three to six: an operator who
    /// undoes it needs no visit, and two thousand endpoints whose registry was lost ask once in 8 s.
    fn default() -> Self {
        Self {
            window_bytes: 256 * 1024,
            hello_timeout: Duration::from_secs(10),
            progress_timeout: Duration::from_secs(30),
            leave_timeout: Duration::from_secs(5),
            renew_timeout: Duration::from_secs(30),
            flush_timeout: Duration::from_secs(2),
            backoff_base: Duration::from_secs(1),
            backoff_ceiling: Duration::from_secs(60),
            refusal_base: Duration::from_secs(2 * 3600),
            refusal_ceiling: Duration::from_secs(6 * 3600),
        }
    }
}
