//! The releases that the tests of updates install: `build/test-releases`.
//!
//! One that machines begin with and some that follow it, each in a folder of its
//! own that is like `build`, and one repository with all of them, a channel each.
//! They trust the repository's root by themselves and find it at the tests'
//! server, and they are quick to say that they are healthy.

use crate::variant::Variant;
use crate::workspace::Workspace;
use crate::{image, tools};
use anyhow::{Context, Result};
use machine::{Build, Server};
use release::Version;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use wherry_release::progress::Silent;
use wherry_release::{Expiry, Init, KeyFolder, Lifetime, Publish, ReleaseFolder, Repository};

/// What machines begin with.
const FIRST: &str = "1.0";

/// A release that follows.
struct Following {
    version: &'static str,
    /// Its name in the repository's channels.
    channel: &'static str,
    what: What,
}

/// How a release differs from the first one, its version aside.
enum What {
    /// Only the kernel image.
    Kernel,
    /// A file of a service.
    Service,
    /// Every block of the root.
    Everything,
    /// An essential service that does not become ready.
    Unhealthy,
    /// PID 1 cannot be executed.
    Panics,
    /// PID 1 stops in the middle of the boot.
    Hangs,
}

const FOLLOWING: [Following; 6] = [
    Following {
        version: "1.1",
        channel: "kernel",
        what: What::Kernel,
    },
    Following {
        version: "1.2",
        channel: "service",
        what: What::Service,
    },
    Following {
        version: "2.0",
        channel: "everything",
        what: What::Everything,
    },
    Following {
        version: "3.0",
        channel: "unhealthy",
        what: What::Unhealthy,
    },
    Following {
        version: "3.1",
        channel: "panics",
        what: What::Panics,
    },
    Following {
        version: "3.2",
        channel: "hangs",
        what: What::Hangs,
    },
];

/// The folder with all of it.
pub fn folder(workspace: &Workspace) -> PathBuf {
    workspace.build.join("test-releases")
}

/// Makes sure that they are there.
pub fn make(workspace: &Workspace) -> Result<()> {
    let folder = folder(workspace);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let trust = repository(&folder)?;
    let mut made = vec![(
        FIRST,
        None,
        release(workspace, &folder, FIRST, &trust, None)?,
    )];
    for following in &FOLLOWING {
        let build = release(
            workspace,
            &folder,
            following.version,
            &trust,
            Some(&following.what),
        )?;
        made.push((following.version, Some(following.channel), build));
    }
    publish(&folder, &made)
}

/// Keys and a repository without releases, made once: what the root says is in
/// the releases themselves.
fn repository(folder: &Path) -> Result<PathBuf> {
    let keys = folder.join("keys");
    let empty = folder.join("repository.empty");
    if let (Ok(keys), true) = (KeyFolder::open(&keys), empty.exists()) {
        return Ok(keys.trust());
    }
    for old in [&keys, &empty] {
        tools::remove(old)?;
    }
    let init = Init {
        threshold: None,
        expiry: expiry()?,
    };
    let repository = Repository::init(&empty, KeyFolder::make(&keys, 3)?, &init)?;
    Ok(repository.trust())
}

/// Long enough for the build folder's life.
fn expiry() -> Result<Expiry> {
    let long: Lifetime = "10y".parse().map_err(anyhow::Error::msg)?;
    Ok(Expiry {
        root: long,
        targets: long,
        snapshot: long,
        timestamp: long,
    })
}

fn release(
    workspace: &Workspace,
    folder: &Path,
    version: &str,
    trust: &Path,
    what: Option<&What>,
) -> Result<Build> {
    let overlay = folder.join("overlays").join(version);
    tools::remove(&overlay)?;
    let wherry = overlay.join("usr/lib/wherry");
    fs::create_dir_all(&wherry).with_context(|| format!("create {}", wherry.display()))?;
    fs::copy(trust, wherry.join("update-root.json")).context("copy the repository's root")?;
    fs::write(wherry.join("update.toml"), configuration())?;
    let mut variant = Variant {
        overlay: Some(overlay.clone()),
        ..Variant::default()
    };
    match what {
        None => {}
        Some(What::Kernel) => variant.command_line = "wherry-test=kernel".to_owned(),
        Some(What::Service) => {
            let etc = wherry.join("services/console/root/etc");
            fs::create_dir_all(&etc)?;
            fs::write(etc.join("changed"), "changed\n")?;
        }
        Some(What::Everything) => variant.erofs = Some("-C32768".to_owned()),
        Some(What::Unhealthy) => {
            service(&wherry, "broken", UNHEALTHY)?;
        }
        Some(What::Panics) => {
            let bin = overlay.join("usr/bin");
            fs::create_dir_all(&bin)?;
            executable(&bin.join("init"), b"no program")?;
        }
        Some(What::Hangs) => {
            let bin = overlay.join("usr/bin");
            fs::create_dir_all(&bin)?;
            executable(&bin.join("init"), HANGS)?;
        }
    }
    let workspace = workspace.with_version(version);
    image::make_variant(&workspace, &variant, &folder.join(version))
        .with_context(|| format!("while making the test release {version}"))
}

/// What machines are configured with; a test changes the channel.
fn configuration() -> String {
    format!(
        "repository = [\"http://{}/repository\"]\nchannel = \"service\"\nmode = \"manual\"\n\
         health-time = \"3s\"\nhealth-limit = \"45s\"\nreboot-delay = \"0s\"\n\
         reboot-spread = \"0s\"\n",
        Server::ADDRESS
    )
}

const UNHEALTHY: &str = "\
description = \"An essential service that fails\"
image = \"console\"
command = [\"/bin/sh\", \"-c\", \"exit 7\"]
ready = \"notify\"
restart = { policy = \"on-failure\", backoff = \"1s..5s\", limit = \"none\" }
essential = true
";

/// A PID 1 that takes the hardware watchdog and then does nothing.
const HANGS: &[u8] = b"#!/usr/lib/wherry/services/console/root/usr/bin/busybox sh
busybox() { /usr/lib/wherry/services/console/root/usr/bin/busybox \"$@\"; }
[ -c /dev/watchdog ] || busybox mount -t devtmpfs devtmpfs /dev
echo 'init hangs' > /dev/console
exec 3> /dev/watchdog
while :; do busybox sleep 1000; done
";

fn service(wherry: &Path, name: &str, definition: &str) -> Result<PathBuf> {
    let folder = wherry.join("services").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    fs::write(folder.join("service.toml"), definition)?;
    Ok(folder)
}

fn executable(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A repository with all of them, made anew when one of them is another one.
fn publish(folder: &Path, made: &[(&str, Option<&str>, Build)]) -> Result<()> {
    let mut stamps = String::new();
    for (_, _, build) in made {
        let stamp = build.directory().join("image/.made-of");
        stamps += &fs::read_to_string(&stamp).with_context(|| stamp.display().to_string())?;
        stamps.push('\n');
    }
    let complete = folder.join("published");
    if fs::read_to_string(&complete).is_ok_and(|published| published == stamps) {
        return Ok(());
    }
    let place = folder.join("repository");
    tools::remove(&place)?;
    copy(&folder.join("repository.empty"), &place)?;
    let mut repository = Repository::open(&place, KeyFolder::open(&folder.join("keys"))?)?;
    repository.set_expiry(expiry()?);
    for (version, channel, build) in made {
        let release = release_folder(build, version, &folder.join(version).join("release"))?;
        // Whoever wants to go back to the first one finds it too.
        let channels = channel.map_or_else(|| vec!["first"], |channel| vec![channel, "all"]);
        for channel in channels {
            let publish = Publish {
                channel: channel.to_owned(),
                ..Publish::default()
            };
            repository.publish(&release, &publish, &Silent)?;
        }
    }
    fs::write(&complete, stamps).context("note what was published")
}

/// A release's files under the names that publishing wants. Of the disk image
/// there is only the first part: nobody installs from it.
pub fn release_folder(build: &Build, version: &str, folder: &Path) -> Result<ReleaseFolder> {
    const DISK: u64 = 1 << 20;
    tools::remove(folder)?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    for (file, name) in image::artifacts(build, version)? {
        tools::link(&fs::canonicalize(&file)?, &folder.join(name))?;
    }
    let mut disk = Vec::new();
    File::open(build.disk_image()?)?
        .take(DISK)
        .read_to_end(&mut disk)?;
    fs::write(folder.join(format!("wherry_{version}.raw")), disk)?;
    let version: Version = version.parse()?;
    Ok(ReleaseFolder::open(folder, Some(&version), &Silent)?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("write {}", target.display()))?;
        }
    }
    Ok(())
}
