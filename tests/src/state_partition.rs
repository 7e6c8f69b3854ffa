//! The state partition: grown, repaired, made, left alone, and the power.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use gpt::GptConfig;
use machine::{Build, Machine, MachineBuilder};
use serde_json::Value;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// Larger than the image by far.
const DISK: u64 = 2048 * MIB;
/// A boot that has not settled by then does not.
const BOOT: Duration = Duration::from_secs(90);
const COMMAND: Duration = Duration::from_secs(20);

/// A disk with the image, which outlives its machines.
struct Disk {
    build: Build,
    folder: TempDir,
}

impl Disk {
    fn new() -> Self {
        let disk = Self {
            build: Build::from_env().unwrap(),
            folder: TempDir::with_prefix("wherry-state-").unwrap(),
        };
        disk.build.make_disk(&disk.path(), DISK).unwrap();
        disk
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk.raw")
    }

    fn machine(&self, name: &str) -> MachineBuilder<'_> {
        Machine::builder(&self.build, name).disk(self.path())
    }

    /// Boots until everything has settled, whether ready or degraded.
    fn boot(&self, name: &str) -> Machine {
        settled(self.machine(name))
    }

    /// A machine that has booted once with this disk. What is on it is lost.
    fn booted(&self, name: &str) -> Machine {
        crate::operator::restored(self.machine(name))
    }

    /// First byte and length of the state partition.
    fn state(&self) -> (u64, u64) {
        let table = GptConfig::new().open(self.path()).unwrap();
        let state = table
            .partitions()
            .values()
            .find(|partition| partition.name == "state")
            .unwrap();
        let size = *table.logical_block_size();
        (
            state.bytes_start(size).unwrap(),
            state.bytes_len(size).unwrap(),
        )
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(self.path()).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    fn read(&self, at: u64, length: u64) -> Vec<u8> {
        let file = OpenOptions::new().read(true).open(self.path()).unwrap();
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// e2fsck has nothing to say against the file system, once its journal is
    /// replayed.
    fn assert_sound(&self) {
        let target = format!("{}?offset={}", self.path().display(), self.state().0);
        for arguments in [["-p", &target], ["-fn", &target]] {
            let mut e2fsck = self.build.tools().unwrap().command("e2fsck").unwrap();
            let output = e2fsck.args(arguments).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{arguments:?}: {text}");
        }
    }
}

fn settled(machine: MachineBuilder<'_>) -> Machine {
    let mut machine = machine.start().unwrap();
    // Either `ready in` or `degraded`.
    machine.wait_for("wherry: ", BOOT).unwrap();
    machine.wait_for("# ", BOOT).unwrap();
    machine
}

fn run(machine: &mut Machine, command: &str) -> String {
    let output = machine.shell(command, COMMAND).unwrap();
    assert_eq!(output.exit, 0, "{command}: {}", output.text);
    output.text
}

fn status(machine: &mut Machine) -> Value {
    let text = run(machine, "wherry status --json");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What `wherry status` says of the state, and why the machine is degraded.
fn storage(machine: &mut Machine) -> (String, String, u64, String) {
    let status = status(machine);
    let storage = &status["storage"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&storage["state"]),
        storage["notes"].to_string(),
        storage["disk"]["total"].as_u64().unwrap_or_default(),
        status["machine"]["degraded"].to_string(),
    )
}

/// The size of the state's file system, once it no longer grows: that goes on
/// after the machine is ready.
fn grown(machine: &mut Machine) -> u64 {
    let mut sizes = vec![0];
    loop {
        let (_, _, total, _) = storage(machine);
        if sizes.last() == Some(&total) {
            return total;
        }
        sizes.push(total);
        assert!(sizes.len() < 20, "it does not stop to grow: {sizes:?}");
        thread::sleep(Duration::from_millis(500));
    }
}

fn power_off(mut machine: Machine) {
    machine.type_line("wherry poweroff").unwrap();
    machine.wait_end(Duration::from_secs(60)).unwrap();
}

#[test]
fn the_state_partition_is_grown_at_the_first_boot_and_kept_at_the_next() {
    let disk = Disk::new();
    let mut machine = disk.boot("state-first-boot");
    let (state, notes, _, degraded) = storage(&mut machine);
    assert_eq!((state.as_str(), degraded.as_str()), ("persistent", "[]"));
    assert!(notes.contains("was grown"), "{notes}");
    let (start, length) = disk.state();
    assert!(start + length > DISK - 3 * MIB, "{start} + {length}");
    // The file system's own structures take the rest.
    let total = grown(&mut machine);
    assert!(total > length / 10 * 9, "{total} of {length}");
    run(&mut machine, "echo kept > /state/var/kept && sync");
    machine.cut_power();

    let mut machine = disk.boot("state-second-boot");
    let (state, notes, _, _) = storage(&mut machine);
    assert_eq!((state.as_str(), notes.as_str()), ("persistent", "[]"));
    assert!(run(&mut machine, "cat /state/var/kept").contains("kept"));
    power_off(machine);
    disk.assert_sound();
}

#[test]
fn a_corrupt_state_partition_is_repaired() {
    let disk = Disk::new();
    let mut machine = disk.booted("state-corrupt-before");
    run(&mut machine, "echo kept > /state/var/kept && sync");
    power_off(machine);
    // The superblock and the group descriptors.
    disk.write(disk.state().0, &[0x5a; 16384]);

    let mut machine = disk.boot("state-corrupt");
    let (state, notes, _, degraded) = storage(&mut machine);
    assert_eq!((state.as_str(), degraded.as_str()), ("persistent", "[]"));
    assert!(notes.contains("was repaired"), "{notes}");
    assert!(run(&mut machine, "cat /state/var/kept").contains("kept"));
    power_off(machine);
    disk.assert_sound();
}

#[test]
fn a_file_system_with_noted_errors_is_checked_before_it_is_mounted() {
    let disk = Disk::new();
    power_off(disk.booted("state-errors-before"));
    // What the kernel leaves there when it finds an error: s_state is valid,
    // with errors.
    let target = format!("{}?offset={}", disk.path().display(), disk.state().0);
    let mut debugfs = disk.build.tools().unwrap().command("debugfs").unwrap();
    let set = debugfs.args(["-w", "-R", "set_super_value state 3", &target]);
    assert!(set.status().unwrap().success());

    let mut machine = disk.boot("state-errors");
    let (state, notes, _, degraded) = storage(&mut machine);
    assert_eq!((state.as_str(), degraded.as_str()), ("persistent", "[]"));
    assert!(notes.contains("was checked"), "{notes}");
    power_off(machine);
    disk.assert_sound();
}

#[test]
fn a_lost_partition_table_is_restored_from_its_backup() {
    let disk = Disk::new();
    power_off(disk.booted("state-table-before"));
    disk.write(0, &[0; 34 * 512]);

    let mut machine = disk.boot("state-table");
    let (state, notes, _, degraded) = storage(&mut machine);
    assert_eq!((state.as_str(), degraded.as_str()), ("persistent", "[]"));
    assert!(notes.contains("its back-up was used"), "{notes}");
    power_off(machine);
    disk.assert_sound();
}

#[test]
fn foreign_data_is_left_alone_until_the_operator_lets_it_be_erased() {
    let disk = Disk::new();
    let (start, length) = disk.state();
    disk.write(start, &[0; 65536]);
    disk.write(start, b"XFSB");
    let before = disk.read(start, length);

    let mut machine = disk.boot("state-foreign");
    let (state, _, _, degraded) = storage(&mut machine);
    assert_eq!(state, "volatile");
    assert!(degraded.contains("XFS"), "{degraded}");
    assert!(degraded.contains("wherry.state=erase"), "{degraded}");
    assert!(machine.console().contains("wherry: degraded"));
    run(&mut machine, "echo here > /state/var/here");
    power_off(machine);
    assert!(before == disk.read(start, length), "it was touched");

    let mut machine = settled(disk.machine("state-erase").append("wherry.state=erase"));
    let (state, notes, _, degraded) = storage(&mut machine);
    assert_eq!((state.as_str(), degraded.as_str()), ("persistent", "[]"));
    assert!(notes.contains("made anew"), "{notes}");
    power_off(machine);
    disk.assert_sound();
}

#[test]
fn a_missing_state_partition_is_made() {
    let disk = Disk::new();
    let (start, _) = disk.state();
    remove_state(&disk.path());
    disk.write(start, &vec![0; MIB as usize]);

    let mut machine = disk.boot("state-missing");
    let (state, notes, _, degraded) = storage(&mut machine);
    assert_eq!((state.as_str(), degraded.as_str()), ("persistent", "[]"));
    assert!(notes.contains("had no state partition"), "{notes}");
    run(&mut machine, "echo kept > /state/var/kept && sync");
    machine.cut_power();

    let mut machine = disk.boot("state-missing-next");
    let (state, notes, _, _) = storage(&mut machine);
    assert_eq!((state.as_str(), notes.as_str()), ("persistent", "[]"));
    assert!(run(&mut machine, "cat /state/var/kept").contains("kept"));
    power_off(machine);
    disk.assert_sound();
}

fn remove_state(disk: &Path) {
    let mut table = GptConfig::new().writable(true).open(disk).unwrap();
    let number = table
        .partitions()
        .iter()
        .find_map(|(number, partition)| (partition.name == "state").then_some(*number))
        .unwrap();
    table.remove_partition(number).unwrap();
    table.write().unwrap();
}

#[test]
fn a_full_state_partition_does_not_keep_the_machine_from_being_ready() {
    let disk = Disk::new();
    let mut machine = disk.booted("state-full-before");
    let fill = "dd if=/dev/zero of=/state/var/all bs=1M 2>/dev/null; \
                dd if=/dev/zero of=/state/var/rest bs=4k 2>/dev/null; sync";
    machine.shell(fill, Duration::from_secs(120)).unwrap();
    let free = run(&mut machine, "stat -f -c %a /state");
    assert!(free.trim().parse::<u64>().unwrap() < 1024, "{free}");
    machine.cut_power();

    let mut machine = disk.boot("state-full");
    let (state, _, _, degraded) = storage(&mut machine);
    assert_eq!((state.as_str(), degraded.as_str()), ("persistent", "[]"));
    run(&mut machine, "wherry service list");
    run(&mut machine, "rm /state/var/all");
    power_off(machine);
    disk.assert_sound();
}

/// Cuts the power in boot after boot, each of which begins with what the last
/// one left, at longer and longer times after PID 1 has seen that there is
/// something to do; until there is nothing left to do. Then all must be well.
fn cut_everywhere(disk: &Disk, name: &str) {
    for hundredths in [0, 15, 30, 60, 100] {
        let name = format!("{name}-{hundredths}");
        let mut machine = disk.machine(&name).append("loglevel=7").start().unwrap();
        machine.wait_for("init: state: starting", BOOT).unwrap();
        machine.wait_for("init: state: ", BOOT).unwrap();
        machine.wait_for("\n", BOOT).unwrap();
        thread::sleep(Duration::from_millis(10 * hundredths));
        let console = machine.console();
        machine.cut_power();
        let table = GptConfig::new().open(disk.path()).unwrap();
        assert!(table.primary_header().is_ok(), "{console}");
        if !console.contains("are unused") && !console.contains("no state partition") {
            break;
        }
    }
    let mut machine = disk.boot(&format!("{name}-last"));
    let (state, _, _, degraded) = storage(&mut machine);
    assert_eq!((state.as_str(), degraded.as_str()), ("persistent", "[]"));
    let (start, length) = disk.state();
    assert!(start + length > DISK - 3 * MIB, "{start} + {length}");
    let total = grown(&mut machine);
    assert!(total > length / 10 * 9, "{total} of {length}");
    power_off(machine);
    disk.assert_sound();
}

#[test]
fn a_power_cut_at_any_moment_of_the_first_boot_does_no_harm() {
    cut_everywhere(&Disk::new(), "state-cut");
}

#[test]
fn a_power_cut_while_the_state_partition_is_made_does_no_harm() {
    let disk = Disk::new();
    let (start, _) = disk.state();
    remove_state(&disk.path());
    disk.write(start, &vec![0; MIB as usize]);
    cut_everywhere(&disk, "state-cut-made");
}
