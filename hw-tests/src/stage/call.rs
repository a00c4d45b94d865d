//! A collector, an agent and calls between them, asked as an operator asks: by the collector's command line.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::sound::Side;
use super::wait_for;
use crate::bench::report::PartOfWhole;
use crate::pair::Place;
use crate::process::Running;

/// Both programs, running.
#[derive(Debug)]
pub struct Watched {
    place: Place,
    address: String,
    agent: Option<Running>,
    /// The agent listens along.
    with_levels: bool,
    /// Calls of killed agents, which nobody will end any more.
    left_open: Vec<String>,
    _collector: Option<Running>,
}

/// A rehearsal that goes on; ended when dropped.
#[derive(Debug)]
pub struct Call {
    id: String,
    /// The calls that were there before it.
    known: Vec<String>,
    rehearsal: Child,
}

/// An episode as the collector shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Its name.
    pub id: String,
    /// Why.
    pub cause: String,
    /// When it began, wall time in ms.
    pub onset_ms: f64,
    /// Bad time so far, in microseconds.
    pub bad_us: u64,
    /// `open`, `recovered` or `unrecovered`.
    pub state: String,
}

/// Calls close soon after their last packet, so that trials do not wait 15 s each for nothing.
const CONFIG: &str = "\n[media]\ncall_idle = \"5s\"\n";
/// Behind it where the agent is to listen along.
const WITH_LEVELS: &str = "\n[audio]\nlevels = true\n";
/// From placing a call until the collector shows it: probation, records, store; in an emulated machine.
const LIVE_WITHIN: Duration = Duration::from_secs(30);
/// From a call's end until the collector shows it closed: `call_idle`, and as above.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);

impl Watched {
    /// Starts both in `state`.
    ///
    /// # Errors
    /// Where one of them does not start.
    pub fn start(state: &Path) -> Result<Self> {
        let place = Place::new(state)?;
        place.prepare(0, CONFIG)?;
        let (collector, address) = place.start_collector()?;
        let agent = place.start_agent(&address, true)?;
        Ok(Self {
            place,
            address,
            agent: Some(agent),
            with_levels: false,
            left_open: Vec::new(),
            _collector: Some(collector),
        })
    }

    /// Takes those that were installed as services, and that systemd runs.
    #[must_use]
    pub fn installed(state: &Path) -> Self {
        Self {
            place: Place::installed(state),
            address: String::new(),
            agent: None,
            with_levels: false,
            left_open: Vec::new(),
            _collector: None,
        }
    }

    /// Asks the collector's own command line, as JSON.
    ///
    /// # Errors
    /// Where it fails or does not print JSON.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        self.place.ask(arguments)
    }

    /// Sees whether the agent still runs.
    ///
    /// # Errors
    /// Where it ended.
    pub fn check_agent(&mut self) -> Result<()> {
        self.agent.as_mut().context("no agent runs")?.check()
    }

    /// The agent's process.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn agent_id(&self) -> Result<u32> {
        self.agent.as_ref().map(Running::id).context("no agent runs")
    }

    /// Ends the agent.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop_agent(&mut self) -> Result<()> {
        self.agent.take().map_or(Ok(()), |agent| agent.stop().map(drop))
    }

    /// Kills the agent without warning and starts it again.
    ///
    /// # Errors
    /// Where it does not come back.
    pub fn crash_agent(&mut self) -> Result<()> {
        if let Some(agent) = self.agent.take() {
            agent.kill()?;
        }
        self.start_agent()
    }

    /// Starts the agent that was ended.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn start_agent(&mut self) -> Result<()> {
        self.agent = Some(self.place.start_agent(&self.address, true)?);
        Ok(())
    }

    /// Ends the agent in order and starts another one, which listens along or not.
    ///
    /// # Errors
    /// Where it does not end or does not come back.
    pub fn restart_agent(&mut self, with_levels: bool) -> Result<()> {
        if let Some(agent) = self.agent.take() {
            agent.stop()?;
        }
        let levels = if with_levels { WITH_LEVELS } else { "" };
        self.place.prepare(0, &format!("{CONFIG}{levels}"))?;
        self.agent = Some(self.place.start_agent(&self.address, true)?);
        self.with_levels = with_levels;
        Ok(())
    }

    /// Asks for a self-test as an operator does; returns the result that the collector then lists first.
    ///
    /// # Errors
    /// Where no result came.
    pub fn request_self_test(&self) -> Result<Value> {
        let endpoints = self.place.ask(&["endpoints"])?;
        let id =
            endpoints["endpoints"][0]["id"].as_str().context("the collector knows no endpoint")?;
        // Its exit status tells the verdict; that there is one shows in the list.
        let asked = self.place.ask(&["selftest", id]);
        let mut listed = self.place.ask(&["selftests"])?;
        let first = listed["selfTests"].get_mut(0).map(Value::take);
        match (first, asked) {
            (Some(first), _) if first["requested"] == true => Ok(first),
            (_, Err(error)) => Err(error),
            (_, Ok(_)) => bail!("the collector lists no requested self-test"),
        }
    }

    /// Whether the agent listens along.
    #[must_use]
    pub fn with_levels(&self) -> bool {
        self.with_levels
    }

    /// Places a call of `seconds` and waits until the collector shows it.
    ///
    /// # Errors
    /// Where it does not show it.
    pub fn place_call(&self, seconds: u32) -> Result<Call> {
        // A call that a failed trial left would take this one's legs for its own.
        wait_for("the end of an earlier call", CLOSED_WITHIN, || {
            let calls = self.calls()?;
            let is_over = |call: &Value| {
                let id = call["id"].as_str().unwrap_or_default();
                call["state"] == "closed" || self.left_open.iter().any(|open| open == id)
            };
            Ok(calls.iter().all(is_over).then_some(()))
        })?;
        let known = self.ids()?;
        let mut rehearse = self.place.program("roomtone-agent");
        rehearse.args(["rehearse", "--loss", "0%", "--seconds", &seconds.to_string()]);
        let rehearsal = rehearse.stdout(Stdio::null()).spawn().context("cannot rehearse")?;
        let mut call = Call { id: String::new(), known, rehearsal };
        call.id = wait_for("a live call at the collector", LIVE_WITHIN, || {
            Ok(self.ids()?.into_iter().find(|id| !call.known.contains(id)))
        })?;
        Ok(call)
    }

    /// Waits for the end of the rehearsal and until the collector shows the call closed; returns what it shows.
    ///
    /// # Errors
    /// Where the rehearsal failed or the call stays open.
    pub fn finish(&self, mut call: Call) -> Result<Value> {
        let status = call.rehearsal.wait()?;
        if !status.success() {
            bail!("the rehearsal failed: {status}");
        }
        wait_for("the call's end at the collector", CLOSED_WITHIN, || {
            Ok(Some(self.show(&call)?).filter(|shown| shown["state"] == "closed"))
        })
    }

    /// Waits for the end of the rehearsal and of the last of the calls that it made at the collector: an agent that
    /// was killed in between makes two of one. Returns all, the oldest first; one before the last may have no end.
    ///
    /// # Errors
    /// Where the rehearsal failed or the last call stays open.
    pub fn finish_all(&mut self, mut call: Call) -> Result<Vec<Value>> {
        let status = call.rehearsal.wait()?;
        if !status.success() {
            bail!("the rehearsal failed: {status}");
        }
        let calls = wait_for("the end of the last call at the collector", CLOSED_WITHIN, || {
            // Newest first.
            let ids = self.ids()?;
            let mut calls = Vec::new();
            for id in ids.into_iter().filter(|id| !call.known.contains(id)) {
                calls.push(self.show_id(&id)?);
            }
            calls.reverse();
            Ok(Some(calls).filter(|calls| calls.last().is_some_and(|it| it["state"] == "closed")))
        })?;
        let open = calls.iter().filter(|it| it["state"] != "closed");
        self.left_open.extend(open.filter_map(|it| it["id"].as_str()).map(str::to_owned));
        Ok(calls)
    }

    /// The call as the collector shows it now.
    ///
    /// # Errors
    /// Where it does not.
    pub fn show(&self, call: &Call) -> Result<Value> {
        self.show_id(&call.id)
    }

    fn show_id(&self, id: &str) -> Result<Value> {
        let mut answer = self.place.ask(&["call", id])?;
        let first = answer["calls"].get_mut(0).context("the collector shows no call")?;
        Ok(first.take())
    }

    /// The episodes of a call's devices on one side, whose name has `card`.
    ///
    /// # Errors
    /// Where the collector does not show the call.
    pub fn episodes(&self, call: &Call, card: &str, side: Side) -> Result<Vec<Episode>> {
        Ok(episodes(&self.show(call)?, card, side))
    }

    fn ids(&self) -> Result<Vec<String>> {
        let calls = self.calls()?;
        Ok(calls.iter().filter_map(|call| call["id"].as_str()).map(str::to_owned).collect())
    }

    fn calls(&self) -> Result<Vec<Value>> {
        let answer = self.place.ask(&["calls"])?;
        Ok(answer["calls"].as_array().context("the collector lists no calls")?.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // One that ended already is what was wanted.
        let _ = self.rehearsal.kill();
        let _ = self.rehearsal.wait();
    }
}

/// The episodes in a call as the collector shows it.
#[must_use]
pub fn episodes(call: &Value, card: &str, side: Side) -> Vec<Episode> {
    let listed = call["episodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_side = listed.iter().filter(|episode| is_of(episode, card, side));
    of_side.filter_map(Episode::read).collect()
}

/// The time in which a device did not function in a call, as the collector shows it.
#[must_use]
pub fn not_functioning(call: &Value, card: &str, side: Side) -> Option<PartOfWhole> {
    ratio(call, card, side, "notFunctioning")
}

/// The time in which a device was muted in a call, as the collector shows it.
#[must_use]
pub fn muted(call: &Value, card: &str, side: Side) -> Option<PartOfWhole> {
    ratio(call, card, side, "muted")
}

fn ratio(call: &Value, card: &str, side: Side, name: &str) -> Option<PartOfWhole> {
    let devices = call["devices"].as_array()?;
    let ratio = &devices.iter().find(|device| is_of(device, card, side))?[name];
    Some(PartOfWhole { part_us: ratio["partUs"].as_u64()?, whole_us: ratio["wholeUs"].as_u64()? })
}

fn is_of(shown: &Value, card: &str, side: Side) -> bool {
    let word = match side {
        Side::Capture => "capture",
        Side::Render => "render",
    };
    shown["side"] == word && shown["device"].as_str().is_some_and(|device| device.contains(card))
}

impl Episode {
    fn read(shown: &Value) -> Option<Self> {
        let onset = humantime::parse_rfc3339_weak(shown["onset"].as_str()?).ok()?;
        Some(Self {
            id: shown["id"].as_str()?.to_owned(),
            cause: shown["cause"].as_str()?.to_owned(),
            onset_ms: onset.duration_since(UNIX_EPOCH).ok()?.as_secs_f64() * 1e3,
            bad_us: shown["badUs"].as_u64()?,
            state: shown["state"].as_str()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn episodes_and_ratio_are_those_of_the_card_and_the_side() {
        let episode = |device: &str, side: &str| {
            json!({ "id": "1", "device": device, "side": side, "cause": "stalled", "badUs": 5,
                "onset": "1970-01-01T00:00:01.250Z", "state": "open" })
        };
        let call = json!({
            "episodes": [
                episode("SimHeadset", "render"), episode("SimHeadset", "capture"), episode("Other", "capture"),
            ],
            "devices": [
                { "device": "SimHeadset", "side": "capture", "notFunctioning": { "partUs": 3, "wholeUs": 9 } },
            ],
        });
        let found = episodes(&call, "SimHeadset", Side::Capture);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].onset_ms, found[0].bad_us), (1_250.0, 5));
        let ratio = PartOfWhole { part_us: 3, whole_us: 9 };
        assert_eq!(not_functioning(&call, "SimHeadset", Side::Capture), Some(ratio));
        assert_eq!(not_functioning(&call, "SimHeadset", Side::Render), None);
    }
}
