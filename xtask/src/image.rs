//! The disk image, by mkosi, and what is taken out of it.

use crate::fingerprint::Fingerprint;
use crate::progress::{Planned, Stage};
use crate::rootfs::{self, Staged};
use crate::tools::Tools;
use crate::variant::Variant;
use crate::workspace::Workspace;
use crate::{crates, kernel, process, tools};
use anyhow::{Context, Result, bail, ensure};
use object::Object;
use object::read::ObjectSection;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// dm-verity's blocks, of data and of hashes.
const BLOCK: u64 = 4096;

/// The stage.
pub const STAGE: &str = "image";

/// The file beside an image that says what it was made of.
const KEY: &str = ".made-of";

/// A finished image: a folder like `build`, whose `image/` has the outputs and whose
/// `tools` and `kernel` say what they were made with.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
}

impl Image {
    /// The folder, which the crate `machine` calls a build.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The raw disk.
    pub fn disk(&self) -> PathBuf {
        self.output("wherry.raw")
    }

    /// The root file system (erofs).
    pub fn root(&self) -> PathBuf {
        self.output("wherry.root")
    }

    /// The root's hash tree.
    pub fn hash_tree(&self) -> PathBuf {
        self.output("wherry.verity")
    }

    /// The unified kernel image.
    pub fn uki(&self) -> PathBuf {
        self.output("wherry.efi")
    }

    /// The key of what it was made of.
    pub fn key(&self) -> Result<String> {
        let path = self.output(KEY);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// The files of the release `version`, and the names that they have there.
    pub fn artifacts(&self, version: &str) -> Vec<(PathBuf, String)> {
        [
            (self.root(), "root"),
            (self.hash_tree(), "verity"),
            (self.uki(), "efi"),
            (self.output("wherry.loader.efi"), "loader.efi"),
            (self.output("wherry.spdx.json"), "spdx.json"),
        ]
        .map(|(file, suffix)| (file, format!("wherry_{version}.{suffix}")))
        .into()
    }

    fn output(&self, name: &str) -> PathBuf {
        self.folder.join("image").join(name)
    }
}

/// The long stages that an image needs for sure, and how long they take on 2 cores.
/// Short ones (a program that changed) show themselves.
pub fn to_come(workspace: &Workspace) -> Result<Vec<Planned>> {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let mut stages = Vec::new();
    let kernel = match tools::made(workspace)? {
        Some(tree) => kernel::is_made(workspace, &tree)?,
        None => {
            stages.push((tools::STAGE, minutes(2)));
            // A new tree seldom has another compiler.
            kernel::is_any_made(workspace)
        }
    };
    if !kernel {
        stages.push((kernel::STAGE, minutes(16)));
    }
    if !workspace.build.join("cargo").exists() {
        stages.push((crates::STAGE, minutes(5)));
    }
    if !workspace.build.join("image").exists() {
        stages.push((STAGE, Duration::from_secs(15)));
    }
    Ok(stages)
}

/// Makes sure that `build/image` is what this checkout makes.
pub fn make(workspace: &Workspace) -> Result<Image> {
    make_variant(workspace, &Variant::default(), &workspace.build)
}

/// Makes sure that `folder/image` is what this checkout makes with some changes,
/// and returns that folder's image. The version is the workspace's.
pub fn make_variant(workspace: &Workspace, variant: &Variant, folder: &Path) -> Result<Image> {
    let tree = tools::make(workspace)?;
    let kernel = kernel::make(workspace, &tree)?;
    let staged = rootfs::stage(workspace, &tree, &kernel, variant)?;
    let mut release = format!(
        "# Written by `cargo xtask image`.\n[Output]\nImageVersion={}\n\n\
         [Content]\nSourceDateEpoch={}\n",
        workspace.version(),
        workspace.epoch
    );
    if !variant.command_line.is_empty() {
        release += &format!("KernelCommandLine={}\n", variant.command_line);
    }
    fs::write(workspace.build.join("release.conf"), &release).context("write release.conf")?;

    let key = Fingerprint::of("image 2")
        .path(&staged.root)?
        .path(&staged.boot)?
        .path(&workspace.root.join("mkosi.conf"))?
        .path(&workspace.root.join("os-image"))?
        .text("release", &release)
        .text("erofs", &format!("{:?}", variant.erofs))
        .text("tools", &tree.tree().display().to_string())
        .finish();
    if folder != workspace.build {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        for part in ["tools", "kernel"] {
            let made = fs::canonicalize(workspace.build.join(part))?;
            tools::link(&made, &folder.join(part))?;
        }
    }
    let image = Image {
        folder: folder.to_owned(),
    };
    if image.key().is_ok_and(|made_of| made_of == key) {
        return Ok(image);
    }
    run_mkosi(workspace, &tree, variant)?;
    collect(workspace, &staged, &folder.join("image"))?;
    fs::write(image.output(KEY), key).context("write the image's stamp")?;
    Ok(image)
}

fn run_mkosi(workspace: &Workspace, tree: &Tools, variant: &Variant) -> Result<()> {
    let stage = Stage::begin(&workspace.progress, STAGE, "laying out the disk");
    let output = workspace.build.join("mkosi");
    if output.exists() {
        fs::remove_dir_all(&output).context("remove the former image")?;
    }
    fs::create_dir_all(&output)?;
    fs::write(workspace.build.join("no-initrd"), "")?;
    let mut mkosi = tools::mkosi(tree);
    mkosi.arg("--directory").arg(&workspace.root);
    if let Some(options) = &variant.erofs {
        let setting = format!("SYSTEMD_REPART_MKFS_OPTIONS_EROFS={options}");
        mkosi.args(["--environment", &setting]);
    }
    process::run(
        mkosi.args(["--force", "build"]),
        &workspace.log("image"),
        |_| {},
    )
    .context("mkosi could not make the image")?;
    stage.end();
    Ok(())
}

/// Puts mkosi's outputs where everything else looks for them.
fn collect(workspace: &Workspace, staged: &Staged, image: &Path) -> Result<()> {
    if image.exists() {
        fs::remove_dir_all(image).context("remove the former image")?;
    }
    fs::create_dir_all(image)?;
    let made = |name: &str| {
        workspace
            .build
            .join("mkosi")
            .join(format!("wherry_{}{name}", workspace.version()))
    };
    for (from, to) in [
        (made(".raw"), "wherry.raw"),
        (made(".root.raw"), "wherry.root"),
        (made(".verity.raw"), "wherry.verity"),
        (made(".efi"), "wherry.efi"),
    ] {
        fs::rename(&from, image.join(to))
            .with_context(|| format!("mkosi made no {}", from.display()))?;
    }
    fs::copy(staged.sbom(), image.join("wherry.spdx.json")).context("copy the list of contents")?;
    fs::copy(staged.loader(), image.join("wherry.loader.efi")).context("copy the boot loader")?;
    let command_line = command_line(&image.join("wherry.efi"))?;
    check_root_hash(&command_line)?;
    // mkosi gives whole partitions; a release carries what is used of them.
    let root = File::options()
        .write(true)
        .open(image.join("wherry.root"))?;
    root.set_len(data_length(&command_line)?)?;
    trim(&image.join("wherry.verity")).context("trim the hash tree")?;
    fs::write(image.join("wherry.cmdline"), command_line)?;
    Ok(())
}

/// How many bytes of the root partition dm-verity covers, from
/// `dm-mod.create="NAME,UUID,MINOR,FLAGS,START SECTORS verity …"`.
fn data_length(command_line: &str) -> Result<u64> {
    command_line
        .split_once("dm-mod.create=\"")
        .and_then(|(_, table)| table.split_whitespace().nth(1)?.parse().ok())
        .map(|sectors: u64| sectors * 512)
        .with_context(|| format!("no dm-mod.create= in the command line: {command_line}"))
}

/// Cuts off the blocks of zeros at a hash tree's end: its last block holds hashes.
fn trim(path: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut blocks = file.metadata()?.len() / BLOCK;
    let mut block = [0; BLOCK as usize];
    while blocks > 0 {
        file.read_exact_at(&mut block, (blocks - 1) * BLOCK)?;
        if block.iter().any(|byte| *byte != 0) {
            break;
        }
        blocks -= 1;
    }
    file.set_len(blocks * BLOCK)?;
    Ok(())
}

/// The command line in a unified kernel image.
fn command_line(uki: &Path) -> Result<String> {
    let data = fs::read(uki).with_context(|| format!("read {}", uki.display()))?;
    let file = object::File::parse(data.as_slice())
        .with_context(|| format!("read {} as a unified kernel image", uki.display()))?;
    let section = file
        .section_by_name(".cmdline")
        .context("the unified kernel image has no command line")?;
    let text = String::from_utf8(section.data()?.to_vec())?;
    Ok(text.trim_matches(['\0', '\n', ' ']).to_owned())
}

/// The hash that our finalize script told the kernel has to be the one of the
/// root that mkosi made.
fn check_root_hash(command_line: &str) -> Result<()> {
    let word = |begin: &str| {
        command_line
            .split_whitespace()
            .find_map(|word| word.strip_prefix(begin))
    };
    let Some(mkosis) = word("roothash=") else {
        bail!("mkosi put no roothash= into the kernel's command line: {command_line}");
    };
    ensure!(
        command_line
            .split_whitespace()
            .filter(|word| *word == mkosis)
            .count()
            == 1,
        "os-image/finalize laid out another root than mkosi: dm-mod.create= has not \
         the root hash {mkosis}: {command_line}"
    );
    Ok(())
}

/// Converts a raw disk to qcow2.
pub fn to_qcow2(workspace: &Workspace, raw: &Path, qcow2: &Path) -> Result<()> {
    let tree = tools::make(workspace)?;
    let parent = |path: &Path| {
        let path = path.parent().unwrap_or(Path::new("."));
        fs::canonicalize(path).with_context(|| format!("find {}", path.display()))
    };
    let inside = |folder: &str, path: &Path| {
        let name = path.file_name().unwrap_or_default();
        Path::new(folder).join(name)
    };
    let (from, to) = (parent(raw)?, parent(qcow2)?);
    let mut convert = tools::sandbox(&tree, &[(&from, "/from"), (&to, "/to")], "qemu-img");
    convert
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .arg(inside("/from", raw))
        .arg(inside("/to", qcow2));
    process::run(&mut convert, &workspace.log("image"), |_| {})
        .with_context(|| format!("cannot write {}", qcow2.display()))
}

#[cfg(test)]
mod tests {
    use super::{check_root_hash, data_length};

    #[test]
    fn the_command_line_tells_how_long_the_root_is() {
        let line = "quiet dm-mod.create=\"root,,,ro,0 1400 verity 1 a b\" ro";
        assert_eq!(data_length(line).unwrap(), 1400 * 512);
        assert!(data_length("quiet ro").is_err());
    }

    #[test]
    fn another_root_hash_than_mkosis_is_found_out() {
        let line = |hash: &str| {
            format!(
                "root=/dev/dm-0 dm-mod.create=\"root,,,ro,0 8 verity 1 sha256 {hash} aa 1 panic_on_corruption\" roothash=abcd"
            )
        };
        assert!(check_root_hash(&line("abcd")).is_ok());
        assert!(check_root_hash(&line("abce")).is_err());
        assert!(check_root_hash("root=/dev/dm-0").is_err());
    }
}
