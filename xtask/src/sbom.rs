//! The list of what is in the image (SPDX 2.3, JSON).

use crate::kernel::{self, Kernel};
use crate::tools::{self, Tools};
use crate::workspace::Workspace;
use crate::{apt, crates, process};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// What went into the tree.
pub struct Contents {
    /// Binaries of ours.
    pub binaries: BTreeSet<String>,
    /// Debian packages that files were taken from.
    pub debian: BTreeSet<String>,
}

/// One entry of the list.
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// Its package URL.
    purl: String,
}

/// The document. Equal contents give an equal document.
pub fn document(
    workspace: &Workspace,
    tree: &Tools,
    kernel: &Kernel,
    contents: &Contents,
) -> Result<String> {
    let mut packages = vec![debian(kernel::SOURCE, &kernel.source, apt::RELEASE)];
    for name in &contents.debian {
        let version = tools::package_version(tree, name)?;
        packages.push(debian(name, &version, apt::RELEASE));
    }
    packages.push(c_library()?);
    packages.push(standard_library()?);
    packages.extend(our_crates(workspace, &contents.binaries)?);

    let version = workspace.version();
    let created = UNIX_EPOCH + Duration::from_secs(workspace.epoch);
    let mut entries = vec![json!({
        "SPDXID": "SPDXRef-Wherry",
        "name": "wherry",
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": env!("CARGO_PKG_LICENSE"),
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "OPERATING-SYSTEM",
    })];
    let mut relationships = vec![relationship(
        "SPDXRef-DOCUMENT",
        "DESCRIBES",
        "SPDXRef-Wherry",
    )];
    for (number, package) in packages.iter().enumerate() {
        let id = format!("SPDXRef-{number}-{}", spdx_name(&package.name));
        relationships.push(relationship("SPDXRef-Wherry", "CONTAINS", &id));
        entries.push(package.entry(&id));
    }
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("wherry-{version}"),
        "documentNamespace": format!("urn:wherry:sbom:{version}:{}", kernel.key),
        "creationInfo": {
            "created": humantime::format_rfc3339_seconds(created).to_string(),
            "creators": [format!("Tool: xtask-{version}")],
        },
        "packages": entries,
        "relationships": relationships,
    });
    serde_json::to_string(&document).context("write the list of contents")
}

impl Package {
    fn entry(&self, id: &str) -> Value {
        json!({
            "SPDXID": id,
            "name": self.name,
            "versionInfo": self.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": self.license.as_deref().unwrap_or("NOASSERTION"),
            "copyrightText": "NOASSERTION",
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": self.purl,
            }],
        })
    }
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

fn debian(name: &str, version: &str, release: &str) -> Package {
    Package {
        name: name.to_owned(),
        version: version.to_owned(),
        license: None,
        purl: format!(
            "pkg:deb/debian/{name}@{}?arch=amd64&distro={release}",
            version.replace('+', "%2B").replace(':', "%3A")
        ),
    }
}

/// The C library that our static binaries contain is the host's.
fn c_library() -> Result<Package> {
    let version = process::output(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${Version}",
        "libc6-dev",
    ]))
    .context("the programs are linked with libc6-dev:\n  sudo apt-get install libc6-dev")?;
    let release = std::fs::read_to_string("/etc/os-release")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME=").map(str::to_owned))
        .unwrap_or_default();
    Ok(debian("libc6-dev", version.trim(), &release))
}

fn standard_library() -> Result<Package> {
    let text = process::output(Command::new("rustc").arg("--version"))?;
    let version = text.split_whitespace().nth(1).unwrap_or_default();
    Ok(Package {
        name: "rust-std".to_owned(),
        version: version.to_owned(),
        license: Some("MIT OR Apache-2.0".to_owned()),
        purl: format!("pkg:generic/rust-std@{version}"),
    })
}

/// The crates that end up in the shipped binaries: what these depend on, build
/// and test dependencies left out.
fn our_crates(workspace: &Workspace, binaries: &BTreeSet<String>) -> Result<Vec<Package>> {
    let metadata = process::output(
        Command::new("cargo")
            .args(["metadata", "--format-version", "1"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(&workspace.root),
    )?;
    let metadata: Value = serde_json::from_str(&metadata).context("read cargo's metadata")?;
    let owners = crates::owners(workspace)?;
    let shipped: BTreeSet<&str> = binaries
        .iter()
        .filter_map(|name| owners.get(name).map(String::as_str))
        .collect();

    let by_id = |list: &'_ Value| -> BTreeMap<String, Value> {
        list.as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| Some((item["id"].as_str()?.to_owned(), item.clone())))
            .collect()
    };
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);
    let is_ours = |package: &Value| {
        package["source"].is_null()
            && package["name"]
                .as_str()
                .is_some_and(|n| shipped.contains(n))
    };
    let mut open: Vec<&str> = packages
        .iter()
        .filter(|(_, package)| is_ours(package))
        .map(|(id, _)| id.as_str())
        .collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = open.pop() {
        if reached.insert(id)
            && let Some(dependencies) = nodes.get(id).and_then(|node| node["deps"].as_array())
        {
            open.extend(
                dependencies
                    .iter()
                    .filter(|d| is_linked(d))
                    .filter_map(|d| d["pkg"].as_str()),
            );
        }
    }
    let text = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let mut list: Vec<Package> = reached
        .into_iter()
        .filter_map(|id| packages.get(id))
        .map(|package| {
            let (name, version) = (text(package, "name"), text(package, "version"));
            Package {
                purl: format!("pkg:cargo/{name}@{version}"),
                license: package["license"].as_str().map(|l| l.replace('/', " OR ")),
                name,
                version,
            }
        })
        .collect();
    list.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(list)
}

/// Whether a dependency is an ordinary one: its `kind` is null.
fn is_linked(dependency: &Value) -> bool {
    dependency["dep_kinds"]
        .as_array()
        .is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

/// An SPDX id has letters, digits, dots and dashes only.
fn spdx_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect()
}
