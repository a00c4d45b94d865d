//! Answers path probes beside a connection's stream: a shell around [`Receipts`].
//!
//! Within the connection's own task and not in one of its own: two thousand connections are two thousand tasks as it
//! is. While that task decodes a batch or waits in a lock a probe waits too, which its agent takes for delay of the
//! path; what it waits for an answer is told as the time that it was held.

use std::future::Future;
use std::time::Instant;

use quinn::Connection;
use roomtone_protocol::probe::DATAGRAM_BYTES_MAX;

use crate::ingest::receipt::Receipts;

/// What quinn keeps of datagrams per connection and direction, in bytes: a dozen answers.
pub(super) const BUFFER_BYTES: usize = 2048;

/// Does `work`, and answers probes for as long as it takes.
pub(super) async fn beside<T>(connection: &Connection, work: impl Future<Output = T>) -> T {
    let mut receipts = Receipts::new(Instant::now());
    let done = tokio::select! {
        done = work => done,
        never = answer(connection, &mut receipts) => match never {},
    };
    let counts = receipts.counts();
    if counts.excess + counts.stale + counts.strange > 0 {
        tracing::debug!(?counts, remote = %connection.remote_address(), "datagrams left unanswered");
    }
    done
}

/// Never ends: the end of a connection is for whoever reads its stream to tell.
async fn answer(connection: &Connection, receipts: &mut Receipts) -> std::convert::Infallible {
    while let Ok(datagram) = connection.read_datagram().await {
        receipts.handle_datagram(&datagram, Instant::now());
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        while let Some(length) = receipts.poll_transmit(&mut buffer, Instant::now()) {
            // A peer that takes none, or whose path is stuck, misses an answer: that is what loss is for.
            if connection.send_datagram(buffer[..length].to_vec().into()).is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}
