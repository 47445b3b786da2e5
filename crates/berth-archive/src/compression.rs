//! Compressed streams: recognised by their first bytes, never by a name.

use std::io::{self, BufRead, Read};

use crate::error::{ArchiveError, into_io};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or several members.
    Gzip,
    /// zstd, with skippable frames.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

/// The largest window of a zstd frame that is accepted, as a power of two: 128 MiB, what its own tool accepts.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// How much memory an xz stream may ask for, in KiB. `xz -9` asks for 65 MiB.
const XZ_MEMORY_KIB: u32 = 128 * 1024;

impl Compression {
    /// How many bytes [`Compression::of`] wants to see.
    pub const PREFIX: usize = 6;

    /// The compression of a stream that begins with these bytes.
    #[must_use]
    pub fn of(prefix: &[u8]) -> Self {
        match prefix {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            // The last nibble of a skippable frame is free: 0x184D2A50 to 0x184D2A5F.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => Self::Xz,
            _ => Self::None,
        }
    }

    /// Its name, for messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }
}

/// An uncompressed view of a stream.
pub struct Decoder<'a> {
    compression: Compression,
    input: Box<dyn Read + Send + 'a>,
}

/// Looks at the first bytes of `input` and decompresses it if they say so.
///
/// # Errors
/// Only what reading the first bytes gives.
pub fn decoder<'a, R: BufRead + Send + 'a>(input: R) -> io::Result<Decoder<'a>> {
    let (compression, input) = peek(input)?;
    let input: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB)),
    };
    Ok(Decoder { compression, input })
}

/// Looks at the first bytes of a stream: how it is compressed, and the whole stream as it is.
///
/// # Errors
/// Only what reading the first bytes gives.
pub fn peek<R: BufRead>(mut input: R) -> io::Result<(Compression, impl BufRead + use<R>)> {
    let mut prefix = Vec::with_capacity(Compression::PREFIX);
    input.by_ref().take(Compression::PREFIX as u64).read_to_end(&mut prefix)?;
    Ok((Compression::of(&prefix), io::Cursor::new(prefix).chain(input)))
}

impl Decoder<'_> {
    /// What the first bytes said.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer).map_err(|source| {
            if self.compression == Compression::None || source.kind() == io::ErrorKind::Interrupted {
                return source;
            }
            if source.kind() == io::ErrorKind::UnexpectedEof {
                return into_io(ArchiveError::Truncated(format!("its {} data", self.compression.word())));
            }
            // An error of the stream below, already with its own words, only passes through the decoder.
            if source.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<ArchiveError>) {
                return source;
            }
            into_io(ArchiveError::Decompress { format: self.compression.word(), source })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn decode(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decoder(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_format_is_known_by_its_first_bytes() {
        let text = b"a layer of some bytes, again and again and again".repeat(100);
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).expect("xz");
        xz.write_all(&text).expect("memory");
        let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bz.write_all(&text).expect("memory");
        let zstd = zstd::encode_all(&text[..], 1).expect("memory");
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd].concat();
        for (stream, name) in [
            (gzip(&text), "gzip"),
            (zstd, "zstd"),
            (skippable, "zstd with a skippable frame"),
            (bz.finish().expect("memory"), "bzip2"),
            (xz.finish().expect("memory"), "xz"),
            (text.clone(), "none"),
        ] {
            assert_eq!(decode(&stream).expect(name), text, "{name}");
        }
        assert_eq!(decode(b"").expect("empty"), b"");
        assert_eq!(decode(b"ab").expect("short"), b"ab");
    }

    #[test]
    fn all_members_of_a_gzip_stream_are_read() {
        assert_eq!(decode(&[gzip(b"one "), gzip(b"two")].concat()).expect("two members"), b"one two");
    }

    #[test]
    fn a_cut_or_damaged_stream_says_so() {
        let whole = gzip(&b"0123456789".repeat(1000));
        let error = decode(&whole[..whole.len() / 2]).expect_err("cut");
        assert!(error.to_string().starts_with("unexpected EOF"), "{error}");
        let mut damaged = whole;
        let at = damaged.len() - 8;
        damaged[at] ^= 0xff;
        let error = decode(&damaged).expect_err("damaged");
        assert!(error.to_string().starts_with("decompressing gzip data"), "{error}");
    }
}
