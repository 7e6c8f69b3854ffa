//! The files of a release that a build left, and whether they belong together.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use layout::command_line;
use release::{
    Artifact, BLOCK, BlockHasher, BlockIndex, MAX_LOADER, MAX_ROOT, MAX_UKI, RootHash, TreeBuilder,
    UkiIndex, VerityParameters, Version, sections, short,
};

use crate::error::{Error, Result};
use crate::files::{self, NewFolder};
use crate::progress::Progress;

/// The files of a release by the suffixes of their names, and what
/// `wherry-release` adds.
const ROOT: &str = "root";
const TREE: &str = "verity";
const UKI: &str = "efi";
const LOADER: &str = "loader.efi";
const SBOM: &str = "spdx.json";
const DISK: &str = "raw";
const ROOT_INDEX: &str = "root.index";
const UKI_INDEX: &str = "efi.index";

/// A release as a build left it: `wherry_<version>.root`, `.verity`, `.efi`,
/// `.loader.efi`, `.spdx.json`, `.raw` in one folder. Everything else in a
/// manifest is read from them.
#[derive(Debug)]
pub struct ReleaseFolder {
    folder: PathBuf,
    version: Version,
    pub(crate) checked: Checked,
    pub(crate) loader_version: Version,
    uki_index: UkiIndex,
}

/// The files of a published release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub root: Artifact,
    pub root_index: Artifact,
    pub tree: Artifact,
    pub uki: Artifact,
    pub uki_index: Artifact,
    pub loader: Artifact,
    pub sbom: Artifact,
    pub disk: Artifact,
}

impl ReleaseFolder {
    /// Reads and checks a release. `version` says which, if the folder has
    /// several.
    ///
    /// # Errors
    /// A file is missing or does not belong to the others.
    pub fn open(folder: &Path, version: Option<&Version>, progress: &dyn Progress) -> Result<Self> {
        let version = match version {
            Some(version) => version.clone(),
            None => only_version(folder)?,
        };
        let file = |end: &str| folder.join(file_name(&version, end));
        for end in [ROOT, TREE, UKI, LOADER, SBOM, DISK] {
            if !file(end).is_file() {
                return Err(Error::release(
                    &file(end),
                    "is missing; a release is what `cargo xtask image` leaves in build/output",
                ));
            }
        }
        let checked = check(&file(ROOT), &file(TREE), &file(UKI), progress)?;
        if checked.version != version {
            return Err(Error::release(
                &file(UKI),
                format!("belongs to version {}, not to {version}", checked.version),
            ));
        }
        let loader = files::read(&file(LOADER), MAX_LOADER)?;
        let sbom = files::read(&file(SBOM), release::MAX_SBOM)?;
        serde_json::from_slice::<serde::de::IgnoredAny>(&sbom)
            .map_err(|error| Error::release(&file(SBOM), format!("no JSON: {error}")))?;
        check_disk(&file(DISK))?;
        let uki = files::read(&file(UKI), MAX_UKI)?;
        Ok(Self {
            loader_version: loader_version(&loader)
                .map_err(|problem| Error::release(&file(LOADER), problem))?,
            uki_index: UkiIndex::of(&uki).map_err(|error| Error::release(&file(UKI), error))?,
            folder: folder.to_owned(),
            version,
            checked,
        })
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Its root hash.
    pub fn root_hash(&self) -> RootHash {
        self.checked.root_hash
    }

    /// Puts the files into `releases/<version>`, all at once. If that folder
    /// exists already, its files must be the same.
    pub(crate) fn store(&self, releases: &Path, progress: &dyn Progress) -> Result<Stored> {
        files::make_folder(releases)?;
        let target = releases.join(self.version.as_str());
        let new = if target.exists() {
            None
        } else {
            Some(NewFolder::begin(&target)?)
        };
        let place = new.as_ref().map_or(target.as_path(), NewFolder::path);
        let name = |end: &str| file_name(&self.version, end);
        let size = |folder: &Path, end: &str| {
            std::fs::metadata(folder.join(name(end))).map_or(0, |file| file.len())
        };
        let total = [ROOT, TREE, UKI, LOADER, SBOM, DISK]
            .iter()
            .map(|end| size(&self.folder, end))
            .sum();
        progress.begin(&format!("copying {}", self.version), total);
        let artifact = |end: &str, (length, sha256)| Artifact {
            path: format!("releases/{}/{}", self.version, name(end)),
            length,
            sha256,
        };
        let other = |end: &str| {
            Error::Refused(format!(
                "version {} is published already, with another {}: \
                 what is published is never changed, give the new build a new version",
                self.version,
                target.join(name(end)).display()
            ))
        };
        let take = |end: &str| -> Result<Artifact> {
            let (from, to) = (self.folder.join(name(end)), place.join(name(end)));
            if new.is_some() {
                return Ok(artifact(end, files::copy(&from, &to, progress)?));
            }
            let ours = files::measure(&from, progress)?;
            if files::measure(&to, &crate::progress::Silent)? == ours {
                Ok(artifact(end, ours))
            } else {
                Err(other(end))
            }
        };
        let make = |end: &str, bytes: &[u8]| -> Result<Artifact> {
            let to = place.join(name(end));
            let ours = (bytes.len() as u64, files::sha256(bytes));
            if new.is_some() {
                files::put(&to, bytes)?;
            } else if files::measure(&to, &crate::progress::Silent)? != ours {
                return Err(other(end));
            }
            Ok(artifact(end, ours))
        };
        let stored = Stored {
            root: take(ROOT)?,
            tree: take(TREE)?,
            uki: take(UKI)?,
            loader: take(LOADER)?,
            sbom: take(SBOM)?,
            disk: take(DISK)?,
            root_index: make(ROOT_INDEX, &self.checked.index.encode())?,
            uki_index: make(UKI_INDEX, &self.uki_index.encode())?,
        };
        if let Some(new) = new {
            new.finish()?;
        }
        Ok(stored)
    }
}

fn file_name(version: &Version, end: &str) -> String {
    format!("wherry_{version}.{end}")
}

fn only_version(folder: &Path) -> Result<Version> {
    let mut versions = Vec::new();
    for path in files::entries(folder)? {
        let name = files::name(&path);
        let version = name
            .strip_prefix("wherry_")
            .and_then(|name| name.strip_suffix(".root"));
        if let Some(version) = version {
            versions.push(version.to_owned());
        }
    }
    match versions.as_slice() {
        [version] => version
            .parse()
            .map_err(|error| Error::release(folder, error)),
        [] => Err(Error::release(
            folder,
            "contains no release: there is no wherry_<version>.root",
        )),
        several => Err(Error::release(
            folder,
            format!(
                "contains several releases, choose one with --version: {}",
                several.join(", ")
            ),
        )),
    }
}

/// What root, hash tree and unified kernel image agree on.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub version: Version,
    pub root_hash: RootHash,
    pub verity: VerityParameters,
    pub index: BlockIndex,
}

/// Checks that the tree is the root's, and that the kernel image boots that root.
pub(crate) fn check(
    root: &Path,
    tree: &Path,
    uki: &Path,
    progress: &dyn Progress,
) -> Result<Checked> {
    let expected = files::read(tree, MAX_ROOT / 100)?;
    let verity = VerityParameters::parse(&expected).map_err(|error| Error::release(tree, error))?;
    let (root_hash, index) = check_tree(root, tree, &verity, &expected, progress)?;
    let image = files::read(uki, MAX_UKI)?;
    let section =
        |name: &str| section(&image, name).map_err(|problem| Error::release(uki, problem));
    let command_line = section(".cmdline")?;
    check_command_line(&command_line, &verity, &root_hash)
        .map_err(|problem| Error::release(uki, problem))?;
    let os_release = section(".osrel")?;
    let version = os_release
        .lines()
        .find_map(|line| line.strip_prefix("IMAGE_VERSION="))
        .ok_or_else(|| Error::release(uki, "has no IMAGE_VERSION= in its os-release"))?;
    Ok(Checked {
        version: version
            .trim_matches('"')
            .parse()
            .map_err(|error| Error::release(uki, error))?,
        root_hash,
        verity,
        index,
    })
}

fn check_tree(
    root: &Path,
    tree: &Path,
    verity: &VerityParameters,
    expected: &[u8],
    progress: &dyn Progress,
) -> Result<(RootHash, BlockIndex)> {
    let mut file = File::open(root).map_err(Error::file("open", root))?;
    let length = file.metadata().map_err(Error::file("read", root))?.len();
    if length != verity.data_length() {
        return Err(Error::release(
            root,
            format!(
                "has {length} bytes, and {} says {}",
                tree.display(),
                verity.data_length()
            ),
        ));
    }
    progress.begin("checking the hash tree", length);
    let differs = |_| Error::release(tree, "is not the hash tree of the root beside it");
    let mut same = |offset: u64, block: &[u8; BLOCK as usize]| {
        let at = offset as usize;
        match expected.get(at..at + block.len()) {
            Some(there) if there == block => Ok(()),
            _ => Err(()),
        }
    };
    if expected.len() as u64 != verity.tree_length() {
        return Err(differs(()));
    }
    let mut builder = TreeBuilder::new(verity).map_err(|error| Error::release(tree, error))?;
    let hasher = BlockHasher::new(verity);
    let mut index = Vec::new();
    let mut block = [0; BLOCK as usize];
    for _ in 0..verity.data_blocks {
        file.read_exact(&mut block)
            .map_err(Error::file("read", root))?;
        let hash = hasher.hash(&block);
        index.push(short(&hash));
        builder.push(hash, &mut same).map_err(differs)?;
        progress.add(BLOCK);
    }
    let root_hash = builder.finish(&mut same).map_err(differs)?;
    Ok((root_hash, index.into_iter().collect()))
}

/// The kernel must open exactly this root: a difference would only show when a
/// machine boots.
fn check_command_line(
    line: &str,
    verity: &VerityParameters,
    root_hash: &RootHash,
) -> std::result::Result<(), String> {
    let table = command_line::verity_table(verity, root_hash);
    let opened = line
        .split_once("dm-mod.create=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("", |(table, _)| table);
    // A salt that only begins as it should is another.
    if !format!("{opened} ").contains(&format!("{table} ")) {
        return Err(format!(
            "its command line does not open the root beside it: dm-mod.create= should have \
             '{}', and is '{opened}'",
            table
        ));
    }
    let named = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("roothash="));
    if named != Some(&root_hash.to_string()) {
        return Err(format!(
            "its command line has roothash={}, but the root's is {root_hash}",
            named.unwrap_or_default()
        ));
    }
    Ok(())
}

/// The text in a section.
fn section(image: &[u8], name: &str) -> std::result::Result<String, String> {
    let sections = sections(image).map_err(|error| error.to_string())?;
    let section = sections
        .iter()
        .find(|section| section.name == name)
        .ok_or_else(|| format!("has no section {name}"))?;
    let begin = section.offset as usize;
    let bytes = image
        .get(begin..begin + section.length as usize)
        .ok_or_else(|| format!("ends before its section {name} does"))?;
    let text = String::from_utf8_lossy(bytes);
    Ok(text.trim_end_matches(['\0', '\n', ' ']).to_owned())
}

/// systemd-boot says which version it is.
fn loader_version(loader: &[u8]) -> std::result::Result<Version, String> {
    let text = section(loader, release::LOADER_SECTION)?;
    release::loader_version(&text)
        .ok_or_else(|| format!("is not systemd-boot: it says '{}'", text.escape_debug()))?
        .map_err(|error| error.to_string())
}

/// A disk has a partition table.
fn check_disk(path: &Path) -> Result<()> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(1024).read_to_end(&mut head))
        .map_err(Error::file("read", path))?;
    if head.get(512..520) == Some(b"EFI PART") {
        Ok(())
    } else {
        Err(Error::release(path, "is not a disk image: it has no GPT"))
    }
}
