//! One segment file, read: its name, its header, its records in order
//!
//! A segment holds the entries of one boot only, so its name alone says whether
//! a query for a boot concerns it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::entry::Entry;
use crate::error::Error;
use crate::format::{self, Header, Kind};
use crate::index::Index;

/// The contents of a segment's file name. Sorts in the order of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The boot of all of the segment's entries.
    pub boot: u64,
    /// The sequence number of its first entry.
    pub first: u64,
}

impl Name {
    pub fn parse(file_name: &str) -> Option<Name> {
        let (boot, first) = file_name.strip_suffix(".journal")?.split_once('-')?;
        let name = Name {
            boot: boot.parse().ok()?,
            first: first.parse().ok()?,
        };
        // `+1` and `01` parse as numbers too, but each file has only one
        // spelling.
        (name.file_name() == file_name).then_some(name)
    }

    /// Padded, so that `ls` shows segments in order.
    pub fn file_name(&self) -> String {
        format!("{:08}-{:012}.journal", self.boot, self.first)
    }

    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(self.file_name())
    }
}

/// How often a directory is listed that changes each time.
const LISTINGS: usize = 16;

/// The segments of a journal, oldest first. A directory that does not exist
/// holds none.
///
/// A listing can miss a file that is renamed meanwhile, as the writer does with
/// a thinned segment. So it counts once the next one is the same.
pub fn list(directory: &Path) -> Result<Vec<Name>, Error> {
    let mut names = list_once(directory)?;
    for _ in 1..LISTINGS {
        let again = list_once(directory)?;
        if again == names {
            break;
        }
        names = again;
    }
    Ok(names)
}

fn list_once(directory: &Path) -> Result<Vec<Name>, Error> {
    let failed = |source| Error::List {
        directory: directory.to_owned(),
        source,
    };
    let mut names = Vec::new();
    let files = match fs::read_dir(directory) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        Err(error) => return Err(failed(error)),
    };
    for file in files {
        let file = file.map_err(failed)?;
        // A FIFO or a link with such a name is none of the journal's.
        if file.file_type().is_ok_and(|kind| kind.is_file()) {
            names.extend(file.file_name().to_str().and_then(Name::parse));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens a file of the journal without waiting, whatever has come to its place.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = options.custom_flags(flags.bits()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
    }
}

/// A segment open for reading, possibly while its writer appends to it.
pub struct Segment {
    path: PathBuf,
    pub header: Header,
    window: Window,
}

/// What a scan finds next.
#[derive(Debug)]
pub enum Found {
    /// An entry, and where the next record starts.
    Entry(Box<Entry>, u64),
    /// A complete record that is not an entry, and where the next one starts.
    Other(Kind, u64),
    /// Bytes that are not a record, up to where the next one starts.
    Damage(u64),
    /// No record up to the end of the file. With `torn`, there are bytes: the
    /// start of a record that is being written or was never finished, or
    /// damage.
    End { torn: bool },
}

impl Segment {
    /// Opens a segment. `None` if it is gone (the writer dropped it), or if its
    /// header is not written yet.
    pub fn open(directory: &Path, name: Name) -> Result<Option<Segment>, Error> {
        let path = name.path(directory);
        let failed = |source| Error::Read {
            segment: path.clone(),
            source,
        };
        let file = match open(OpenOptions::new().read(true), &path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        Segment::from_file(file, &path)
    }

    /// Like [`Segment::open`], with the file already open.
    pub fn from_file(file: File, path: &Path) -> Result<Option<Segment>, Error> {
        let mut window = Window::new(file);
        let bytes = window
            .at(0, format::HEADER_SIZE)
            .map_err(|source| Error::Read {
                segment: path.to_owned(),
                source,
            })?;
        if bytes.len() < format::HEADER_SIZE {
            return Ok(None);
        }
        match Header::decode(bytes) {
            Some(header) => Ok(Some(Segment {
                path: path.to_owned(),
                header,
                window,
            })),
            None => Err(Error::Damaged {
                segment: path.to_owned(),
                offset: 0,
                length: window.length().unwrap_or(0),
            }),
        }
    }

    /// What is at `offset`, where a record or damage starts.
    pub fn find(&mut self, offset: u64) -> Result<Found, Error> {
        match self.find_unnamed(offset) {
            Ok(found) => Ok(found),
            Err(source) => Err(Error::Read {
                segment: self.path.clone(),
                source,
            }),
        }
    }

    /// Damage counts only if it is still there when read again: a restarting
    /// writer truncates the newest segment and continues from there, and a read
    /// at that moment returns neither the old nor the new bytes.
    fn find_unnamed(&mut self, offset: u64) -> io::Result<Found> {
        for _ in 0..FURTHER_LOOKS {
            match self.look(offset)? {
                Found::Damage(_) => self.refresh(),
                found @ (Found::Entry(..) | Found::Other(..) | Found::End { .. }) => {
                    return Ok(found);
                }
            }
        }
        self.look(offset)
    }

    fn look(&mut self, offset: u64) -> io::Result<Found> {
        if let Some(found) = self.record(offset)? {
            return Ok(found);
        }
        let length = self.window.length()?;
        let salt = self.header.salt.to_le_bytes();
        let mut candidate = offset + 1;
        while let Some(next) = self.window.search(candidate, length, salt)? {
            if self.record(next)?.is_some() {
                return Ok(Found::Damage(next));
            }
            candidate = next + 1;
        }
        Ok(Found::End {
            torn: length > offset,
        })
    }

    /// The complete and valid record at `offset`, if there is one.
    fn record(&mut self, offset: u64) -> io::Result<Option<Found>> {
        let salt = self.header.salt;
        let head = self.window.at(offset, format::RECORD_HEADER)?;
        let Some((kind, length)) = format::decode_record_header(salt, head) else {
            return Ok(None);
        };
        let size = format::RECORD_HEADER + length;
        let record = self.window.at(offset, size)?;
        if record.len() < size {
            return Ok(None);
        }
        let Some(body) = format::checked_body(salt, record) else {
            return Ok(None);
        };
        let next = offset + size as u64;
        Ok(match kind {
            Kind::Entry => format::decode_entry(&self.header, body)
                .map(|entry| Found::Entry(Box::new(entry), next)),
            kind => Some(Found::Other(kind, next)),
        })
    }

    /// Where the first complete entry at `offset` or behind it is, and how long
    /// its record is. Damage is passed over.
    pub fn next_entry(&mut self, mut offset: u64) -> Result<Option<(u64, usize)>, Error> {
        loop {
            let complete = self.complete(offset).map_err(|source| Error::Read {
                segment: self.path.clone(),
                source,
            })?;
            match complete {
                Some((Kind::Entry, size)) => return Ok(Some((offset, size))),
                Some((Kind::Index, _)) => return Ok(None),
                Some((Kind::Unknown, size)) => offset += size as u64,
                None => match self.find(offset)? {
                    Found::Damage(next) => offset = next,
                    // Complete after all, when read again.
                    Found::Entry(..) | Found::Other(..) => {}
                    Found::End { .. } => return Ok(None),
                },
            }
        }
    }

    /// The kind and the size of the record at `offset`, if its checksum is
    /// right.
    fn complete(&mut self, offset: u64) -> io::Result<Option<(Kind, usize)>> {
        let salt = self.header.salt;
        let head = self.window.at(offset, format::RECORD_HEADER)?;
        let Some((kind, length)) = format::decode_record_header(salt, head) else {
            return Ok(None);
        };
        let size = format::RECORD_HEADER + length;
        let record = self.window.at(offset, size)?;
        let whole = record.len() == size && format::checked_body(salt, record).is_some();
        Ok(whole.then_some((kind, size)))
    }

    /// The body of the record that [`Segment::next_entry`] found.
    pub fn body(&mut self, at: u64, size: usize) -> Result<&[u8], Error> {
        match self.window.at(at, size) {
            Ok(record) => Ok(record.get(format::RECORD_HEADER..).unwrap_or_default()),
            Err(source) => Err(Error::Read {
                segment: self.path.clone(),
                source,
            }),
        }
    }

    /// The kernel position behind this segment, as its index tells it.
    pub fn kernel_position_at_end(&mut self) -> Result<u64, Error> {
        let index = self.seal()?.and_then(|(_, index)| index);
        Ok(index.map_or(self.header.kernel_position, |index| index.kernel_position))
    }

    /// The damage between two offsets, as an error.
    pub fn damage(&self, from: u64, to: u64) -> Error {
        Error::Damaged {
            segment: self.path.clone(),
            offset: from,
            length: to.saturating_sub(from),
        }
    }

    /// Discards what was read ahead of a growing segment: a restarted writer
    /// may have cut it off and put other bytes there.
    pub fn refresh(&mut self) {
        self.window.bytes.clear();
    }

    /// How long the file is now.
    pub fn length(&self) -> Result<u64, Error> {
        self.window.length().map_err(|source| Error::Read {
            segment: self.path.clone(),
            source,
        })
    }

    /// Where the entries end and the index starts, once the segment is sealed;
    /// the index, if it is intact.
    pub fn seal(&mut self) -> Result<Option<(u64, Option<Index>)>, Error> {
        self.seal_unnamed().map_err(|source| Error::Read {
            segment: self.path.clone(),
            source,
        })
    }

    fn seal_unnamed(&mut self) -> io::Result<Option<(u64, Option<Index>)>> {
        let salt = self.header.salt;
        let length = self.window.length()?;
        let Some(at) = length.checked_sub(format::TRAILER_SIZE as u64) else {
            return Ok(None);
        };
        let trailer = self.window.at(at, format::TRAILER_SIZE)?;
        let Some(offset) = format::decode_trailer(salt, trailer) else {
            return Ok(None);
        };
        let Some(size) = at.checked_sub(offset) else {
            return Ok(None);
        };
        let record = self.window.at(offset, size as usize)?;
        let index = match format::decode_record_header(salt, record) {
            Some((Kind::Index, _)) => format::checked_body(salt, record).and_then(Index::decode),
            _ => None,
        };
        Ok(Some((offset, index)))
    }
}

/// Part of a file in memory: most reads are of neighbouring bytes, so they are
/// done 64 KiB at a time.
struct Window {
    file: File,
    start: u64,
    bytes: Vec<u8>,
}

/// How often damage is read again. Once would do; a writer can hardly restart
/// within each of several.
const FURTHER_LOOKS: usize = 3;

/// How much a window reads at once.
const CHUNK: usize = 64 * 1024;

impl Window {
    fn new(file: File) -> Window {
        Window {
            file,
            start: 0,
            bytes: Vec::new(),
        }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// `count` bytes at `offset`; fewer if the file ends. What was read before
    /// is reused only if it suffices: the end of a growing file is always read
    /// again.
    fn at(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + count as u64 > end {
            self.fill(offset, count.max(CHUNK))?;
        }
        let from = (offset - self.start) as usize;
        let to = (from + count).min(self.bytes.len());
        Ok(self.bytes.get(from..to).unwrap_or_default())
    }

    fn fill(&mut self, offset: u64, count: usize) -> io::Result<()> {
        let left = self.length()?.saturating_sub(offset);
        self.start = offset;
        self.bytes.clear();
        // The file may be damaged and `count` nonsense: never reserve more than
        // there is to read.
        self.bytes.resize(count.min(left as usize), 0);
        let mut filled = 0;
        while filled < self.bytes.len() {
            let buffer = &mut self.bytes[filled..];
            match self.file.read_at(buffer, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }

    /// The first place at `from` or behind, and before `end`, where `pattern`
    /// is.
    fn search(&mut self, mut from: u64, end: u64, pattern: [u8; 4]) -> io::Result<Option<u64>> {
        while from < end {
            let bytes = self.at(from, CHUNK.min((end - from) as usize))?;
            if let Some(position) = bytes.windows(4).position(|four| four == pattern) {
                return Ok(Some(from + position as u64));
            }
            if bytes.len() <= 4 {
                break;
            }
            from += bytes.len() as u64 - 3;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_other_files_are_left_alone() {
        let name = Name {
            boot: 3,
            first: 1200,
        };
        assert_eq!(name.file_name(), "00000003-000000001200.journal");
        assert_eq!(Name::parse(&name.file_name()), Some(name));
        for other in [
            "lock",
            "3-1200.journal",
            "a-b.journal",
            "00000003-000000001200",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
