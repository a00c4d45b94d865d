//! The path watch beside `irtt` over one impaired path: two network namespaces, netem in each direction.
//!
//! Both measure the same queues in the same minutes, each with packets of its own. So what they say of losses differs
//! by chance: with n probes and a loss p the standard error is sqrt(p (1 - p) / n). Ten minutes are some 2,170 probes,
//! 0.30 points at 2 %; irtt sends more and adds little. The bound of one point is three of these errors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Group, Need, Trial, Verdict};
use crate::bench::report::Finding;
use crate::netns::TwoHosts;
use crate::pair::Place;
use crate::process::{Ended, Running, output};
use crate::stage::Stage;

/// What each host does to what it sends: the agent's, then the collector's.
const IMPAIRED: [[&str; 5]; 2] =
    [["delay", "40ms", "5ms", "loss", "2%"], ["delay", "40ms", "5ms", "loss", "0.5%"]];
/// How long irtt measures beside the agent.
const BESIDE: Duration = Duration::from_secs(600);
/// How often irtt sends: often enough that the chance in the comparison is ours alone.
const IRTT_EVERY: &str = "50ms";
/// How long the cost is measured, before irtt begins.
const ALONE: Duration = Duration::from_secs(60);
/// For the last probes of a call to be told.
const SETTLE: Duration = Duration::from_secs(8);

/// Issue and README: at most this much, both directions together.
const BITS_PER_SECOND_MAX: f64 = 8_000.0;
const LOSS_POINTS_MAX: f64 = 1.0;
const RTT_MS_MAX: f64 = 1.0;
const RTT_SHARE_MAX: f64 = 0.05;
const JITTER_SHARE_MAX: f64 = 0.2;

/// The Ethernet head of a frame on a veth device, which the link and not the path adds.
const ETHERNET_BYTES: f64 = 14.0;
/// Intervals at the beginning that are not compared for jitter: J begins at 0 and gains a sixteenth a probe
/// (RFC 3550 A.8), 1 % is left of that after 72 probes.
const WARM_UP: usize = 2;

/// What tells the agent's log of an interval, at DEBUG.
const INTERVAL: &str = "an interval of the path";

pub(super) const BESIDE_IRTT: Trial = Trial {
    name: "path_probes_agree_with_irtt_over_one_impaired_path",
    group: Group::Long,
    need: Need::Faults,
    limit: Duration::from_secs(900),
    run: |stage| {
        let Some(hosts) = TwoHosts::make("path")? else { bail!("this needs root") };
        for (host, words) in IMPAIRED.iter().enumerate() {
            hosts.impair(host, words)?;
        }
        let pair = Pair::start(stage, &hosts)?;
        let before = carried(&hosts)?;
        sleep(ALONE);
        let bits_per_second = (carried(&hosts)? - before) * 8.0 / ALONE.as_secs_f64();
        let theirs = irtt(&hosts, &pair.folder)?;
        let ours = pair.end()?;
        judge(&ours, &theirs, bits_per_second)
    },
};

/// A collector on one host, an agent that is in a call on the other.
struct Pair {
    near: Place,
    agent: Running,
    _collector: Running,
    folder: std::path::PathBuf,
}

impl Pair {
    fn start(stage: &Stage, hosts: &TwoHosts) -> Result<Self> {
        let folder = stage.state().join("path");
        let near = Place::new(&folder)?.behind(&hosts.prefix(0));
        let far = Place::new(&folder)?.behind(&hosts.prefix(1));
        near.prepare(0, "\n[audio]\nwatch = false\n\n[context]\nsocket = \"agent.sock\"\n")?;
        rewrite(&folder.join("collector.toml"), |text| {
            text.replace("127.0.0.1:", &format!("{}:", TwoHosts::ADDRESSES[1]))
        })?;
        let (collector, address) = far.start_collector()?;
        // Development certificates are for this machine.
        let file = folder.join("agent.toml");
        rewrite(&file, |text| {
            format!("[collector]\naddress = \"{address}\"\nserver_name = \"localhost\"\n\n{text}")
        })?;
        let mut command = near.program("roomtone-agent");
        command.env("ROOMTONE_LOG", "debug").arg("run").arg("--config").arg(&file);
        let mut agent = Running::start("the agent", &mut command, &folder.join("agent.log"))?;
        agent.wait_for("the collector takes records", Duration::from_secs(60))?;
        let pair = Self { near, agent, _collector: collector, folder };
        pair.call(&["begin", "--id", "path"])?;
        // What the agent sends once, behind its Welcome and of the call, is not the probes' cost.
        sleep(Duration::from_secs(5));
        Ok(pair)
    }

    fn call(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.near.program("roomtone-agent");
        command.arg("call").args(arguments);
        command.arg("--socket").arg(self.folder.join("agent.sock"));
        output(&mut command, [""; 0]).map(drop)
    }

    /// Ends the call and the agent, and returns what it measured.
    fn end(self) -> Result<Measured> {
        self.call(&["end", "--id", "path"])?;
        sleep(SETTLE);
        self.agent.stop()?;
        let log = fs::read_to_string(self.folder.join("agent.log"))?;
        Measured::of_agent(&log)
    }
}

fn rewrite(file: &Path, change: impl FnOnce(String) -> String) -> Result<()> {
    let text = fs::read_to_string(file)?;
    fs::write(file, change(text)).with_context(|| format!("cannot write {}", file.display()))
}

/// The bytes that both hosts sent from IP on, with those that netem lost.
fn carried(hosts: &TwoHosts) -> Result<f64> {
    let mut sum = 0.0;
    for host in [0, 1] {
        let mut tc = Command::new("tc");
        tc.args(["-n", hosts.name(host), "-s", "-j", "qdisc", "show", "dev", "rt0"]);
        let shown: Value = serde_json::from_str(&output(&mut tc, [""; 0])?)?;
        let number = |key: &str| shown[0][key].as_f64().context("tc shows no counts of netem");
        let (bytes, packets, drops) = (number("bytes")?, number("packets")?, number("drops")?);
        // Lost ones are counted and not weighed: they are as heavy as the others.
        sum += (bytes - ETHERNET_BYTES * packets) * (1.0 + drops / packets.max(1.0));
    }
    Ok(sum)
}

/// What one of the two measured: counts, times in milliseconds.
#[derive(Debug, Default)]
struct Measured {
    sent: f64,
    unplaced: f64,
    lost_up_percent: f64,
    lost_down_percent: f64,
    rtt_ms: f64,
    jitter_up_ms: f64,
    jitter_down_ms: f64,
}

impl Measured {
    /// From the lines of the agent's log, intervals weighed by their probes.
    fn of_agent(log: &str) -> Result<Self> {
        let intervals: Vec<BTreeMap<&str, f64>> =
            log.lines().filter(|line| line.contains(INTERVAL)).map(fields).collect();
        // Those of a call have some 36 probes, in 10 s; bursts before and behind it 20 at most.
        let of_call: Vec<_> =
            intervals.iter().filter(|it| it.get("sent").is_some_and(|sent| *sent > 25.0)).collect();
        if of_call.len() <= WARM_UP {
            bail!("the agent told of {} intervals of the path", of_call.len());
        }
        let sum = |key: &str| of_call.iter().filter_map(|it| it.get(key)).sum::<f64>();
        let mean = |key: &str, from: usize| {
            let (mut sum, mut weights) = (0.0, 0.0);
            for it in &of_call[from..] {
                let weight = it.get("returned").copied().unwrap_or(0.0);
                sum += it.get(key).copied().unwrap_or(0.0) * weight;
                weights += weight;
            }
            sum / weights / 10.0
        };
        let sent = sum("sent");
        // As irtt counts: of what was sent, and of what arrived there.
        let arrived = sent - sum("lost_up") - sum("unplaced");
        Ok(Self {
            sent,
            unplaced: sum("unplaced"),
            lost_up_percent: sum("lost_up") / sent * 100.0,
            lost_down_percent: sum("lost_down") / arrived * 100.0,
            rtt_ms: mean("rtt_mean_dms", 0),
            jitter_up_ms: mean("jitter_up_dms", WARM_UP),
            jitter_down_ms: mean("jitter_down_dms", WARM_UP),
        })
    }

    /// From the file that irtt writes; times there are in nanoseconds.
    fn of_irtt(report: &Value) -> Result<Self> {
        let stats = &report["stats"];
        let number =
            |value: &Value| value.as_f64().context("irtt's report lacks one of its figures");
        Ok(Self {
            sent: number(&stats["packets_sent"])?,
            unplaced: 0.0,
            lost_up_percent: number(&stats["upstream_loss_percent"])?,
            lost_down_percent: number(&stats["downstream_loss_percent"])?,
            rtt_ms: number(&stats["rtt"]["mean"])? / 1e6,
            // The mean of |D| over neighbours, which is what J converges to.
            jitter_up_ms: number(&stats["ipdv_send"]["mean"])? / 1e6,
            jitter_down_ms: number(&stats["ipdv_receive"]["mean"])? / 1e6,
        })
    }

    fn words(&self) -> String {
        format!(
            "{} sent, loss {:.2} % up {:.2} % down, rtt {:.2} ms, jitter {:.2} ms up {:.2} ms down",
            self.sent,
            self.lost_up_percent,
            self.lost_down_percent,
            self.rtt_ms,
            self.jitter_up_ms,
            self.jitter_down_ms
        )
    }
}

/// The fields of a log line, `key=number`.
fn fields(line: &str) -> BTreeMap<&str, f64> {
    let pairs = line.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.filter_map(|(key, value)| Some((key, value.parse().ok()?))).collect()
}

fn irtt(hosts: &TwoHosts, folder: &Path) -> Result<Measured> {
    let address = format!("{}:2112", TwoHosts::ADDRESSES[1]);
    let [program, rest @ ..] = hosts.prefix(1);
    let mut server = Command::new(program);
    server.args(rest).args(["irtt", "server", "-b", &address]);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Ended(server.spawn().context("cannot start irtt")?);
    let report = folder.join("irtt.json");
    let [program, rest @ ..] = hosts.prefix(0);
    let mut client = Command::new(program);
    client.args(rest).args(["irtt", "client", "-Q", "-i", IRTT_EVERY]);
    client.args(["-d", &format!("{}s", BESIDE.as_secs()), "-o"]).arg(&report).arg(&address);
    output(&mut client, [""; 0])?;
    Measured::of_irtt(&serde_json::from_str(&fs::read_to_string(report)?)?)
}

/// Half of the 95 % interval of the difference of two losses, in points.
fn chance_points(ours: &Measured, theirs: &Measured, of: fn(&Measured) -> f64) -> f64 {
    let variance = |it: &Measured| of(it) * (100.0 - of(it)) / it.sent.max(1.0);
    1.96 * (variance(ours) + variance(theirs)).sqrt()
}

fn judge(ours: &Measured, theirs: &Measured, bits_per_second: f64) -> Result<Verdict> {
    let [up, down]: [fn(&Measured) -> f64; 2] =
        [|it| it.lost_up_percent, |it| it.lost_down_percent];
    let seen = format!(
        "agent: {}; irtt: {}; by chance alone losses differ by {:.2} up and {:.2} down in 19 of 20 runs; {} probes \
         unplaced; {bits_per_second:.0} bit/s on the wire",
        ours.words(),
        theirs.words(),
        chance_points(ours, theirs, up),
        chance_points(ours, theirs, down),
        ours.unplaced,
    );
    let loss = |what: &str, of: fn(&Measured) -> f64| {
        let apart = (of(ours) - of(theirs)).abs();
        (apart > LOSS_POINTS_MAX).then(|| format!("loss {what} is {apart:.2} points apart"))
    };
    let jitter = |what: &str, of: fn(&Measured) -> f64| {
        let share = (of(ours) / of(theirs) - 1.0).abs();
        (share > JITTER_SHARE_MAX).then(|| format!("jitter {what} is {:.0} % apart", share * 100.0))
    };
    let rtt_apart = (ours.rtt_ms - theirs.rtt_ms).abs();
    let rtt_bound = RTT_MS_MAX.max(theirs.rtt_ms * RTT_SHARE_MAX);
    let checks = [
        loss("up", up),
        loss("down", down),
        jitter("up", |it| it.jitter_up_ms),
        jitter("down", |it| it.jitter_down_ms),
        (rtt_apart > rtt_bound).then(|| format!("round trips are {rtt_apart:.2} ms apart")),
        (bits_per_second > BITS_PER_SECOND_MAX).then(|| "more than 8 kbit/s".to_owned()),
        (ours.unplaced > ours.sent / 200.0).then(|| "more than 0.5 % unplaced".to_owned()),
    ];
    Ok(Verdict::judge(Finding { seen: Some(seen), ..Finding::default() }, checks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_is_read_off_the_agents_line() {
        let line = "2026-11-23T01:37:09.421291Z DEBUG an interval of the path sent=41 returned=39 lost_up=2 \
                    lost_down=0 unplaced=0 rtt_mean_dms=821 jitter_up_dms=34 jitter_down_dms=32\n";
        let measured = Measured::of_agent(&line.repeat(4)).unwrap();
        assert_eq!((measured.sent, measured.rtt_ms, measured.jitter_up_ms), (164.0, 82.1, 3.4));
        // 8 of 164 there, none of 156 back.
        assert!((measured.lost_up_percent - 4.878).abs() < 0.001);
        assert_eq!(measured.lost_down_percent, 0.0);
        assert!(Measured::of_agent("nothing of that").is_err());
    }

    #[test]
    fn each_figure_has_its_bound() {
        let irtt = || Measured {
            sent: 12_000.0,
            unplaced: 0.0,
            lost_up_percent: 2.0,
            lost_down_percent: 0.5,
            rtt_ms: 80.0,
            jitter_up_ms: 3.3,
            jitter_down_ms: 3.3,
        };
        let wrong = |ours: Measured, bits| judge(&ours, &irtt(), bits).unwrap().wrong;
        assert_eq!(wrong(irtt(), 8_000.0), None);
        assert_eq!(wrong(Measured { lost_up_percent: 2.99, rtt_ms: 83.9, ..irtt() }, 1.0), None);
        for (ours, bits) in [
            (Measured { lost_up_percent: 3.01, ..irtt() }, 0.0),
            (Measured { lost_down_percent: 1.51, ..irtt() }, 0.0),
            (Measured { rtt_ms: 84.1, ..irtt() }, 0.0),
            (Measured { jitter_up_ms: 2.6, ..irtt() }, 0.0),
            (Measured { jitter_down_ms: 4.0, ..irtt() }, 0.0),
            (Measured { unplaced: 61.0, ..irtt() }, 0.0),
            (irtt(), 8_001.0),
        ] {
            assert!(wrong(ours, bits).is_some());
        }
    }
}
