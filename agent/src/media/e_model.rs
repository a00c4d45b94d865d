//! The E-model: what loss, delay and codec do to a conversation, as a rating R and as a MOS (ITU-T G.107).
//!
//! Three scales, one form: `R = R_max - Id - Ie,eff`, with `Ie,eff = Ie + (A - Ie) * Ppl / (Ppl / BurstR + Bpl)` and
//! Ppl in percent, counted behind the jitter buffer. Narrowband (G.107) ends at 93.2 and A is 95; wideband (G.107.1)
//! at 129 and A is 95; fullband (G.107.2) at 148 and A is 132. **R of different scales never compare**, nor does a MOS
//! of one formula with that of another: each result names its [`Formula`], and the raw inputs stay beside it.
//!
//! What is left out: noise, loudness and echo are taken as the recommendation's defaults, which no passive watcher
//! knows better; the advantage factor is 0.

use super::codec::Codec;

/// The scale of a rating, by the band of the codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scale {
    /// 300 to 3,400 Hz.
    Narrowband,
    /// 50 to 7,000 Hz.
    Wideband,
    /// 20 to 20,000 Hz.
    Fullband,
}

/// The formula of a result. A change of any constant is a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Formula {
    /// G.107 with its defaults: Ro - Is = 93.2; Id by Cole and Rosenbluth.
    G107V1,
    /// G.107.1 with its defaults: 129.
    G1071V1,
    /// G.107.2 with its defaults: 148, and 132 in place of 95.
    G1072V1,
}

impl Formula {
    /// The formula of a scale.
    #[must_use]
    pub const fn of(scale: Scale) -> Self {
        match scale {
            Scale::Narrowband => Self::G107V1,
            Scale::Wideband => Self::G1071V1,
            Scale::Fullband => Self::G1072V1,
        }
    }

    /// As it stands in outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::G107V1 => "g107-1",
            Self::G1071V1 => "g107.1-1",
            Self::G1072V1 => "g107.2-1",
        }
    }

    /// The best R of the scale.
    #[must_use]
    pub const fn r_max(self) -> f64 {
        match self {
            Self::G107V1 => 93.2,
            Self::G1071V1 => 129.0,
            Self::G1072V1 => 148.0,
        }
    }

    /// What total loss adds up to in Ie,eff.
    const fn impairment_max(self) -> f64 {
        match self {
            Self::G107V1 | Self::G1071V1 => 95.0,
            Self::G1072V1 => 132.0,
        }
    }

    /// What R is divided by before it becomes a MOS.
    const fn r_unit(self) -> f64 {
        match self {
            Self::G107V1 => 1.0,
            Self::G1071V1 => 1.29,
            Self::G1072V1 => 1.48,
        }
    }
}

/// What a codec does by itself, and how well it stands loss (G.113).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Impairment {
    /// Equipment impairment factor, on the formula's scale of R; 0 and more.
    pub ie: f64,
    /// Packet-loss robustness factor, in percent; above 0.
    pub bpl: f64,
}

/// The raw inputs of one rating.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inputs {
    /// Formula.
    pub formula: Formula,
    /// Of the codec.
    pub impairment: Impairment,
    /// Missing at its playout moment over all frames, 0..=1.
    pub loss_ratio: f64,
    /// Mean run of missing frames over that of chance; below 1 counts as 1.
    pub burst_ratio: f64,
    /// Mouth to ear, one way, in milliseconds; 0 for a listening score.
    pub delay_ms: f64,
}

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rating {
    /// The formula; ratings of two formulas do not compare.
    pub formula: Formula,
    /// Delay impairment.
    pub id: f64,
    /// Effective equipment impairment.
    pub ie_eff: f64,
    /// The rating, 0 to the scale's best.
    pub r: f64,
    /// 1..=4.5.
    pub mos: f64,
}

/// Rates. Inputs out of range count as the nearest in range, and what is no number as the worst.
#[must_use]
pub fn rate(inputs: &Inputs) -> Rating {
    let formula = inputs.formula;
    let ie = within(inputs.impairment.ie, 0.0, formula.impairment_max());
    // Nothing stands loss worse than a factor of 1.
    let bpl =
        if inputs.impairment.bpl.is_nan() { 1.0 } else { inputs.impairment.bpl.clamp(1.0, 1e3) };
    let loss_percent = within(inputs.loss_ratio, 0.0, 1.0) * 100.0;
    let burst_ratio = within(inputs.burst_ratio, 1.0, BURST_RATIO_MAX);
    let delay_ms = within(inputs.delay_ms, 0.0, DELAY_MAX_MS);
    let ie_eff =
        ie + (formula.impairment_max() - ie) * loss_percent / (loss_percent / burst_ratio + bpl);
    let ie_eff = ie_eff.min(formula.impairment_max());
    let id = delay_impairment(delay_ms);
    let r = (formula.r_max() - id - ie_eff).max(0.0);
    Rating { formula, id, ie_eff, r, mos: mos(formula, r) }
}

/// Longer runs than these cannot be told from silence; also keeps infinities out.
const BURST_RATIO_MAX: f64 = 100.0;
/// Ten seconds: no conversation.
const DELAY_MAX_MS: f64 = 10_000.0;

fn within(value: f64, low: f64, high: f64) -> f64 {
    if value.is_nan() { high } else { value.clamp(low, high) }
}

/// Id in the form of Cole and Rosenbluth (2001), which fits G.107's for a telephone without audible echo. `delay_ms`
/// is one way, mouth to ear. Taken on every scale: G.107.1 and G.107.2 have no fast form.
fn delay_impairment(delay_ms: f64) -> f64 {
    0.024 * delay_ms + 0.11 * (delay_ms - 177.3).max(0.0)
}

/// MOS of a rating (G.107 annex B, on a scale of 100). Below 6.5 the polynomial would fall under 1.
#[must_use]
pub fn mos(formula: Formula, r: f64) -> f64 {
    let r = r / formula.r_unit();
    if r.is_nan() || r < 6.5 {
        return 1.0;
    }
    if r >= 100.0 {
        return 4.5;
    }
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5)
}

/// What the network did to what a listener hears: MS-QoE's network MOS, which knows neither delay nor devices
/// ([MS-QoE] 2.2.1.22). Microsoft's own algorithm is not public; this is the E-model's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NetworkMos {
    /// The raw inputs, delay 0.
    pub inputs: Inputs,
    /// The codec and where its factors come from.
    pub codec: Codec,
    /// The rating as it was.
    pub rating: Rating,
    /// The best MOS of that codec minus the MOS; 0 and more.
    pub degradation: f64,
}

/// Rates what was heard of one stream.
#[must_use]
pub fn network_mos(codec: Codec, loss_ratio: f64, burst_ratio: Option<f64>) -> NetworkMos {
    let inputs = Inputs {
        formula: Formula::of(codec.scale),
        impairment: codec.impairment,
        loss_ratio,
        burst_ratio: burst_ratio.unwrap_or(1.0),
        delay_ms: 0.0,
    };
    let rating = rate(&inputs);
    let best = rate(&Inputs { loss_ratio: 0.0, burst_ratio: 1.0, ..inputs });
    NetworkMos { inputs, codec, rating, degradation: (best.mos - rating.mos).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::{Formula, Impairment, Inputs, Scale, mos, network_mos, rate};
    use crate::media::codec::{Codec, codec_of};

    const G711_PLC: Impairment = Impairment { ie: 0.0, bpl: 25.1 };
    const G711: Impairment = Impairment { ie: 0.0, bpl: 4.3 };
    const G729A: Impairment = Impairment { ie: 11.0, bpl: 19.0 };

    /// Ie, loss in percent, BurstR, delay in ms => Ie,eff, Id, R, MOS: worked out by hand from the formulas.
    #[test]
    fn check_values_come_out_to_a_hundredth() {
        let cases = [
            (G711_PLC, 0.0, 1.0, 0.0, [0.0, 0.0, 93.2, 4.409]),
            (G711_PLC, 1.0, 1.0, 100.0, [3.640, 2.4, 87.160, 4.263]),
            (G711_PLC, 5.0, 2.0, 250.0, [17.210, 13.997, 61.993, 3.203]),
            (G711, 2.0, 2.0, 150.0, [35.849, 3.6, 53.751, 2.773]),
            (G729A, 2.0, 1.0, 150.0, [19.0, 3.6, 70.6, 3.625]),
        ];
        for (impairment, percent, burst_ratio, delay_ms, expected) in cases {
            let loss_ratio = percent / 100.0;
            let formula = Formula::G107V1;
            let rating = rate(&Inputs { formula, impairment, loss_ratio, burst_ratio, delay_ms });
            let found = [rating.ie_eff, rating.id, rating.r, rating.mos];
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 0.01, "{rating:?} for {expected}");
            }
        }
        let table = [
            (50.0, 2.575),
            (60.0, 3.1),
            (70.0, 3.597),
            (80.0, 4.024),
            (90.0, 4.339),
            (93.2, 4.409),
            (100.0, 4.5),
        ];
        for (r, expected) in table {
            assert!((mos(Formula::G107V1, r) - expected).abs() < 0.001, "{r}");
            assert!((mos(Formula::G1071V1, r * 1.29) - expected).abs() < 0.001, "{r}");
            assert!((mos(Formula::G1072V1, r * 1.48) - expected).abs() < 0.001, "{r}");
        }
    }

    #[test]
    fn each_scale_has_its_own_end_and_formula() {
        let best = |scale| {
            let impairment = Impairment { ie: 0.0, bpl: 10.0 };
            let formula = Formula::of(scale);
            rate(&Inputs { formula, impairment, loss_ratio: 0.0, burst_ratio: 1.0, delay_ms: 0.0 })
        };
        assert_eq!(best(Scale::Narrowband).r, 93.2);
        assert_eq!(best(Scale::Wideband).r, 129.0);
        assert_eq!(best(Scale::Fullband).r, 148.0);
        assert_eq!(best(Scale::Fullband).mos, 4.5);
        // All lost: 148 - 132 * 100 / 110 = 28; 28 / 1.48 = 18.9.
        let impairment = Impairment { ie: 0.0, bpl: 10.0 };
        let formula = Formula::G1072V1;
        let lost =
            rate(&Inputs { formula, impairment, loss_ratio: 1.0, burst_ratio: 1.0, delay_ms: 0.0 });
        assert!((lost.r - 28.0).abs() < 1e-9, "{lost:?}");
    }

    #[test]
    fn what_is_no_number_is_the_worst_and_never_out_of_range() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e300, f64::MIN_POSITIVE];
        for formula in [Formula::G107V1, Formula::G1071V1, Formula::G1072V1] {
            for a in odd {
                for b in odd {
                    for c in odd {
                        let impairment = Impairment { ie: a, bpl: b };
                        let rating = rate(&Inputs {
                            formula,
                            impairment,
                            loss_ratio: c,
                            burst_ratio: a,
                            delay_ms: b,
                        });
                        assert!((0.0..=formula.r_max()).contains(&rating.r), "{rating:?}");
                        assert!((1.0..=4.5).contains(&rating.mos), "{rating:?}");
                    }
                }
            }
        }
        let nothing_known = Inputs {
            formula: Formula::G107V1,
            impairment: G711,
            loss_ratio: f64::NAN,
            burst_ratio: 1.0,
            delay_ms: 0.0,
        };
        assert!(rate(&nothing_known).mos < 1.01);
    }

    #[test]
    fn degradation_is_counted_from_the_best_of_the_same_codec() {
        let g729: Codec = codec_of(18, Some(8_000)).unwrap();
        let clean = network_mos(g729, 0.0, None);
        assert_eq!(clean.degradation, 0.0);
        assert!((clean.rating.r - 82.2).abs() < 1e-9, "93.2 - 11: {clean:?}");
        // 2 %: Ie,eff = 11 + 84 * 2 / 21 = 19; R 74.2.
        let lossy = network_mos(g729, 0.02, Some(1.0));
        let expected = mos(Formula::G107V1, 82.2) - mos(Formula::G107V1, 74.2);
        assert!((lossy.degradation - expected).abs() < 1e-9);
    }
}
