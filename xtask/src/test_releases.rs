//! The releases that the tests of updates install: `build/test-releases`.
//!
//! One that machines begin with and some that follow it, each in a folder of its
//! own that is like `build`, and one repository with all of them, a channel each.
//! They trust the repository's root by themselves and find it at the tests'
//! server, and they are quick to say that they are healthy.

use crate::image::Image;
use crate::variant::Variant;
use crate::workspace::Workspace;
use crate::{image, process, programs, release, tools};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where machines find the tests' server (the crate `machine` has it too, as
/// `Server::ADDRESS`).
const SERVER: &str = "10.0.2.100";

/// What is signed is valid for the build folder's life.
const VALID: [&str; 8] = [
    "--root-expires",
    "10y",
    "--targets-expires",
    "10y",
    "--snapshot-expires",
    "10y",
    "--timestamp-expires",
    "10y",
];

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
    let publisher = Publisher::new(workspace, &folder)?;
    let trust = publisher.repository()?;
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
    publisher.publish(&made)
}

fn release(
    workspace: &Workspace,
    folder: &Path,
    version: &str,
    trust: &Path,
    what: Option<&What>,
) -> Result<Image> {
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
        SERVER
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

/// `wherry-release`, for the keys and the repository of these releases.
struct Publisher<'a> {
    workspace: &'a Workspace,
    folder: &'a Path,
}

impl<'a> Publisher<'a> {
    fn new(workspace: &'a Workspace, folder: &'a Path) -> Result<Self> {
        // Built now, so that it does not fail behind an hour of other work.
        programs::command(workspace, release::PUBLISHER)?;
        Ok(Self { workspace, folder })
    }

    /// Keys and a repository without releases, made once: what the root says is in
    /// the releases themselves. Returns the root.
    fn repository(&self) -> Result<PathBuf> {
        let (keys, empty) = (self.keys(), self.folder.join("repository.empty"));
        let trust = keys.join("root.json");
        if trust.exists() && empty.exists() {
            return Ok(trust);
        }
        for old in [&keys, &empty] {
            tools::remove(old)?;
        }
        let mut make = self.command()?;
        make.args(["keys", "make"]).arg(&keys);
        self.run(make.args(["--root-keys", "3"]))?;
        let mut init = self.command()?;
        init.arg("init").arg(&empty).arg("--keys").arg(&keys);
        self.run(init.args(VALID))?;
        Ok(trust)
    }

    /// A repository with all of them, made again when one of them is another one.
    fn publish(&self, made: &[(&str, Option<&str>, Image)]) -> Result<()> {
        let mut stamps = String::new();
        for (_, _, image) in made {
            stamps += &image.key()?;
            stamps.push('\n');
        }
        let complete = self.folder.join("published");
        if fs::read_to_string(&complete).is_ok_and(|published| published == stamps) {
            return Ok(());
        }
        let repository = self.folder.join("repository");
        tools::remove(&repository)?;
        copy(&self.folder.join("repository.empty"), &repository)?;
        for (version, channel, image) in made {
            let files = self.folder.join(version).join("release");
            lay_out(image, version, &files)?;
            // Whoever wants to go back to the first one finds it too.
            let channels = channel.map_or_else(|| vec!["first"], |channel| vec![channel, "all"]);
            for channel in channels {
                let mut publish = self.command()?;
                publish
                    .arg("publish")
                    .arg(&repository)
                    .arg("--keys")
                    .arg(self.keys())
                    .args(["--channel", channel, "--version", version])
                    .arg("--release")
                    .arg(&files);
                self.run(publish.args(VALID))?;
            }
        }
        fs::write(&complete, stamps).context("note what was published")
    }

    fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    fn command(&self) -> Result<Command> {
        programs::command(self.workspace, release::PUBLISHER)
    }

    fn run(&self, command: &mut Command) -> Result<()> {
        process::run(command, &self.workspace.log("release"), |_| {})
    }
}

/// Puts a release's files into `folder`, under the names that publishing wants. Of
/// the disk image there is only the first part: nobody installs from it.
pub fn lay_out(image: &Image, version: &str, folder: &Path) -> Result<()> {
    const DISK: u64 = 1 << 20;
    tools::remove(folder)?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    for (file, name) in image.artifacts(version) {
        tools::link(&fs::canonicalize(&file)?, &folder.join(name))?;
    }
    let mut disk = Vec::new();
    File::open(image.disk())?
        .take(DISK)
        .read_to_end(&mut disk)?;
    let name = format!("wherry_{version}.raw");
    fs::write(folder.join(name), disk).context("write the first part of a disk image")
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
