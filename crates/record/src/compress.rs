//! Compression of a batch's payload.
//!
//! Owns: the codecs of Kafka and the framing each of them has in a batch. Whatever is unpacked is
//! capped, and memory grows with the bytes that really come out, never with what a header claims.
//! Must not know: batches, records.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{BufRead, Read, Write};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use zstd::zstd_safe::{CCtx, DCtx, InBuffer, OutBuffer, compress_bound};

/// The least and the most that one step of unpacking asks for.
const MIN_CHUNK_BYTES: usize = 4 << 10;
const MAX_CHUNK_BYTES: usize = 64 << 10;

/// How snappy is framed: this header, then blocks, each behind its length (snappy-java's stream,
/// by Xerial). The two numbers are its version and the oldest version that can read it.
const XERIAL_HEADER: [u8; 16] =
    [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// The densest that snappy packs: 64 bytes in a copy element of 3.
const SNAPPY_MAX_RATIO: usize = 22;

const ZSTD_DEFAULT_LEVEL: i32 = 3;

/// How the records of a batch are compressed. The numbers are those of the batch's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks in Xerial's framing.
    Snappy = 2,
    /// One LZ4 frame of independent blocks.
    Lz4 = 3,
    /// Zstandard (KIP-110).
    Zstd = 4,
}

impl Codec {
    /// All of them, by number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in the attributes: 0–4.
    #[must_use]
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The codec with this number.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The name in configs (`compression.type`) and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Appends `input` to `out`, compressed as Kafka's clients do it.
///
/// `level` is that of `compression.gzip.level` (1–9, −1 for the codec's own choice) or
/// `compression.zstd.level` (−131072–22); `None` is the default of both. Snappy has no levels,
/// and LZ4 is always packed by the fast method: `compression.lz4.level` asks for an effort that
/// readers do not see.
pub fn compress(codec: Codec, level: Option<i32>, input: &[u8], out: &mut Vec<u8>) {
    // Writing to a `Vec` does not fail, and each codec takes any input.
    match codec {
        Codec::None => out.extend_from_slice(input),
        Codec::Gzip => {
            let level = match level {
                Some(level @ 1..=9) => flate2::Compression::new(level.unsigned_abs()),
                _ => flate2::Compression::default(),
            };
            let mut encoder = flate2::write::GzEncoder::new(out, level);
            encoder.write_all(input).and_then(|()| encoder.try_finish()).expect("gzip to memory");
        }
        Codec::Snappy => compress_snappy(input, out),
        Codec::Lz4 => {
            // Kafka's reader takes one frame of independent blocks only.
            let info =
                FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
            let mut encoder = FrameEncoder::with_frame_info(info, out);
            encoder.write_all(input).expect("lz4 to memory");
            encoder.try_finish().expect("lz4 to memory");
        }
        Codec::Zstd => ZSTD_COMPRESSOR.with_borrow_mut(|context| {
            let start = out.len();
            out.resize(start + compress_bound(input.len()), 0);
            let level = level.unwrap_or(ZSTD_DEFAULT_LEVEL);
            let written =
                context.compress(&mut out[start..], input, level).expect("zstd within its bound");
            out.truncate(start + written);
        }),
    }
}

fn compress_snappy(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&XERIAL_HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK_BYTES) {
        let start = out.len() + 4;
        out.resize(start + snap::raw::max_compress_len(block.len()), 0);
        let length = encoder.compress(block, &mut out[start..]).expect("snappy within its bound");
        out.truncate(start + length);
        out[start - 4..start].copy_from_slice(&(length as u32).to_be_bytes());
    }
}

/// Appends what `input` holds to `out`, at most `limit` bytes.
///
/// # Errors
/// See [`DecompressError`]. `out` then ends with what came out before.
pub fn decompress(
    codec: Codec,
    input: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let mut decompressor = Decompressor::new(codec, input, limit)?;
    while decompressor.fill(out)? > 0 {}
    Ok(())
}

/// Unpacks a payload piece by piece.
pub(crate) struct Decompressor<'a> {
    codec: Codec,
    decoder: Decoder<'a>,
    /// The most that one step asks for, by the size of the input: a small batch is cheap to read.
    chunk: usize,
    limit: usize,
    left: usize,
    finished: bool,
}

impl<'a> Decompressor<'a> {
    pub(crate) fn new(
        codec: Codec,
        input: &'a [u8],
        limit: usize,
    ) -> Result<Self, DecompressError> {
        let corrupt = DecompressError::Corrupt { codec };
        let decoder = match codec {
            Codec::None => Decoder::None(input),
            Codec::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
            Codec::Snappy => match input.strip_prefix(&XERIAL_HEADER[..8]) {
                Some(rest) => Decoder::Xerial(rest.get(8..).ok_or(corrupt)?),
                None => Decoder::RawSnappy(Some(input)),
            },
            Codec::Lz4 => {
                if !is_kafka_lz4_frame(input) {
                    return Err(corrupt);
                }
                Decoder::Lz4(Box::new(FrameDecoder::new(Lz4Input { rest: input, dry: false })))
            }
            Codec::Zstd => Decoder::Zstd(ZstdDecoder::new(input)),
        };
        let chunk = input.len().saturating_mul(4).clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES);
        Ok(Self { codec, decoder, chunk, limit, left: limit, finished: false })
    }

    /// Appends a piece to `out` and returns its length; 0 is the end.
    pub(crate) fn fill(&mut self, out: &mut Vec<u8>) -> Result<usize, DecompressError> {
        if self.finished {
            return Ok(0);
        }
        // One byte more than is allowed tells an input that ends there from one that goes on.
        let most = self.chunk.min(self.left.saturating_add(1));
        let length = match self.decoder.fill(out, most, self.left) {
            Ok(length) => length,
            Err(Fault::Corrupt) => return Err(DecompressError::Corrupt { codec: self.codec }),
            Err(Fault::TooLarge) => return Err(DecompressError::TooLarge { limit: self.limit }),
        };
        self.left =
            self.left.checked_sub(length).ok_or(DecompressError::TooLarge { limit: self.limit })?;
        self.finished = length == 0;
        Ok(length)
    }
}

enum Fault {
    Corrupt,
    TooLarge,
}

enum Decoder<'a> {
    None(&'a [u8]),
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
    Xerial(&'a [u8]),
    RawSnappy(Option<&'a [u8]>),
    Lz4(Box<FrameDecoder<Lz4Input<'a>>>),
    Zstd(ZstdDecoder<'a>),
}

impl Decoder<'_> {
    /// Appends a piece to `out`: `most` bytes if the codec can stop anywhere, else one block, of
    /// which those of snappy are measured against `left` first.
    fn fill(&mut self, out: &mut Vec<u8>, most: usize, left: usize) -> Result<usize, Fault> {
        match self {
            Self::None(rest) => {
                let (piece, behind) = rest.split_at(most.min(rest.len()));
                out.extend_from_slice(piece);
                *rest = behind;
                Ok(piece.len())
            }
            Self::Gzip(decoder) => {
                let start = out.len();
                out.resize(start + most, 0);
                let read = decoder.read(&mut out[start..]);
                out.truncate(start + *read.as_ref().unwrap_or(&0));
                read.map_err(|_| Fault::Corrupt)
            }
            Self::Xerial(rest) => loop {
                if rest.is_empty() {
                    return Ok(0);
                }
                let (length, behind) = rest.split_first_chunk().ok_or(Fault::Corrupt)?;
                let length = u32::from_be_bytes(*length) as usize;
                let (block, behind) = behind.split_at_checked(length).ok_or(Fault::Corrupt)?;
                *rest = behind;
                let piece = decompress_snappy(block, left, out)?;
                if piece > 0 {
                    return Ok(piece);
                }
            },
            Self::RawSnappy(block) => {
                block.take().map_or(Ok(0), |block| decompress_snappy(block, left, out))
            }
            Self::Lz4(decoder) => {
                let piece = decoder.fill_buf().map_err(|_| Fault::Corrupt)?;
                out.extend_from_slice(piece);
                let length = piece.len();
                decoder.consume(length);
                // The decoder takes a frame without its end mark for a whole one.
                if length == 0 && decoder.get_ref().dry { Err(Fault::Corrupt) } else { Ok(length) }
            }
            Self::Zstd(decoder) => decoder.fill(out, most),
        }
    }
}

fn decompress_snappy(block: &[u8], left: usize, out: &mut Vec<u8>) -> Result<usize, Fault> {
    let length = snap::raw::decompress_len(block).map_err(|_| Fault::Corrupt)?;
    if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(Fault::Corrupt);
    }
    if length > left {
        return Err(Fault::TooLarge);
    }
    let start = out.len();
    out.resize(start + length, 0);
    let result = snap::raw::Decoder::new().decompress(block, &mut out[start..]);
    if result.is_err() {
        out.truncate(start);
    }
    result.map_err(|_| Fault::Corrupt)
}

/// Whether an LZ4 frame is one that Kafka's own reader takes: version 1, independent blocks.
/// What only other readers take must not get into a log.
fn is_kafka_lz4_frame(input: &[u8]) -> bool {
    const VERSION_1: u8 = 0b0100_0000;
    const INDEPENDENT: u8 = 0b0010_0000;
    input
        .strip_prefix(&[0x04, 0x22, 0x4d, 0x18])
        .and_then(|header| header.first())
        .is_some_and(|flags| flags & 0b1100_0000 == VERSION_1 && flags & INDEPENDENT == INDEPENDENT)
}

/// The rest of an LZ4 frame, which remembers that more was wanted of it than there was.
struct Lz4Input<'a> {
    rest: &'a [u8],
    dry: bool,
}

impl Read for Lz4Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.dry |= self.rest.len() < buf.len();
        self.rest.read(buf)
    }
}

/// A zstd stream on this thread's context, which it gives back when dropped.
struct ZstdDecoder<'a> {
    context: Option<DCtx<'static>>,
    rest: &'a [u8],
    within_frame: bool,
}

// A context costs more to make than a small batch costs to unpack.
thread_local! {
    static ZSTD_COMPRESSOR: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static ZSTD_DECOMPRESSOR: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

impl<'a> ZstdDecoder<'a> {
    fn new(input: &'a [u8]) -> Self {
        let mut context = ZSTD_DECOMPRESSOR.take().unwrap_or_default();
        // `init` leaves behind whatever an abandoned stream was in the middle of.
        let context = context.init().is_ok().then_some(context);
        Self { context, rest: input, within_frame: true }
    }

    fn fill(&mut self, out: &mut Vec<u8>, most: usize) -> Result<usize, Fault> {
        let context = self.context.as_mut().ok_or(Fault::Corrupt)?;
        loop {
            let start = out.len();
            out.resize(start + most, 0);
            let mut output = OutBuffer::around(&mut out[start..]);
            let mut input = InBuffer::around(self.rest);
            let result = context.decompress_stream(&mut output, &mut input);
            let (written, read) = (output.pos(), input.pos());
            out.truncate(start + written);
            self.rest = &self.rest[read..];
            // Without input a finished stream has nothing to say, an unfinished one is cut off.
            self.within_frame = match result {
                Ok(0) => false,
                Ok(_) => self.within_frame || read > 0,
                Err(_) => return Err(Fault::Corrupt),
            };
            match (written, read) {
                (0, 0) if self.within_frame || !self.rest.is_empty() => return Err(Fault::Corrupt),
                (0, 0) => return Ok(0),
                (0, _) => {}
                (written, _) => return Ok(written),
            }
        }
    }
}

impl Drop for ZstdDecoder<'_> {
    fn drop(&mut self) {
        ZSTD_DECOMPRESSOR.set(self.context.take());
    }
}

/// Why a payload cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecompressError {
    /// The bytes are not what the codec writes, or end too early.
    Corrupt {
        /// The codec that the batch claims.
        codec: Codec,
    },
    /// More comes out than is allowed.
    TooLarge {
        /// Bytes that are allowed.
        limit: usize,
    },
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { codec } => write!(f, "payload is not valid {codec}"),
            Self::TooLarge { limit } => write!(f, "payload unpacks to more than {limit} bytes"),
        }
    }
}

impl std::error::Error for DecompressError {}
