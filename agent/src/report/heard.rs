//! What was heard, in wire units: a row of an interval, a stream's totals, and its rating.
//!
//! Every number is held at the highest that fits. Since that keeps the order of two numbers, a part never becomes more
//! than its whole, which a decoder would refuse.

use roomtone_protocol::heard::{
    HeardInterval, MosFormula, NetworkMos, NetworkRating, StreamHeard, Stretches,
};
use roomtone_protocol::media::Media;

use crate::media::burst::Span;
use crate::media::codec::{Basis, Unrated};
use crate::media::e_model::{self, Formula};
use crate::media::leg::StreamIntervalReport;
use crate::media::playout::PLAYOUT_MODEL;
use crate::media::playout::tally::PlayoutTally;
use crate::media::stream::StreamReport;

use super::units::{saturate, tenths};

/// A stream's row in an interval; `None` where nothing of it was heard.
pub(super) fn heard_interval(
    interval: u8,
    stream: u8,
    row: &StreamIntervalReport,
) -> Option<HeardInterval> {
    let tally = row.span.playout.as_ref().filter(|_| row.media == Media::Audio)?;
    let PlayoutTally { total_us, concealed_us, played, discarded, worst_second_us, .. } = *tally;
    if (total_us, played, discarded) == (0, 0, 0) {
        return None;
    }
    Some(HeardInterval {
        interval,
        stream,
        total_us: saturate(total_us),
        concealed_us: saturate(concealed_us.min(total_us)),
        worst_second_us: saturate(worst_second_us.min(1_000_000)),
        played: saturate(played),
        discarded: saturate(discarded),
        delay_mean_dms: tenths(tally.delay_mean().unwrap_or_default()),
    })
}

/// A stream's totals; `None` for what is not received audio of a known clock.
pub(super) fn stream_heard(stream: u8, report: &StreamReport) -> Option<StreamHeard> {
    let heard = report.heard.as_ref().filter(|_| report.media == Media::Audio)?;
    let total = &heard.total;
    let worst_interval = heard.worst_interval.unwrap_or_default();
    let payload_type = report.payload_types.first().copied().unwrap_or_default();
    let rating = match heard.network_mos(payload_type, report.clock_rate_hz) {
        Ok(found) => NetworkRating::Mos(network_mos(&found)),
        Err(Unrated::CodecUnknown) => NetworkRating::CodecUnknown,
        Err(Unrated::NoFactors) => NetworkRating::NoFactors,
        Err(Unrated::NothingHeard) => NetworkRating::NothingHeard,
    };
    Some(StreamHeard {
        stream,
        model: PLAYOUT_MODEL,
        total_us: total.total_us,
        concealed_us: total.concealed_us.min(total.total_us),
        stretched_us: total.stretched_us,
        compressed_us: total.compressed_us,
        played: total.played,
        discarded: total.discarded,
        delay_mean_dms: tenths(total.delay_mean().unwrap_or_default()),
        delay_max_dms: tenths(total.delay_max().unwrap_or_default()),
        worst_second_us: saturate(total.worst_second_us.min(1_000_000)),
        worst_interval_total_us: saturate(worst_interval.total_us),
        worst_interval_concealed_us: saturate(
            worst_interval.concealed_us.min(worst_interval.total_us),
        ),
        resets: total.resets,
        frame_us: u32::try_from(heard.frame.as_micros()).unwrap_or(u32::MAX),
        bursts: stretches(&heard.burst.bursts),
        gaps: stretches(&heard.burst.gaps),
        runs: heard.burst.runs,
        rating,
    })
}

fn stretches(span: &Span) -> Stretches {
    Stretches {
        count: saturate(span.count),
        frames: saturate(span.frames),
        missing: saturate(span.missing.min(span.frames)),
    }
}

fn network_mos(found: &e_model::NetworkMos) -> NetworkMos {
    NetworkMos {
        formula: match found.rating.formula {
            Formula::G107V1 => MosFormula::G107V1,
            Formula::G1071V1 => MosFormula::G1071V1,
            Formula::G1072V1 => MosFormula::G1072V1,
        },
        codec: found.codec.kind,
        assumption: match found.codec.basis {
            Basis::Table => 0,
            Basis::Assumed(number) => number,
        },
        mos_milli: thousandths(found.rating.mos),
        best_milli: thousandths(found.rating.mos + found.degradation),
    }
}

/// A MOS, 1..=4.5, in thousandths.
fn thousandths(mos: f64) -> u16 {
    (mos.clamp(1.0, 4.5) * 1e3).round() as u16
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use roomtone_protocol::heard::RatedCodec;
    use roomtone_protocol::media::{ClockRateSource, Direction};

    use super::*;
    use crate::clock::Moment;
    use crate::media::burst::Burst;
    use crate::media::heard::HeardReport;
    use crate::media::jitter::Tally;
    use crate::media::marking::Marking;
    use crate::media::stream::StreamSpan;

    const TALLY: PlayoutTally = PlayoutTally {
        total_us: 10_000_000,
        concealed_us: 200_000,
        stretched_us: 8_000,
        compressed_us: 4_000,
        played: 490,
        discarded: 3,
        delay_sum_us: 490 * 81_250,
        delay_max_us: 120_040,
        worst_second_us: 100_000,
        resets: 0,
    };

    fn row(tally: PlayoutTally, media: Media) -> StreamIntervalReport {
        let span = StreamSpan {
            received: 493,
            lost: 7,
            duplicate: 0,
            reordered: 0,
            restarts: 0,
            jitter: Tally::default(),
            playout: Some(tally),
        };
        StreamIntervalReport { ssrc: 1, direction: Direction::Ingress, media, span }
    }

    fn totals(payload_type: u8, clock_rate_hz: u32, total: PlayoutTally) -> StreamReport {
        let mut burst = Burst::default();
        (0..98).for_each(|_| burst.handle_received());
        burst.handle_missing(2);
        let frame = Duration::from_millis(20);
        StreamReport {
            ssrc: 1,
            direction: Direction::Ingress,
            media: Media::Audio,
            payload_types: vec![payload_type],
            clock_rate_hz: Some(clock_rate_hz),
            clock_rate_source: ClockRateSource::Slope,
            first_at: Moment::ORIGIN,
            last_at: Moment::ORIGIN,
            received: 493,
            expected: 500,
            duplicate: 0,
            reordered: 0,
            restarts: 0,
            jitter: Tally::default(),
            jitter_last: None,
            heard: Some(HeardReport {
                total,
                worst_interval: Some(TALLY),
                burst: burst.report(),
                frame,
            }),
            marking: Marking::default(),
            reported: None,
        }
    }

    #[test]
    fn mean_wait_is_in_tenths_and_silence_has_no_row() {
        let heard = heard_interval(2, 1, &row(TALLY, Media::Audio)).unwrap();
        // 81,250 microseconds are 812.5 tenths.
        assert_eq!((heard.interval, heard.stream, heard.delay_mean_dms), (2, 1, 813));
        assert_eq!((heard.total_us, heard.concealed_us), (10_000_000, 200_000));
        assert_eq!(heard_interval(0, 0, &row(PlayoutTally::default(), Media::Audio)), None);
        assert_eq!(heard_interval(0, 0, &row(TALLY, Media::Rtx)), None, "nobody hears repairs");
    }

    #[test]
    fn what_does_not_fit_is_the_most_and_no_part_exceeds_its_whole() {
        let odd = PlayoutTally {
            total_us: u64::MAX - 1,
            concealed_us: u64::MAX,
            worst_second_us: u64::MAX,
            delay_sum_us: u64::MAX,
            ..TALLY
        };
        let heard = heard_interval(0, 0, &row(odd, Media::Audio)).unwrap();
        assert_eq!((heard.total_us, heard.concealed_us), (u32::MAX, u32::MAX));
        assert_eq!(heard.worst_second_us, 1_000_000);
        let heard = stream_heard(0, &totals(111, 48_000, odd)).unwrap();
        assert_eq!((heard.total_us, heard.concealed_us), (u64::MAX - 1, u64::MAX - 1));
    }

    #[test]
    fn rating_names_formula_codec_and_assumption() {
        let rating = |payload_type, clock| {
            stream_heard(0, &totals(payload_type, clock, TALLY)).map(|heard| heard.rating)
        };
        let Some(NetworkRating::Mos(opus)) = rating(111, 48_000) else { panic!("Opus is rated") };
        assert_eq!(
            (opus.formula, opus.codec, opus.assumption),
            (MosFormula::G1072V1, RatedCodec::Opus, 2)
        );
        // 148 / 1.48 = 100 and more is 4.5; 2 % missing in one run of two cost something.
        assert_eq!(opus.best_milli, 4_500);
        assert!((3_000..4_500).contains(&opus.mos_milli), "{opus:?}");
        let Some(NetworkRating::Mos(g711)) = rating(0, 8_000) else { panic!("G.711 is rated") };
        assert_eq!(
            (g711.formula, g711.codec, g711.assumption),
            (MosFormula::G107V1, RatedCodec::G711, 0)
        );
        // G.107 annex B of R 93.2: 4.409.
        assert_eq!(g711.best_milli, 4_409);
        assert_eq!(rating(104, 16_000), Some(NetworkRating::CodecUnknown));
        assert_eq!(rating(3, 8_000), Some(NetworkRating::NoFactors));
    }

    #[test]
    fn bursts_and_runs_are_those_of_the_report() {
        let heard = stream_heard(3, &totals(111, 48_000, TALLY)).unwrap();
        assert_eq!((heard.stream, heard.model, heard.frame_us), (3, PLAYOUT_MODEL, 20_000));
        // The last two of a hundred frames are one burst, all before them one gap.
        assert_eq!(heard.bursts, Stretches { count: 1, frames: 2, missing: 2 });
        assert_eq!(heard.gaps, Stretches { count: 1, frames: 98, missing: 0 });
        assert_eq!(heard.runs, [0, 1, 0, 0, 0, 0, 0, 0]);
    }
}
