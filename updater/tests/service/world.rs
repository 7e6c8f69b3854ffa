//! A disk, a repository, a PID 1, and the updater between them.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use control::{Service, ServiceState, Slot};
use fake_init::FakeInit;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use updater_control::{Client, ClientError, Refusal, Reply, Request, Status};
use wherry_release::progress::Silent;
use wherry_release::{Init, KeyFolder, Publish, ReleaseFolder, Repository};

use crate::disk::{Content, disk};
use crate::release::{Release, pe};

/// Long enough for a busy host; what does not come at all fails the test.
pub const LIMIT: Duration = Duration::from_secs(60);

const LOADER: &str = "257.9";

/// An essential service.
pub fn service(name: &str, state: ServiceState) -> Service {
    Service {
        essential: true,
        ..fake_init::service(name, state)
    }
}

/// A release as a build makes it.
pub fn release(number: u8) -> Release {
    let mut release = Release::new(number, LOADER);
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let uuid = |id: [u8; 16]| {
        let id = hex(&id);
        let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
        parts.join("-")
    };
    let hash = release.root_hash;
    let blocks = release.parameters.data_blocks;
    let line = format!(
        "dm-mod.create=\"root,,,ro,0 {} verity 1 PARTUUID={} PARTUUID={} 4096 4096 {blocks} 1 \
         sha256 {hash} {} 1 panic_on_corruption\" quiet roothash={hash}",
        blocks * 8,
        uuid(hash.data_id()),
        uuid(hash.tree_id()),
        hex(&release.parameters.salt)
    );
    let os_release = format!("NAME=Wherry\nIMAGE_VERSION={number}.0\n");
    release.uki = pe(&[
        (".osrel", os_release.as_bytes()),
        (".cmdline", line.as_bytes()),
        (".linux", &[number; 20_000]),
    ]);
    release
}

/// Everything in one folder.
pub struct World {
    folder: TempDir,
}

impl World {
    /// A disk with these entries, release 1.0 in slot A and, where an entry says
    /// so, 2.0 in slot B; an empty repository.
    pub fn new(entries: &[(&str, u8)]) -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let releases = [release(1), release(2)];
        let named: Vec<(&str, &Release)> = entries
            .iter()
            .map(|(name, number)| (*name, &releases[usize::from(*number) - 1]))
            .collect();
        let has_second = entries.iter().any(|(_, number)| *number == 2);
        let image = disk(&Content {
            slots: [Some(&releases[0]), has_second.then_some(&releases[1])],
            entries: &named,
            loader: &releases[0],
            others: 0,
            sector_size: 512,
        });
        fs::write(world.disk(), image).unwrap();
        for folder in ["config", "image", "run", "state", "pstore"] {
            fs::create_dir(world.path(folder)).unwrap();
        }
        let keys = KeyFolder::make(&world.path("keys"), 2).unwrap();
        Repository::init(&world.path("repository"), keys, &Init::default()).unwrap();
        fs::copy(
            world.path("keys").join("root.json"),
            world.path("config/update-root.json"),
        )
        .unwrap();
        world.configure("mode = \"manual\"\n");
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn disk(&self) -> PathBuf {
        self.path("disk")
    }

    /// Writes update.toml: the repository and this.
    pub fn configure(&self, more: &str) {
        let repository = self.path("repository");
        let text = format!("repository = \"{}\"\n{more}", repository.display());
        fs::write(self.path("config/update.toml"), text).unwrap();
    }

    /// Publishes release `number` on the channel `stable`.
    pub fn publish(&self, number: u8) {
        let release = release(number);
        let folder = self.path(&format!("build-{number}"));
        fs::create_dir(&folder).unwrap();
        let mut raw = vec![number; 4096];
        raw[512..520].copy_from_slice(b"EFI PART");
        for (end, content) in [
            ("root", &release.data),
            ("verity", &release.tree),
            ("efi", &release.uki),
            ("loader.efi", &release.loader),
            ("spdx.json", &b"{}".to_vec()),
            ("raw", &raw),
        ] {
            fs::write(folder.join(format!("wherry_{number}.0.{end}")), content).unwrap();
        }
        let built = ReleaseFolder::open(&folder, None, &Silent).unwrap();
        let keys = KeyFolder::open(&self.path("keys")).unwrap();
        let mut repository = Repository::open(&self.path("repository"), keys).unwrap();
        let publish = Publish {
            channel: "stable".to_owned(),
            ..Publish::default()
        };
        repository.publish(&built, &publish, &Silent).unwrap();
    }

    /// The fleet's operator stops release `number`.
    pub fn halt(&self, number: u8, because: &str) {
        let keys = KeyFolder::open(&self.path("keys")).unwrap();
        let mut repository = Repository::open(&self.path("repository"), keys).unwrap();
        let version = format!("{number}.0").parse().unwrap();
        repository.halt("stable", &version, because).unwrap();
    }

    /// PID 1 of a boot of release `number`.
    pub fn pid1(&self, number: u8, boot_id: &str) -> FakeInit {
        let pid1 = FakeInit::listen(&self.path("init.sock"));
        pid1.edit(|status| {
            let machine = &mut status.machine;
            machine.version = format!("{number}.0");
            machine.slot = Some(Slot::A);
            machine.root_hash = Some(release(number).root_hash.to_string());
            machine.boot_id = boot_id.into();
        });
        pid1.change(service("log", ServiceState::Ready));
        pid1
    }

    /// Starts the updater and waits until it answers.
    pub fn start(&self) -> Updater {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_updater"))
            .arg("run")
            .arg("--disk")
            .arg(self.disk())
            .arg("--pid1")
            .arg(self.path("init.sock"))
            .arg("--run")
            .arg(self.path("run"))
            .arg("--state")
            .arg(self.path("state"))
            .arg("--config")
            .arg(self.path("config"))
            .arg("--image")
            .arg(self.path("image"))
            .arg("--pstore")
            .arg(self.path("pstore"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let updater = Updater {
            child,
            socket: self.path("run/updater.sock"),
        };
        // It has looked at the disk when it shows what is on it.
        updater.wait_for("the slots", |status| !status.slots.is_empty());
        updater
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What `updater look` says of the disk.
    pub fn look(&self, booted: u8) -> serde_json::Value {
        let output = Command::new(env!("CARGO_BIN_EXE_updater"))
            .args(["look", "--json", "--booted"])
            .arg(release(booted).root_hash.to_string())
            .arg("--disk")
            .arg(self.disk())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A running updater.
pub struct Updater {
    child: Child,
    socket: PathBuf,
}

impl Updater {
    /// Asks, and gives the answer with the number of reports before it.
    pub fn ask(&self, request: &Request) -> Result<Reply, Refusal> {
        let mut client = Client::connect(&self.socket).unwrap();
        match client.ask(request) {
            Ok(reply) => Ok(reply),
            Err(ClientError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}: {error:?}"),
        }
    }

    pub fn status(&self) -> Status {
        match self.ask(&Request::Status) {
            Ok(Reply::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// The history's kinds and versions.
    pub fn history(&self) -> Vec<(String, String, String)> {
        match self.ask(&Request::History) {
            Ok(Reply::History { records }) => records
                .into_iter()
                .map(|record| (record.kind.as_str().to_owned(), record.to, record.reason))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the status is as it should be.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let begun = Instant::now();
        loop {
            if let Ok(mut client) = Client::connect(&self.socket)
                && let Ok(Reply::Status(status)) = client.ask(&Request::Status)
            {
                if is_so(&status) {
                    return *status;
                }
                assert!(begun.elapsed() < LIMIT, "no {what}: {status:#?}");
            }
            assert!(begun.elapsed() < LIMIT, "no {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end, as PID 1 does.
    pub fn end(mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Updater {
    fn drop(&mut self) {
        // Nothing is left behind where a test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The names of the boot entries.
pub fn entries(look: &serde_json::Value) -> Vec<String> {
    let mut names: Vec<String> = look["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["file"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}
