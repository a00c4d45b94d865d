//! Tables of what was heard of a leg's streams, how they were marked, and what their receivers told.

use roomtone_protocol::heard::NetworkRating;

use super::{NARROW, compact, millis, percent, plain, right, seconds, text};
use crate::call::view::{HeardView, LegView, StreamView};
use crate::report::words;

/// Nothing where nothing was told of any stream.
pub(super) fn heard(leg: &LegView) -> String {
    let told: Vec<_> = leg.streams.iter().filter_map(|it| Some((it, it.heard.as_ref()?))).collect();
    if told.is_empty() {
        return String::new();
    }
    let mut table = plain(
        &[
            "  HEARD",
            "CONCEALED",
            "OF",
            "RATIO",
            "WORST",
            "SECOND",
            "BUFFER",
            "BURSTS",
            "MOS",
            "LESS BY",
            "CODEC",
        ],
        NARROW,
    );
    right(&mut table, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for (stream, heard) in told {
        let [mos, degradation, codec] = rating(heard);
        table.add_row([
            ssrc(stream),
            seconds(heard.concealed_us),
            seconds(heard.total_us),
            percent(heard.concealed_us, heard.total_us),
            heard
                .worst_interval_us
                .map_or("-".to_owned(), |(part, whole)| percent(u64::from(part), u64::from(whole))),
            seconds(u64::from(heard.worst_second_us)),
            heard.delay_mean_dms.map_or("-".to_owned(), millis),
            heard.totals.map_or("-".to_owned(), |it| compact(u64::from(it.bursts.count))),
            mos,
            degradation,
            codec,
        ]);
    }
    text(&table)
}

/// Score, degradation, and the codec or why there is no score; `*`: the codec's factors are assumed.
fn rating(heard: &HeardView) -> [String; 3] {
    let none = |why: &str| ["-".to_owned(), "-".to_owned(), why.to_owned()];
    let Some(totals) = heard.totals else {
        return none("-");
    };
    match totals.rating {
        NetworkRating::Mos(mos) => {
            let points = |milli: f64| format!("{:.2}", milli / 1_000.0);
            let mark = if mos.assumption == 0 { "" } else { "*" };
            [
                points(f64::from(mos.mos_milli)),
                points(f64::from(mos.best_milli) - f64::from(mos.mos_milli)),
                format!("{}{mark}", words::codec(mos.codec)),
            ]
        }
        unrated @ (NetworkRating::CodecUnknown
        | NetworkRating::NoFactors
        | NetworkRating::NothingHeard) => none(words::unrated(unrated).unwrap_or("-")),
    }
}

/// A line per stream of which markings or reports were told.
pub(super) fn remarks(leg: &LegView) -> String {
    let mut out = String::new();
    for stream in &leg.streams {
        if let Some(it) = stream.marking {
            let others = compact(u64::from(it.others));
            out +=
                &format!("{} marked DSCP {}, {others} packets otherwise\n", ssrc(stream), it.dscp);
        }
        if let Some(it) = stream.reported {
            let jitter = it.jitter_mean_dms.map_or("-".to_owned(), millis);
            let rtt = if it.rtt.count > 0 { millis(it.rtt.mean_dms) } else { "-".to_owned() };
            out += &format!(
                "{} its receiver reports {} lost, jitter {jitter} ms, round trip {rtt} ms\n",
                ssrc(stream),
                it.lost
            );
        }
    }
    out
}

fn ssrc(stream: &StreamView) -> String {
    format!("  {:08x}", u32::from_le_bytes(stream.key.ssrc))
}
