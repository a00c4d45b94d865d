//! A folder that looks like a machine with sound, as the kernel lays it out.
#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::path::{Path, PathBuf};

use roomtone_agent::audio::inventory::Place;
use tempfile::TempDir;

pub(crate) struct SoundTree(TempDir);

impl SoundTree {
    /// A machine without a sound subsystem.
    pub(crate) fn without_sound() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A machine with one, and no card yet.
    pub(crate) fn new() -> Self {
        let tree = Self::without_sound();
        fs::create_dir_all(tree.root().join("proc/asound")).unwrap();
        fs::create_dir_all(tree.root().join("dev/snd")).unwrap();
        tree.write_cards();
        tree
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    /// Plugs in a card with one microphone and one loudspeaker.
    pub(crate) fn headset(&self, card: u8, id: &str, name: &str) {
        self.headset_bytes(card, id.as_bytes(), name.as_bytes());
    }

    pub(crate) fn headset_bytes(&self, card: u8, id: &[u8], name: &[u8]) {
        let folder = self.card(card);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("id"), id).unwrap();
        fs::write(folder.join("name"), name).unwrap();
        for capture in [true, false] {
            let place = Place { card, pcm: 0, capture };
            fs::create_dir_all(self.sub(place)).unwrap();
            let info = format!("card: {card}\ndevice: 0\nid: USB Audio\nname: USB Audio\n");
            fs::write(self.sub(place).parent().unwrap().join("info"), info).unwrap();
            self.close(place);
        }
        self.write_cards();
        for capture in [true, false] {
            fs::write(self.node(Place { card, pcm: 0, capture }), b"").unwrap();
        }
        fs::write(self.root().join(format!("dev/snd/controlC{card}")), b"").unwrap();
    }

    pub(crate) fn unplug(&self, card: u8) {
        fs::remove_dir_all(self.card(card)).unwrap();
        self.write_cards();
        for capture in [true, false] {
            fs::remove_file(self.node(Place { card, pcm: 0, capture })).unwrap();
        }
        fs::remove_file(self.root().join(format!("dev/snd/controlC{card}"))).unwrap();
    }

    /// Lets a device run for a thread and stand at a position.
    pub(crate) fn run(&self, place: Place, owner: u32, hw_ptr: u64) {
        let params = "access: MMAP_INTERLEAVED\nformat: S16_LE\nsubformat: STD\nchannels: 1\n\
            rate: 48000 (48000/1)\nperiod_size: 2400\nbuffer_size: 4800\n";
        fs::write(self.sub(place).join("hw_params"), params).unwrap();
        let status = format!(
            "state: RUNNING\nowner_pid   : {owner}\ntrigger_time: 12.345678901\n\
            tstamp      : 0.000000000\ndelay       : 1200\navail       : 1200\navail_max   : 2400\n\
            -----\nhw_ptr      : {hw_ptr}\nappl_ptr    : {hw_ptr}\n"
        );
        self.write_status(place, status.as_bytes());
    }

    pub(crate) fn close(&self, place: Place) {
        fs::write(self.sub(place).join("hw_params"), "closed\n").unwrap();
        self.write_status(place, b"closed\n");
    }

    /// Whole at once, as the kernel's files are.
    pub(crate) fn write_status(&self, place: Place, text: &[u8]) {
        let new = self.root().join("status.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.sub(place).join("status")).unwrap();
    }

    /// A thread and its process.
    pub(crate) fn process(&self, thread: u32, group: u32, thread_name: &str, name: &str) {
        for (id, name) in [(thread, thread_name), (group, name)] {
            let folder = self.root().join(format!("proc/{id}"));
            fs::create_dir_all(&folder).unwrap();
            let status = format!("Name:\t{name}\nUmask:\t0022\nTgid:\t{group}\nPid:\t{id}\n");
            fs::write(folder.join("status"), status).unwrap();
        }
    }

    pub(crate) fn node(&self, Place { card, pcm, capture }: Place) -> PathBuf {
        let side = if capture { 'c' } else { 'p' };
        self.root().join(format!("dev/snd/pcmC{card}D{pcm}{side}"))
    }

    fn card(&self, card: u8) -> PathBuf {
        self.root().join(format!("proc/asound/card{card}"))
    }

    fn sub(&self, Place { card, pcm, capture }: Place) -> PathBuf {
        let side = if capture { 'c' } else { 'p' };
        self.card(card).join(format!("pcm{pcm}{side}/sub0"))
    }

    fn write_cards(&self) {
        let mut text = Vec::new();
        for card in 0..=255 {
            let Ok(id) = fs::read(self.card(card).join("id")) else {
                continue;
            };
            let name = fs::read(self.card(card).join("name")).unwrap();
            text.extend(format!("{card:2} [").bytes());
            text.extend(&id);
            text.extend(vec![b' '; 15_usize.saturating_sub(id.len())]);
            text.extend(b"]: USB-Audio - ");
            text.extend(&name);
            text.extend(b"\n                      at usb-vhci_hcd.0-1, full speed\n");
        }
        if text.is_empty() {
            text.extend(b"--- no soundcards ---\n");
        }
        fs::write(self.root().join("proc/asound/cards"), text).unwrap();
    }
}
