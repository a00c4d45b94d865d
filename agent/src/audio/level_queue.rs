//! The way of a callback's numbers to whoever reads them: a queue without locks, and a meter at its end.
//!
//! [`LevelSender`] lives in the callback and does two things: [`BufferLevel::of`] and a push. It allocates nothing,
//! locks nothing and asks no clock. A queue's memory must outlive both ends whichever goes last, so it is never freed:
//! when both ends are dropped it waits for the next stream. There are [`QUEUES_MAX`] at most. Where the reader comes
//! too late and buffers are lost, the meter begins anew, because a run that was not seen whole is no run.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heapless::spsc::{Consumer, Producer, Queue};

use super::level::{BufferLevel, LevelReport, Meter, Sample};

/// Buffers on their way: the reader comes four times a second, and the shortest periods of sound servers are 1.3 ms
/// (64 frames at 48 kHz), which is 192 buffers a time.
const BUFFERS_MAX: usize = 256;
/// Queues that are ever made, some 22 KiB each: one for every stream that may be open, and as many again for those
/// whose threads hang.
const QUEUES_MAX: usize = 16;

/// Both ends of a queue while nobody has them.
#[derive(Default)]
struct Ends {
    producer: Option<Producer<'static, BufferLevel>>,
    consumer: Option<Consumer<'static, BufferLevel>>,
}

/// One queue, and what its ends share.
#[derive(Default)]
struct Slot {
    ends: Mutex<Ends>,
    /// Buffers that found no place.
    lost: AtomicU32,
}

/// All queues that were made so far.
static SLOTS: Mutex<Vec<Arc<Slot>>> = Mutex::new(Vec::new());

/// The end in the callback.
pub struct LevelSender {
    slot: Arc<Slot>,
    /// Taken when dropped, never before.
    producer: Option<Producer<'static, BufferLevel>>,
}

/// The end where reports are made.
pub struct LevelReceiver {
    slot: Arc<Slot>,
    /// Taken when dropped, never before.
    consumer: Option<Consumer<'static, BufferLevel>>,
    rate_hz: u32,
    meter: Meter,
    lost: u64,
}

/// Takes a queue that nobody uses, or makes one; `None` where there are too many already.
#[must_use]
pub fn level_queue() -> Option<(LevelSender, LevelReceiver)> {
    let mut slots = lock(&SLOTS);
    let free = slots.iter().find_map(|slot| Some((Arc::clone(slot), slot.take()?)));
    let (slot, (producer, mut consumer)) = match free {
        Some(free) => free,
        None if slots.len() >= QUEUES_MAX => return None,
        None => {
            let queue: &'static mut Queue<BufferLevel, BUFFERS_MAX> =
                Box::leak(Box::new(Queue::new()));
            let slot = Arc::new(Slot::default());
            slots.push(Arc::clone(&slot));
            (slot, queue.split())
        }
    };
    drop(slots);
    // What an earlier stream left is not this one's.
    while consumer.dequeue().is_some() {}
    slot.lost.store(0, Ordering::Relaxed);
    let receiver = LevelReceiver {
        slot: Arc::clone(&slot),
        consumer: Some(consumer),
        rate_hz: 1,
        meter: Meter::new(1),
        lost: 0,
    };
    Some((LevelSender { slot, producer: Some(producer) }, receiver))
}

impl Slot {
    /// Both ends, where both are here.
    fn take(&self) -> Option<(Producer<'static, BufferLevel>, Consumer<'static, BufferLevel>)> {
        let mut ends = lock(&self.ends);
        if ends.producer.is_none() || ends.consumer.is_none() {
            return None;
        }
        ends.producer.take().zip(ends.consumer.take())
    }
}

impl LevelSender {
    /// Measures a callback's buffer of `channels` interleaved channels and passes the numbers on.
    pub fn handle_buffer<S: Sample>(&mut self, buffer: &[S], channels: u16) {
        let level = BufferLevel::of(buffer, channels);
        let is_full = self.producer.as_mut().is_none_or(|queue| queue.enqueue(level).is_err());
        if is_full {
            self.slot.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LevelReceiver {
    /// Says how many frames a second the stream has; reports mean nothing before.
    pub fn set_rate(&mut self, rate_hz: u32) {
        self.rate_hz = rate_hz;
        self.meter = Meter::new(rate_hz);
    }

    /// Takes what has arrived; true where something had.
    pub fn drain(&mut self) -> bool {
        let mut came = false;
        while let Some(level) = self.consumer.as_mut().and_then(Consumer::dequeue) {
            self.meter.handle_buffer(&level);
            came = true;
        }
        let lost = self.slot.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.lost += u64::from(lost);
            self.meter = Meter::new(self.rate_hz);
        }
        came
    }

    /// What arrived since the last report; `None` where nothing did.
    pub fn take_report(&mut self) -> Option<LevelReport> {
        self.meter.take_report()
    }

    /// Buffers that were lost because nobody read in time.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl Drop for LevelSender {
    fn drop(&mut self) {
        lock(&self.slot.ends).producer = self.producer.take();
    }
}

impl Drop for LevelReceiver {
    fn drop(&mut self) {
        lock(&self.slot.ends).consumer = self.consumer.take();
    }
}

/// Nothing can panic while it holds one of these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn numbers_arrive_in_order_and_become_a_report() {
        let (mut sender, mut receiver) = level_queue().unwrap();
        receiver.set_rate(1_000);
        assert!(!receiver.drain());
        sender.handle_buffer(&[100i16; 50], 1);
        sender.handle_buffer(&[0i16; 150], 1);
        assert!(receiver.drain());
        let report = receiver.take_report().unwrap();
        assert_eq!(report.span, Duration::from_millis(200));
        assert_eq!(report.zero_run, Duration::from_millis(150));
        assert_eq!(receiver.take_report(), None);
    }

    /// 256 places hold 255 buffers; a run of zeros of which a part was lost is not told.
    #[test]
    fn lost_buffers_are_counted_and_end_all_runs() {
        let (mut sender, mut receiver) = level_queue().unwrap();
        receiver.set_rate(1_000);
        for _ in 0..300 {
            sender.handle_buffer(&[0i16; 10], 1);
        }
        assert!(receiver.drain());
        assert_eq!(receiver.lost(), 300 - 255);
        assert_eq!(receiver.take_report(), None);
        sender.handle_buffer(&[0i16; 10], 1);
        receiver.drain();
        assert_eq!(receiver.take_report().unwrap().zero_run, Duration::from_millis(10));
    }

    /// 1,000 streams one after the other take the place of a few; what one left is not the next one's.
    #[test]
    fn queue_is_used_again_when_both_ends_are_gone() {
        for _ in 0..1_000 {
            let (mut sender, mut receiver) = level_queue().unwrap();
            receiver.set_rate(1_000);
            assert!(!receiver.drain());
            sender.handle_buffer(&[1i16; 10], 1);
            // In either order.
            drop((sender, receiver));
        }
        assert!(lock(&SLOTS).len() <= QUEUES_MAX);
    }
}
