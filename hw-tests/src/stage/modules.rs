//! The guest's kernel modules, taken out and put in again while it runs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::output;

/// Where the guest's image has them, each named `NNN-name.ko` in the order of loading.
const FOLDER: &str = "/modules";
/// A sound module's name begins so; the bus of the headset stays.
const SOUND: [&str; 3] = ["snd", "soundcore", "ac97"];

/// Takes out all of sound. What holds a device must have ended.
///
/// # Errors
/// Where a module is in use.
pub fn unload_sound() -> Result<()> {
    let mut names = sound()?;
    names.reverse();
    for (name, _) in names {
        output(&mut Command::new("rmmod"), [&name])?;
    }
    Ok(())
}

/// Puts all of it in again.
///
/// # Errors
/// Where the kernel refuses one.
pub fn load_sound() -> Result<()> {
    for (_, file) in sound()? {
        output(Command::new("insmod").arg(file), [""; 0])?;
    }
    Ok(())
}

/// Loads one module anew, with parameters.
///
/// # Errors
/// Where it is in use, or the kernel refuses.
pub fn reload(name: &str, parameters: &[&str]) -> Result<()> {
    let (_, file) = sound()?
        .into_iter()
        .find(|(own, _)| own == name)
        .with_context(|| format!("no module {name}"))?;
    output(&mut Command::new("rmmod"), [name])?;
    output(Command::new("insmod").arg(file), parameters)?;
    Ok(())
}

/// Names and files in the order of loading.
fn sound() -> Result<Vec<(String, PathBuf)>> {
    let listed = fs::read_dir(FOLDER).context("this guest has no folder of modules")?;
    let mut files = listed.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    let name = |file: &PathBuf| {
        let stem = file.file_stem()?.to_str()?;
        Some(stem.split_once('-')?.1.to_owned())
    };
    let named = files.into_iter().filter_map(|file| Some((name(&file)?, file)));
    Ok(named.filter(|(name, _)| SOUND.iter().any(|head| name.starts_with(head))).collect())
}
