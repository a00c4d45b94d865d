//! The running agent's own cost: memory, CPU and wake-ups beside a call of two legs, read from the kernel's account
//! of the process.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::pair::Place;

/// How long the agent is watched in the middle of a call.
const WATCHED: Duration = Duration::from_secs(30);
/// How long it may settle before.
const SETTLED: Duration = Duration::from_secs(12);

/// Measures, and writes `report.json` with all figures that lie in `folder`.
///
/// # Errors
/// Where a part does not start or a file cannot be read.
pub fn run(folder: &Path) -> Result<()> {
    let mut figures = measure()?;
    for figure in &figures {
        println!(
            "{:<44} {:>12.2} {}  target {}",
            text(figure, "name"),
            number(figure, "value"),
            text(figure, "unit"),
            number(figure, "target")
        );
    }
    let entries =
        fs::read_dir(folder).with_context(|| format!("no folder {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let is_part = path.extension().is_some_and(|e| e == "json")
            && path.file_name().is_some_and(|n| n != "report.json");
        if is_part && let Value::Array(part) = serde_json::from_str(&fs::read_to_string(&path)?)? {
            figures.splice(0..0, part);
        }
    }
    let report = folder.join("report.json");
    fs::write(&report, serde_json::to_string_pretty(&figures)? + "\n")?;
    println!("{} figures in {}", figures.len(), report.display());
    Ok(())
}

fn measure() -> Result<Vec<Value>> {
    let folder = tempfile::tempdir()?;
    let place = Place::new(folder.path())?;
    place.prepare(0, "")?;
    let (_collector, address) = place.start_collector()?;
    let agent = place.start_agent(&address, true)?;
    let seconds = (SETTLED + WATCHED).as_secs() + 5;
    let mut rehearse = place.program("roomtone-agent");
    rehearse
        .args(["rehearse", "--seconds", &seconds.to_string()])
        .stdout(std::process::Stdio::null());
    let mut call = rehearse.spawn()?;

    std::thread::sleep(SETTLED);
    let (before, started) = (Account::read(agent.id())?, Instant::now());
    std::thread::sleep(WATCHED);
    let (after, elapsed) = (Account::read(agent.id())?, started.elapsed().as_secs_f64());
    call.wait()?;

    let figure = |name: &str, value: f64, unit: &str, target: f64| json!({ "name": name, "value": value, "unit": unit, "target": target, "peer": null, "ratio": null });
    Ok(vec![
        figure("running agent, 2 legs: RSS", after.rss_kib / 1024.0, "MiB", 10.0),
        figure(
            "running agent, 2 legs: CPU",
            (after.cpu_s - before.cpu_s) / elapsed * 100.0,
            "% of a core",
            0.5,
        ),
        figure(
            "running agent, 2 legs: wake-ups",
            (after.wakeups - before.wakeups) / elapsed,
            "/s",
            20.0,
        ),
    ])
}

/// What the kernel has counted for a process, over all its threads.
struct Account {
    rss_kib: f64,
    cpu_s: f64,
    wakeups: f64,
}

impl Account {
    fn read(process: u32) -> Result<Self> {
        let folder = format!("/proc/{process}");
        let rss_kib = field(&fs::read_to_string(format!("{folder}/status"))?, "VmRSS:")?;
        let (mut cpu_s, mut wakeups) = (0.0, 0.0);
        for task in fs::read_dir(format!("{folder}/task"))? {
            let task = task?.path();
            // Each sleep that ended is one voluntary switch.
            wakeups +=
                field(&fs::read_to_string(task.join("status"))?, "voluntary_ctxt_switches:")?;
            // Nanoseconds on a CPU, exact where /proc/PID/stat counts ticks of 10 ms.
            let schedstat = fs::read_to_string(task.join("schedstat"))?;
            let nanos: f64 =
                schedstat.split_whitespace().next().context("schedstat is empty")?.parse()?;
            cpu_s += nanos / 1e9;
        }
        Ok(Self { rss_kib, cpu_s, wakeups })
    }
}

fn field(status: &str, name: &str) -> Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.split_whitespace().next());
    Ok(value.with_context(|| format!("the kernel does not say {name}"))?.parse()?)
}

fn text<'a>(figure: &'a Value, key: &str) -> &'a str {
    figure[key].as_str().unwrap_or_default()
}

fn number(figure: &Value, key: &str) -> f64 {
    figure[key].as_f64().unwrap_or_default()
}
