//! A Linux guest with real kernel sound drivers, made of Debian packages, on a host that is left as it is.
//!
//! ```text
//! apt ─► packages (cache) ─► image: initramfs of busybox, modules, our programs ─► machine: QEMU, software emulation
//!            └► kernel ──────────────────────────────────────────────────────────────┘   └─ share/ (9p): in and out
//!            └► or system: a whole Debian with systemd, on which our packages are installed
//! ```
//! Packages are downloaded and unpacked into the cache, never installed: QEMU's would remove others on some hosts,
//! and a kernel has no business there. `cpio` and `modules` are cores; the rest are shells.

pub mod cpio;
pub mod image;
pub mod machine;
pub mod modules;
pub mod packages;
pub mod system;
