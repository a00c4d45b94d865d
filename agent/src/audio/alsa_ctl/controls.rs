//! Which controls of a mixer decide whether a side of a card can be heard.
//!
//! A core. Drivers name controls as they like; ALSA's own rules (`Documentation/sound/designs/control-names.rst`) give
//! the few names that are the last word. Where none of those exists, a side counts as muted only when every control
//! that could mute it does, because a mute that we imagine would hide a fault.

/// One simple mixer element, seen from one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Its name, without side and function: `Master`, `Mic`, `Capture`.
    pub name: String,
    /// Its number among those of the same name.
    pub index: u32,
    /// Whether its switch is on for at least one channel; `None` where it has none.
    pub on: Option<bool>,
    /// The loudest channel's volume; `None` where it has none.
    pub volume: Option<Volume>,
}

/// Steps above the lowest, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// Steps above the lowest, at most `of`.
    pub steps: u32,
    /// The steps that there are, at least 1.
    pub of: u32,
}

impl Volume {
    /// From a value and its range; `None` where there is no range.
    #[must_use]
    pub fn new(value: i64, (min, max): (i64, i64)) -> Option<Self> {
        let of = u32::try_from(max.checked_sub(min)?).ok().filter(|of| *of > 0)?;
        let steps = value.clamp(min, max).checked_sub(min)?;
        Some(Self { steps: u32::try_from(steps).ok()?, of })
    }

    /// Whether nothing can be heard by it.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.steps == 0
    }
}

/// How a side of a card is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Setting {
    /// Whether it is muted; `None` where no control can.
    pub muted: Option<bool>,
    /// Its volume; `None` where no control has one.
    pub volume: Option<Volume>,
}

impl Setting {
    /// Judges the controls of one side.
    #[must_use]
    pub fn judge(controls: &[Control], capture: bool) -> Self {
        let last_word: &[&str] = if capture { &["Capture"] } else { &["Master", "Speaker", "PCM"] };
        let other: Vec<&Control> = controls.iter().filter(|c| is_relevant(c, capture)).collect();
        let named = |has: fn(&Control) -> bool| {
            let found = last_word.iter().find_map(|name| {
                let same = other.iter().filter(|c| c.name == *name && has(c));
                same.min_by_key(|c| c.index).copied()
            });
            found.map_or_else(|| other.iter().filter(|c| has(c)).copied().collect(), |c| vec![c])
        };
        let switches: Vec<&Control> = named(|c| c.on.is_some());
        let volumes: Vec<&Control> = named(|c| c.volume.is_some());
        let muted = switches.iter().all(|c| c.on == Some(false));
        Self {
            muted: (!switches.is_empty()).then_some(muted),
            volume: volumes.iter().filter_map(|c| c.volume).max_by(|a, b| {
                // Compares steps/of without rounding.
                let (a, b) =
                    (u64::from(a.steps) * u64::from(b.of), u64::from(b.steps) * u64::from(a.of));
                a.cmp(&b)
            }),
        }
    }
}

/// On the render side, controls of inputs set how loud they are heard locally, and digital ones carry no analogue
/// audio.
fn is_relevant(control: &Control, capture: bool) -> bool {
    let monitor =
        ["Mic", "Line", "Beep", "Loopback", "IEC958", "Sidetone", "Side Tone", "CD", "Aux"];
    let boost = control.name.ends_with("Boost");
    let input =
        monitor.iter().any(|word| control.name.contains(word)) && control.name != "Line Out";
    !boost && (capture || !input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(name: &str, on: Option<bool>, steps: Option<u32>) -> Control {
        let volume = steps.map(|steps| Volume { steps, of: 100 });
        Control { name: name.to_owned(), index: 0, on, volume }
    }

    #[test]
    fn headset_is_muted_by_its_only_switch() {
        let headset = [control("Mic", Some(false), Some(40))];
        let setting = Setting::judge(&headset, true);
        assert_eq!(setting.muted, Some(true));
        assert_eq!(setting.volume, Some(Volume { steps: 40, of: 100 }));
    }

    #[test]
    fn master_has_the_last_word_and_the_sidetone_none() {
        let laptop = [
            control("Headphone", Some(false), Some(0)),
            control("Master", Some(true), Some(70)),
            control("Mic", Some(false), Some(0)),
        ];
        let setting = Setting::judge(&laptop, false);
        assert_eq!(setting, Setting { muted: Some(false), volume: laptop[1].volume });
        assert_eq!(Setting::judge(&laptop[2..], false), Setting::default());
    }

    #[test]
    fn without_a_master_all_must_be_off() {
        let two = [control("Front", Some(false), None), control("Headphone", Some(true), None)];
        assert_eq!(Setting::judge(&two, false).muted, Some(false));
        assert_eq!(Setting::judge(&two[..1], false).muted, Some(true));
        assert_eq!(Setting::judge(&[], false), Setting::default());
    }

    #[test]
    fn boost_at_zero_is_no_volume_of_zero() {
        let laptop = [control("Internal Mic Boost", None, Some(0))];
        assert_eq!(Setting::judge(&laptop, true).volume, None);
    }

    #[test]
    fn volume_needs_a_range() {
        assert_eq!(Volume::new(5, (0, 10)), Some(Volume { steps: 5, of: 10 }));
        assert_eq!(Volume::new(-5, (-20, -10)), Some(Volume { steps: 10, of: 10 }));
        assert_eq!(Volume::new(5, (0, 0)), None);
        assert_eq!(Volume::new(0, (i64::MIN, i64::MAX)), None);
    }
}
