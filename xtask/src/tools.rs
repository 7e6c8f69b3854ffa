//! The tools tree: made once, kept by content.
//!
//! mkosi's package is fetched and unpacked first; mkosi then builds a small
//! Debian by `os-image/tools/mkosi.conf`, which holds mkosi itself and everything
//! else that later stages run. The host gives Python and apt, and is not changed.

use crate::apt::PrivateApt;
use crate::fingerprint::Fingerprint;
use crate::process;
use crate::progress::Stage;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The stage.
pub const STAGE: &str = "tools";

/// Where a tree's Python programs are.
const PYTHON_PACKAGES: &str = "usr/lib/python3/dist-packages";

/// A tools tree: a folder with a whole Debian user space. [`sandbox`] runs its
/// programs.
#[derive(Debug, Clone)]
pub struct Tools {
    tree: PathBuf,
}

impl Tools {
    /// The folder itself.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// A file of the tree, by its path inside it.
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        let file = self.tree.join(path.trim_start_matches('/'));
        if file.exists() {
            Ok(file)
        } else {
            bail!("the tools tree has no {path}: {}", self.tree.display());
        }
    }
}

/// Makes sure that the tree is there, and points `build/tools` at it.
pub fn make(workspace: &Workspace) -> Result<Tools> {
    let about = "building the tools tree (once, about two minutes)";
    let tools = tree(workspace, &workspace.root.join("os-image/tools"), about)?;
    link(tools.tree(), &workspace.build.join("tools"))?;
    Ok(tools)
}

/// Makes sure that the Debian user space of a recipe is there.
pub fn tree(workspace: &Workspace, recipe: &Path, about: &str) -> Result<Tools> {
    let home = home(workspace, recipe)?;
    let complete = home.join("complete");
    if !complete.exists() {
        check_host()?;
        let _lock = workspace.lock_cache()?;
        // Somebody else may have made it while this waited.
        if !complete.exists() {
            build(workspace, recipe, &home, about)?;
            fs::write(&complete, "")?;
        }
    }
    Ok(Tools {
        tree: home.join("tree"),
    })
}

/// The tree, if it is there already.
pub fn made(workspace: &Workspace) -> Result<Option<Tools>> {
    let home = home(workspace, &workspace.root.join("os-image/tools"))?;
    let tree = home.join("tree");
    Ok(home.join("complete").exists().then_some(Tools { tree }))
}

/// Where the tree of a recipe is kept. Nothing of the host counts, its mirrors
/// neither.
fn home(workspace: &Workspace, recipe: &Path) -> Result<PathBuf> {
    let key = Fingerprint::of("tools 1").path(recipe)?.finish();
    Ok(workspace.cache.join("tools").join(key))
}

/// A command that runs mkosi from the tree.
pub fn mkosi(tools: &Tools) -> Command {
    let mut mkosi = python_mkosi(&tools.tree().join(PYTHON_PACKAGES));
    mkosi.arg("--tools-tree").arg(tools.tree());
    mkosi
}

/// A command for `program` in a sandbox whose `/usr` is the tree's, with
/// `folders` (outside, inside) writable and `/tmp` its own; nothing else of the
/// host is there, the network neither.
pub fn sandbox(tools: &Tools, folders: &[(&Path, &str)], program: &str) -> Command {
    let mut sandbox = Command::new("python3");
    sandbox
        .arg(tools.tree().join(PYTHON_PACKAGES).join("mkosi/sandbox.py"))
        .arg("--ro-bind")
        .arg(tools.tree().join("usr"))
        .arg("/usr")
        .arg("--ro-bind")
        .arg(tools.tree().join("etc"))
        .arg("/etc");
    for name in ["bin", "lib", "lib64", "sbin"] {
        sandbox.args(["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
    }
    sandbox.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    for (outside, inside) in folders {
        sandbox.arg("--bind").arg(outside).arg(inside);
    }
    sandbox
        .args(["--unshare-net", "--setenv", "PATH", "/usr/bin:/usr/sbin"])
        // The kernel's makefiles trust it.
        .args(["--setenv", "PWD", "/"])
        .args(["--chdir", "/", "--", program])
        .env("LC_ALL", "C");
    sandbox
}

/// The version of a package in the tree.
pub fn package_version(tools: &Tools, package: &str) -> Result<String> {
    let status = tools.file("var/lib/dpkg/status")?;
    let text = fs::read_to_string(&status).with_context(|| format!("read {}", status.display()))?;
    text.split("\n\n")
        .find(|paragraph| paragraph.lines().next() == Some(&format!("Package: {package}")))
        .and_then(|paragraph| paragraph.lines().find_map(|l| l.strip_prefix("Version: ")))
        .map(str::to_owned)
        .with_context(|| {
            format!("{package} is not in the tools tree: add it to os-image/tools/mkosi.conf")
        })
}

/// Makes `link` point at `target`, whatever was there.
pub fn link(target: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    if link.symlink_metadata().is_ok() {
        fs::remove_file(link).with_context(|| format!("replace {}", link.display()))?;
    }
    symlink(target, link).with_context(|| format!("link {}", link.display()))
}

fn python_mkosi(packages: &Path) -> Command {
    let mut mkosi = Command::new("python3");
    mkosi
        .args(["-m", "mkosi"])
        .env("PYTHONPATH", packages)
        // Python would else write its byte code into the tree.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    mkosi
}

fn check_host() -> Result<()> {
    for (program, package) in [
        ("python3", "python3"),
        ("apt-get", "apt"),
        ("dpkg-deb", "dpkg"),
    ] {
        if Command::new(program).arg("--version").output().is_err() {
            bail!("{program} is missing on this host:\n  sudo apt-get install {package}");
        }
    }
    let version = process::output(
        Command::new("python3").args(["-c", "import sys; print(int(sys.version_info >= (3, 9)))"]),
    )?;
    if version.trim() != "1" {
        bail!("mkosi needs Python 3.9 or newer as python3: Debian 12 and 13 have it");
    }
    // Programs run in a sandbox of user and mount namespaces.
    let switch = Path::new("/proc/sys/kernel/unprivileged_userns_clone");
    let refused = fs::read_to_string(switch).is_ok_and(|text| text.trim() == "0");
    if refused && !nix::unistd::geteuid().is_root() {
        bail!(
            "this host allows user namespaces to root only:\n  \
             sudo sysctl kernel.unprivileged_userns_clone=1"
        );
    }
    Ok(())
}

fn build(workspace: &Workspace, recipe: &Path, home: &Path, about: &str) -> Result<()> {
    let log = workspace.log("tools");
    let mut stage = Stage::begin(&workspace.progress, STAGE, about);
    let scratch = workspace.cache.join("tools/scratch");
    remove(&scratch)?;
    fs::create_dir_all(&scratch)?;

    let apt = PrivateApt::set_up(&scratch.join("apt"))?;
    let package = apt.download("mkosi", &log)?;
    let unpacked = scratch.join("mkosi");
    process::run(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(package)
            .arg(&unpacked),
        &log,
        |_| {},
    )?;

    let packages: PathBuf = scratch.join("packages");
    fs::create_dir(&packages)?;
    process::run(
        python_mkosi(&unpacked.join(PYTHON_PACKAGES))
            .arg("--directory")
            .arg(recipe)
            .arg("--output-directory")
            .arg(&scratch)
            .arg("--package-cache-dir")
            .arg(&packages)
            .arg("--sandbox-tree")
            .arg(apt.mkosi_sandbox()?)
            .args(["--force", "build"]),
        &log,
        |line| follow_apt(&mut stage, line),
    )
    .context("cannot build the tools tree")?;

    fs::create_dir_all(home)?;
    let tree = home.join("tree");
    remove(&tree)?;
    fs::rename(scratch.join("tools"), &tree)
        .with_context(|| format!("put the tools tree at {}", tree.display()))?;
    remove(&scratch)?;
    stage.end();
    Ok(())
}

/// Follows apt's steps; a package is three: fetched, unpacked, set up.
pub fn follow_apt(stage: &mut Stage, line: &str) {
    if let Some(count) = newly_installed(line) {
        stage.expect_more(3 * count);
    } else if ["Get:", "Unpacking ", "Setting up "]
        .iter()
        .any(|begin| line.starts_with(begin))
    {
        stage.step(line);
    }
}

/// The number in `0 upgraded, 217 newly installed, 0 to remove …`.
fn newly_installed(line: &str) -> Option<u64> {
    let (before, _) = line.split_once(" newly installed")?;
    before.rsplit(' ').next()?.parse().ok()
}

/// Removes a folder, if it is there.
pub fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::newly_installed;

    #[test]
    fn apt_says_how_many_packages_there_are() {
        let line = "0 upgraded, 217 newly installed, 0 to remove and 0 not upgraded.";
        assert_eq!(newly_installed(line), Some(217));
        assert_eq!(newly_installed("Setting up newly installed"), None);
    }
}
