//! What `analyze` says of a stream by what lies beside its packets: how they were marked, and what its receiver told of
//! it in RTCP in the clear.

use serde::Serialize;

use crate::media::reporter;
use crate::media::stream::StreamReport;
use crate::show::{self, millis};

use super::{JitterMs, Rtt, Stream};

/// The differentiated-services code points of a stream's packets (RFC 2474).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Marking {
    /// The most frequent one, 0..=63.
    pub dscp: u8,
    /// Packets with another one, duplicates included.
    pub others: u64,
}

/// Report blocks about a stream (RFC 3550 section 6.4.1).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reported {
    /// How many.
    pub reports: u32,
    /// Cumulative number of packets lost, as the last one says; negative where duplicates came.
    pub packets_lost: i32,
    /// Largest fraction lost of one, 0..=1.
    pub fraction_lost_max: f64,
    /// The reported jitter; `null` where the clock rate is not known, and `last` always.
    pub jitter_ms: JitterMs,
    /// By LSR and DLSR, of streams that the endpoint sends.
    pub rtt: Rtt,
}

impl From<&StreamReport> for Marking {
    fn from(report: &StreamReport) -> Self {
        Self { dscp: report.marking.code_point(), others: report.marking.others() }
    }
}

impl std::fmt::Display for Marking {
    /// A tilde says that some packets had another one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tilde = if self.others > 0 { "~" } else { "" };
        write!(f, "{tilde}{}", self.dscp)
    }
}

impl Reported {
    /// `None` where nobody told anything that could be believed.
    pub(super) fn of(report: &StreamReport) -> Option<Self> {
        let reported: &reporter::Reported = report.reported.as_ref()?;
        Some(Self {
            reports: reported.reports,
            packets_lost: reported.lost,
            fraction_lost_max: f64::from(reported.fraction_lost_max) / 256.0,
            jitter_ms: JitterMs {
                mean: reported.jitter_mean(report.clock_rate_hz).map(millis),
                max: reported.jitter_max(report.clock_rate_hz).map(millis),
                last: None,
            },
            rtt: Rtt::from(reported.rtt),
        })
    }
}

/// A table of the streams of which a receiver told; `None` where there are none.
pub(super) fn table(streams: &[Stream]) -> Option<String> {
    let mut table = show::table(&[
        "ssrc", "reports", "lost", "worst", "jitter", "max", "rtt", "min", "max", "count",
    ]);
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    let rows = streams.iter().filter_map(|stream| Some((stream, stream.reported.as_ref()?)));
    for (stream, reported) in rows {
        table.add_row([
            format!("{:08x}", stream.ssrc),
            reported.reports.to_string(),
            reported.packets_lost.to_string(),
            format!("{:.1}%", reported.fraction_lost_max * 100.0),
            ms(reported.jitter_ms.mean),
            ms(reported.jitter_ms.max),
            ms(reported.rtt.mean_ms),
            ms(reported.rtt.min_ms),
            ms(reported.rtt.max_ms),
            reported.rtt.count.to_string(),
        ]);
    }
    (table.row_count() > 0).then(|| table.to_string())
}
