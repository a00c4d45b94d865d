//! What a listener hears of one received audio stream: the playout model's sums, its worst interval, and the raw
//! inputs of a rating.

use super::burst::BurstReport;
use super::codec::{Unrated, codec_of};
use super::e_model::{NetworkMos, network_mos};
use super::playout::tally::PlayoutTally;
use super::playout::{Packet, Playout};
use std::time::Duration;

/// Audio that an interval needs before it may be the worst: a frame in a second of silence is no tenth of a call.
const INTERVAL_LEAST_US: u64 = 1_000_000;

/// The state of one listener.
#[derive(Debug)]
pub struct Heard {
    playout: Playout,
    worst: Option<PlayoutTally>,
}

/// A listener's totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardReport {
    /// Over the stream.
    pub total: PlayoutTally,
    /// The interval with the highest concealed ratio, among those with a second of audio and more.
    pub worst_interval: Option<PlayoutTally>,
    /// The frames as they were heard, in bursts and gaps.
    pub burst: BurstReport,
    /// The length of a frame, as it was last.
    pub frame: Duration,
}

impl Heard {
    /// Begins with nothing heard.
    #[must_use]
    pub fn new(clock_rate_hz: u32) -> Self {
        Self { playout: Playout::new(clock_rate_hz), worst: None }
    }

    /// Takes one packet, in the order of arrival.
    pub fn handle(&mut self, packet: &Packet) {
        self.playout.handle(packet);
    }

    /// What was heard since this was called last.
    pub fn take_interval(&mut self) -> PlayoutTally {
        let interval = self.playout.take_interval();
        self.worst = worse(self.worst, interval);
        interval
    }

    /// The totals so far; the present interval counts as it is.
    #[must_use]
    pub fn report(&self) -> HeardReport {
        HeardReport {
            total: self.playout.total(),
            worst_interval: worse(self.worst, self.playout.interval()),
            burst: self.playout.burst(),
            frame: self.playout.frame(),
        }
    }
}

/// The one with the higher concealed ratio.
fn worse(worst: Option<PlayoutTally>, interval: PlayoutTally) -> Option<PlayoutTally> {
    if interval.total_us < INTERVAL_LEAST_US {
        return worst;
    }
    let is_worse = worst.is_none_or(|worst| interval.concealed_ratio() > worst.concealed_ratio());
    if is_worse { Some(interval) } else { worst }
}

impl HeardReport {
    /// What the network did to it, by its most frequent payload type and its clock.
    ///
    /// # Errors
    /// Where the codec is not known, or no factors of it.
    pub fn network_mos(
        &self,
        payload_type: u8,
        clock_rate_hz: Option<u32>,
    ) -> Result<NetworkMos, Unrated> {
        let codec = codec_of(payload_type, clock_rate_hz)?;
        let ratio = self.burst.missing_ratio().ok_or(Unrated::NothingHeard)?;
        Ok(network_mos(codec, ratio, self.burst.burst_ratio()))
    }
}

#[cfg(test)]
mod tests {
    use super::Heard;

    #[test]
    fn listener_costs_less_than_five_kib() {
        // 200 places of 16 bytes, 2 x 100 classes of 4, 20 slots of 24: 4,480, and the sums.
        assert!(size_of::<Heard>() <= 5 * 1024, "{}", size_of::<Heard>());
    }
}
