//! Stages the tree that becomes the image's root, `build/rootfs`, and the one
//! that only the ESP is made of, `build/boot`.
//!
//! The OS's own root and each service's are made in the same way, from a
//! `root.toml`; a folder `root/` beside it, if there is one, is copied over the
//! result. Nothing of a service is outside its folder.

use crate::crates::{self, Profile};
use crate::kernel::Kernel;
use crate::recipe::Recipe;
use crate::sbom::{self, Contents};
use crate::tools::Tools;
use crate::variant::Variant;
use crate::workspace::Workspace;
use crate::{elf, tools};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Mount points that each service's root has.
const SERVICE_DIRECTORIES: [&str; 8] = [
    "/dev", "/etc", "/proc", "/run", "/state", "/sys", "/tmp", "/var",
];

/// Where the services are in the image.
const SERVICES: &str = "usr/lib/wherry/services";

/// Where the list of contents is in the image.
const SBOM: &str = "usr/share/wherry/sbom.spdx.json";

/// Where the updater finds the root that it trusts. No image has one by itself.
const TRUST: &str = "usr/lib/wherry/update-root.json";

/// Copies the updater out of the staged root: the very program of the image. The
/// next build may replace that one.
pub fn copy_updater(workspace: &Workspace, to: &Path) -> Result<()> {
    let staged = workspace.build.join("rootfs").join(SERVICES);
    copy(&staged.join("updater/root/usr/bin/updater"), to, 0o755)
}

/// A root to be made: the OS's, or a service's.
struct Root {
    /// Its place in the image's root; empty for the OS's own.
    place: PathBuf,
    /// The folder with its `root.toml`.
    folder: PathBuf,
    recipe: Recipe,
}

/// The staged trees.
pub struct Staged {
    /// The root of the operating system.
    pub root: PathBuf,
    /// Kernel and boot loader.
    pub boot: PathBuf,
}

impl Staged {
    /// The list of contents.
    pub fn sbom(&self) -> PathBuf {
        self.root.join(SBOM)
    }

    /// systemd-boot.
    pub fn loader(&self) -> PathBuf {
        self.boot
            .join("usr/lib/systemd/boot/efi/systemd-bootx64.efi")
    }
}

/// Stages everything.
pub fn stage(
    workspace: &Workspace,
    tree: &Tools,
    kernel: &Kernel,
    variant: &Variant,
) -> Result<Staged> {
    let roots = roots(workspace)?;
    let names: BTreeSet<String> = roots
        .iter()
        .flat_map(|root| root.recipe.binaries.iter().cloned())
        .collect();
    let binaries = crates::build(workspace, &names, Profile::Release, &variant.cargo)?;

    let staged = Staged {
        root: workspace.build.join("rootfs"),
        boot: workspace.build.join("boot"),
    };
    for old in [&staged.root, &staged.boot] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
        }
    }
    let target = &staged.root;
    let mut debian = BTreeSet::new();
    for root in &roots {
        let maker = Maker {
            tree,
            root: target.join(&root.place),
        };
        maker
            .make(root, &binaries, &mut debian)
            .with_context(|| format!("while making the root of {}", root.folder.display()))?;
    }
    boot_files(tree, kernel, variant, &staged.boot)?;
    write(
        &target.join("usr/lib/os-release"),
        &os_release(workspace.version()),
    )?;
    tools::link(
        Path::new("../usr/lib/os-release"),
        &target.join("etc/os-release"),
    )?;
    let contents = Contents {
        binaries: names,
        debian,
    };
    write(
        &target.join(SBOM),
        &sbom::document(workspace, tree, kernel, &contents)?,
    )?;
    if let Some(overlay) = &variant.overlay {
        copy_folder(overlay, target)?;
    }
    if let Some(trust) = &variant.trust {
        copy(trust, &target.join(TRUST), 0o644)?;
    }
    Ok(staged)
}

/// What each root is made of.
pub fn recipes(workspace: &Workspace) -> Result<Vec<Recipe>> {
    Ok(roots(workspace)?
        .into_iter()
        .map(|root| root.recipe)
        .collect())
}

fn roots(workspace: &Workspace) -> Result<Vec<Root>> {
    let mut roots = vec![Root {
        place: PathBuf::new(),
        folder: workspace.root.join("os-image"),
        recipe: Recipe::load(&workspace.root.join("os-image/root.toml"))?,
    }];
    let services = workspace.root.join("services");
    let mut folders: Vec<_> = fs::read_dir(&services)
        .with_context(|| format!("read {}", services.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|folder| folder.join("service.toml").exists())
        .collect();
    // A service like the others, with a folder of its own for all its crates.
    folders.push(workspace.root.join("updater"));
    folders.sort();
    for folder in folders {
        let Some(name) = folder.file_name() else {
            continue;
        };
        let mut recipe = Recipe::load(&folder.join("root.toml"))?;
        recipe
            .directories
            .extend(SERVICE_DIRECTORIES.map(str::to_owned));
        roots.push(Root {
            place: Path::new(SERVICES).join(name).join("root"),
            folder,
            recipe,
        });
    }
    Ok(roots)
}

struct Maker<'a> {
    tree: &'a Tools,
    root: PathBuf,
}

impl Maker<'_> {
    fn make(
        &self,
        root: &Root,
        binaries: &BTreeMap<String, PathBuf>,
        debian: &mut BTreeSet<String>,
    ) -> Result<()> {
        for directory in &root.recipe.directories {
            create_folder(&self.at(directory))?;
        }
        for name in &root.recipe.binaries {
            let Some(built) = binaries.get(name) else {
                bail!("cargo built no {name}");
            };
            copy(built, &self.at("usr/bin").join(name), 0o755)?;
        }
        for (package, files) in &root.recipe.debian {
            for file in files {
                self.take(package, file, debian)?;
            }
        }
        for (link, target) in &root.recipe.links {
            let link = self.at(link);
            create_parent(&link)?;
            symlink(target, &link).with_context(|| format!("link {}", link.display()))?;
        }
        let overlay = root.folder.join("root");
        if overlay.exists() {
            copy_folder(&overlay, &self.root)?;
        }
        if let (Some(service), false) = (self.root.parent(), root.place.as_os_str().is_empty()) {
            copy(
                &root.folder.join("service.toml"),
                &service.join("service.toml"),
                0o644,
            )?;
        }
        Ok(())
    }

    /// Takes a file of a package, and the libraries that it needs.
    fn take(&self, package: &str, file: &str, debian: &mut BTreeSet<String>) -> Result<()> {
        let owner = owner(self.tree, file)?;
        if owner != package {
            bail!("{file} is a file of Debian's {owner}, not of {package}");
        }
        debian.insert(owner);
        let libraries = elf::needed(self.tree, file)?;
        for library in &libraries {
            debian.insert(self::owner(self.tree, library)?);
        }
        if libraries.iter().any(|path| path.starts_with("/usr/lib64/")) {
            let link = self.at("/lib64");
            if link.symlink_metadata().is_err() {
                create_parent(&link)?;
                symlink("usr/lib64", &link).context("link /lib64")?;
            }
        }
        for path in libraries.iter().map(String::as_str).chain([file]) {
            let from = self.tree.file(path)?;
            let mode = fs::metadata(&from)?.permissions().mode();
            // Nothing in a container gains privileges by a set-user-id bit.
            let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
            copy(&from, &self.at(path), mode)?;
        }
        Ok(())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// The Debian package that a file of the tree belongs to.
fn owner(tree: &Tools, path: &str) -> Result<String> {
    // Packages name a file by where it was before /usr was merged, some of them.
    let path = path.strip_prefix("/usr").unwrap_or(path);
    let mut names = vec![path.to_owned(), format!("/usr{path}")];
    // A library is a link, /lib64 is a folder of another package's library.
    if let Ok(real) = fs::canonicalize(tree.file(&format!("usr{path}"))?)
        && let Ok(inside) = real.strip_prefix(fs::canonicalize(tree.tree())?)
    {
        let inside = format!("/{}", inside.display());
        names.push(inside.strip_prefix("/usr").unwrap_or(&inside).to_owned());
        names.push(inside);
    }
    let lists = tree.file("var/lib/dpkg/info")?;
    for entry in fs::read_dir(&lists).with_context(|| format!("read {}", lists.display()))? {
        let list = entry?.path();
        if list.extension().is_none_or(|end| end != "list") {
            continue;
        }
        let text = fs::read_to_string(&list)?;
        if text
            .lines()
            .any(|line| names.iter().any(|name| name == line))
        {
            let package = list.file_stem().unwrap_or_default().to_string_lossy();
            return Ok(package.split(':').next().unwrap_or_default().to_owned());
        }
    }
    bail!("no Debian package of the tools tree has {path}")
}

/// What mkosi makes the ESP of.
fn boot_files(tree: &Tools, kernel: &Kernel, variant: &Variant, target: &Path) -> Result<()> {
    let modules = target.join("usr/lib/modules").join(kernel.release()?);
    let image = variant.kernel.clone().unwrap_or_else(|| kernel.bzimage());
    copy(&image, &modules.join("vmlinuz"), 0o644)?;
    // mkosi would run depmod; these tell it that there is nothing to do.
    for name in ["dep", "dep.bin", "symbols", "symbols.bin"] {
        write(&modules.join(format!("modules.{name}")), "")?;
    }
    for name in ["linuxx64.efi.stub", "systemd-bootx64.efi"] {
        let path = format!("usr/lib/systemd/boot/efi/{name}");
        copy(&tree.file(&path)?, &target.join(path), 0o644)?;
    }
    // The menu costs a second, and who holds a key gets it all the same.
    write(
        &target.join("efi/loader/loader.conf"),
        "timeout 0\neditor no\n",
    )
}

fn os_release(version: &str) -> String {
    format!(
        "NAME=Wherry\nID=wherry\nPRETTY_NAME=\"Wherry {version}\"\nVERSION_ID={version}\n\
         IMAGE_ID=wherry\nIMAGE_VERSION={version}\n"
    )
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    create_folder(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_folder(&source, &target)?;
        } else if kind.is_symlink() {
            tools::link(&fs::read_link(&source)?, &target)?;
        } else {
            let executable = entry.metadata()?.permissions().mode() & 0o100 != 0;
            copy(&source, &target, if executable { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    create_parent(to)?;
    fs::copy(from, to)
        .and_then(|_| set_mode(to, mode))
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    create_parent(path)?;
    fs::write(path, text)
        .and_then(|()| set_mode(path, 0o644))
        .with_context(|| format!("write {}", path.display()))
}

fn create_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), create_folder)
}

/// Creates a folder and those above it, whatever this process's umask is.
fn create_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    create_parent(path)?;
    fs::create_dir(path)
        .and_then(|()| set_mode(path, 0o755))
        .with_context(|| format!("create {}", path.display()))
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
