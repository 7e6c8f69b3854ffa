//! Debian's packages, from the mirror that the host itself uses.
//!
//! Nothing here names a server: the mirrors come from the host's own apt
//! sources, the keys from its `debian-archive-keyring`, and everything that apt
//! writes goes to a folder of ours. Third-party sources are passed over.

use crate::process;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Debian release of the tools tree.
pub const RELEASE: &str = "trixie";

/// Debian's names for its releases that a supported host may have.
const RELEASES: [&str; 7] = [
    "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable",
];

/// Debian's own mirrors: where packages come from, and where security fixes do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirrors {
    main: String,
    security: Option<String>,
}

/// One source of the host's, reduced to what tells whether it is Debian's.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// Apt with folders of its own that sees Debian's release [`RELEASE`] only.
pub struct PrivateApt {
    folder: PathBuf,
    sources: String,
    configuration: String,
}

impl PrivateApt {
    /// Sets up apt below `folder`.
    pub fn set_up(folder: &Path) -> Result<Self> {
        let mirrors = mirrors_of(&host_sources()?)?;
        let sources = mirrors.sources_file(&keyring()?);
        let apt = Self {
            folder: folder.to_owned(),
            sources,
            configuration: host_configuration()?,
        };
        for sub in ["lists/partial", "archives/partial", "parts", "state"] {
            let sub = folder.join(sub);
            fs::create_dir_all(&sub).with_context(|| format!("create {}", sub.display()))?;
        }
        apt.write("status", "")?;
        apt.write("parts/debian.sources", &apt.sources)?;
        let at = |name: &str| folder.join(name).display().to_string();
        let configuration = [
            ("Dir::State", at("state")),
            ("Dir::State::lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", folder.display().to_string()),
            ("Dir::Cache::archives", at("archives")),
            ("Dir::Etc::sourcelist", "/dev/null".to_owned()),
            ("Dir::Etc::sourceparts", at("parts")),
            ("Dir::Etc::main", "/dev/null".to_owned()),
            ("Dir::Etc::parts", "/dev/null".to_owned()),
            ("Dir::Etc::preferences", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("APT::Architecture", "amd64".to_owned()),
            ("APT::Sandbox::User", String::new()),
            ("Acquire::Languages", "none".to_owned()),
        ]
        .map(|(key, value)| format!("{key} \"{value}\";\n"))
        .concat();
        apt.write("apt.conf", &(configuration + &apt.configuration))?;
        Ok(apt)
    }

    /// Downloads a package's newest version and returns the file. Apt has then
    /// checked it against the signed lists.
    pub fn download(&self, package: &str, log: &Path) -> Result<PathBuf> {
        // `update` itself only warns when a signature does not verify.
        process::run(
            self.apt_get()
                .args(["-o", "APT::Update::Error-Mode=any", "update"]),
            log,
            |_| {},
        )
        .context("cannot fetch Debian's package lists by this host's apt sources")?;
        let folder = self.folder.join("download");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        process::run(
            self.apt_get()
                .args(["download", package])
                .current_dir(&folder),
            log,
            |_| {},
        )
        .with_context(|| format!("cannot download {package} of Debian {RELEASE}"))?;
        let mut files = fs::read_dir(&folder)?;
        let file = files
            .next()
            .with_context(|| format!("apt downloaded no file for {package}"))??;
        Ok(file.path())
    }

    /// A folder that mkosi lays over its sandbox, so that its apt uses the same
    /// mirrors, keys and settings. mkosi writes no sources file of its own (it
    /// would name suites that a mirror need not have) where it finds this one.
    pub fn mkosi_sandbox(&self) -> Result<PathBuf> {
        let tree = self.folder.join("sandbox");
        for (name, text) in [
            ("etc/apt/sources.list.d/mkosi.sources", &self.sources),
            ("etc/apt/apt.conf.d/50host", &self.configuration),
        ] {
            if let Some(parent) = tree.join(name).parent() {
                fs::create_dir_all(parent)?;
            }
            self.write(&format!("sandbox/{name}"), text)?;
        }
        Ok(tree)
    }

    fn apt_get(&self) -> Command {
        let mut apt = Command::new("apt-get");
        apt.arg("--quiet")
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C");
        apt
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

impl Mirrors {
    fn sources_file(&self, keyring: &Path) -> String {
        let source = |uri: &str, suites: &str| {
            format!(
                "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {}\n",
                keyring.display()
            )
        };
        let mut text = source(&self.main, &format!("{RELEASE} {RELEASE}-updates"));
        if let Some(security) = &self.security {
            text += "\n";
            text += &source(security, &format!("{RELEASE}-security"));
        }
        text
    }
}

/// The keyring that signs [`RELEASE`].
fn keyring() -> Result<PathBuf> {
    let keyrings = Path::new("/usr/share/keyrings");
    let has = |name: &str| {
        ["gpg", "pgp", "asc"]
            .map(|suffix| keyrings.join(format!("{name}.{suffix}")))
            .into_iter()
            .find(|path| path.exists())
    };
    let whole = has("debian-archive-keyring");
    match (has(&format!("debian-archive-{RELEASE}-stable")), whole) {
        (Some(_), Some(whole)) => Ok(whole),
        _ => bail!(
            "this host's debian-archive-keyring lacks the keys of Debian {RELEASE}:\n  \
             sudo apt-get update && sudo apt-get install debian-archive-keyring"
        ),
    }
}

/// Settings of the host's that say how to reach its mirrors (a proxy, say).
fn host_configuration() -> Result<String> {
    let dump = process::output(Command::new("apt-config").arg("dump"))
        .context("this host has no apt: Debian 12 or 13 is needed to build")?;
    let wanted = [
        "Acquire::http::",
        "Acquire::https::",
        "Acquire::Retries ",
        "Acquire::Check-Date ",
        "Acquire::Check-Valid-Until ",
        "Acquire::ForceIPv4 ",
        "Acquire::ForceIPv6 ",
    ];
    Ok(dump
        .lines()
        .filter(|line| wanted.iter().any(|prefix| line.starts_with(prefix)))
        .map(|line| format!("{line}\n"))
        .collect())
}

fn host_sources() -> Result<Vec<Source>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut more: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        more.sort();
        files.extend(more);
    }
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(text.lines().filter_map(one_line)),
            Some("sources") => sources.extend(paragraphs(&text)),
            _ => {}
        }
    }
    ensure!(
        !sources.is_empty(),
        "this host has no apt sources in /etc/apt/sources.list or /etc/apt/sources.list.d"
    );
    Ok(sources)
}

/// `deb [options] uri suite component…`
fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim().strip_prefix("deb ")?.trim();
    let (options, rest) = match line.strip_prefix('[') {
        Some(line) => line.split_once(']')?,
        None => ("", line),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uri: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by=").map(str::to_owned)),
    })
}

/// The paragraphs of a deb822 file that are switched on and give packages.
fn paragraphs(text: &str) -> Vec<Source> {
    let uncommented: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    uncommented.split("\n\n").flat_map(paragraph).collect()
}

fn paragraph(text: &str) -> Vec<Source> {
    // A field goes on in lines that begin with a blank.
    let text = text.replace("\n ", " ").replace("\n\t", " ");
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim()
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let words = |name: &str| -> Vec<String> {
        field(name)
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    if field("Enabled").is_some_and(|enabled| enabled.eq_ignore_ascii_case("no"))
        || !words("Types").iter().any(|kind| kind == "deb")
    {
        return Vec::new();
    }
    words("URIs")
        .into_iter()
        .map(|uri| Source {
            uri,
            suites: words("Suites"),
            components: words("Components"),
            signed_by: field("Signed-By"),
        })
        .collect()
}

/// Which of the host's sources are Debian's: a Debian release, the component
/// `main`, and no key of somebody else's. Whatever this lets through still has
/// to carry Debian's signature.
fn mirrors_of(sources: &[Source]) -> Result<Mirrors> {
    let debian = |suffix: &str| {
        sources.iter().find(|source| {
            let suite = source.suites.iter().any(|suite| {
                suite
                    .strip_suffix(suffix)
                    .is_some_and(|release| RELEASES.contains(&release))
            });
            let ours = source
                .signed_by
                .as_ref()
                .is_none_or(|key| key.contains("debian-archive") || key.contains("BEGIN PGP"));
            let reachable = !source.uri.starts_with("cdrom:");
            suite && ours && reachable && source.components.iter().any(|c| c == "main")
        })
    };
    let main = debian("").context(
        "none of this host's apt sources is a Debian mirror (a Debian release with the \
         component main): add one to /etc/apt/sources.list.d",
    )?;
    Ok(Mirrors {
        main: main.uri.clone(),
        security: debian("-security").map(|source| source.uri.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::{Mirrors, mirrors_of, one_line, paragraphs};

    const DEB822: &str = "\
Types: deb deb-src
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://mirror.example/security
Suites:
 bookworm-security
Components: main non-free-firmware
";

    #[test]
    fn debians_mirrors_are_found_in_deb822_sources() {
        let mirrors = mirrors_of(&paragraphs(DEB822)).unwrap();
        assert_eq!(mirrors.main, "http://mirror.example/debian");
        assert_eq!(
            mirrors.security.as_deref(),
            Some("http://mirror.example/security")
        );
    }

    #[test]
    fn third_party_sources_are_passed_over() {
        let lines = [
            "deb https://docker.example/linux/debian bookworm stable",
            "deb [signed-by=/usr/share/keyrings/other.gpg] https://other.example/debian bookworm main",
            "# deb http://commented.example/debian bookworm main",
            "deb cdrom:[disc]/ bookworm main",
            "deb-src http://source.example/debian bookworm main",
            "deb [arch=amd64] http://mirror.example/debian trixie main contrib # the one",
        ];
        let sources: Vec<_> = lines.iter().filter_map(|line| one_line(line)).collect();
        assert_eq!(
            mirrors_of(&sources).unwrap(),
            Mirrors {
                main: "http://mirror.example/debian".to_owned(),
                security: None
            }
        );
    }

    #[test]
    fn a_host_without_a_debian_mirror_is_told_so() {
        let error = mirrors_of(&[]).unwrap_err().to_string();
        assert!(error.contains("/etc/apt/sources.list.d"), "{error}");
    }
}
