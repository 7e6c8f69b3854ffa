//! Block indexes and indexes of unified kernel images.

use proptest::prelude::*;
use release::{BlockIndex, IndexError, UkiIndex, sections, short};
use sha2::{Digest, Sha256};

/// A PE file with sections of these lengths in the file, filled with `byte`.
fn uki(sections: &[(&str, usize, u8)]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..2].copy_from_slice(b"MZ");
    file[60..64].copy_from_slice(&64u32.to_le_bytes());
    file.extend(b"PE\0\0");
    file.extend(0x8664u16.to_le_bytes());
    file.extend((sections.len() as u16).to_le_bytes());
    file.extend([0; 12]);
    file.extend(112u16.to_le_bytes()); // the optional header's size
    file.extend([0; 2]);
    file.extend(0x20bu16.to_le_bytes());
    file.extend([0; 110]);
    let mut at = 1024;
    for (name, length, _) in sections {
        let mut field = [0; 8];
        field[..name.len()].copy_from_slice(name.as_bytes());
        file.extend(field);
        file.extend((*length as u32).to_le_bytes()); // what means something
        file.extend(0u32.to_le_bytes());
        file.extend((length.next_multiple_of(512) as u32).to_le_bytes());
        file.extend((at as u32).to_le_bytes());
        file.extend([0; 16]);
        at += length.next_multiple_of(512);
    }
    file.resize(1024, 0);
    for (_, length, byte) in sections {
        let end = file.len() + length.next_multiple_of(512);
        file.extend((0..*length).map(|at| byte.wrapping_add((at / 512) as u8)));
        file.resize(end, 0);
    }
    file
}

#[test]
fn the_pieces_of_a_kernel_image_are_its_bytes_in_order() {
    let file = uki(&[
        (".osrel", 600, 1),
        (".cmdline", 5000, 2),
        (".linux", 99_999, 3),
    ]);
    let index = UkiIndex::of(&file).unwrap();
    let mut end = 0;
    for chunk in index.chunks() {
        assert_eq!(chunk.offset, end);
        assert!((1..=4096).contains(&chunk.length));
        end += chunk.length;
        let bytes = &file[chunk.offset as usize..end as usize];
        assert_eq!(chunk.hash, short(&Sha256::digest(bytes).into()));
    }
    assert_eq!(end, file.len() as u64);
    let read = UkiIndex::parse(&index.encode(), file.len() as u64).unwrap();
    assert_eq!(read, index);
}

#[test]
fn a_section_that_moved_keeps_its_pieces() {
    let first = uki(&[(".cmdline", 100, 1), (".linux", 50_000, 9)]);
    let second = uki(&[(".cmdline", 3000, 2), (".linux", 50_000, 9)]);
    let pieces = |file: &[u8]| -> Vec<_> {
        let linux = sections(file).unwrap().pop().unwrap();
        assert_eq!((linux.name.as_str(), linux.length), (".linux", 50_000));
        UkiIndex::of(file)
            .unwrap()
            .chunks()
            .filter(|chunk| chunk.offset >= linux.offset)
            .map(|chunk| chunk.hash)
            .collect()
    };
    assert_eq!(pieces(&first), pieces(&second));
    assert_eq!(pieces(&first).len(), 13);
}

#[test]
fn the_begin_of_a_file_is_enough_to_find_its_sections() {
    let file = uki(&[(".osrel", 600, 1), (".linux", 9_000_000, 3)]);
    assert_eq!(
        sections(&file).unwrap(),
        sections(&file[..release::UKI_HEAD]).unwrap()
    );
    assert!(sections(&file[..100]).is_err());
    assert!(sections(b"#!/bin/sh").is_err());
}

#[test]
fn an_index_of_another_image_is_refused() {
    let file = uki(&[(".linux", 50_000, 9)]);
    let good = UkiIndex::of(&file).unwrap().encode();
    let length = file.len() as u64;
    let parse = |file: &[u8]| UkiIndex::parse(file, length);
    assert!(parse(&good).is_ok());
    assert!(matches!(
        parse(&good[..good.len() - 8]),
        Err(IndexError::Length { .. })
    ));
    assert!(matches!(
        UkiIndex::parse(&good, length + 1),
        Err(IndexError::Header(_))
    ));
    for (at, byte) in [(0, b'X'), (8, 2), (12, 4), (24, 200), (31, 1), (32, 0)] {
        let mut wrong = good.clone();
        wrong[at] = byte;
        if at == 32 {
            wrong[32..40].copy_from_slice(&length.to_le_bytes());
        }
        assert!(parse(&wrong).is_err(), "byte {at}");
    }

    let blocks: BlockIndex = (0..9u64).map(u64::to_le_bytes).collect();
    let file = blocks.encode();
    assert_eq!(file.len() as u64, BlockIndex::length(9));
    assert_eq!(BlockIndex::parse(&file, 9).unwrap(), blocks);
    assert_eq!(blocks.hash(8), 8u64.to_le_bytes());
    assert!(BlockIndex::parse(&file, 8).is_err());
    assert!(BlockIndex::parse(&file, u64::MAX).is_err());
    assert!(BlockIndex::parse(&good, 9).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(begin: Vec<u8>, at in 0usize..200, byte: u8) {
        let file = uki(&[(".osrel", 600, 1), (".linux", 5_000, 3)]);
        let mut index = UkiIndex::of(&file).unwrap().encode();
        let place = at % index.len();
        index[place] = byte;
        if let Ok(index) = UkiIndex::parse(&index, file.len() as u64) {
            prop_assert_eq!(
                index.chunks().map(|chunk| chunk.length).sum::<u64>(),
                file.len() as u64
            );
        }
        let _ = UkiIndex::parse(&begin, 9);
        let _ = BlockIndex::parse(&begin, 9);
        let mut head = file;
        head[64 + at] = byte;
        let _ = UkiIndex::of(&head);
        let _ = sections(&begin);
    }
}
