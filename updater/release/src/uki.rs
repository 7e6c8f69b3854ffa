//! A unified kernel image in pieces, so that an update can take from an older
//! image what has not changed.
//!
//! It is cut at the begin of each PE section, and every 4096 bytes from there:
//! so a section that only moved has the same pieces.
//!
//! ```text
//! 0   8  "WHERRYUX"
//! 8   4  1, the format's number; little-endian like all numbers
//! 12  4  8, bytes of a hash
//! 16  8  the image's length in bytes
//! 24  8  number of cuts
//! 32     8 bytes for each cut: its place in the image, ascending, the begin of
//!        the file not included
//!        for each piece, in order: the first 8 bytes of its SHA-256
//! ```

use object::LittleEndian;
use object::pe::ImageNtHeaders64;
use object::read::pe::PeFile;
use sha2::{Digest, Sha256};

use crate::block_index::{check_header, header};
use crate::{BLOCK, IndexError, MAX_UKI, SHORT, Short, short};

const MAGIC: &[u8; 8] = b"WHERRYUX";

/// Bytes before the first cut.
const HEADER: usize = 32;

/// PE has no more sections (Windows' loader takes 96).
pub(crate) const MAX_CUTS: u64 = 96;

/// How much of a unified kernel image's begin [`sections`] needs: PE's headers.
pub const UKI_HEAD: usize = 4096;

/// A file that is not a unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a unified kernel image: {0}")]
pub struct UkiError(String);

/// A section of a PE file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, such as `.cmdline`.
    pub name: String,
    /// Where it is in the file.
    pub offset: u64,
    /// Bytes in the file that mean something, without the padding at its end.
    pub length: u64,
    /// Bytes in the file.
    pub padded: u64,
}

/// The sections of a PE file of which `head` is the begin ([`UKI_HEAD`] bytes are
/// enough), in the order of the file, without empty ones. Whether the file
/// reaches to their ends is not looked at.
///
/// # Errors
/// It is not a 64 bit PE file.
pub fn sections(head: &[u8]) -> Result<Vec<Section>, UkiError> {
    let wrong = |error: object::Error| UkiError(error.to_string());
    let file = PeFile::<ImageNtHeaders64>::parse(head).map_err(wrong)?;
    let number = |field: object::U32<LittleEndian>| u64::from(field.get(LittleEndian));
    let mut sections: Vec<Section> = file
        .section_table()
        .iter()
        .map(|section| {
            let padded = number(section.size_of_raw_data);
            Section {
                name: section.raw_name().escape_ascii().to_string(),
                offset: number(section.pointer_to_raw_data),
                length: number(section.virtual_size).min(padded),
                padded,
            }
        })
        .filter(|section| section.padded > 0)
        .collect();
    sections.sort_by_key(|section| section.offset);
    Ok(sections)
}

/// A piece of a unified kernel image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its place in the image.
    pub offset: u64,
    /// Its length in bytes, at most 4096.
    pub length: u64,
    /// The begin of its SHA-256.
    pub hash: Short,
}

/// The index of a unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UkiIndex {
    length: u64,
    /// Where it is cut, besides every 4096 bytes.
    cuts: Vec<u64>,
    hashes: Vec<Short>,
}

impl UkiIndex {
    /// The index of a complete image.
    ///
    /// # Errors
    /// It is not an image, or too long.
    pub fn of(uki: &[u8]) -> Result<Self, UkiError> {
        let length = uki.len() as u64;
        if length > MAX_UKI {
            return Err(UkiError(format!(
                "{length} bytes are more than {MAX_UKI} bytes"
            )));
        }
        let mut cuts: Vec<u64> = sections(uki)?
            .iter()
            .map(|section| section.offset)
            .filter(|offset| (1..length).contains(offset))
            .collect();
        cuts.dedup();
        if cuts.len() as u64 > MAX_CUTS {
            return Err(UkiError(format!("more than {MAX_CUTS} sections")));
        }
        let hashes = pieces(length, &cuts)
            .map(|(offset, length)| {
                let begin = offset as usize;
                short(&Sha256::digest(&uki[begin..begin + length as usize]).into())
            })
            .collect();
        Ok(Self {
            length,
            cuts,
            hashes,
        })
    }

    /// Reads the index of an image of `length` bytes.
    ///
    /// # Errors
    /// It is not an index, or that of an image of another length.
    pub fn parse(file: &[u8], length: u64) -> Result<Self, IndexError> {
        check_header(file, MAGIC)?;
        let (numbers, _) = file[16..].as_chunks::<8>();
        let number = |at: usize| numbers.get(at).map(|bytes| u64::from_le_bytes(*bytes));
        let (Some(found), Some(count)) = (number(0), number(1)) else {
            return Err(IndexError::Header("is cut off"));
        };
        if found != length || length > MAX_UKI {
            return Err(IndexError::Header("is that of another image"));
        }
        if count > MAX_CUTS {
            return Err(IndexError::Sections);
        }
        let cuts: Vec<u64> = (0..count as usize)
            .filter_map(|at| number(2 + at))
            .collect();
        let ascend = cuts.windows(2).all(|pair| pair[0] < pair[1])
            && cuts.iter().all(|cut| (1..length).contains(cut));
        if !ascend {
            return Err(IndexError::Sections);
        }
        let count = pieces(length, &cuts).count();
        let begin = HEADER + 8 * cuts.len();
        let expected = begin + SHORT * count;
        if file.len() != expected {
            return Err(IndexError::Length {
                found: file.len() as u64,
                expected: expected as u64,
            });
        }
        let (hashes, _) = file[begin..].as_chunks();
        Ok(Self {
            length,
            hashes: hashes.to_vec(),
            cuts,
        })
    }

    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut file = header(MAGIC);
        file.extend(self.length.to_le_bytes());
        file.extend((self.cuts.len() as u64).to_le_bytes());
        file.extend(self.cuts.iter().flat_map(|cut| cut.to_le_bytes()));
        file.extend(self.hashes.as_flattened());
        file
    }

    /// The image's length in bytes.
    pub fn image_length(&self) -> u64 {
        self.length
    }

    /// The image's pieces, in order and without a gap.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        pieces(self.length, &self.cuts)
            .zip(&self.hashes)
            .map(|((offset, length), hash)| Chunk {
                offset,
                length,
                hash: *hash,
            })
    }

    /// How long the index of an image of `length` bytes can be.
    pub(crate) fn lengths(length: u64) -> std::ops::RangeInclusive<u64> {
        let least = HEADER as u64 + SHORT as u64 * length.div_ceil(BLOCK);
        // A cut costs itself and at most one piece more.
        least..=least.saturating_add(MAX_CUTS * (8 + SHORT as u64))
    }
}

/// Cuts `length` bytes at `cuts` and every 4096 bytes from each.
fn pieces(length: u64, cuts: &[u64]) -> impl Iterator<Item = (u64, u64)> + '_ {
    let begins = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain(std::iter::once(length));
    begins.zip(ends).flat_map(|(begin, end)| {
        (begin..end)
            .step_by(BLOCK as usize)
            .map(move |offset| (offset, BLOCK.min(end - offset)))
    })
}
