//! An operator in front of the machine's console: what the tests type and read.

use std::sync::OnceLock;
use std::time::Duration;

use machine::{Build, Machine, MachineBuilder, Snapshot};
use serde_json::Value;

/// A boot that has not settled by then does not.
pub const BOOT: Duration = Duration::from_secs(90);
/// A command that has not ended by then does not.
pub const COMMAND: Duration = Duration::from_secs(60);

/// The build under test.
pub fn build() -> Build {
    Build::from_env().unwrap()
}

/// Starts a machine and waits until everything has settled, whether ready or
/// degraded, and the console's shell waits for a command.
pub fn settled(machine: MachineBuilder<'_>) -> Machine {
    let mut machine = machine.start().unwrap();
    machine.wait_for("wherry: ", BOOT).unwrap();
    machine.wait_for("# ", BOOT).unwrap();
    machine
}

/// The machine with a shell that was booted once for all tests that need no boot
/// of their own.
pub fn booted() -> &'static Snapshot {
    static BOOTED: OnceLock<Snapshot> = OnceLock::new();
    BOOTED.get_or_init(|| {
        let build = build();
        let machine = Machine::builder(&build, "booted");
        machine
            .save(|machine| {
                machine.wait_for("wherry: ready", BOOT)?;
                machine.wait_for("# ", BOOT)?;
                // The state's file system grows in the background.
                let grown = "old=0; until now=$(stat -f -c %b /state); [ $now = $old ]; \
                             do old=$now; sleep 0.5; done";
                machine.shell(grown, COMMAND).map(drop)
            })
            .unwrap()
    })
}

/// A machine restored from where [`booted`] was saved: its shell waits.
pub fn restored(machine: MachineBuilder<'_>) -> Machine {
    machine.restore(booted()).start().unwrap()
}

/// Runs a command that must succeed, and returns what it printed.
pub fn run(machine: &mut Machine, command: &str) -> String {
    let output = machine.shell(command, COMMAND).unwrap();
    assert_eq!(output.exit, 0, "{command}: {}", output.text);
    output.text
}

/// Runs a command that must fail, and returns what it printed.
pub fn fail(machine: &mut Machine, command: &str) -> String {
    let output = machine.shell(command, COMMAND).unwrap();
    assert_ne!(output.exit, 0, "{command}: {}", output.text);
    output.text
}

/// Runs a command that prints JSON.
pub fn json(machine: &mut Machine, command: &str) -> Value {
    let text = run(machine, command);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error}: {text}"))
}

/// `wherry status`.
pub fn status(machine: &mut Machine) -> Value {
    json(machine, "wherry status --json")
}

/// One service of a status.
pub fn service<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["services"]
        .as_array()
        .unwrap()
        .iter()
        .find(|service| service["name"] == name)
        .unwrap_or_else(|| panic!("no service {name} in {status:#}"))
}

/// The state of one service.
pub fn state_of(machine: &mut Machine, name: &str) -> String {
    let status = status(machine);
    service(&status, name)["state"].as_str().unwrap().to_owned()
}

/// Puts a service below `/state/services`, in the container root of the
/// console, which has a shell. It is not read before the next reload.
pub fn put_service(machine: &mut Machine, name: &str, keys: &str, script: &str) {
    let command = format!("command = [\"/bin/sh\", \"-c\", {script:?}]");
    put_definition(
        machine,
        name,
        &format!("description = \"{name}\"\nimage = \"console\"\n{command}\n{keys}"),
    );
}

/// Puts a definition below `/state/services`.
pub fn put_definition(machine: &mut Machine, name: &str, text: &str) {
    let folder = format!("/state/services/{name}");
    run(
        machine,
        &format!("mkdir -p {folder} && : > {folder}/service.toml"),
    );
    for line in text.lines() {
        run(
            machine,
            &format!("cat >> {folder}/service.toml <<'END'\n{line}\nEND\n:"),
        );
    }
}

/// Waits until a service is in a state.
pub fn wait_for_state(machine: &mut Machine, name: &str, wanted: &str) {
    let script = format!(
        "i=0; until wherry service list | grep -qE '^{name} +{wanted}'; do \
         i=$((i+1)); [ $i -lt 60 ] || exit 1; sleep 0.5; done"
    );
    let output = machine
        .shell(&format!("( {script} )"), Duration::from_secs(120))
        .unwrap();
    let now = status(machine);
    assert_eq!(output.exit, 0, "{:#}", service(&now, name));
}

/// Ends the machine as an operator does.
pub fn power_off(mut machine: Machine) {
    machine.type_line("wherry poweroff").unwrap();
    machine.wait_end(Duration::from_secs(90)).unwrap();
}
