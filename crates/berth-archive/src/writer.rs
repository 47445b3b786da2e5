//! Writes tars that are the same bytes for the same members: ustar headers, PAX records only for what does not fit.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use crate::{
    error::ArchiveError,
    member::{Kind, Member},
    pax,
};

const BLOCK: u64 = 512;

/// Writes a tar, member by member.
pub struct TarWriter<W> {
    output: W,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `output`.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Adds a member with `member.size` bytes from `data`.
    ///
    /// # Errors
    /// [`ArchiveError::Output`]; [`ArchiveError::Truncated`] if `data` ends early.
    pub fn append(&mut self, member: &Member, data: impl Read) -> Result<(), ArchiveError> {
        self.header(member)?;
        let copied = copy(&mut data.take(member.size), &mut self.output, member.size).map_err(ArchiveError::Output)?;
        if copied != member.size {
            return Err(ArchiveError::Truncated(String::from_utf8_lossy(&member.name).into_owned()));
        }
        self.pad(copied)
    }

    /// Adds a member whose bytes are `data`, whatever its `size` says.
    ///
    /// # Errors
    /// [`ArchiveError::Output`].
    pub fn append_bytes(&mut self, member: &Member, data: &[u8]) -> Result<(), ArchiveError> {
        self.append(&Member { size: data.len() as u64, ..member.clone() }, data)
    }

    /// Writes the end of the archive and gives the output back.
    ///
    /// # Errors
    /// [`ArchiveError::Output`].
    pub fn finish(mut self) -> Result<W, ArchiveError> {
        self.put(&[0; 2 * BLOCK as usize])?;
        self.output.flush().map_err(ArchiveError::Output)?;
        Ok(self.output)
    }

    fn header(&mut self, member: &Member) -> Result<(), ArchiveError> {
        let mut header = Header::new_ustar();
        let mut records = Vec::new();
        header.set_entry_type(match member.kind {
            Kind::File => EntryType::Regular,
            Kind::HardLink => EntryType::Link,
            Kind::Symlink => EntryType::Symlink,
            Kind::CharDevice => EntryType::Char,
            Kind::BlockDevice => EntryType::Block,
            Kind::Directory => EntryType::Directory,
            Kind::Fifo => EntryType::Fifo,
        });
        let mut name = member.name.clone();
        if member.kind == Kind::Directory && !name.ends_with(b"/") {
            name.push(b'/');
        }
        set_name(&mut header, &name, &mut records);
        set_link(&mut header, &member.link, &mut records);
        header.set_mode(member.mode);
        header.set_uid(fitting(member.uid, 7, b"uid", &mut records));
        header.set_gid(fitting(member.gid, 7, b"gid", &mut records));
        header.set_size(fitting(member.size, 11, b"size", &mut records));
        set_mtime(&mut header, member, &mut records);
        if matches!(member.kind, Kind::CharDevice | Kind::BlockDevice) {
            let device = |done: io::Result<()>| done.map_err(ArchiveError::Output);
            device(header.set_device_major(member.device.0))?;
            device(header.set_device_minor(member.device.1))?;
        }
        for (name, value) in &member.xattrs {
            pax::append(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        if !records.is_empty() {
            self.extended(&records)?;
        }
        header.set_cksum();
        self.put(header.as_bytes())
    }

    fn extended(&mut self, records: &[u8]) -> Result<(), ArchiveError> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        set_name(&mut header, b"PaxHeaders.0/member", &mut Vec::new());
        header.set_mode(0o644);
        header.set_size(records.len() as u64);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.put(header.as_bytes())?;
        self.put(records)?;
        self.pad(records.len() as u64)
    }

    fn pad(&mut self, size: u64) -> Result<(), ArchiveError> {
        let zeros = [0; BLOCK as usize];
        self.put(&zeros[..usize::try_from(size.next_multiple_of(BLOCK) - size).expect("less than a block")])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.output.write_all(bytes).map_err(ArchiveError::Output)
    }
}

/// How much is copied at a time, in bytes.
const COPY: usize = 256 * 1024;

/// As [`io::copy`], whose buffer is too small for what is mostly large files.
fn copy(from: &mut impl Read, to: &mut impl Write, size: u64) -> io::Result<u64> {
    let mut buffer = vec![0; usize::try_from(size).map_or(COPY, |size| size.clamp(1, COPY))];
    let mut copied = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The value if it fits so many octal digits; else zero, and a record that says it.
fn fitting(value: u64, digits: u32, key: &[u8], records: &mut Vec<u8>) -> u64 {
    if value < 8_u64.pow(digits) {
        return value;
    }
    pax::append(records, key, value.to_string().as_bytes());
    0
}

fn set_name(header: &mut Header, name: &[u8], records: &mut Vec<u8>) {
    let ustar = header.as_ustar_mut().expect("made as ustar");
    if name.len() <= ustar.name.len() {
        ustar.name[..name.len()].copy_from_slice(name);
        return;
    }
    // The longest prefix that fits, up to a slash that both parts leave out.
    let split = (0..name.len().saturating_sub(1).min(ustar.prefix.len() + 1)).rev().find(|at| name[*at] == b'/');
    if let Some(at) = split.filter(|at| *at > 0 && name.len() - at - 1 <= ustar.name.len()) {
        ustar.prefix[..at].copy_from_slice(&name[..at]);
        ustar.name[..name.len() - at - 1].copy_from_slice(&name[at + 1..]);
        return;
    }
    pax::append(records, b"path", name);
    let kept = ustar.name.len();
    ustar.name.copy_from_slice(&name[..kept]);
}

fn set_link(header: &mut Header, link: &[u8], records: &mut Vec<u8>) {
    let ustar = header.as_ustar_mut().expect("made as ustar");
    let kept = link.len().min(ustar.linkname.len());
    ustar.linkname[..kept].copy_from_slice(&link[..kept]);
    if kept < link.len() {
        pax::append(records, b"linkpath", link);
    }
}

fn set_mtime(header: &mut Header, member: &Member, records: &mut Vec<u8>) {
    let time = member.mtime;
    let plain = u64::try_from(time.seconds).ok().filter(|seconds| *seconds < 8_u64.pow(11));
    header.set_mtime(plain.unwrap_or(0));
    if plain.is_none() || time.nanos != 0 {
        let text = match (time.seconds, time.nanos) {
            (seconds, 0) => seconds.to_string(),
            (seconds, nanos) if seconds < 0 => {
                let (whole, rest) = (-(seconds + 1), 1_000_000_000 - nanos);
                format!("-{whole}.{rest:09}")
            }
            (seconds, nanos) => format!("{seconds}.{nanos:09}"),
        };
        pax::append(records, b"mtime", text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TarReader, member::Time};

    fn round_trip(member: &Member, data: &[u8]) -> (Member, Vec<u8>) {
        let mut writer = TarWriter::new(Vec::new());
        writer.append_bytes(member, data).expect("memory");
        let bytes = writer.finish().expect("memory");
        let mut reader = TarReader::new(bytes.as_slice());
        let read = reader.next_member().expect("own archive").expect("one member");
        let data = reader.read_all(1 << 20).expect("data");
        assert!(reader.next_member().expect("end").is_none());
        (read, data)
    }

    #[test]
    fn whatever_is_written_is_read_again() {
        let long = [b"d".repeat(150), b"/".to_vec(), b"n".repeat(90)].concat();
        let very_long = [b"d/".repeat(200), b"n".repeat(255)].concat();
        for name in [&b"a"[..], b"b\xff\n", &long, &very_long, &b"n".repeat(101)] {
            let mut member = Member::new(name, Kind::File);
            (member.mode, member.uid, member.gid) = (0o4755, 3_000_000_000, 7);
            member.mtime = Time { seconds: -5, nanos: 250_000_000 };
            member.xattrs = vec![(b"user.x".to_vec(), b"\n\0=".to_vec()), (b"user.empty".to_vec(), Vec::new())];
            let (read, data) = round_trip(&member, b"hello");
            assert_eq!((read, data), (Member { size: 5, ..member }, b"hello".to_vec()));
        }
        let mut link = Member::new(b"l", Kind::Symlink);
        link.link = b"t".repeat(300);
        assert_eq!(round_trip(&link, b"").0, link);
        let mut device = Member::new(b"dev", Kind::BlockDevice);
        device.device = (8, 70_000);
        assert_eq!(round_trip(&device, b"").0, device);
    }
}
