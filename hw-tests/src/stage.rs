//! Where trials run: beside the devices and the agent, in a guest or on the machine that has a bench.
//!
//! A trial gets hands to do things to the device, ears on the kernel's side of it, and a collector with an agent to
//! watch.

pub mod call;
pub mod hands;
pub mod installed;
pub mod load;
pub mod modules;
pub mod power;
pub mod server;
pub mod sound;
pub mod stubborn;
pub mod trace;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::bench::definition::{Bench, Kind};
use crate::bench::report::Outcome;
use crate::pair::Place;
use crate::process::output;
use crate::trials;
use call::Watched;
use hands::Hands;
use load::Gauge;
use sound::{Card, Side};
use trace::Trace;

/// The bench's file in the folder that host and guest share.
pub const BENCH_FILE: &str = "virtual.toml";
/// The names of the trials there, one a line.
pub const TRIALS_FILE: &str = "trials.txt";
/// What work costs on the host, there.
pub const GAUGE_FILE: &str = "host-gauge.json";
/// The outcomes there, one JSON object a line.
pub const OUTCOMES_FILE: &str = "outcomes.jsonl";

/// Every call as the collector showed it at its end, one JSON object a line: what a verdict can be checked against.
const CALLS_FILE: &str = "calls.jsonl";

/// What the kernel showed while a trial ran, one file a trace.
const TRACE_PREFIX: &str = "trace-";

/// What a trial has.
#[derive(Debug)]
pub struct Stage {
    /// The device under test, from the kernel's side.
    pub card: Card,
    /// What can be done to it.
    pub hands: Hands,
    watched: Option<Watched>,
    state: PathBuf,
    shared: Option<PathBuf>,
    /// The loudest that may be played, of full scale.
    pub render_level: f64,
}

/// Runs, in a guest, what the host laid into `folder`; true where all passed.
///
/// # Errors
/// Where the folder lacks something.
pub fn run_in_guest(folder: &Path) -> Result<bool> {
    let bench = Bench::read(&folder.join(BENCH_FILE))?;
    let names = fs::read_to_string(folder.join(TRIALS_FILE))?;
    let names: Vec<&str> = names.lines().collect();
    let mut outcomes = fs::File::create(folder.join(OUTCOMES_FILE))?;
    let mut all = true;
    // The store's own files stay in memory: a database on 9p would measure 9p.
    let state = Path::new("/tmp/roomtone");
    let ran = run(&bench, &names, state, Some(folder), |outcome| {
        all &= outcome.passed == Some(true);
        let line = serde_json::to_string(&outcome).unwrap_or_default();
        if let Err(error) = writeln!(outcomes, "{line}").and_then(|()| outcomes.sync_data()) {
            eprintln!("cannot write an outcome: {error}");
        }
    });
    for log in ["agent.log", "collector.log", "headset.log", "pulse.log", CALLS_FILE] {
        // A log that was never begun is not missed.
        let _ = fs::copy(state.join(log), folder.join(log));
    }
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(TRACE_PREFIX) {
            let _ = fs::copy(entry.path(), folder.join(name));
        }
    }
    ran.map(|()| all)
}

/// Runs trials one after the other; each leaves the device healthy. `shared` is the folder of the host, in a guest.
///
/// # Errors
/// Where the stage cannot be set up.
pub fn run(
    bench: &Bench,
    names: &[&str],
    state: &Path,
    shared: Option<&Path>,
    mut done: impl FnMut(Outcome),
) -> Result<()> {
    fs::create_dir_all(state).with_context(|| format!("cannot make {}", state.display()))?;
    let card = Card::of(bench);
    let hands = match bench.kind {
        Kind::Virtual(_) => Hands::software(state, &bench.card)?,
        Kind::Physical { attended, .. } => Hands::persons(attended),
    };
    let mut stage = Stage {
        card,
        hands,
        watched: None,
        state: state.to_owned(),
        shared: shared.map(Path::to_owned),
        render_level: bench.render_level(),
    };
    for name in names {
        let Some(trial) = trials::ALL.iter().find(|trial| trial.name == *name) else {
            bail!("no trial {name:?}");
        };
        let started = Instant::now();
        let result = stage.make_healthy().and_then(|()| (trial.run)(&mut stage));
        let (passed, finding, reason) = match result {
            Ok(trials::Verdict { finding, wrong }) => (wrong.is_none(), finding, wrong),
            Err(error) => (false, Default::default(), Some(format!("{error:#}"))),
        };
        done(Outcome {
            bench: bench.name.clone(),
            trial: (*name).to_owned(),
            passed: Some(passed),
            finding,
            reason,
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    Ok(())
}

impl Stage {
    /// The collector and the agent, started with the first trial that asks.
    ///
    /// # Errors
    /// Where one of them does not start.
    pub fn watched(&mut self) -> Result<&mut Watched> {
        if self.watched.is_none() {
            self.watched = Some(Watched::start(&self.state)?);
        }
        self.watched.as_mut().context("it was just put there")
    }

    /// From now on the collector and the agent are those that systemd runs.
    pub fn watch_installed(&mut self) {
        self.watched = Some(Watched::installed(&self.state));
    }

    /// Traces a direction of the device from now on, into a file that the host gets.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn trace(&self, side: Side, name: &str) -> Result<Trace> {
        self.card.trace(side, &self.state.join(format!("{TRACE_PREFIX}{name}.txt")))
    }

    /// Where trials may write.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What `roomtone-agent devices --json` shows now.
    ///
    /// # Errors
    /// Where it fails or prints no list.
    pub fn devices(&self) -> Result<Vec<serde_json::Value>> {
        let mut devices = Place::new(&self.state)?.program("roomtone-agent");
        let text = output(&mut devices, ["devices", "--json"])?;
        serde_json::from_str(&text).context("the list of devices is no JSON")
    }

    /// What work costs on the machine that runs the guest.
    ///
    /// # Errors
    /// Where no host told.
    pub fn host_gauge(&self) -> Result<Gauge> {
        let folder = self.shared.as_ref().context("this machine has no host")?;
        let text = fs::read_to_string(folder.join(GAUGE_FILE))?;
        serde_json::from_str(&text).context("the host's gauge makes no sense")
    }

    /// Keeps what the collector showed of a call.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn keep(&self, call: &serde_json::Value) -> Result<()> {
        let path = self.state.join(CALLS_FILE);
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{call}").context("cannot keep a call")
    }

    /// Ends what an earlier trial may have left broken, and waits until the card is there.
    fn make_healthy(&mut self) -> Result<()> {
        self.hands.mend()?;
        if let Some(watched) = self.watched.as_mut().filter(|watched| watched.with_levels()) {
            watched.restart_agent(false)?;
        }
        self.card.wait_present(CARD_WITHIN)
    }
}

/// A card appears 0.45 to 0.9 s after it was plugged in an emulated guest; the rest is for a busy host.
pub const CARD_WITHIN: Duration = Duration::from_secs(15);

/// Asks `question` until it answers, or until `within` is over.
///
/// # Errors
/// Where no answer came; `what` names what was waited for.
pub fn wait_for<T>(
    what: &str,
    within: Duration,
    mut question: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    /// Short against what is measured, long against what a question costs.
    const ASK_EVERY: Duration = Duration::from_millis(20);
    let until = Instant::now() + within;
    loop {
        if let Some(answer) = question()? {
            return Ok(answer);
        }
        if Instant::now() > until {
            bail!("{what} did not come within {within:?}");
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// Wall time in ms, the axis on which faults and onsets are compared.
#[must_use]
pub fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}
