//! Writes the archive that the kernel unpacks at boot: cpio in the "new ASCII" format.
//!
//! Linux `Documentation/driver-api/early-userspace/buffer-format.rst`: each entry is `070701` and thirteen numbers of
//! eight hexadecimal digits, the name with its NUL, the data; both are filled up to a multiple of four bytes.
//! `TRAILER!!!` ends it.

/// An archive in memory.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// File types of `stat(2)`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMBOLIC_LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

impl Archive {
    /// Adds a folder; those above it come first.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, &[], (0, 0));
    }

    /// Adds a file that anybody may run or not.
    pub fn file(&mut self, path: &str, runs: Runs, data: &[u8]) {
        let mode = match runs {
            Runs::Yes => 0o755,
            Runs::No => 0o644,
        };
        self.entry(path, REGULAR | mode, data, (0, 0));
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, SYMBOLIC_LINK | 0o777, target.as_bytes(), (0, 0));
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHARACTER_DEVICE | 0o600, &[], (major, minor));
    }

    /// The whole archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8], device: (u32, u32)) {
        self.entries += 1;
        let name = path.trim_start_matches('/');
        let size = u32::try_from(data.len()).expect("a file of a guest is far below 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("a path is short");
        let numbers = [
            self.entries, // inode
            mode,
            0, // user
            0, // group
            1, // links
            0, // modified
            size,
            0, // device of the file, major and minor
            0,
            device.0,
            device.1,
            name_size,
            0, // check sum, unused in this format
        ];
        self.bytes.extend(b"070701");
        for number in numbers {
            self.bytes.extend(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.fill();
        self.bytes.extend(data);
        self.fill();
    }

    fn fill(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Whether a file is a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// It is.
    Yes,
    /// It is data.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_header_name_and_data_filled_up_to_four_bytes() {
        let mut archive = Archive::default();
        archive.file("/a", Runs::No, b"hello");
        let bytes = archive.finish();
        // Inode 1, mode 0100644 = 0x81a4, one link, 5 bytes, name of 2 bytes with its NUL.
        let header = "070701\
            00000001000081a4000000000000000000000001000000000000000500000000\
            0000000000000000000000000000000200000000";
        assert_eq!(&bytes[..110], header.as_bytes());
        // 110 + 2 = 112 is a multiple of 4 already; 5 bytes of data are filled up to 8.
        assert_eq!(&bytes[110..120], b"a\0hello\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"), "124 - 110 = 14 bytes of name and filling");
        assert_eq!(bytes.len() % 4, 0);
    }
}
