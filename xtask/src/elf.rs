//! What a program of Debian's needs beside itself.

use crate::tools::Tools;
use anyhow::{Context, Result, bail};
use object::elf::FileHeader64;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, elf};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where the dynamic loader looks without being told.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// The dynamic loader and the shared libraries that the program at `path` of
/// the tree needs, those that they need included; nothing for a static one or
/// one that is no program. Paths are the tree's.
pub fn needed(tree: &Tools, path: &str) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        for needed in direct(tree, &path)? {
            if all.insert(needed.clone()) {
                open.push(needed);
            }
        }
    }
    Ok(all)
}

fn direct(tree: &Tools, path: &str) -> Result<Vec<String>> {
    let file = tree.file(path)?;
    let data = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    if !data.starts_with(&elf::ELFMAG) {
        return Ok(Vec::new());
    }
    parse(&data)
        .with_context(|| format!("read {path} of the tools tree as ELF"))?
        .into_iter()
        // The loader is there as itself; the C library names it as a library too.
        .filter(|name| !name.starts_with("ld-linux"))
        .map(|name| {
            if name.starts_with('/') {
                return Ok(name.replacen("/lib64/", "/usr/lib64/", 1));
            }
            let library = Path::new(LIBRARIES).join(&name).display().to_string();
            match tree.file(&library) {
                Ok(_) => Ok(library),
                Err(_) => bail!("{path} needs {name}, which is not in {LIBRARIES} of the tree"),
            }
        })
        .collect()
}

/// The names in an ELF file: its loader's path, its libraries' file names.
fn parse(data: &[u8]) -> Result<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, data)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut names = Vec::new();
    for segment in segments {
        if let Some(loader) = segment.interpreter(endian, data)? {
            names.push(text(loader));
        }
    }
    let sections = header.sections(endian, data)?;
    if let Some((entries, link)) = sections.dynamic(endian, data)? {
        let strings = sections.strings(endian, data, link)?;
        for entry in entries {
            if entry.tag(endian) == elf::DT_NEEDED {
                names.push(text(entry.string(endian, strings)?));
            }
        }
    }
    Ok(names)
}
