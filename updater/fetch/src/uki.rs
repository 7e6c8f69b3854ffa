//! Fetches a unified kernel image: pieces that an older one on the ESP has come
//! from there, the others from a mirror, all in order into a sink.

use std::cell::RefCell;
use std::io;
use std::ops::Range;

use block_device::ReadAt;
use release::{BLOCK, Chunk, Manifest, Sha256Sum, Short, UKI_HEAD, UkiIndex, sections, short};
use sha2::{Digest, Sha256};

use crate::download::{Prove, Refused};
use crate::repository::Progress;
use crate::{Failure, Fault, FetchError, Fetched, Repository};

/// Where a piece can be found.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: Short,
    length: u64,
    seed: usize,
    offset: u64,
}

struct Filling<'a> {
    chunks: Vec<Chunk>,
    state: RefCell<State<'a>>,
}

struct State<'a> {
    sink: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    sum: Sha256,
    progress: Progress,
    report: &'a dyn Fn(Progress),
}

impl Repository {
    /// Gives the unified kernel image of `manifest` to `sink`, in order; pieces
    /// that `seeds` (older images) have come from there.
    ///
    /// # Errors
    /// No mirror gave what is missing, or `sink` failed. What `sink` got until then
    /// is the image's begin.
    pub async fn uki(
        &self,
        manifest: &Manifest,
        seeds: &[&dyn ReadAt],
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
        progress: &dyn Fn(Progress),
    ) -> Result<Fetched, FetchError> {
        let before = self.count();
        let uki = &manifest.uki;
        let file = self.whole(&manifest.uki_index).await?;
        let index = UkiIndex::parse(&file, uki.length).map_err(|error| FetchError::Release {
            path: manifest.uki_index.path.clone(),
            why: error.to_string(),
        })?;
        let filling = Filling {
            chunks: index.chunks().collect(),
            state: RefCell::new(State {
                sink,
                sum: Sha256::new(),
                progress: Progress {
                    total: uki.length,
                    ..Progress::default()
                },
                report: progress,
            }),
        };
        let mut places = Vec::new();
        for (number, seed) in seeds.iter().enumerate() {
            look(*seed, number, &filling.chunks, &mut places).await;
        }
        places.sort_unstable_by_key(|place| (place.hash, place.length));
        let mut missing: Option<Range<u64>> = None;
        for chunk in &filling.chunks {
            if let Some(bytes) = copy(seeds, &places, chunk) {
                if let Some(run) = missing.take() {
                    self.parts(uki, [run], &filling).await?;
                }
                filling.put(&bytes, false)?;
            } else {
                let end = chunk.offset + chunk.length;
                missing = Some(missing.map_or(chunk.offset, |run| run.start)..end);
            }
        }
        if let Some(run) = missing {
            self.parts(uki, [run], &filling).await?;
        }
        let state = filling.state.into_inner();
        let sum = Sha256Sum(state.sum.finalize().into());
        if sum != uki.sha256 {
            // Every piece had the hash that it should have, as far as that goes.
            return Err(FetchError::Artifact {
                path: uki.path.clone(),
                failures: vec![Failure {
                    address: self.address(),
                    fault: Fault::Wrong(format!(
                        "the SHA-256 is {sum}, and {} was signed, although each piece matches {}",
                        uki.sha256, manifest.uki_index.path
                    )),
                }],
            });
        }
        Ok(self.used(before, state.progress.reused))
    }
}

/// Which pieces of the image a seed has.
async fn look(seed: &dyn ReadAt, number: usize, chunks: &[Chunk], places: &mut Vec<Place>) {
    let length = seed.length();
    let mut head = vec![0; length.min(UKI_HEAD as u64) as usize];
    let Ok(()) = seed.read_at(&mut head, 0) else {
        return;
    };
    let Ok(sections) = sections(&head) else {
        return;
    };
    let mut wanted: Vec<(Short, u64)> = chunks.iter().map(|c| (c.hash, c.length)).collect();
    wanted.sort_unstable();
    let cuts = sections.iter().map(|section| section.offset.min(length));
    let mut begin = 0;
    for end in cuts.chain([length]) {
        let mut offset = begin;
        while offset < end {
            let mut piece = [0; BLOCK as usize];
            let piece = &mut piece[..(end - offset).min(BLOCK) as usize];
            if seed.read_at(piece, offset).is_ok() {
                let place = Place {
                    hash: short(&Sha256::digest(&piece).into()),
                    length: piece.len() as u64,
                    seed: number,
                    offset,
                };
                if wanted.binary_search(&(place.hash, place.length)).is_ok() {
                    places.push(place);
                }
            }
            offset += piece.len() as u64;
            if offset.is_multiple_of(64 * BLOCK) {
                tokio::task::yield_now().await;
            }
        }
        begin = begin.max(end);
    }
}

/// A piece from a seed, if one has it and it is still what it was.
fn copy(seeds: &[&dyn ReadAt], places: &[Place], chunk: &Chunk) -> Option<Vec<u8>> {
    let key = (chunk.hash, chunk.length);
    let at = places.partition_point(|place| (place.hash, place.length) < key);
    let place = places.get(at)?;
    if (place.hash, place.length) != key {
        return None;
    }
    let mut bytes = vec![0; chunk.length as usize];
    seeds
        .get(place.seed)?
        .read_at(&mut bytes, place.offset)
        .ok()?;
    (short(&Sha256::digest(&bytes).into()) == chunk.hash).then_some(bytes)
}

impl Filling<'_> {
    fn put(&self, bytes: &[u8], fetched: bool) -> Result<(), FetchError> {
        let mut state = self.state.borrow_mut();
        state.sum.update(bytes);
        (state.sink)(bytes).map_err(|source| FetchError::Device {
            doing: "writing the unified kernel image",
            source,
        })?;
        let length = bytes.len() as u64;
        if fetched {
            state.progress.fetched += length;
        } else {
            state.progress.reused += length;
        }
        state.progress.verified += length;
        (state.report)(state.progress);
        Ok(())
    }

    fn chunk_at(&self, offset: u64) -> Option<(usize, &Chunk)> {
        let after = self.chunks.partition_point(|chunk| chunk.offset <= offset);
        let at = after.checked_sub(1)?;
        Some((at, self.chunks.get(at)?))
    }
}

impl Prove for Filling<'_> {
    fn end_of_piece(&self, offset: u64) -> u64 {
        self.chunk_at(offset)
            .map_or(offset, |(_, chunk)| chunk.offset + chunk.length)
    }

    fn take(&self, offset: u64, bytes: &[u8]) -> Result<(), Refused> {
        let Some((mut number, _)) = self.chunk_at(offset) else {
            return Ok(());
        };
        let mut proved = 0;
        let mut wrong = None;
        while let Some(chunk) = self.chunks.get(number)
            && proved < bytes.len()
        {
            let piece = &bytes[proved..(proved + chunk.length as usize).min(bytes.len())];
            if short(&Sha256::digest(piece).into()) != chunk.hash {
                wrong = Some(format!("byte {} and what follows is wrong", chunk.offset));
                break;
            }
            proved += piece.len();
            number += 1;
        }
        self.put(&bytes[..proved], true).map_err(Refused::Failed)?;
        wrong.map_or(Ok(()), |what| {
            let taken = proved as u64;
            Err(Refused::Wrong { taken, what })
        })
    }
}
