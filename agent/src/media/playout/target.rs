//! How long the modelled jitter buffer wants frames to wait: the target delay of [`playout`](super).
//!
//! A frame's delay is how much later it came than the fastest one of the last two seconds. The target covers 95 % of
//! the worst delays of half seconds, in steps of 20 ms, with a slow forgetting; frames that others overtook are weighed
//! on their own, 20 ms of delay against 1 % of frames saved. So does NetEq (quantile 0.95, forget factor 0.983, start
//! weight 2, resampling 500 ms; reordered 0.9993 and 20 ms per percent: the defaults of its delay manager).

/// The delay before anything is known.
const START_US: i64 = 80_000;
/// The width of a class of delay.
const CLASS_US: i64 = 20_000;
/// Delays of 2 s and more are not counted: no buffer is that long.
const CLASSES: usize = 100;
const QUANTILE: f32 = 0.95;
const FORGET: f32 = 0.983;
const FORGET_REORDERED: f32 = 0.9993;
/// The first observations weigh so much more.
const START_WEIGHT: f32 = 2.0;
/// The worst delay of this long is one observation.
const RESAMPLE_US: i64 = 500_000;
/// What delay is worth saving all frames: 20 ms for each percent.
const WORTH_US: f32 = 2_000_000.0;
/// Sums are brought back long before single precision ends.
const SUM_MAX: f32 = 1e12;
/// The memory for the fastest and the slowest frame: 20 slots of 100 ms of the stream's own time.
const SLOT_US: i64 = 100_000;
const SLOTS: usize = 20;

/// Delays by class, the older ones fading.
#[derive(Debug, Clone)]
struct Histogram {
    weights: [f32; CLASSES],
    sum: f32,
    forget: f32,
    added: f32,
}

impl Histogram {
    fn new(forget: f32) -> Self {
        Self { weights: [0.0; CLASSES], sum: 0.0, forget, added: 0.0 }
    }

    /// Adds one observation. Instead of making all others smaller, it weighs more than those before it.
    fn add(&mut self, class: usize) {
        // A path that reorders nothing fills one class only, with each packet.
        if class == 0 && self.sum == self.weights[0] && self.sum > 0.0 {
            self.added = (self.added + 1.0).min(1e6);
            return;
        }
        let keep = (1.0 - START_WEIGHT / (self.added + 1.0)).clamp(0.0, self.forget);
        self.added = (self.added + 1.0).min(1e6);
        if keep == 0.0 {
            self.weights = [0.0; CLASSES];
            self.sum = 0.0;
        }
        let weight = if self.sum > 0.0 { self.sum * (1.0 - keep) / keep } else { 1.0 };
        self.weights[class] += weight;
        self.sum += weight;
        if self.sum > SUM_MAX {
            for weight in &mut self.weights {
                *weight /= self.sum;
            }
            self.sum = self.weights.iter().sum();
        }
    }

    /// The first class up to which the given share lies.
    fn quantile(&self, share: f32) -> usize {
        let mut beyond = self.sum;
        for (class, weight) in self.weights.iter().enumerate() {
            beyond -= weight;
            if beyond <= self.sum * (1.0 - share) {
                return class;
            }
        }
        CLASSES - 1
    }

    /// The class at which waiting longer costs more than it saves.
    fn cheapest(&self) -> usize {
        if self.sum == self.weights[0] {
            return 0;
        }
        let (mut beyond, mut best, mut least) = (self.sum, 0, f32::MAX);
        for (class, weight) in self.weights.iter().enumerate() {
            beyond = (beyond - weight).max(0.0);
            let cost = class as f32 * CLASS_US as f32
                + WORTH_US * beyond / self.sum.max(f32::MIN_POSITIVE);
            if cost < least {
                (best, least) = (class, cost);
            }
        }
        best
    }
}

/// The least and the greatest transit of 100 ms of the stream.
#[derive(Debug, Clone, Copy)]
struct Slot {
    number: i64,
    least: i64,
    greatest: i64,
}

/// See the module's head. Times are microseconds: a place on the stream's time line, or on that of arrivals.
#[derive(Debug, Clone)]
pub struct DelayTarget {
    slots: [Slot; SLOTS],
    known: u32,
    least: i64,
    greatest: i64,
    delays: Histogram,
    reordered: Histogram,
    resample_at: Option<i64>,
    worst: i64,
    target_us: i64,
    reordered_us: i64,
}

impl Default for DelayTarget {
    fn default() -> Self {
        Self {
            slots: [Slot { number: i64::MIN, least: 0, greatest: 0 }; SLOTS],
            known: 0,
            least: 0,
            greatest: 0,
            delays: Histogram::new(FORGET),
            reordered: Histogram::new(FORGET_REORDERED),
            resample_at: None,
            worst: 0,
            target_us: START_US,
            reordered_us: 0,
        }
    }
}

impl DelayTarget {
    /// Takes a frame of some place that has arrived; `overtaken` where one of a later place came before it.
    pub fn handle(&mut self, place_us: i64, arrived_us: i64, overtaken: bool) {
        self.remember(place_us, arrived_us - place_us);
        self.known = self.known.saturating_add(1);
        if self.known < 2 {
            return;
        }
        let delay = self.delay_us(place_us, arrived_us);
        let class = usize::try_from(delay / CLASS_US).unwrap_or(usize::MAX);
        let mut weigh = overtaken;
        if !overtaken {
            let due = *self.resample_at.get_or_insert(arrived_us + RESAMPLE_US);
            if arrived_us > due {
                let worst = usize::try_from(self.worst / CLASS_US).unwrap_or(usize::MAX);
                if worst < CLASSES {
                    self.delays.add(worst);
                }
                let class = self.delays.quantile(QUANTILE) as i64;
                self.target_us = (1 + class) * CLASS_US;
                self.resample_at = Some(arrived_us + RESAMPLE_US);
                self.worst = 0;
                weigh = true;
            }
            self.worst = self.worst.max(delay);
        }
        let class = if overtaken { class } else { 0 };
        if class < CLASSES {
            self.reordered.add(class);
        }
        if weigh {
            self.reordered_us = (1 + self.reordered.cheapest() as i64) * CLASS_US;
        }
    }

    /// How much later than the fastest frame of the last two seconds a frame of that place is, or would be, by then.
    #[must_use]
    pub fn delay_us(&self, place_us: i64, arrived_us: i64) -> i64 {
        if self.known == 0 {
            return 0;
        }
        (arrived_us - place_us - self.least).max(0)
    }

    /// Between the fastest and the slowest frame of the last two seconds.
    #[must_use]
    pub fn spread_us(&self) -> i64 {
        self.greatest - self.least
    }

    /// How long frames should wait.
    #[must_use]
    pub fn target_us(&self) -> i64 {
        self.target_us.max(self.reordered_us)
    }

    fn remember(&mut self, place_us: i64, transit: i64) {
        let number = place_us.div_euclid(SLOT_US);
        let slot = &mut self.slots[number.rem_euclid(SLOTS as i64) as usize];
        if number < slot.number {
            return;
        }
        if number == slot.number {
            slot.least = slot.least.min(transit);
            slot.greatest = slot.greatest.max(transit);
            self.least = self.least.min(transit);
            self.greatest = self.greatest.max(transit);
            return;
        }
        *slot = Slot { number, least: transit, greatest: transit };
        (self.least, self.greatest) = (transit, transit);
        for slot in self.slots {
            if slot.number > number - SLOTS as i64 {
                self.least = self.least.min(slot.least);
                self.greatest = self.greatest.max(slot.greatest);
            }
        }
    }
}
