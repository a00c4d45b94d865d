//! What `analyze` says of a received audio stream as its listener heard it: concealment, delay, bursts, network MOS.

use serde::Serialize;

use crate::media::burst::{RUNS, Span};
use crate::media::codec::Basis;
use crate::media::e_model;
use crate::media::heard::HeardReport;
use crate::media::playout::PLAYOUT_MODEL;
use crate::media::stream::StreamReport;
use crate::show::{self, millis};

use super::Stream;

/// By the model of a jitter buffer; `null` for what is not received audio of a known clock.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Heard {
    /// The version of the model.
    pub playout_model: u16,
    /// Concealed over all that was heard, 0..=1.
    pub concealed_ratio: Option<f64>,
    /// Made up, because no frame was there.
    pub concealed_ms: f64,
    /// All that was heard: played, concealed, and silence of the sender's.
    pub heard_ms: f64,
    /// `concealedRatio` in the worst interval of 10 s; `null` where none had a second of audio.
    pub concealed_ratio_worst: Option<f64>,
    /// Concealed in the worst second.
    pub concealed_worst_second_ms: f64,
    /// Frames that were played.
    pub frames_played: u64,
    /// Frames that were not there at their playout moment: lost or too late.
    pub frames_missing: u64,
    /// Frames that came too late to be played.
    pub frames_discarded: u64,
    /// The length of a frame, as it was last.
    pub frame_ms: f64,
    /// Added by stretching.
    pub stretched_ms: f64,
    /// Taken away by compressing.
    pub compressed_ms: f64,
    /// How long frames waited; `null` where none was played.
    pub buffer_ms: BufferMs,
    /// RFC 3611 4.7.2, Gmin 16.
    pub burst: Stretches,
    /// Everything that is no burst.
    pub gap: Stretches,
    /// `BurstR` of G.107: 1 where frames are missing by chance; `null` where none is.
    pub burst_ratio: Option<f64>,
    /// How many runs of 1, 2, … 7, and 8 or more missing frames.
    pub missing_runs: [u32; RUNS],
    /// By the E-model; `null` where the codec is not known well enough.
    pub network_mos: Option<NetworkMos>,
    /// Why it is `null`, otherwise `null`.
    pub network_mos_unknown: Option<&'static str>,
}

/// Milliseconds in the jitter buffer.
#[derive(Debug, Serialize)]
pub struct BufferMs {
    /// Mean over the frames that were played.
    pub mean: Option<f64>,
    /// Longest.
    pub max: Option<f64>,
}

/// Bursts, or gaps.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stretches {
    /// How many.
    pub count: u64,
    /// Missing over all frames in them, 0..=1; `null` where there are none.
    pub density: Option<f64>,
    /// The mean length of one; `null` where there are none.
    pub mean_ms: Option<f64>,
}

/// What the network did to what a listener heard.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkMos {
    /// 1..=4.5, on the scale of its formula only.
    pub mos: f64,
    /// The best of that codec minus `mos`.
    pub degradation: f64,
    /// The rating behind it.
    pub r: f64,
    /// `g107-1`, `g107.1-1` or `g107.2-1`; results of two formulas do not compare.
    pub formula: &'static str,
    /// The codec.
    pub codec: &'static str,
    /// Where its factors come from: `g113`, or `assumed` and a number.
    pub codec_basis: String,
    /// Its equipment impairment.
    pub ie: f64,
    /// Its robustness against loss, in percent.
    pub bpl: f64,
    /// Missing over all frames, 0..=1, as it went in.
    pub loss_ratio: f64,
    /// As it went in: 1 where nothing is missing.
    pub burst_ratio: f64,
}

impl Heard {
    /// `None` for what is not received audio of a known clock.
    pub(super) fn of(report: &StreamReport) -> Option<Self> {
        let heard = report.heard.as_ref()?;
        let HeardReport { total, worst_interval, burst, frame } = heard;
        let payload_type = report.payload_types.first().copied().unwrap_or_default();
        let network_mos = heard.network_mos(payload_type, report.clock_rate_hz);
        let milliseconds = |micros: u64| millis(std::time::Duration::from_micros(micros));
        let stretches = |span: &Span| Stretches {
            count: span.count,
            density: span.density(),
            mean_ms: span.mean_frames().map(|frames| frames * millis(*frame)),
        };
        Some(Self {
            playout_model: PLAYOUT_MODEL,
            concealed_ratio: total.concealed_ratio(),
            concealed_ms: milliseconds(total.concealed_us),
            heard_ms: milliseconds(total.total_us),
            concealed_ratio_worst: worst_interval.and_then(|worst| worst.concealed_ratio()),
            concealed_worst_second_ms: milliseconds(total.worst_second_us),
            frames_played: total.played,
            frames_missing: burst.missing,
            frames_discarded: total.discarded,
            frame_ms: millis(*frame),
            stretched_ms: milliseconds(total.stretched_us),
            compressed_ms: milliseconds(total.compressed_us),
            buffer_ms: BufferMs {
                mean: total.delay_mean().map(millis),
                max: total.delay_max().map(millis),
            },
            burst: stretches(&burst.bursts),
            gap: stretches(&burst.gaps),
            burst_ratio: burst.burst_ratio(),
            missing_runs: burst.runs,
            network_mos_unknown: network_mos.err().map(|unrated| unrated.name()),
            network_mos: network_mos.ok().map(NetworkMos::from),
        })
    }
}

impl From<e_model::NetworkMos> for NetworkMos {
    fn from(found: e_model::NetworkMos) -> Self {
        Self {
            mos: found.rating.mos,
            degradation: found.degradation,
            r: found.rating.r,
            formula: found.rating.formula.name(),
            codec: found.codec.name(),
            codec_basis: match found.codec.basis {
                Basis::Table => "g113".to_owned(),
                Basis::Assumed(number) => format!("assumed-{number}"),
            },
            ie: found.inputs.impairment.ie,
            bpl: found.inputs.impairment.bpl,
            loss_ratio: found.inputs.loss_ratio,
            burst_ratio: found.inputs.burst_ratio,
        }
    }
}

/// A table of the streams that somebody heard; `None` where there are none.
pub(super) fn table(streams: &[Stream]) -> Option<String> {
    let mut table = show::table(&[
        "ssrc",
        "concealed",
        "worst",
        "late",
        "buffer",
        "max",
        "burst",
        "dense",
        "gaps",
        "BurstR",
        "nMOS",
        "less",
        "formula",
    ]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let percent = |ratio: Option<f64>| or_dash(ratio.map(|ratio| format!("{:.2}%", ratio * 100.0)));
    let tenths = |ratio: Option<f64>| or_dash(ratio.map(|ratio| format!("{:.1}%", ratio * 100.0)));
    let ms = |value: Option<f64>| or_dash(value.map(|ms| format!("{ms:.0}")));
    let hundredths = |value: Option<f64>| or_dash(value.map(|value| format!("{value:.2}")));
    let rows = streams.iter().filter_map(|stream| Some((stream, stream.heard.as_ref()?)));
    for (stream, heard) in rows {
        let rated = heard.network_mos.as_ref();
        table.add_row([
            format!("{:08x}", stream.ssrc),
            percent(heard.concealed_ratio),
            percent(heard.concealed_ratio_worst),
            heard.frames_discarded.to_string(),
            ms(heard.buffer_ms.mean),
            ms(heard.buffer_ms.max),
            ms(heard.burst.mean_ms),
            tenths(heard.burst.density),
            tenths(heard.gap.density),
            hundredths(heard.burst_ratio),
            hundredths(rated.map(|rated| rated.mos)),
            hundredths(rated.map(|rated| rated.degradation)),
            or_dash(rated.map(|rated| rated.formula.to_owned())),
        ]);
    }
    (table.row_count() > 0).then(|| table.to_string())
}
