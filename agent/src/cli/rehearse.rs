//! `roomtone-agent rehearse`: what was injected beside what the media watch measured, per direction.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use anyhow::Context;
use roomtone_protocol::media::Direction;
use serde::Serialize;

use crate::analyze::{Leg, Stream};
use crate::media::leg::LegReport;
use crate::media::{CALL_IDLE, Event, Options as WatchOptions, Watch};
use crate::rehearse::{self, Options, Party, Report};
use crate::show;
use crate::tap::local_addresses;

/// The truth and the measurement.
#[derive(Debug, Serialize)]
struct Rehearsal {
    injected: Report,
    /// What an agent's media watch made of the same datagrams.
    measured: Vec<Leg>,
}

/// Rehearses and prints.
pub(super) fn run(options: Options) -> anyhow::Result<()> {
    let json = options.json;
    let local = local_addresses();
    let watch = Watch::new(WatchOptions { local, call_idle: CALL_IDLE, seed: 0 });
    let watch = RefCell::new(watch);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let observe = |_side, datagram: crate::tap::Datagram<'_>| {
        watch.borrow_mut().handle_datagram(&datagram);
    };
    let injected = runtime.block_on(rehearse::run(options, observe))?;
    let mut watch = watch.into_inner();
    watch.finish();
    let measured = last_reports(&mut watch).into_iter().map(Leg::from).collect();
    super::print(&Rehearsal { injected, measured }, json)
}

fn last_reports(watch: &mut Watch) -> Vec<LegReport> {
    let mut legs = std::collections::BTreeMap::new();
    while let Some(event) = watch.poll_event() {
        if let Event::LegSummary { report, .. } = event {
            legs.insert(report.number, report);
        }
    }
    legs.into_values().collect()
}

impl Rehearsal {
    fn leg_of(&self, party: &Party) -> Option<&Leg> {
        self.measured.iter().find(|leg| leg.local == party.local.to_string())
    }

    /// The stream that a party received.
    fn ingress_of(&self, party: &Party) -> Option<&Stream> {
        let mut streams = self.leg_of(party)?.streams.iter();
        streams.find(|stream| stream.direction == show::direction(Direction::Ingress))
    }
}

impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.injected;
        let elapsed = report.elapsed.as_secs_f64();
        writeln!(f, "rehearsal, {elapsed:.1} s, seed {} (repeat it with --seed)", report.seed)?;
        match report.parties.as_slice() {
            [caller, callee] => {
                self.direction(f, caller, callee)?;
                self.direction(f, callee, caller)?;
            }
            [] => writeln!(f, "no call came")?,
            parties => {
                for party in parties {
                    self.one_end(f, party)?;
                }
            }
        }
        if let Some(unaccounted @ 1..) = report.unaccounted() {
            writeln!(f, "{unaccounted} datagrams were dropped by this machine's own kernel")?;
        }
        Ok(())
    }
}

impl Rehearsal {
    fn direction(&self, f: &mut fmt::Formatter<'_>, from: &Party, to: &Party) -> fmt::Result {
        writeln!(f, "\n{} -> {}  ({} -> {})", from.side, to.side, from.local, to.local)?;
        let injected = &from.injected;
        let stream = self.ingress_of(to);
        let count = |measured: fn(&Stream) -> u64| stream.map(|s| measured(s).to_string());
        let mut table = show::table(&["", "injected", "measured"]);
        let mut row = |name: &str, injected: String, measured: Option<String>| {
            table.add_row([name.to_owned(), injected, measured.unwrap_or_else(|| "-".to_owned())]);
        };
        row("packets", from.sent.rtp.to_string(), count(|s| s.packets_expected));
        row(
            "lost",
            (injected.lost.rtp - injected.rtp_lost_unseen).to_string(),
            count(|s| s.packets_lost),
        );
        row("duplicate", injected.duplicated.rtp.to_string(), count(|s| s.packets_duplicate));
        row("reordered", injected.reordered.rtp.to_string(), count(|s| s.packets_reordered));
        row(
            "jitter, mean",
            ms(injected.delay_change.mean()),
            stream.and_then(|s| s.jitter_ms.mean).map(|ms| format!("{ms:.1} ms")),
        );
        row("delay one way, mean", ms(injected.delay.mean()), None);
        let leg = self.leg_of(to);
        row(
            &format!("round trip of the {}, mean", to.side),
            format!("{} x {}", ms(to.checks.rtt.mean()), to.checks.rtt.count),
            leg.and_then(|leg| leg.rtt.mean_ms.map(|ms| format!("{ms:.1} ms x {}", leg.rtt.count))),
        );
        writeln!(f, "{table}")
    }

    /// The other end runs elsewhere: what it injected is printed there.
    fn one_end(&self, f: &mut fmt::Formatter<'_>, party: &Party) -> fmt::Result {
        let injected = &party.injected;
        writeln!(f, "\n{} {} with {}", party.side, party.local, party.remote)?;
        writeln!(
            f,
            "sent {} packets, of which {} were lost on purpose",
            party.sent.rtp, injected.lost.rtp
        )?;
        match (self.ingress_of(party), self.leg_of(party)) {
            (Some(stream), Some(leg)) => writeln!(
                f,
                "measured: received {}, lost {}, jitter {:.1} ms, {}",
                stream.packets_received,
                stream.packets_lost,
                stream.jitter_ms.mean.unwrap_or_default(),
                leg.rtt
            ),
            _ => writeln!(f, "measured: no stream came in"),
        }
    }
}

fn ms(duration: Option<Duration>) -> String {
    duration.map_or("-".to_owned(), |duration| format!("{:.1} ms", show::millis(duration)))
}
