//! `make run`: a newcomer's first minute.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use super::interrupt::Interrupt;
use super::pair::Place;
use super::process::run_while;

/// How long the store may lag behind the end of the rehearsal.
const SEEN_WITHIN: Duration = Duration::from_secs(15);

/// A rehearsal ends for good: waiting the usual 15 s for its last packet would only keep the newcomer waiting.
const PLAY_MEDIA: &str = "\n[media]\ncall_idle = \"5s\"\n";

/// Starts both, rehearses, shows the call; then shows live legs until Ctrl-C, unless `once`. Ctrl-C ends all parts in
/// order at any time, and is no error.
///
/// # Errors Where a part does not start or ends by itself, or the call does not reach the store.
pub fn run(state: &Path, seconds: u32, once: bool) -> Result<()> {
    let interrupt = Interrupt::catch()?;
    let place = Place::new(state)?.apart();
    place.prepare(0, PLAY_MEDIA)?;
    let (mut collector, address) = place.start_collector()?;
    println!(
        "collector  listens on {address}, logs to {}",
        place.state().join("collector.log").display()
    );
    let mut agent = place.start_agent(&address, true)?;
    println!(
        "agent      observes all interfaces, logs to {}",
        place.state().join("agent.log").display()
    );
    let mut goes_on = || {
        agent.check()?;
        collector.check()?;
        Ok(!interrupt.came())
    };
    let played = perform(&place, seconds, once, &mut goes_on);
    if interrupt.came() {
        println!("\nending: the agent sends what it has recorded, then the collector stops");
    }
    // In this order, so that the agent's last records have somewhere to go.
    let ended = [("agent", agent.stop()?), ("collector", collector.stop()?)];
    played?;
    for (name, status) in ended {
        if !status.success() {
            bail!("the {name} did not end well: {status}");
        }
    }
    Ok(())
}

/// What happens while both run; `goes_on` is asked throughout and is false when it is time to end.
fn perform(
    place: &Place,
    seconds: u32,
    once: bool,
    goes_on: &mut impl FnMut() -> Result<bool>,
) -> Result<()> {
    let known: Vec<_> = place.calls()?.iter().filter_map(id_of).map(str::to_owned).collect();
    println!(
        "rehearsal  a real two-way call on this machine for {seconds} s, its path impaired on purpose\n"
    );
    let mut rehearse = place.program("roomtone-agent");
    rehearse.args(["rehearse", "--delay", "40ms", "--jitter", "12ms", "--loss", "2%", "--seconds"]);
    let status = run_while(rehearse.arg(seconds.to_string()), &mut *goes_on)?;
    if !goes_on()? {
        return Ok(());
    }
    if !status.success() {
        bail!("the rehearsal failed: {status}");
    }
    let Some(call) = newest_call(place, &known, goes_on)? else {
        return Ok(());
    };
    println!(
        "\nThe same call, as the running agent measured it from its packets and the collector stored it:\n"
    );
    collector(place, &["call", &call], goes_on)?;
    println!(
        "\nAsk for it again with: {} call {call} --config {}",
        place.program("roomtone-collector").get_program().display(),
        place.state().join("collector.toml").display()
    );
    if !once {
        println!(
            "\nLive legs of this machine follow; place a call, or run `{} rehearse` in another terminal. Ctrl-C ends all.\n",
            place.program("roomtone-agent").get_program().display()
        );
        collector(place, &["watch"], goes_on)?;
    }
    Ok(())
}

/// Waits for a call that was not known before, and for its end; `None` when it is time to end.
fn newest_call(
    place: &Place,
    known: &[String],
    goes_on: &mut impl FnMut() -> Result<bool>,
) -> Result<Option<String>> {
    let until = Instant::now() + SEEN_WITHIN;
    while Instant::now() < until {
        if !goes_on()? {
            return Ok(None);
        }
        let closed = place.calls()?.into_iter().find(|call| {
            call["state"] == "closed"
                && id_of(call).is_some_and(|id| !known.iter().any(|k| k == id))
        });
        if let Some(call) = closed.as_ref().and_then(id_of) {
            return Ok(Some(call.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("no call reached the collector within {SEEN_WITHIN:?}: see the two logs above")
}

/// Lets the collector's own command line print.
fn collector(
    place: &Place,
    arguments: &[&str],
    goes_on: &mut impl FnMut() -> Result<bool>,
) -> Result<()> {
    let mut command = place.program("roomtone-collector");
    command.args(arguments).arg("--config").arg(place.state().join("collector.toml"));
    // On a terminal of its own `watch` would draw over the call that was just shown.
    command.stdout(Stdio::piped());
    let status = run_while(&mut command, &mut *goes_on)?;
    if !status.success() && goes_on()? {
        bail!("roomtone-collector {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}

fn id_of(call: &Value) -> Option<&str> {
    call["id"].as_str()
}
