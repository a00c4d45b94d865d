//! Which two devices a self-test uses, and whether it may.
//!
//! A core. A person names a device as `devices` prints it, by its card's id, or by an ALSA name; nobody needs to name
//! any. A card that has both sides comes first, because a headset hears itself and a desk full of devices does not.

use roomtone_protocol::device::DeviceSide;

use crate::audio::alsa_proc::Holder;
use crate::audio::inventory::{Device, Place};

/// A device of this machine, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The device.
    pub device: Device,
    /// Another process that has it open.
    pub holder: Option<Holder>,
}

/// One side of the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// What people call it.
    pub name: String,
    /// Names by which ALSA may know it, the best first.
    pub alsa: Vec<String>,
    /// What its streams are registered by.
    pub key: String,
    /// Where it is; `None` for a name that only ALSA understands.
    pub place: Option<Place>,
}

/// Why there is no test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No device goes by that name, or there is none at all.
    NoDevice {
        /// What was asked for; `None` where nothing was.
        asked: Option<String>,
        /// Which side is missing.
        side: DeviceSide,
        /// The names that would do.
        known: Vec<String>,
    },
    /// Another process uses one of the two.
    Busy {
        /// Which.
        device: String,
        /// Who.
        holder: Holder,
    },
    /// Another process uses some other device: a call may be on, and whoever speaks there would hear the test.
    InCall {
        /// Which.
        device: String,
        /// Who.
        holder: Holder,
    },
}

/// The microphone and the loudspeaker.
///
/// # Errors
/// [`Refused`], the first reason that applies.
pub fn choose(
    candidates: &[Candidate],
    capture: Option<&str>,
    render: Option<&str>,
) -> Result<(Chosen, Chosen), Refused> {
    let (capture, render) = match (capture, render) {
        (Some(capture), Some(render)) => (
            named(candidates, capture, DeviceSide::Capture)?,
            named(candidates, render, DeviceSide::Render)?,
        ),
        (Some(capture), None) => {
            let capture = named(candidates, capture, DeviceSide::Capture)?;
            let render = beside(candidates, &capture, DeviceSide::Render)?;
            (capture, render)
        }
        (None, Some(render)) => {
            let render = named(candidates, render, DeviceSide::Render)?;
            (beside(candidates, &render, DeviceSide::Capture)?, render)
        }
        (None, None) => {
            let both = of_side(candidates, DeviceSide::Capture).find(|candidate| {
                of_side(candidates, DeviceSide::Render)
                    .any(|other| other.device.place.card == candidate.device.place.card)
            });
            let capture = match both {
                Some(candidate) => chosen(candidate),
                None => first(candidates, DeviceSide::Capture)?,
            };
            let render = beside(candidates, &capture, DeviceSide::Render)?;
            (capture, render)
        }
    };
    let held =
        candidates.iter().filter_map(|candidate| Some((candidate, candidate.holder.clone()?)));
    let is_ours =
        |device: &Device| capture.place == Some(device.place) || render.place == Some(device.place);
    let (ours, others): (Vec<_>, Vec<_>) =
        held.partition(|(candidate, _)| is_ours(&candidate.device));
    if let Some((candidate, holder)) = ours.into_iter().next() {
        return Err(Refused::Busy { device: candidate.device.name.clone(), holder });
    }
    if let Some((candidate, holder)) = others.into_iter().next() {
        return Err(Refused::InCall { device: candidate.device.name.clone(), holder });
    }
    Ok((capture, render))
}

fn of_side(candidates: &[Candidate], side: DeviceSide) -> impl Iterator<Item = &Candidate> {
    candidates.iter().filter(move |candidate| candidate.device.place.side() == side)
}

/// The device that a person named.
fn named(candidates: &[Candidate], asked: &str, side: DeviceSide) -> Result<Chosen, Refused> {
    let is_meant = |candidate: &&Candidate| {
        let Device { name, card_id, place, .. } = &candidate.device;
        let pcm = place.pcm;
        let by_card = [("hw", card_id.clone()), ("hw", place.card.to_string())];
        let alsa = by_card.into_iter().flat_map(|(kind, card)| {
            ["", "plug"].into_iter().flat_map(move |plug| {
                let short = format!("{plug}{kind}:{card},{pcm}");
                [short, format!("{plug}{kind}:CARD={card},DEV={pcm}")]
            })
        });
        name == asked || card_id == asked || alsa.into_iter().any(|alsa| alsa == asked)
    };
    if let Some(candidate) = of_side(candidates, side).find(is_meant) {
        return Ok(chosen(candidate));
    }
    if asked.contains(':') || asked == "default" {
        return Ok(Chosen {
            name: asked.to_owned(),
            alsa: vec![asked.to_owned()],
            key: asked.to_owned(),
            place: None,
        });
    }
    Err(missing(candidates, Some(asked), side))
}

/// The other side of the same card, or the first of its side.
fn beside(candidates: &[Candidate], other: &Chosen, side: DeviceSide) -> Result<Chosen, Refused> {
    let same = of_side(candidates, side)
        .find(|candidate| other.place.is_some_and(|at| at.card == candidate.device.place.card));
    same.map_or_else(|| first(candidates, side), |candidate| Ok(chosen(candidate)))
}

fn first(candidates: &[Candidate], side: DeviceSide) -> Result<Chosen, Refused> {
    of_side(candidates, side).next().map(chosen).ok_or_else(|| missing(candidates, None, side))
}

fn missing(candidates: &[Candidate], asked: Option<&str>, side: DeviceSide) -> Refused {
    let known = of_side(candidates, side).map(|candidate| candidate.device.name.clone()).collect();
    Refused::NoDevice { asked: asked.map(str::to_owned), side, known }
}

fn chosen(candidate: &Candidate) -> Chosen {
    let Device { name, card_id, place, .. } = &candidate.device;
    let (card, pcm) = (place.card, place.pcm);
    Chosen {
        name: name.clone(),
        // The one that converts whatever the device lacks; cpal lists it by the card's number.
        alsa: vec![
            format!("plughw:CARD={card_id},DEV={pcm}"),
            format!("plughw:CARD={card},DEV={pcm}"),
        ],
        key: format!("{card_id},{pcm}"),
        place: Some(*place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(card: u8, id: &str, capture: bool, holder: Option<&str>) -> Candidate {
        Candidate {
            device: Device {
                name: format!("Name of {id} (hw:{id},0)"),
                place: Place { card, pcm: 0, capture },
                subs: 1,
                card_id: id.to_owned(),
                driver: "USB-Audio".to_owned(),
                pcm_name: None,
            },
            holder: holder.map(|name| Holder { pid: 7, name: Some(name.to_owned()) }),
        }
    }

    /// A camera with a microphone, a screen with a loudspeaker, a headset with both.
    fn desk() -> Vec<Candidate> {
        vec![
            candidate(0, "Camera", true, None),
            candidate(1, "Screen", false, None),
            candidate(2, "Headset", true, None),
            candidate(2, "Headset", false, None),
        ]
    }

    fn names(chosen: Result<(Chosen, Chosen), Refused>) -> (String, String) {
        let (capture, render) = chosen.unwrap();
        (capture.key, render.key)
    }

    #[test]
    fn card_with_both_sides_is_the_default() {
        let both = ("Headset,0".to_owned(), "Headset,0".to_owned());
        assert_eq!(names(choose(&desk(), None, None)), both);
        assert_eq!(names(choose(&desk()[..2], None, None)), ("Camera,0".into(), "Screen,0".into()));
    }

    #[test]
    fn device_goes_by_card_name_and_alsa_name() {
        for asked in
            ["Headset", "Name of Headset (hw:Headset,0)", "hw:Headset,0", "plughw:CARD=2,DEV=0"]
        {
            let names = names(choose(&desk(), Some(asked), Some("Screen")));
            assert_eq!(names, ("Headset,0".into(), "Screen,0".into()), "{asked}");
        }
        let (capture, _) = choose(&desk(), Some("sysdefault:CARD=Camera"), None).unwrap();
        assert_eq!(
            (capture.alsa, capture.place),
            (vec!["sysdefault:CARD=Camera".to_owned()], None)
        );
    }

    #[test]
    fn other_side_is_the_same_cards_where_it_has_one() {
        assert_eq!(names(choose(&desk(), None, Some("Headset"))).0, "Headset,0");
        assert_eq!(names(choose(&desk(), Some("Camera"), None)).1, "Screen,0");
    }

    #[test]
    fn unknown_name_is_answered_with_those_that_there_are() {
        let refused = choose(&desk(), Some("Jabra"), None).unwrap_err();
        let known = vec![desk()[0].device.name.clone(), desk()[2].device.name.clone()];
        let asked = Some("Jabra".to_owned());
        assert_eq!(refused, Refused::NoDevice { asked, side: DeviceSide::Capture, known });
        let refused = choose(&[], None, None).unwrap_err();
        assert!(matches!(refused, Refused::NoDevice { asked: None, .. }), "{refused:?}");
    }

    #[test]
    fn held_device_is_busy_and_any_other_one_is_a_call() {
        let mut held = desk();
        held[3] = candidate(2, "Headset", false, Some("meeting"));
        assert!(matches!(choose(&held, None, None), Err(Refused::Busy { .. })));
        let elsewhere = choose(&held, Some("Camera"), Some("Screen"));
        assert!(matches!(elsewhere, Err(Refused::InCall { .. })), "{elsewhere:?}");
    }
}
