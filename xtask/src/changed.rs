//! What a change can affect: which packages' tests, and which of those that need
//! machines.
//!
//! A file belongs to the package whose folder it is in. A package is affected when
//! one of its files changed or when it depends on an affected one; what only its
//! own tests depend on affects these alone. Tests in machines are affected by what
//! is in the image, in the Debian guest, and by themselves. A file that belongs to
//! no package affects those whose sources name it.

use crate::recipe::Recipe;
use crate::workspace::Workspace;
use crate::{crates, guest, process, rootfs};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files that every package depends on.
const ALL: [&str; 5] = [
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    "rust-toolchain.toml",
    ".cargo/",
];

/// What the image is made of, beside packages.
const IMAGE: [&str; 3] = ["mkosi.conf", "os-image/", "kernel-config/"];

/// What the Debian guest is made of, beside packages and the kernel.
const GUEST: [&str; 2] = ["tests/guest/", "kernel-config/"];

/// Packages that make or drive machines.
const MACHINES: [&str; 3] = ["machine", "tests", "xtask"];

/// The package whose tests are those in machines.
pub const TESTS: &str = "tests";

/// A package of the workspace.
#[derive(Debug, Default, Clone)]
pub struct Package {
    /// Its folder in the checkout, `init/control` say.
    pub folder: String,
    /// Packages of the workspace that its programs and library need.
    pub needs: BTreeSet<String>,
    /// Those that only its tests need.
    pub tests_need: BTreeSet<String>,
    /// The files outside its folder that its sources name.
    pub names: BTreeSet<String>,
}

/// The workspace, as far as it decides what is affected.
#[derive(Debug, Default)]
pub struct Map {
    /// Packages by name.
    pub packages: BTreeMap<String, Package>,
    /// Those with a program in the image.
    pub image: BTreeSet<String>,
    /// Those with a program in the Debian guest.
    pub guest: BTreeSet<String>,
}

/// What a change affects.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Packages whose tests have to run.
    pub packages: BTreeSet<String>,
    /// Whether the tests on the image have to run.
    pub image: bool,
    /// Whether those in the Debian guest have to.
    pub guest: bool,
    /// Whether the power cuts have to.
    pub power_cut: bool,
}

impl fmt::Display for Affected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packages: Vec<&str> = self.packages.iter().map(String::as_str).collect();
        let parts = [
            (self.image, "the image"),
            (self.guest, "the Debian guest"),
            (self.power_cut, "power cuts"),
        ];
        let parts = parts.iter().filter(|(yes, _)| *yes).map(|(_, name)| *name);
        let all: Vec<&str> = packages.into_iter().chain(parts).collect();
        match all.as_slice() {
            [] => write!(f, "no test is affected"),
            all => write!(f, "affected: {}", all.join(", ")),
        }
    }
}

impl Map {
    /// What a change of these files affects; their paths are those in the checkout.
    pub fn affected(&self, files: &[String]) -> Affected {
        let mut built = BTreeSet::new();
        let mut tested = BTreeSet::new();
        let (mut image, mut guest) = (false, false);
        for file in files {
            let of = |list: &[&str]| list.iter().any(|start| file.starts_with(start));
            if of(&ALL) {
                built.extend(self.packages.keys().cloned());
            }
            image |= of(&IMAGE);
            guest |= of(&GUEST);
            for (name, package) in &self.packages {
                if package.names.contains(file) {
                    // Tests compare manuals with the code; no program has them in it.
                    let set = if file.ends_with(".md") {
                        &mut tested
                    } else {
                        &mut built
                    };
                    set.insert(name.clone());
                }
            }
            if let Some((name, package)) = self.owner(file) {
                let tests = format!("{}/tests/", package.folder);
                let set = if file.starts_with(&tests) {
                    &mut tested
                } else {
                    &mut built
                };
                set.insert(name.clone());
            }
        }
        // What depends on something affected, until nothing is added.
        loop {
            let more: Vec<String> = self
                .packages
                .iter()
                .filter(|(name, package)| {
                    !built.contains(*name) && !package.needs.is_disjoint(&built)
                })
                .map(|(name, _)| name.clone())
                .collect();
            if more.is_empty() {
                break;
            }
            built.extend(more);
        }
        for (name, package) in &self.packages {
            if !package.tests_need.is_disjoint(&built) {
                tested.insert(name.clone());
            }
        }
        let machines = MACHINES.iter().any(|name| built.contains(*name)) || tested.contains(TESTS);
        let image = image || machines || !built.is_disjoint(&self.image);
        let guest = guest || machines || !built.is_disjoint(&self.guest);
        let power_cut = image || built.contains("bench");
        tested.extend(built);
        tested.remove(TESTS);
        Affected {
            packages: tested,
            image,
            guest,
            power_cut,
        }
    }

    /// The package with the innermost folder around a file.
    fn owner(&self, file: &str) -> Option<(&String, &Package)> {
        self.packages
            .iter()
            .filter(|(_, package)| {
                file.strip_prefix(package.folder.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
            })
            .max_by_key(|(_, package)| package.folder.len())
    }

    /// Reads the workspace; `files` are those whose names are looked for in sources.
    pub fn load(workspace: &Workspace, files: &[String]) -> Result<Self> {
        let metadata = process::output(
            Command::new("cargo")
                .args(["metadata", "--no-deps", "--format-version", "1"])
                .current_dir(&workspace.root),
        )?;
        let metadata: Value = serde_json::from_str(&metadata).context("read cargo's metadata")?;
        let mut map = Self::default();
        let mut by_folder = BTreeMap::new();
        let packages = list(&metadata, "packages");
        for package in packages {
            let folder = folder(&package["manifest_path"])
                .context("cargo's metadata has a package without a manifest")?;
            by_folder.insert(folder, text(&package["name"]));
        }
        // Files of packages are found by their folders.
        let inside = |file: &&String| {
            let path = workspace.root.join(file.as_str());
            by_folder
                .keys()
                .any(|folder: &PathBuf| path.starts_with(folder))
        };
        let loose: Vec<&String> = files.iter().filter(|file| !inside(file)).collect();
        for package in packages {
            let (Some(folder), name) = (folder(&package["manifest_path"]), text(&package["name"]))
            else {
                continue;
            };
            let mut entry = Package {
                folder: folder
                    .strip_prefix(&workspace.root)
                    .unwrap_or(&folder)
                    .display()
                    .to_string(),
                ..Package::default()
            };
            for dependency in list(package, "dependencies") {
                let Some(needed) = by_folder.get(Path::new(&text(&dependency["path"]))) else {
                    continue;
                };
                let set = if dependency["kind"] == "dev" {
                    &mut entry.tests_need
                } else {
                    &mut entry.needs
                };
                set.insert(needed.clone());
            }
            entry.names = named(&folder, &loose)?;
            map.packages.insert(name, entry);
        }
        let owners = crates::owners(workspace)?;
        let owner = |program: &String| owners.get(program).cloned();
        for recipe in rootfs::recipes(workspace)? {
            let Recipe { binaries, .. } = recipe;
            map.image.extend(binaries.iter().filter_map(owner));
        }
        let programs = guest::TESTED.map(str::to_owned);
        map.guest = programs.iter().filter_map(owner).collect();
        Ok(map)
    }
}

/// The files that changed since the branch left `main`, uncommitted and new ones
/// included.
pub fn files(workspace: &Workspace) -> Result<Vec<String>> {
    let git = |arguments: &[&str]| {
        process::output(
            Command::new("git")
                .args(arguments)
                .current_dir(&workspace.root),
        )
    };
    let known = |branch: &&str| git(&["rev-parse", "--quiet", "--verify", branch]).is_ok();
    let base = match ["main", "origin/main"].iter().find(|branch| known(branch)) {
        Some(branch) => git(&["merge-base", "HEAD", branch])?,
        None => "HEAD".to_owned(),
    };
    let changed = git(&["diff", "--name-only", "--no-renames", "-z", base.trim()])?;
    let new = git(&["ls-files", "--others", "--exclude-standard", "-z"])?;
    let mut files: Vec<String> = [changed, new]
        .iter()
        .flat_map(|list| list.split_terminator('\0'))
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Which of `files` the sources below a folder name, by their paths in the checkout.
fn named(folder: &Path, files: &[&String]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    if files.is_empty() {
        return Ok(found);
    }
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path).with_context(|| format!("read {}", path.display()))? {
                open.push(entry?.path());
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            let source =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let names = |file: &&&String| source.contains(file.as_str());
            found.extend(files.iter().filter(names).map(|file| (*file).clone()));
        }
    }
    Ok(found)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn folder(manifest: &Value) -> Option<PathBuf> {
    Some(Path::new(manifest.as_str()?).parent()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Map, Package};
    use std::collections::BTreeSet;

    fn set(words: &str) -> BTreeSet<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn map() -> Map {
        let package = |folder: &str, needs: &str, tests_need: &str, names: &str| Package {
            folder: folder.to_owned(),
            needs: set(needs),
            tests_need: set(tests_need),
            names: set(names),
        };
        let packages = [
            ("control", package("init/control", "", "", "")),
            (
                "init",
                package("init", "control runtime", "", "docs/init.md"),
            ),
            ("runtime", package("runtime", "", "", "")),
            ("wherry-runtime", package("runtime/cli", "runtime", "", "")),
            ("fleet", package("updater/fleet", "policy", "control", "")),
            ("policy", package("updater/policy", "", "", "")),
            ("bench", package("bench", "machine", "", "")),
            ("machine", package("tests/machine", "", "", "")),
            ("tests", package("tests", "", "machine", "")),
            ("xtask", package("xtask", "", "", "")),
        ];
        Map {
            packages: packages.map(|(name, p)| (name.to_owned(), p)).into(),
            image: set("init"),
            guest: set("wherry-runtime"),
        }
    }

    fn affected(files: &str) -> (BTreeSet<String>, bool, bool, bool) {
        let files: Vec<String> = files.split_whitespace().map(str::to_owned).collect();
        let found = map().affected(&files);
        (found.packages, found.image, found.guest, found.power_cut)
    }

    #[test]
    fn what_depends_on_a_change_is_affected_and_nothing_else() {
        assert_eq!(
            affected("updater/policy/src/lib.rs"),
            (set("policy fleet"), false, false, false)
        );
        assert_eq!(
            affected("init/control/src/lib.rs"),
            (set("control fleet init"), true, false, true)
        );
        assert_eq!(
            affected("runtime/cli/src/main.rs"),
            (set("wherry-runtime"), false, true, false)
        );
    }

    #[test]
    fn tests_of_a_package_affect_only_themselves() {
        assert_eq!(
            affected("init/control/tests/a.rs"),
            (set("control"), false, false, false)
        );
    }

    #[test]
    fn what_drives_machines_affects_all_tests_in_them() {
        for file in [
            "tests/machine/src/qemu.rs",
            "tests/src/init.rs",
            "xtask/src/image.rs",
        ] {
            let (_, image, guest, power_cut) = affected(file);
            assert!(image && guest && power_cut, "{file}");
        }
        assert_eq!(
            affected("bench/src/main.rs"),
            (set("bench"), false, false, true)
        );
    }

    #[test]
    fn the_image_and_the_guest_are_affected_by_what_they_are_made_of() {
        assert_eq!(affected("mkosi.conf"), (set(""), true, false, true));
        assert_eq!(
            affected("kernel-config/10.config"),
            (set(""), true, true, true)
        );
        assert!(affected("tests/guest/mkosi.conf").2);
    }

    #[test]
    fn a_page_affects_who_names_it() {
        assert_eq!(affected("docs/init.md"), (set("init"), false, false, false));
        assert_eq!(
            affected("docs/other.md README.md"),
            (set(""), false, false, false)
        );
    }

    #[test]
    fn a_changed_lock_file_affects_everything() {
        let (packages, image, guest, power_cut) = affected("Cargo.lock");
        assert_eq!(packages.len(), 9);
        assert!(image && guest && power_cut);
    }
}
