//! Benches: what devices trials have, and how trials are brought to them.
//!
//! The trials run where the devices are, beside the agent: in a guest for the `virtual` bench, here for a `physical`
//! one. A bench that is absent is printed as not run and never counts as passed.

pub mod definition;
pub mod report;

use std::collections::BTreeSet;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::guest::{image, machine, packages, system};
use crate::stage;
use crate::stage::load::Gauge;
use crate::trials::{self, Group, Trial};
use definition::{Bench, Kind};
use report::{Outcome, Report};

/// What to run.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The bench's file.
    pub bench: PathBuf,
    /// Short trials or all.
    pub group: Group,
    /// Parts of names, one of which a trial's name must contain; empty for all.
    pub filters: Vec<String>,
    /// Where cache, logs and report are kept.
    pub folder: PathBuf,
    /// Where our Debian packages are, and in `next` the revision after them.
    pub packages: PathBuf,
}

/// A guest boots in 6 to 12 s on a quiet machine.
const BOOT_WITHIN: Duration = Duration::from_secs(90);
/// The archive and the files that are made of it, 190 MB each, and room to run.
const SYSTEM_MEMORY_MIB: u32 = 1_536;
/// One guest at a time: two emulated machines on one host only prove that hosts can be busy.
const LOCK_WITHIN: Duration = Duration::from_secs(3_600);

/// Runs the trials and writes `report.json`; true where some passed and none failed.
///
/// # Errors
/// Where the bench's file is wrong or the bench cannot be set up.
pub fn run(choice: &Choice) -> Result<bool> {
    let bench = Bench::read(&choice.bench)?;
    let chosen: Vec<&Trial> = trials::ALL
        .iter()
        .filter(|trial| choice.group.includes(trial.group))
        .filter(|trial| {
            choice.filters.is_empty()
                || choice.filters.iter().any(|it| trial.name.contains(it.as_str()))
        })
        .collect();
    if chosen.is_empty() {
        bail!("no trial of this group has a name that contains {:?}", choice.filters);
    }
    fs::create_dir_all(&choice.folder)
        .with_context(|| format!("cannot make {}", choice.folder.display()))?;
    let folder = fs::canonicalize(&choice.folder)?;

    // A filter asks for what it names, however long that takes and whatever it needs.
    let unasked = |trial: &Trial| match trial.group {
        Group::Short | Group::All => None,
        Group::Long => Some("it takes half an hour: --group long, make hw-test-long"),
        Group::Fleet => Some("it needs our packages: make hw-test-fleet"),
    };
    let excuse = |trial: &Trial| {
        let asked = choice.group != Group::All || !choice.filters.is_empty();
        bench.unable(trial).or(unasked(trial).filter(|_| !asked))
    };
    let mut report = Report::default();
    let (able, unable): (Vec<&Trial>, Vec<&Trial>) =
        chosen.into_iter().partition(|trial| excuse(trial).is_none());
    for trial in unable {
        let reason = excuse(trial).unwrap_or_default();
        report.add(Outcome::not_run(&bench.name, trial.name, reason));
    }
    let names: Vec<&str> = able.iter().map(|trial| trial.name).collect();
    match &bench.kind {
        Kind::Virtual(size) => {
            let (on_packages, beside): (Vec<&Trial>, Vec<&Trial>) =
                able.into_iter().partition(|trial| trial.group == Group::Fleet);
            for (trials, packages) in [(beside, None), (on_packages, Some(&*choice.packages))] {
                if !trials.is_empty() {
                    run_in_guest(&bench, *size, &trials, &folder, packages, &mut report)?;
                }
            }
        }
        Kind::Physical { .. } => {
            if let Some(reason) = absent(&bench) {
                for name in names {
                    report.add(Outcome::not_run(&bench.name, name, &reason));
                }
            } else {
                let state = folder.join("physical");
                stage::run(&bench, &names, &state, None, |outcome| report.add(outcome))?;
            }
        }
    }
    report.write(&folder.join("report.json"))?;
    Ok(report.summary())
}

/// Why a physical bench cannot be used now.
fn absent(bench: &Bench) -> Option<String> {
    let card = Path::new("/proc/asound").join(&bench.card);
    if !card.exists() {
        return Some(format!("no sound card {:?} on this machine", bench.card));
    }
    let attended = matches!(bench.kind, Kind::Physical { attended: true, .. });
    (attended && !std::io::stdin().is_terminal())
        .then(|| "the bench is attended, and nobody can answer: stdin is no terminal".to_owned())
}

/// Boots one guest that runs all trials, and takes their outcomes as they come. With `debs` it is a Debian with systemd
/// on which our packages can be installed.
fn run_in_guest(
    bench: &Bench,
    mut size: machine::Size,
    trials: &[&Trial],
    folder: &Path,
    debs: Option<&Path>,
    report: &mut Report,
) -> Result<()> {
    let names: Vec<&str> = trials.iter().map(|trial| trial.name).collect();
    let mut limit = trials.iter().map(|trial| trial.limit).sum::<Duration>() + BOOT_WITHIN;
    let debs = debs.map(system::Debs::find).transpose()?;
    let _lock = one_at_a_time(folder)?;
    let cache = folder.join("cache");
    fs::create_dir_all(&cache)?;
    let started = Instant::now();
    let packages = packages::Packages::fetch(&cache)?;
    let kernel = image::kernel(&packages, &cache)?;
    let own = std::env::current_exe().context("a running program has a path")?;
    let programs = own.parent().context("a program lies in a folder")?;
    let share = folder.join("guest");
    // What an earlier run left would pass for this one's.
    let _ = fs::remove_dir_all(&share);
    fs::create_dir_all(&share)?;
    let archive = match &debs {
        None => {
            let archive = cache.join("initramfs.cpio");
            fs::write(&archive, image::build(&packages, programs)?)?;
            archive
        }
        Some(debs) => {
            size.memory_mib = size.memory_mib.max(SYSTEM_MEMORY_MIB);
            limit += BOOT_WITHIN;
            system::build(&packages, programs, debs, &cache)?
        }
    };
    fs::copy(&bench.file, share.join(stage::BENCH_FILE))?;
    fs::write(share.join(stage::TRIALS_FILE), names.join("\n"))?;
    fs::write(share.join(stage::GAUGE_FILE), serde_json::to_string(&Gauge::take()?)?)?;
    println!(
        "guest      Linux {}, image made in {:.1} s, logs in {}",
        packages.kernel_version,
        started.elapsed().as_secs_f64(),
        share.display()
    );

    let machine = machine::Machine::new(&packages, size, &kernel, &archive, &share)?;
    let guest = machine.boot(limit)?;
    let mut missing: BTreeSet<&str> = names.iter().copied().collect();
    let mut seen = 0;
    let outcomes = share.join(stage::OUTCOMES_FILE);
    let ended = guest.wait(|| {
        let text = fs::read_to_string(&outcomes).unwrap_or_default();
        // Whole lines only: the guest may be in the middle of one.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        for line in whole.lines().skip(seen) {
            seen += 1;
            match serde_json::from_str::<Outcome>(line) {
                Ok(outcome) => {
                    missing.remove(outcome.trial.as_str());
                    report.add(outcome);
                }
                Err(error) => eprintln!("the guest wrote no outcome: {error}: {line}"),
            }
        }
    });
    let reason = match ended {
        Ok(_) => "the guest ended before this trial".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    for name in missing {
        report.add(Outcome::failed(&bench.name, name, &reason));
    }
    Ok(())
}

/// Held while a guest of this folder runs; the kernel frees it with the process.
fn one_at_a_time(folder: &Path) -> Result<fs::File> {
    let path = folder.join("lock");
    let file = fs::File::create(&path)?;
    let until = Instant::now() + LOCK_WITHIN;
    while let Err(error) = file.try_lock() {
        if Instant::now() > until {
            bail!("another run holds {}: {error}", path.display());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(file)
}
