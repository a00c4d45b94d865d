//! Arbitrary bytes as an interval pack: what decodes has exactly one form.

use roomtone_protocol::interval::{IntervalPack, LegInterval};

/// Takes the number of intervals from the first byte, the length of the stream table from the second, the pack from
/// the rest.
pub(crate) fn run(bytes: &[u8]) {
    let [count, streams, coded @ ..] = bytes else { return };
    let streams = usize::from(*streams);
    let Some(pack) = IntervalPack::from_parts(*count, coded, streams) else { return };
    assert_eq!((pack.len(), pack.bytes()), (usize::from(*count), coded));
    let intervals: Vec<LegInterval> = pack.iter(streams).collect();
    assert_eq!(intervals.len(), pack.len(), "reading a checked pack cannot fail");
    assert_eq!(IntervalPack::from_intervals(&intervals, streams), Ok(pack));
}
