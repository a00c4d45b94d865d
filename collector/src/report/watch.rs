//! Following live calls: one line per new interval of a leg, told once.
//!
//! Memory is one number per live leg; legs that are no longer told of are forgotten.

use std::collections::BTreeMap;

use roomtone_protocol::id::{CallId, EndpointId};

use super::{Names, ms};
use crate::call::view::CallView;
use crate::text::{fit, short_time};

/// What was told already.
#[derive(Debug, Default)]
pub struct Watch {
    told: BTreeMap<(EndpointId, CallId, u16), u32>,
}

impl Watch {
    /// The lines for what is new in the live calls `views`.
    pub fn handle_calls(&mut self, views: &[CallView], names: &Names) -> Vec<String> {
        let mut told = BTreeMap::new();
        let mut lines = Vec::new();
        for view in views {
            for leg in &view.legs {
                let key = (view.endpoint, view.call, leg.leg);
                let before = self.told.get(&key).copied();
                for interval in
                    leg.intervals.iter().filter(|it| before.is_none_or(|last| it.number > last))
                {
                    let rtt = if interval.rtt.count > 0 {
                        format!("{:.1} ms", ms(interval.rtt.mean_dms))
                    } else {
                        "-".to_owned()
                    };
                    let jitter = interval.ingress.jitter_mean_dms;
                    let jitter = jitter.map_or("-".to_owned(), |dms| format!("{:.1} ms", ms(dms)));
                    let mark = if view.is_rehearsal() { " (rehearsal)" } else { "" };
                    lines.push(format!(
                        "{} {} {}{mark} leg {} in {} lost {} jitter {jitter} out {} lost {} rtt {rtt}",
                        short_time(interval.started_ms.saturating_mul(1_000)),
                        fit(&names.of(view.endpoint), 20),
                        view.call,
                        leg.leg,
                        interval.ingress.received,
                        interval.ingress.lost,
                        interval.egress.received,
                        interval.egress.lost,
                    ));
                }
                let last = leg.intervals.last().map(|it| it.number).or(before);
                told.extend(last.map(|last| (key, last)));
            }
        }
        self.told = told;
        lines
    }
}
