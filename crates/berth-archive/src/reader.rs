//! Members of a tar stream: headers of every dialect folded into one [`Member`], bytes handed out without a copy.
//!
//! The `tar` crate reads the header block. What stands around it is read here, because extended attributes are binary, PAX sparse files
//! are unknown to that crate, and a layer's bytes should go from the decoder's buffer straight into the file. Where dialects disagree,
//! Go's `archive/tar` decides, since it wrote nearly all layers there are.

use std::io::BufRead;

use tar::{EntryType, Header};

use crate::{
    error::{ArchiveError, from_io, lossy},
    hash,
    member::{Kind, Member, Time},
    pax::{self, Record},
    sparse::{self, MapText, PaxSparse, SparseMap},
};

const BLOCK: u64 = 512;
/// How long a PAX header or a GNU long name may be, in bytes; Go's limit.
const MAX_EXTENDED: u64 = 1 << 20;

/// Reads a tar, member by member.
pub struct TarReader<R> {
    input: R,
    /// Bytes of the archive consumed so far.
    offset: u64,
    /// Bytes of the current member that are still to come.
    remaining: u64,
    /// Bytes after them up to the next block.
    padding: u64,
    global: Vec<Record>,
    name: String,
}

/// What the headers before a member's own say about it.
#[derive(Default)]
struct Extended {
    records: Vec<Record>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> TarReader<R> {
    /// Reads the members of `input`, which is not compressed.
    pub fn new(input: R) -> Self {
        Self { input, offset: 0, remaining: 0, padding: 0, global: Vec::new(), name: "its first header".to_owned() }
    }

    /// The next member, or `None` at the end. Bytes of the one before that were not read are skipped.
    ///
    /// # Errors
    /// [`ArchiveError::Truncated`], [`ArchiveError::Header`], or what reading gives.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        let mut extended = Extended::default();
        loop {
            self.skip(self.remaining + self.padding)?;
            (self.remaining, self.padding) = (0, 0);
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header.entry_size().map_err(|e| self.invalid(e.to_string()))?;
            match header.entry_type().as_byte() {
                b'x' | b'X' => extended.records = self.pax(size)?,
                b'g' => self.global = self.pax(size)?,
                b'L' => extended.long_name = Some(self.long(size)?),
                b'K' => extended.long_link = Some(self.long(size)?),
                // A volume label says nothing about files.
                b'V' => self.expect(size)?,
                _ => return self.member(&header, extended).map(Some),
            }
        }
    }

    /// The next bytes of the current member, as many as are at hand; empty at its end.
    ///
    /// # Errors
    /// [`ArchiveError::Truncated`], or what reading gives.
    pub fn fill(&mut self) -> Result<&[u8], ArchiveError> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let buffer = self.input.fill_buf().map_err(from_io)?;
        if buffer.is_empty() {
            return Err(ArchiveError::Truncated(self.name.clone()));
        }
        let len = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        Ok(&buffer[..len])
    }

    /// Marks `n` of the bytes that [`TarReader::fill`] gave as read.
    pub fn consume(&mut self, n: usize) {
        self.input.consume(n);
        self.remaining -= n as u64;
        self.offset += n as u64;
    }

    /// All bytes of the current member, if they are at most `limit`.
    ///
    /// # Errors
    /// [`ArchiveError::Refused`] if there are more; [`ArchiveError::Truncated`].
    pub fn read_all(&mut self, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        if self.remaining > limit {
            return Err(ArchiveError::refused(self.name.as_bytes(), format!("it is longer than {limit} bytes")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(self.remaining).unwrap_or(0));
        loop {
            let chunk = self.fill()?;
            if chunk.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(chunk);
            let n = chunk.len();
            self.consume(n);
        }
    }

    /// Reads whatever follows the last member, so that all of the stream has been seen, and gives the stream back.
    ///
    /// # Errors
    /// What reading gives.
    pub fn drain(mut self) -> Result<R, ArchiveError> {
        hash::drain(&mut self.input).map_err(from_io)?;
        Ok(self.input)
    }

    /// The next header block; `None` at a block of zeros or at the end of the stream.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut block = [0_u8; BLOCK as usize];
        let mut have = 0;
        while have < block.len() {
            let buffer = self.input.fill_buf().map_err(from_io)?;
            if buffer.is_empty() && have == 0 {
                return Ok(None);
            }
            if buffer.is_empty() {
                return Err(ArchiveError::Truncated(if self.offset == 0 {
                    "its first header".into()
                } else {
                    "a header".into()
                }));
            }
            let n = buffer.len().min(block.len() - have);
            block[have..have + n].copy_from_slice(&buffer[..n]);
            self.input.consume(n);
            have += n;
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let recorded = header.cksum().ok();
        if recorded != Some(checksum(&block, u32::from))
            && recorded != Some(checksum(&block, |b| i32::from(b as i8) as u32))
        {
            return Err(self.invalid("its checksum is wrong".to_owned()));
        }
        self.offset += BLOCK;
        Ok(Some(header))
    }

    fn member(&mut self, header: &Header, extended: Extended) -> Result<Member, ArchiveError> {
        let mut member = plain_member(header).map_err(|reason| self.invalid(reason))?;
        if let Some(name) = extended.long_name {
            member.name = name;
        }
        if let Some(link) = extended.long_link {
            member.link = link;
        }
        let records: Vec<Record> = self.global.iter().cloned().chain(extended.records).collect();
        apply_records(&mut member, &records).map_err(|reason| self.invalid(reason))?;
        self.name = lossy(&member.name);
        // Links, devices and directories have no bytes, whatever size they claim; GNU's incremental directories do.
        let carries_bytes = member.kind == Kind::File || header.entry_type().as_byte() == b'D';
        self.expect(if carries_bytes { member.size } else { 0 })?;
        // Old archives mark a directory only by the slash at its end.
        if member.kind == Kind::File && member.name.ends_with(b"/") {
            member.kind = Kind::Directory;
        }
        self.find_holes(header, &records, &mut member)?;
        if member.kind != Kind::File {
            self.skip(self.remaining)?;
            self.remaining = 0;
            member.size = 0;
        }
        Ok(member)
    }

    /// Makes `size` bytes, and what fills their last block, the current data.
    fn expect(&mut self, size: u64) -> Result<(), ArchiveError> {
        if size > i64::MAX as u64 {
            return Err(self.invalid("its size is impossible".to_owned()));
        }
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        Ok(())
    }

    fn find_holes(&mut self, header: &Header, records: &[Record], member: &mut Member) -> Result<(), ArchiveError> {
        if member.kind != Kind::File {
            return Ok(());
        }
        if header.entry_type() == EntryType::GNUSparse {
            return self.old_gnu_holes(header, member);
        }
        let invalid = |this: &Self, reason: &str| this.invalid(reason.to_owned());
        match sparse::from_pax(records, self.remaining).map_err(|r| invalid(self, r))? {
            None => Ok(()),
            Some(PaxSparse::InHeader { map, real_size }) => {
                member.size = real_size;
                member.sparse = Some(map);
                Ok(())
            }
            Some(PaxSparse::InData { real_size }) => {
                let mut text = MapText::default();
                let numbers = loop {
                    let block = self.block()?;
                    if let Some(numbers) = text.add(&block).map_err(|r| invalid(self, r))? {
                        break numbers;
                    }
                };
                let pieces = sparse::pairs(&numbers).map_err(|r| invalid(self, r))?;
                member.sparse =
                    Some(SparseMap::checked(pieces, real_size, self.remaining).map_err(|r| invalid(self, r))?);
                member.size = real_size;
                Ok(())
            }
        }
    }

    fn old_gnu_holes(&mut self, header: &Header, member: &mut Member) -> Result<(), ArchiveError> {
        let bad = |this: &Self| this.invalid("its map of holes is damaged".to_owned());
        let gnu = header.as_gnu().ok_or_else(|| bad(self))?;
        let mut pieces = Vec::new();
        let mut add = |block: &tar::GnuSparseHeader| -> Option<()> {
            if !block.is_empty() {
                pieces.push((block.offset().ok()?, block.length().ok()?));
            }
            Some(())
        };
        gnu.sparse.iter().try_for_each(&mut add).ok_or_else(|| bad(self))?;
        let mut more = gnu.is_extended();
        // The further maps stand before the data and are not counted in its size.
        let data = (self.remaining, self.padding);
        let mut blocks = 0;
        while more {
            blocks += 1;
            if blocks > MAX_EXTENDED / BLOCK {
                return Err(bad(self));
            }
            (self.remaining, self.padding) = (BLOCK, 0);
            let mut extension = tar::GnuExtSparseHeader::new();
            extension.as_mut_bytes().copy_from_slice(&self.block()?);
            extension.sparse().iter().try_for_each(&mut add).ok_or_else(|| bad(self))?;
            more = extension.is_extended();
        }
        (self.remaining, self.padding) = data;
        let real_size = gnu.real_size().map_err(|_| bad(self))?;
        let map = SparseMap::checked(pieces, real_size, self.remaining);
        member.sparse = Some(map.map_err(|reason| self.invalid(reason.to_owned()))?);
        member.size = real_size;
        Ok(())
    }

    /// The next 512 bytes of the current data.
    fn block(&mut self) -> Result<[u8; BLOCK as usize], ArchiveError> {
        let mut block = [0; BLOCK as usize];
        let mut have = 0;
        while have < block.len() {
            let chunk = self.fill()?;
            if chunk.is_empty() {
                return Err(self.invalid("its data is too short".to_owned()));
            }
            let n = chunk.len().min(block.len() - have);
            block[have..have + n].copy_from_slice(&chunk[..n]);
            self.consume(n);
            have += n;
        }
        Ok(block)
    }

    fn pax(&mut self, size: u64) -> Result<Vec<Record>, ArchiveError> {
        let data = self.extended(size)?;
        pax::records(&data).map_err(|reason| self.invalid(reason.to_owned()))
    }

    fn long(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut text = self.extended(size)?;
        text.truncate(text.iter().position(|b| *b == 0).unwrap_or(text.len()));
        Ok(text)
    }

    fn extended(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > MAX_EXTENDED {
            return Err(self.invalid("an extended header is too long".to_owned()));
        }
        self.name = "an extended header".to_owned();
        self.expect(size)?;
        self.read_all(MAX_EXTENDED)
    }

    fn skip(&mut self, mut n: u64) -> Result<(), ArchiveError> {
        while n > 0 {
            let len = self.input.fill_buf().map_err(from_io)?.len();
            if len == 0 {
                return Err(ArchiveError::Truncated(self.name.clone()));
            }
            let step = usize::try_from(n).unwrap_or(usize::MAX).min(len);
            self.input.consume(step);
            self.offset += step as u64;
            n -= step as u64;
        }
        Ok(())
    }

    fn invalid(&self, reason: String) -> ArchiveError {
        ArchiveError::Header { offset: self.offset, reason }
    }
}

/// Sum of all bytes, the checksum's own counted as blanks. Old writers summed signed bytes.
fn checksum(block: &[u8; BLOCK as usize], value: fn(u8) -> u32) -> u32 {
    let sum = block[..148].iter().chain(&block[156..]).fold(0_u32, |sum, b| sum.wrapping_add(value(*b)));
    sum.wrapping_add(8 * u32::from(b' '))
}

/// What the header block alone says.
fn plain_member(header: &Header) -> Result<Member, String> {
    let kind = match header.entry_type().as_byte() {
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        // `D` is a directory of GNU's incremental archives; its data lists names and means nothing here.
        b'5' | b'D' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(format!("members of type {:?} are not supported", char::from(other))),
    };
    let text = |field: &str, e: std::io::Error| format!("its {field} is damaged: {e}");
    let mut member = Member::new(&header.path_bytes(), kind);
    member.link = header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
    member.mode = header.mode().map_err(|e| text("mode", e))? & 0o7777;
    let fields = header.as_old();
    member.uid = blank_is_zero(&fields.uid, || header.uid()).map_err(|e| text("owner", e))?;
    member.gid = blank_is_zero(&fields.gid, || header.gid()).map_err(|e| text("group", e))?;
    member.size = blank_is_zero(&fields.size, || header.entry_size()).map_err(|e| text("size", e))?;
    // A negative time in base 256 comes as its two's complement.
    let seconds = blank_is_zero(&fields.mtime, || header.mtime()).map_err(|e| text("time", e))?;
    member.mtime = Time { seconds: seconds as i64, nanos: 0 };
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        let number = |n: std::io::Result<Option<u32>>| n.ok().flatten().ok_or("its device number is damaged");
        member.device = (number(header.device_major())?, number(header.device_minor())?);
    }
    Ok(member)
}

/// Some writers leave a number out that is zero; every reader takes that.
fn blank_is_zero<T: Default>(field: &[u8], read: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(T::default()) } else { read() }
}

fn apply_records(member: &mut Member, records: &[Record]) -> Result<(), String> {
    for record in records {
        let damaged = || format!("its PAX record {} is damaged", lossy(&record.key));
        match record.key.as_slice() {
            // An empty value takes a global record back.
            _ if record.value.is_empty() && !record.key.starts_with(b"SCHILY.xattr.") => {}
            b"path" => member.name.clone_from(&record.value),
            b"linkpath" => member.link.clone_from(&record.value),
            b"size" => member.size = pax::number(&record.value).ok_or_else(damaged)?,
            b"uid" => member.uid = pax::number(&record.value).ok_or_else(damaged)?,
            b"gid" => member.gid = pax::number(&record.value).ok_or_else(damaged)?,
            b"mtime" => member.mtime = pax::time(&record.value).ok_or_else(damaged)?,
            b"atime" => member.atime = Some(pax::time(&record.value).ok_or_else(damaged)?),
            _ => {
                if let Some((name, value)) = pax::xattr(record) {
                    member.xattrs.retain(|(have, _)| *have != name);
                    member.xattrs.push((name, value));
                }
            }
        }
    }
    // The path of a sparse file is a made-up one for readers that do not know sparse files.
    if let Some(name) = records.iter().rev().find(|r| r.key == b"GNU.sparse.name") {
        member.name.clone_from(&name.value);
    }
    Ok(())
}
