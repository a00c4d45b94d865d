//! The JSON of what was heard of a stream, how it was marked, and what its receiver told.
//!
//! Every ratio stands beside the integers that it is made of.

use roomtone_protocol::heard::{NetworkRating, Stretches};
use roomtone_protocol::media::{StreamMarking, StreamReported};
use serde::Serialize;

use crate::call::view::HeardView;
use crate::report::{ms, ratio, words};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Heard {
    average_ratio_of_concealed_samples: Option<f64>,
    concealed_microseconds: u64,
    heard_microseconds: u64,
    max_ratio_of_concealed_samples: Option<f64>,
    worst_interval_concealed_microseconds: Option<u32>,
    worst_interval_heard_microseconds: Option<u32>,
    worst_second_concealed_microseconds: u32,
    frames_played: u64,
    frames_discarded: u64,
    buffer_ms: BufferMs,
    #[serde(flatten)]
    totals: Option<Totals>,
}

/// What only the totals of an ended leg tell.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    playout_model: u16,
    stretched_microseconds: u64,
    compressed_microseconds: u64,
    resets: u32,
    frame_microseconds: u32,
    burst: Stretch,
    gap: Stretch,
    missing_runs: [u32; 8],
    average_audio_degradation: Option<f64>,
    network_mos: Option<Mos>,
    network_mos_unknown: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct BufferMs {
    mean: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Stretch {
    count: u32,
    frames: u32,
    missing: u32,
    density: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mos {
    mos_milli: u16,
    best_milli: u16,
    formula: &'static str,
    codec: &'static str,
    codec_basis: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Marking {
    dscp: u8,
    packets_with_another: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reported {
    reports: u32,
    packets_lost: i32,
    fraction_lost_max256ths: u8,
    jitter_mean_ms: Option<f64>,
    jitter_max_ms: Option<f64>,
    rtt_count: u32,
    rtt_mean_ms: Option<f64>,
    rtt_max_ms: Option<f64>,
}

impl Heard {
    pub(super) fn new(view: &HeardView) -> Self {
        let worst = view.worst_interval_us;
        let longest = view.totals.filter(|it| it.played > 0).map(|it| ms(it.delay_max_dms));
        Self {
            average_ratio_of_concealed_samples: ratio(view.concealed_us, view.total_us),
            concealed_microseconds: view.concealed_us,
            heard_microseconds: view.total_us,
            max_ratio_of_concealed_samples: worst
                .and_then(|(part, whole)| ratio(u64::from(part), u64::from(whole))),
            worst_interval_concealed_microseconds: worst.map(|(part, _)| part),
            worst_interval_heard_microseconds: worst.map(|(_, whole)| whole),
            worst_second_concealed_microseconds: view.worst_second_us,
            frames_played: view.played,
            frames_discarded: view.discarded,
            buffer_ms: BufferMs { mean: view.delay_mean_dms.map(ms), max: longest },
            totals: view.totals.as_ref().map(|it| Totals {
                playout_model: it.model,
                stretched_microseconds: it.stretched_us,
                compressed_microseconds: it.compressed_us,
                resets: it.resets,
                frame_microseconds: it.frame_us,
                burst: Stretch::new(it.bursts),
                gap: Stretch::new(it.gaps),
                missing_runs: it.runs,
                average_audio_degradation: view
                    .mos_milli()
                    .map(|(mos, best)| (f64::from(best) - f64::from(mos)) / 1_000.0),
                network_mos: match it.rating {
                    NetworkRating::Mos(mos) => Some(Mos {
                        mos_milli: mos.mos_milli,
                        best_milli: mos.best_milli,
                        formula: words::formula(mos.formula),
                        codec: words::codec(mos.codec),
                        codec_basis: match mos.assumption {
                            0 => "g113".to_owned(),
                            number => format!("assumed{number}"),
                        },
                    }),
                    NetworkRating::CodecUnknown
                    | NetworkRating::NoFactors
                    | NetworkRating::NothingHeard => None,
                },
                network_mos_unknown: words::unrated(it.rating),
            }),
        }
    }
}

impl Stretch {
    fn new(it: Stretches) -> Self {
        let Stretches { count, frames, missing } = it;
        Self { count, frames, missing, density: ratio(u64::from(missing), u64::from(frames)) }
    }
}

impl Marking {
    pub(super) fn new(it: &StreamMarking) -> Self {
        Self { dscp: it.dscp, packets_with_another: it.others }
    }
}

impl Reported {
    pub(super) fn new(it: &StreamReported) -> Self {
        let measured = |dms| (it.rtt.count > 0).then(|| ms(dms));
        Self {
            reports: it.reports,
            packets_lost: it.lost,
            fraction_lost_max256ths: it.fraction_lost_max,
            jitter_mean_ms: it.jitter_mean_dms.map(ms),
            jitter_max_ms: it.jitter_max_dms.map(ms),
            rtt_count: it.rtt.count,
            rtt_mean_ms: measured(it.rtt.mean_dms),
            rtt_max_ms: measured(it.rtt.max_dms),
        }
    }
}
