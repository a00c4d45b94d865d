//! Which kernel modules a guest loads, and in which order.
//!
//! Debian's kernel package has no `modules.dep` (the installation would make it), but each module names what it needs
//! in its section `.modinfo`: strings `key=value`, each ended by NUL.

use std::collections::BTreeSet;

/// A module that nobody has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel package has no module {name}")]
pub struct MissingModule {
    /// Its name.
    pub name: String,
}

/// The one spelling of a module's name: files have `-` where the kernel has `_`.
#[must_use]
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// What a module says that it needs; empty where it says nothing.
#[must_use]
pub fn needs(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[at + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(canonical).collect()
}

/// `wanted` and all that they need, each behind its needs, otherwise in the order of `wanted`.
///
/// # Errors
/// Where `needs_of` knows no such module.
pub fn load_order(
    wanted: &[&str],
    mut needs_of: impl FnMut(&str) -> Option<Vec<String>>,
) -> Result<Vec<String>, MissingModule> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    // Depth first: a module lies on the stack until its needs are done. `seen` ends circles, which the kernel would
    // refuse.
    let mut stack: Vec<(String, bool)> =
        wanted.iter().rev().map(|name| (canonical(name), false)).collect();
    while let Some((name, needs_done)) = stack.pop() {
        if needs_done {
            order.push(name);
        } else if seen.insert(name.clone()) {
            let needs = needs_of(&name).ok_or(MissingModule { name: name.clone() })?;
            stack.push((name, true));
            stack.extend(needs.into_iter().rev().map(|need| (need, false)));
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_read_from_the_module() {
        let module = b"ELF\0license=GPL\0depends=snd-pcm,snd_usbmidi_lib\0retpoline=Y\0";
        assert_eq!(needs(module), ["snd_pcm", "snd_usbmidi_lib"]);
        assert!(needs(b"\0depends=\0").is_empty() && needs(b"no such key").is_empty());
    }

    #[test]
    fn each_module_is_loaded_once_and_behind_what_it_needs() {
        let needs = |name: &str| match name {
            "usb_audio" => Some(vec!["pcm".to_owned(), "hwdep".to_owned()]),
            "aloop" => Some(vec!["pcm".to_owned()]),
            "pcm" => Some(vec!["timer".to_owned()]),
            "timer" | "hwdep" => Some(Vec::new()),
            _ => None,
        };
        let order = load_order(&["usb-audio", "aloop"], needs).unwrap();
        assert_eq!(order, ["timer", "pcm", "hwdep", "usb_audio", "aloop"]);
        let missing = load_order(&["aloop", "usb"], needs).unwrap_err();
        assert_eq!(missing.to_string(), "the kernel package has no module usb");
    }
}
