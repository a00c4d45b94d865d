//! `make run`: a newcomer's first minute.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::pair::Place;

/// How long the store may lag behind the end of the rehearsal.
const SEEN_WITHIN: Duration = Duration::from_secs(15);

/// A rehearsal ends for good: waiting the usual 15 s for its last packet would only keep the newcomer waiting.
const PLAY_MEDIA: &str = "\n[media]\ncall_idle = \"5s\"\n";

/// Starts both, rehearses, shows the call; then shows live legs until Ctrl-C, unless `once`.
///
/// # Errors
/// Where a part does not start, or the call does not reach the store.
pub fn run(state: &Path, seconds: u32, once: bool) -> Result<()> {
    let place = Place::new(state)?;
    place.prepare(0, PLAY_MEDIA)?;
    let (collector, address) = place.start_collector()?;
    println!(
        "collector  listens on {address}, logs to {}",
        place.state().join("collector.log").display()
    );
    let agent = place.start_agent(&address, true)?;
    println!(
        "agent      observes all interfaces, logs to {}",
        place.state().join("agent.log").display()
    );

    let known: Vec<_> = place.calls()?.iter().filter_map(id_of).map(str::to_owned).collect();
    println!(
        "rehearsal  a real two-way call on this machine for {seconds} s, its path impaired on purpose\n"
    );
    let mut rehearse = place.program("roomtone-agent");
    rehearse.args(["rehearse", "--delay", "40ms", "--jitter", "12ms", "--loss", "2%", "--seconds"]);
    let status =
        rehearse.arg(seconds.to_string()).status().context("cannot start the rehearsal")?;
    if !status.success() {
        bail!("the rehearsal failed: {status}");
    }

    let call = newest_call(&place, &known)?;
    println!(
        "\nThe same call, as the running agent measured it from its packets and the collector stored it:\n"
    );
    show(&place, &["call", &call])?;
    println!(
        "\nAsk for it again with: roomtone-collector call {call} --config {}",
        place.state().join("collector.toml").display()
    );
    if !once {
        println!(
            "\nLive legs of this machine follow; place a call, or run `roomtone-agent rehearse` in another terminal. Ctrl-C ends all.\n"
        );
        // The terminal sends Ctrl-C to the whole group: watch ends, then the others in the order of dropping.
        show(&place, &["watch"])?;
    }
    agent.stop()?;
    collector.stop()?;
    Ok(())
}

/// Waits for a call that was not known before, and for its end.
fn newest_call(place: &Place, known: &[String]) -> Result<String> {
    let until = Instant::now() + SEEN_WITHIN;
    while Instant::now() < until {
        let closed = place.calls()?.into_iter().find(|call| {
            call["state"] == "closed"
                && id_of(call).is_some_and(|id| !known.iter().any(|k| k == id))
        });
        if let Some(call) = closed.as_ref().and_then(id_of) {
            return Ok(call.to_owned());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("no call reached the collector within {SEEN_WITHIN:?}: see the two logs above")
}

fn show(place: &Place, arguments: &[&str]) -> Result<()> {
    let mut command = place.program("roomtone-collector");
    let status = command
        .args(arguments)
        .arg("--config")
        .arg(place.state().join("collector.toml"))
        .status()?;
    // `watch` ends by the signal that ends us all.
    if !status.success() && status.code().is_some() {
        bail!("roomtone-collector {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}

fn id_of(call: &Value) -> Option<&str> {
    call["id"].as_str()
}
