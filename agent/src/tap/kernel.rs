//! What the tap asks of the kernel that no safe library does: options of a packet socket, its address, and the ring
//! that both share. The one file of the agent with `unsafe`.
//!
//! Nothing is decided here. Each function is one system call with its arguments made safe, or one look at the ring.
//! A ring is a row of blocks. The kernel fills one after the other; a block's status word says whose it is. While it
//! is the reader's the kernel does not touch it, and finds no room where it would have to.
#![allow(
    unsafe_code,
    reason = "a mapping that the kernel writes to, and options that no crate knows"
)]

use std::mem::{offset_of, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use super::filter::Instruction;

/// What a ring consists of.
///
/// Of a socket that was passed, whoever made the ring says it and is believed: the kernel compares the product alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RingShape {
    /// The size of a block, in bytes, a multiple of the page size.
    pub block_bytes: u32,
    /// How many blocks there are.
    pub blocks: u32,
}

/// The smallest page of any architecture that Linux runs on.
const PAGE_BYTES: u32 = 4_096;

/// What the kernel counted since it was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    /// Packets that passed the filter, dropped ones included.
    pub received: u32,
    /// Of these, packets that found no room.
    pub dropped: u32,
}

/// Attaches a filter, in place of the one that is there.
pub(super) fn attach_filter(socket: BorrowedFd<'_>, program: &[Instruction]) -> Result<(), Errno> {
    let mut code: Vec<libc::sock_filter> = program
        .iter()
        .map(|it| libc::sock_filter {
            code: it.code,
            jt: it.on_true,
            jf: it.on_false,
            k: it.operand,
        })
        .collect();
    let len = u16::try_from(code.len()).map_err(|_| Errno::INVAL)?;
    // The kernel copies the program and does not write to it; `code` lives until then.
    let program = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Makes the filter irremovable, for whoever holds the socket; Linux 3.9, socket(7).
pub(super) fn lock_filter(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    set_option(socket, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &on)
}

/// Takes the filter away, which a locked one answers with `PERM`.
#[cfg(test)]
pub(super) fn detach_filter(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let off: libc::c_int = 0;
    set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &off)
}

/// Makes the ring of a socket that is not bound yet; a block is handed over after `timeout_ms` at the latest, if
/// there is a packet in it.
pub(super) fn make_ring(
    socket: BorrowedFd<'_>,
    shape: RingShape,
    timeout_ms: u32,
) -> Result<(), Errno> {
    let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
    set_option(socket, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
    // In version 3 frames have the length of their packets: this one is there to divide the block.
    let tp_frame_size = 2_048;
    let request = libc::tpacket_req3 {
        tp_block_size: shape.block_bytes,
        tp_block_nr: shape.blocks,
        tp_frame_size,
        tp_frame_nr: shape.block_bytes / tp_frame_size * shape.blocks,
        tp_retire_blk_tov: timeout_ms,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    set_option(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
}

/// Receives from the interface with this number, from all where it is 0; packets come from now on.
pub(super) fn bind(socket: BorrowedFd<'_>, interface: u32) -> Result<(), Errno> {
    // SAFETY: all bits zero are a value of this structure of integers.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    // What leaves is shown to those who ask for all protocols only.
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(interface).map_err(|_| Errno::NODEV)?;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of a structure that outlives the call.
    let done = unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), length) };
    told(done)
}

/// What was counted since the last call, which forgets it.
pub(super) fn take_counted(socket: BorrowedFd<'_>) -> Result<Counted, Errno> {
    // SAFETY: all bits zero are a value of this structure of integers.
    let mut stats: libc::tpacket_stats_v3 = unsafe { zeroed() };
    let mut length = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to a structure that has as many, and whose every value is
    // valid.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            ptr::from_mut(&mut stats).cast(),
            &raw mut length,
        )
    };
    told(done)?;
    Ok(Counted { received: stats.tp_packets, dropped: stats.tp_drops })
}

fn set_option<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> Result<(), Errno> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of a value that has as many and outlives the call; what pointers in it
    // lead to is its caller's, above, and outlives the call too.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(value).cast(), length)
    };
    told(done)
}

fn told(result: libc::c_int) -> Result<(), Errno> {
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// The mapped ring of a packet socket.
#[derive(Debug)]
pub(super) struct Ring {
    start: NonNull<u8>,
    shape: RingShape,
    /// The block that is filled next, or is the reader's already.
    at: u32,
}

// SAFETY: the mapping belongs to this value alone and to no thread; the kernel does not care who reads it.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring of a socket; the kernel refuses another size than the ring has.
    pub(super) fn map(socket: impl AsFd, shape: RingShape) -> Result<Self, Errno> {
        // What the kernel itself asks of a ring: blocks are whole pages, so their heads are aligned and fit.
        if shape.blocks == 0
            || shape.block_bytes == 0
            || !shape.block_bytes.is_multiple_of(PAGE_BYTES)
        {
            return Err(Errno::INVAL);
        }
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: without an address of ours, the kernel maps where nothing is.
        let mapped =
            unsafe { rustix::mm::mmap(ptr::null_mut(), shape.bytes()?, access, flags, socket, 0)? };
        let start = NonNull::new(mapped.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, shape, at: 0 })
    }

    /// The block that is next, where the kernel has handed it over; the same one until [`Self::release`].
    pub(super) fn block(&mut self) -> Option<&[u8]> {
        // Acquire: what the kernel wrote before it gave the block away is seen.
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the block lies in the mapping, which lives as long as `self`. It is the reader's, so the kernel
        // does not write to it before `release`, which cannot be called while this slice lives.
        Some(unsafe {
            std::slice::from_raw_parts(self.place().as_ptr(), self.shape.block_bytes as usize)
        })
    }

    /// Gives the block back to the kernel, and goes on to the next one.
    pub(super) fn release(&mut self) {
        // Release: nothing is read from the block after the kernel may have begun to write.
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.at = (self.at + 1) % self.shape.blocks;
    }

    fn place(&self) -> NonNull<u8> {
        // SAFETY: `at` is below the number of blocks, so this lies in the mapping, whose size fits an `isize`.
        unsafe { self.start.add(self.at as usize * self.shape.block_bytes as usize) }
    }

    fn status(&self) -> &AtomicU32 {
        let offset = offset_of!(libc::tpacket_block_desc, hdr)
            + offset_of!(libc::tpacket_hdr_v1, block_status);
        // SAFETY: the word lies in the head of a block that begins at a page, as `map` has seen; both sides change it
        // as a whole, and no slice over it lives while this reference does.
        unsafe { AtomicU32::from_ptr(self.place().add(offset).as_ptr().cast()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let Ok(bytes) = self.shape.bytes() else { return };
        // SAFETY: the mapping is this value's own, and no slice of it outlives it. What cannot be unmapped stays, and
        // does no harm.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), bytes) };
    }
}

impl RingShape {
    /// Its size as a whole, in bytes.
    fn bytes(self) -> Result<usize, Errno> {
        let bytes = u64::from(self.block_bytes) * u64::from(self.blocks);
        usize::try_from(bytes).ok().filter(|it| isize::try_from(*it).is_ok()).ok_or(Errno::INVAL)
    }
}
