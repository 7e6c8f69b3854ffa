//! Scopes from a systemd that this test plays: it speaks its part of D-Bus, and
//! makes cgroups in the machine's own tree.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use oci_spec::runtime::LinuxResources;
use runtime::cgroup::Hierarchy;
use serde_json::json;
use tempfile::TempDir;
use zbus::{ObjectPath, OwnedVariant};

use crate::message::{Kind, Message};
use crate::*;

type Properties = HashMap<String, OwnedVariant>;

/// What the fake systemd has seen and does.
#[derive(Default)]
struct Manager {
    calls: Vec<String>,
    properties: Properties,
    /// Answers to the next calls of this name, instead of the correct ones.
    refuse: Vec<(&'static str, &'static str)>,
    /// The result of the next job.
    result: Option<&'static str>,
    signal_first: bool,
    jobs: u32,
}

struct Systemd {
    _directory: TempDir,
    socket: PathBuf,
    manager: Arc<Mutex<Manager>>,
}

impl Systemd {
    fn new(through_bus: bool) -> Systemd {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let manager = Arc::new(Mutex::new(Manager::default()));
        let shared = manager.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A caller that hangs up.
                let _ = serve(stream.unwrap(), through_bus, &shared);
            }
        });
        Systemd {
            _directory: directory,
            socket,
            manager,
        }
    }

    fn connect(&self, through_bus: bool) -> Bus {
        Bus::connect_to(&self.socket, through_bus).unwrap()
    }

    fn with<T>(&self, look: impl FnOnce(&mut Manager) -> T) -> T {
        look(&mut self.manager.lock().unwrap())
    }
}

fn serve(stream: UnixStream, through_bus: bool, manager: &Mutex<Manager>) -> std::io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    let mut expect = |wanted: &str| {
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{wanted}\r\n"));
    };
    expect("\0AUTH EXTERNAL");
    output.write_all(b"DATA\r\n")?;
    expect("DATA");
    output.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n")?;
    expect("BEGIN");
    loop {
        let mut bytes = vec![0; 16];
        input.read_exact(&mut bytes)?;
        let length = Message::length(&bytes)?.unwrap();
        bytes.resize(length, 0);
        input.read_exact(&mut bytes[16..])?;
        let call = Message::parse(&bytes)?.unwrap();
        assert_eq!(call.destination.is_some(), through_bus);
        for mut answer in manager.lock().unwrap().answer(&call) {
            answer.serial = 1;
            output.write_all(&answer.to_bytes()?)?;
        }
    }
}

impl Manager {
    fn answer(&mut self, call: &Message) -> Vec<Message> {
        let member = call.member.clone().unwrap();
        self.calls.push(member.clone());
        let reply = |mut message: Message| {
            message.reply_serial = Some(call.serial);
            message
        };
        if let Some(place) = self.refuse.iter().position(|(name, _)| *name == member) {
            let (_, error) = self.refuse.remove(place);
            let mut message = Message::new(Kind::Error, &("as it was told to",)).unwrap();
            message.error = Some(format!("org.freedesktop.systemd1.{error}"));
            return vec![reply(message)];
        }
        match member.as_str() {
            "StartTransientUnit" => {
                type Auxiliary = Vec<(String, Vec<(String, OwnedVariant)>)>;
                let (name, mode, properties, _): (
                    String,
                    String,
                    Vec<(String, OwnedVariant)>,
                    Auxiliary,
                ) = call.body().unwrap();
                assert_eq!(mode, "replace");
                self.properties = properties.into_iter().collect();
                let pids = self.properties["PIDs"].try_clone().unwrap();
                let pids = Vec::<u32>::try_from(pids).unwrap();
                let directory = scope(&name);
                fs::create_dir_all(&directory).unwrap();
                for pid in pids {
                    fs::write(directory.join("cgroup.procs"), pid.to_string()).unwrap();
                }
                self.job(&name, reply)
            }
            "StopUnit" => {
                let (name, _): (String, String) = call.body().unwrap();
                let directory = scope(&name);
                let _ = fs::write(directory.join("cgroup.kill"), "1");
                self.job(&name, reply)
            }
            "SetUnitProperties" => {
                let (_, runtime, properties): (String, bool, Vec<(String, OwnedVariant)>) =
                    call.body().unwrap();
                assert!(runtime);
                self.properties = properties.into_iter().collect();
                vec![reply(Message::new(Kind::Return, &()).unwrap())]
            }
            "Hello" => vec![reply(Message::new(Kind::Return, &(":1.7",)).unwrap())],
            "AddMatch" | "Subscribe" | "ResetFailedUnit" => {
                vec![reply(Message::new(Kind::Return, &()).unwrap())]
            }
            other => panic!("{other} was called"),
        }
    }

    /// The answer and the signal, in either order, and a signal of another job.
    fn job(&mut self, unit: &str, reply: impl Fn(Message) -> Message) -> Vec<Message> {
        self.jobs += 1;
        let path = |number| format!("/org/freedesktop/systemd1/job/{number}");
        let removed = |number: u32, result: &str| {
            let path = path(number);
            let body = (
                number,
                ObjectPath::try_from(path.as_str()).unwrap(),
                unit,
                result,
            );
            let mut signal = Message::new(Kind::Signal, &body).unwrap();
            signal.path = Some("/org/freedesktop/systemd1".into());
            signal.interface = Some("org.freedesktop.systemd1.Manager".into());
            signal.member = Some("JobRemoved".into());
            signal
        };
        let path = path(self.jobs);
        let body = (ObjectPath::try_from(path.as_str()).unwrap(),);
        let answer = reply(Message::new(Kind::Return, &body).unwrap());
        let signal = removed(self.jobs, self.result.take().unwrap_or("done"));
        let other = removed(self.jobs + 100, "failed");
        if self.signal_first {
            vec![other, signal, answer]
        } else {
            vec![answer, other, signal]
        }
    }
}

/// The slice of a test's scope, in one of its own.
fn slice(name: &str) -> String {
    format!("systemdtest{}{name}-a.slice", std::process::id())
}

fn top(name: &str) -> PathBuf {
    let top = format!("systemdtest{}{name}.slice", std::process::id());
    Hierarchy::find().unwrap().mount_point().join(top)
}

fn directory(name: &str) -> PathBuf {
    let scope = format!("docker-{name}.scope");
    top(name).join(slice(name)).join(scope)
}

fn unit(name: &str) -> Unit {
    Unit::new(Some(&format!("{}:docker:{name}", slice(name))), "id").unwrap()
}

/// The cgroup of a unit.
fn scope(unit: &str) -> PathBuf {
    let name = unit
        .strip_prefix("docker-")
        .and_then(|rest| rest.strip_suffix(".scope"));
    directory(name.unwrap())
}

/// What systemd does when a scope has ended.
fn clean(name: &str) {
    fs::remove_dir(directory(name)).unwrap();
    fs::remove_dir(top(name).join(slice(name))).unwrap();
    fs::remove_dir(top(name)).unwrap();
}

fn can_run() -> bool {
    requirement::root()
}

fn resources(value: serde_json::Value) -> LinuxResources {
    serde_json::from_value(value).unwrap()
}

/// A process in the cgroup, in place of a container's.
fn container(scope: &Scope) -> Child {
    let child = Command::new("sleep").arg("60").spawn().unwrap();
    let procs = scope.cgroup.path().unwrap().join("cgroup.procs");
    fs::write(procs, child.id().to_string()).unwrap();
    child
}

#[test]
fn a_scope_holds_its_place_until_the_container_is_there() {
    if !can_run() {
        return;
    }
    for (through_bus, signal_first) in [(false, false), (false, true), (true, true)] {
        let systemd = Systemd::new(through_bus);
        systemd.with(|manager| manager.signal_first = signal_first);
        let tree = Hierarchy::find().unwrap();
        let name = format!("life{through_bus}{signal_first}");
        let unit = unit(&name);
        let mut bus = systemd.connect(through_bus);
        let scope = place(&mut bus, &tree, &unit, &resources(json!({}))).unwrap();
        assert_eq!(scope.cgroup.path(), Some(directory(&name).as_path()));
        assert_eq!(scope.cgroup.processes().unwrap().len(), 1);
        let mut container = container(&scope);
        let cgroup = scope.release().unwrap();
        // The container's process alone is left, in the scope itself.
        let left = cgroup.processes().unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].as_raw() as u32, container.id());
        let properties = systemd.with(|manager| std::mem::take(&mut manager.properties));
        let boolean = |name: &str| properties[name].downcast_ref::<bool>().unwrap();
        assert!(boolean("Delegate"));
        assert!(!boolean("DefaultDependencies"));
        let asked: String = properties["Slice"].downcast_ref().unwrap();
        assert_eq!(asked, slice(&name));

        remove(&mut bus, &unit).unwrap();
        container.wait().unwrap();
        let calls = systemd.with(|manager| manager.calls.clone());
        let expected = ["StartTransientUnit", "StopUnit", "ResetFailedUnit"];
        assert!(calls.ends_with(&expected.map(String::from)), "{calls:?}");
        clean(&name);
    }
}

#[test]
fn a_failed_unit_of_the_same_name_is_forgotten_first() {
    if !can_run() {
        return;
    }
    let systemd = Systemd::new(false);
    systemd.with(|manager| {
        manager.refuse = vec![("StartTransientUnit", "UnitExists")];
    });
    let tree = Hierarchy::find().unwrap();
    let mut bus = systemd.connect(false);
    let unit = unit("again");
    let scope = place(&mut bus, &tree, &unit, &resources(json!({}))).unwrap();
    let directory = scope.cgroup.path().unwrap().to_path_buf();
    drop(scope);
    let calls = systemd.with(|manager| manager.calls.clone());
    assert_eq!(
        calls,
        [
            "StartTransientUnit",
            "ResetFailedUnit",
            "StartTransientUnit"
        ]
    );
    // Without a process the scope would end: the placeholder is gone.
    assert_eq!(
        fs::read_to_string(directory.join("cgroup.procs")).unwrap(),
        ""
    );
    clean("again");
}

#[test]
fn an_update_tells_systemd_what_it_names() {
    if !can_run() {
        return;
    }
    let systemd = Systemd::new(false);
    let tree = Hierarchy::find().unwrap();
    let mut bus = systemd.connect(false);
    let unit = unit("update");
    let scope = place(&mut bus, &tree, &unit, &resources(json!({}))).unwrap();
    // -1 needs no controller, which this machine's tree may lack.
    let limits = resources(json!({ "pids": { "limit": -1 }, "memory": { "swap": -1 } }));
    update(&mut bus, &unit, &scope.cgroup, &limits).unwrap();
    let mut names = systemd.with(|manager| {
        Vec::from_iter(manager.properties.iter().map(|(name, value)| {
            let value: u64 = value.downcast_ref().unwrap();
            (name.clone(), value)
        }))
    });
    names.sort();
    assert_eq!(
        names,
        [
            ("MemorySwapMax".to_string(), u64::MAX),
            ("TasksMax".to_string(), u64::MAX)
        ]
    );
    let nothing = resources(json!({ "hugepageLimits": [] }));
    update(&mut bus, &unit, &scope.cgroup, &nothing).unwrap();
    let calls = systemd.with(|manager| manager.calls.clone());
    assert_eq!(
        calls
            .iter()
            .filter(|call| *call == "SetUnitProperties")
            .count(),
        1
    );
    drop(scope);
    clean("update");
}

#[test]
fn what_systemd_refuses_is_told_in_its_words() {
    if !can_run() {
        return;
    }
    let systemd = Systemd::new(false);
    let tree = Hierarchy::find().unwrap();
    let mut bus = systemd.connect(false);
    systemd.with(|manager| manager.refuse = vec![("StartTransientUnit", "NoSuchSlice")]);
    let text = place(&mut bus, &tree, &unit("refused"), &resources(json!({})))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("StartTransientUnit docker-refused.scope"),
        "{text}"
    );
    assert!(text.contains("as it was told to"), "{text}");

    systemd.with(|manager| manager.result = Some("timeout"));
    let text = place(&mut bus, &tree, &unit("late"), &resources(json!({})))
        .unwrap_err()
        .to_string();
    assert!(text.contains("docker-late.scope: timeout"), "{text}");
    clean("late");

    // A scope that is gone needs no stop.
    systemd.with(|manager| manager.refuse = vec![("StopUnit", "NoSuchUnit")]);
    remove(&mut bus, &unit("gone")).unwrap();
}

#[test]
fn without_systemd_the_error_says_what_was_tried() {
    let text = Bus::connect_to(Path::new("/nothing/socket"), false)
        .unwrap_err()
        .to_string();
    assert!(text.contains("/nothing/socket"), "{text}");
    assert!(text.contains("--systemd-cgroup"), "{text}");
}
