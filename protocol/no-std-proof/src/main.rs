//! A whole program around roomtone-protocol without std, allocator or libc.
//!
//! It writes records of the kinds that hold lists and texts, reads them back and leaves with 0 where they are the same.
//! Were an allocator or any other symbol of std needed, this would not link. It starts where the kernel jumps to and
//! knows x86-64 Linux only.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

use roomtone_protocol::device::{
    DeviceCause, DeviceEpisode, DeviceSide, DeviceSummary, EpisodeState, SelfTest, SelfTestOutcome,
};
use roomtone_protocol::frame::{decode, encode_record};
use roomtone_protocol::id::{CallId, Epoch, LegNumber, RecordId, Sequence};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::media::{Direction, Media, StreamKey};
use roomtone_protocol::message::Message;
use roomtone_protocol::ratio::Ratio;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

// The kernel leaves the stack aligned to 16 bytes; `call` brings it to what the C calling convention expects.
global_asm!(
    ".globl _start",
    "_start:",
    "call {prove}",
    "mov edi, eax",
    "mov eax, 60",
    "syscall",
    prove = sym prove,
);

// What a compiler takes for granted on every target; elsewhere libc or the target's runtime brings them.
global_asm!(
    ".globl memcpy, memmove, memset, memcmp, bcmp",
    "memcpy:",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "mov r8, rdi",
    "sub r8, rsi",
    "cmp r8, rdx",
    "jb 2f",
    "rep movsb",
    "ret",
    // The destination begins inside the source: from the end.
    "2:",
    "lea rdi, [rdi + rdx - 1]",
    "lea rsi, [rsi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    "memcmp:",
    "bcmp:",
    "xor eax, eax",
    "3:",
    "test rdx, rdx",
    "jz 4f",
    "movzx eax, byte ptr [rdi]",
    "movzx ecx, byte ptr [rsi]",
    "inc rdi",
    "inc rsi",
    "dec rdx",
    "sub eax, ecx",
    "jz 3b",
    "4:",
    "ret",
);

// The compiled core names the unwinder's personality routine in its tables; with `panic = "abort"` nothing calls it.
global_asm!(".globl rust_eh_personality", "rust_eh_personality:", "ud2");

/// The exit code: 0 where all records came back, 1 where one did not, 2 where something panicked.
extern "C" fn prove() -> i32 {
    let comes_back = |record: Record| {
        let id = RecordId { epoch: Epoch(7), sequence: Sequence(9) };
        let mut buffer = [0; FRAME_BYTES_MAX];
        let Ok(length) = encode_record(id, record.clone(), &mut buffer) else { return false };
        let Ok((frame, consumed)) = decode(&buffer[..length]) else { return false };
        consumed == length
            && frame.header.id == id
            && frame.message == Some(Message::Record(record))
    };
    let records = [intervals(), episode(), summary(), self_test()];
    let all = records.into_iter().all(|record| record.is_some_and(comes_back));
    i32::from(!all)
}

fn intervals() -> Option<Record> {
    let row = StreamInterval { received: 493, lost: 7, ..StreamInterval::default() };
    let interval = LegInterval {
        duration_ms: 10_000,
        streams: [row].into_iter().collect(),
        ..LegInterval::default()
    };
    let key = StreamKey { ssrc: [1, 2, 3, 4], direction: Direction::Ingress, media: Media::Audio };
    Some(Record::LegIntervals(LegIntervals {
        call: CallId(1),
        leg: LegNumber(0),
        first: 0,
        started_wall_ms: 1_795_359_600_000,
        streams: [key].into_iter().collect(),
        pack: IntervalPack::from_intervals(&[interval.clone(), interval], 1).ok()?,
        heard: None,
    }))
}

fn episode() -> Option<Record> {
    Some(Record::DeviceEpisode(DeviceEpisode {
        episode: 1,
        call: None,
        device: "headset".try_into().ok()?,
        side: DeviceSide::Capture,
        cause: DeviceCause::Stalled,
        onset: Stamp { wall_us: 1, uptime_us: 1 },
        bad_us: 1,
        state: EpisodeState::Open,
    }))
}

fn summary() -> Option<Record> {
    Some(Record::DeviceSummary(DeviceSummary {
        call: CallId(1),
        device: "headset".try_into().ok()?,
        side: DeviceSide::Render,
        not_functioning: Ratio::new(1, 2)?,
        muted: Ratio::UNOBSERVED,
        episodes: 1,
        detector: 1,
        zero_volume: Ratio::new(1, 2),
        glitches: Some(3),
    }))
}

fn self_test() -> Option<Record> {
    Some(Record::SelfTest(SelfTest {
        ended: Stamp { wall_us: 1, uptime_us: 1 },
        requested: true,
        capture: "headset".try_into().ok()?,
        render: "headset".try_into().ok()?,
        outcome: SelfTestOutcome::Heard,
        level_db_tenths: Some(-312),
        delay_us: Some(187_250),
    }))
}

#[panic_handler]
fn on_panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: `exit` takes its code in edi, touches no memory of ours and does not return.
    unsafe { asm!("syscall", in("eax") 60, in("edi") 2, options(noreturn, nostack)) }
}
