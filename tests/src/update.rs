//! Updates of a machine over HTTP: from one release to any other, back, and away
//! from one that does not work.

mod fallback;
mod install;
mod storage;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use machine::{Build, Machine, MachineBuilder, Server, Snapshot};
use serde_json::Value;
use tempfile::TempDir;

use crate::operator::{build, json, run};

/// The release that machines begin with.
const FIRST: &str = "1.0";

/// Larger than the image, so that the state has room.
const DISK: u64 = 1 << 30;

/// Firmware, loader and boot, emulated, on a host with other things to do.
const FIRMWARE_BOOT: Duration = Duration::from_secs(240);

/// An update that has not ended by then does not.
const APPLY: Duration = Duration::from_secs(180);

/// A machine's life in a test with several boots.
const LIFE: Duration = Duration::from_secs(1200);

/// One of the releases that were made for these tests (`cargo xtask test` does).
fn release(version: &str) -> Build {
    Build::at(folder().join(version))
}

fn folder() -> PathBuf {
    build().directory().join("test-releases")
}

/// What tells a release from all others.
fn root_hash(version: &str) -> String {
    let line = release(version).command_line().unwrap();
    let mut words = line.split_whitespace();
    let hash = words.find_map(|word| word.strip_prefix("roothash="));
    hash.unwrap().to_owned()
}

/// A disk with the first release, and a server with all that follow it.
struct Site {
    server: Server,
    name: String,
    folder: TempDir,
}

impl Site {
    fn new(name: &str) -> Self {
        let site = Self {
            server: Server::serve(folder()).unwrap(),
            name: name.to_owned(),
            folder: TempDir::with_prefix("wherry-update-").unwrap(),
        };
        release(FIRST).make_disk(&site.disk(), DISK).unwrap();
        site
    }

    fn disk(&self) -> PathBuf {
        self.path("disk.raw")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The machine with that disk, as it lies there.
    fn start_with(&self, change: impl FnOnce(MachineBuilder) -> MachineBuilder) -> Machine {
        let build = build();
        change(self.builder(&build)).start().unwrap()
    }

    fn builder<'a>(&self, build: &'a Build) -> MachineBuilder<'a> {
        Machine::builder(build, &self.name)
            .firmware()
            .variables(self.path("variables"))
            .disk(self.disk())
            .server(&self.server)
            .reboots()
            .limit(LIFE)
    }

    /// A machine on which the first release has booted, with a shell. What was on
    /// the disk is lost.
    fn booted(&self) -> Machine {
        self.start_with(|builder| builder.restore(first()))
    }

    /// A machine that boots what is on the disk, up and with a shell.
    fn start(&self) -> Machine {
        let mut machine = self.start_with(|builder| builder);
        up(&mut machine);
        machine
    }
}

/// The first release on a machine that was booted once for all tests that begin
/// with it.
fn first() -> &'static Snapshot {
    static FIRST: OnceLock<Snapshot> = OnceLock::new();
    FIRST.get_or_init(|| {
        let site = Site::new("update-first");
        let build = build();
        let machine = site.builder(&build);
        machine
            .save(|machine| {
                up(machine);
                Ok(())
            })
            .unwrap()
    })
}

/// Waits until a boot has settled and the console's shell waits for a command.
fn up(machine: &mut Machine) {
    machine.wait_for("wherry: ", FIRMWARE_BOOT).unwrap();
    machine.wait_for("# ", FIRMWARE_BOOT).unwrap();
}

/// The release that runs.
fn assert_runs(machine: &mut Machine, version: &str) {
    let line = run(machine, "cat /proc/cmdline");
    assert!(line.contains(&root_hash(version)), "not {version}: {line}");
}

/// Tells the updater which channel to follow, and waits until it does.
fn follow(machine: &mut Machine, channel: &str) {
    let script = format!(
        "echo 'channel = \"{channel}\"' > /state/config/updater/update.toml && \
         wherry service restart updater && \
         for i in $(seq 30); do wherry update check && break; sleep 1; done"
    );
    let output = machine.shell(&script, APPLY).unwrap();
    assert_eq!(output.exit, 0, "{}", output.text);
}

/// Has the newest release of a channel installed, without a restart.
fn apply(machine: &mut Machine, channel: &str) -> String {
    follow(machine, channel);
    let output = machine
        .shell("wherry update apply --reboot never 2>&1", APPLY)
        .unwrap();
    assert_eq!(output.exit, 0, "{}", output.text);
    output.text
}

/// Restarts as an operator does and waits until the machine is up again.
fn restart(machine: &mut Machine) {
    machine.type_line("wherry reboot").unwrap();
    machine.wait_for("wherry: restarting", APPLY).unwrap();
    up(machine);
}

/// `wherry update status`.
fn status(machine: &mut Machine) -> Value {
    json(machine, "wherry update status --json")
}

/// Waits until the running release has proven itself, as status and loader's
/// count tell.
fn wait_until_blessed(machine: &mut Machine, version: &str) {
    let mut last = Value::Null;
    for _ in 0..60 {
        last = status(machine);
        assert_eq!(last["booted"]["version"], version, "{last:#}");
        if last["booted"]["trial"].is_null() {
            return;
        }
        run(machine, "sleep 1");
    }
    panic!("{version} was not blessed: {last:#}");
}

/// The records of a kind, oldest first.
fn history(machine: &mut Machine, kind: &str) -> Vec<Value> {
    let records = json(machine, "wherry update history --json");
    let records = records.as_array().unwrap();
    let of_kind = records.iter().filter(|record| record["kind"] == kind);
    of_kind.cloned().collect()
}

/// The partition's first byte and length on a disk.
fn partition(disk: &Path, number: u32) -> (u64, u64) {
    let table = gpt::GptConfig::new().open(disk).unwrap();
    let size = *table.logical_block_size();
    let partition = table.partitions().get(&number).unwrap();
    (
        partition.bytes_start(size).unwrap(),
        partition.bytes_len(size).unwrap(),
    )
}
