//! Created first, started later: the gate, and hooks.

use std::fs::{self, File};
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind,
    connect, listen, recvmsg, socket, socketpair,
};
use nix::sys::wait::{WaitStatus, waitpid};
use runtime::cgroup::Cgroup;
use runtime::{Lifecycle, Setup, Start, Started, Stdio};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Container, can_run, new_cgroup, pipe, remove};
use crate::sys::received;

fn seqpacket() -> OwnedFd {
    socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap()
}

/// A connected pair of stream sockets.
pub fn sockets() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .unwrap()
}

/// A message with a descriptor.
pub fn receive(socket: &OwnedFd) -> (String, File) {
    let mut text = [0; 4096];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .unwrap();
    let descriptor = message.cmsgs().unwrap().find_map(|control| match control {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let file = received(descriptor.expect("a descriptor came"));
    let length = message.bytes;
    (String::from_utf8(text[..length].to_vec()).unwrap(), file)
}

pub struct Created {
    pub container: Container,
    folder: TempDir,
    pub started: Started,
    pub cgroup: Cgroup,
    output: File,
}

/// Waits for the next report of the process.
pub fn next(setup: &OwnedFd) -> Setup {
    loop {
        let mut fds = [PollFd::new(setup.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        match runtime::setup_outcome(setup.as_fd()).unwrap() {
            Setup::Pending => {}
            outcome => return outcome,
        }
    }
}

impl Created {
    pub fn new(container: Container) -> Created {
        Created::with_sockets(container, None, None)
    }

    pub fn with_sockets(
        container: Container,
        console: Option<BorrowedFd<'_>>,
        listener: Option<BorrowedFd<'_>>,
    ) -> Created {
        let folder = TempDir::new().unwrap();
        let gate = seqpacket();
        let address = UnixAddr::new(&folder.path().join("gate")).unwrap();
        bind(gate.as_raw_fd(), &address).unwrap();
        listen(&gate, Backlog::new(1).unwrap()).unwrap();
        let cgroup = new_cgroup(&Default::default());
        let (output, write) = pipe();
        let null = File::open("/dev/null").unwrap();
        let started = runtime::prepare(&container.spec())
            .unwrap()
            .start(Start {
                cgroup: Some(cgroup.fd()),
                stdio: Stdio {
                    stdin: null.as_fd(),
                    stdout: write.as_fd(),
                    stderr: write.as_fd(),
                },
                listen: &[],
                passed: &[],
                env: &[],
                lifecycle: Some(Lifecycle {
                    id: "one",
                    bundle: Path::new("/bundle"),
                    gate: gate.as_fd(),
                    console,
                    listener,
                    keep_keyring: false,
                }),
            })
            .unwrap();
        Created {
            container,
            folder,
            started,
            cgroup,
            output: output.into(),
        }
    }

    pub fn start(&self) -> OwnedFd {
        let connection = seqpacket();
        let address = UnixAddr::new(&self.folder.path().join("gate")).unwrap();
        connect(connection.as_raw_fd(), &address).unwrap();
        connection
    }

    pub fn end(mut self) -> (WaitStatus, String) {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        let status = waitpid(self.started.pid, None).unwrap();
        remove(&self.cgroup);
        drop(self.container);
        (status, text)
    }
}

fn hook(folder: &Path, name: &str, script: &str) -> serde_json::Value {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    json!({ "path": path, "args": [name, "a b"], "env": ["PATH=/usr/bin:/bin", "NAME=value"] })
}

#[test]
fn the_program_runs_only_after_somebody_connects_to_the_gate() {
    if !can_run() {
        return;
    }
    let created = Created::new(Container::new("echo ran"));
    assert_eq!(next(&created.started.setup), Setup::Created);
    let comm = fs::read_to_string(format!("/proc/{}/comm", created.started.pid)).unwrap();
    assert_ne!(comm, "sh\n");
    let connection = created.start();
    assert_eq!(next(&connection), Setup::Executed);
    let (status, output) = created.end();
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    assert_eq!(output, "ran\n");
}

#[test]
fn whoever_starts_it_is_told_what_failed() {
    if !can_run() {
        return;
    }
    // A file that exists and may be executed, but is not a program.
    let container = Container::new("true").set("/process/args", json!(["/etc/text"]));
    let path = container.root.path().join("etc/text");
    fs::write(&path, "\x7fELF").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let created = Created::new(container);
    assert_eq!(next(&created.started.setup), Setup::Created);
    let Setup::Failed(error) = next(&created.start()) else {
        panic!("no failure");
    };
    assert!(error.to_string().contains("/etc/text"), "{error}");
    let (status, _) = created.end();
    assert!(matches!(status, WaitStatus::Exited(_, 127)), "{status:?}");
}

#[test]
fn a_container_without_its_program_is_not_created() {
    if !can_run() {
        return;
    }
    for (program, message) in [
        ("/nothing", "executing /nothing: No such file or directory"),
        ("nothing", "executable file not found in $PATH: nothing"),
        ("/etc", "executing /etc: Permission denied"),
        ("/etc/text", "executing /etc/text: Permission denied"),
    ] {
        let container = Container::new("true").set("/process/args", json!([program]));
        fs::write(container.root.path().join("etc/text"), "text").unwrap();
        let created = Created::new(container);
        let Setup::Failed(error) = next(&created.started.setup) else {
            panic!("{program} was created");
        };
        assert_eq!(error.to_string(), message);
        created.end();
    }
}

#[test]
fn hooks_run_in_their_order_with_the_state_on_their_input() {
    if !can_run() {
        return;
    }
    let scratch = TempDir::new().unwrap();
    let log = scratch.path().join("log");
    let record = format!("echo \"$0 $1 $NAME $(cat)\" >> {}", log.display());
    // Shells give $0 as the script's path.
    let container = Container::new("echo ran");
    fs::write(
        container.root.path().join("etc/hook"),
        "#!/bin/sh\ncat; echo\n",
    )
    .unwrap();
    fs::set_permissions(
        container.root.path().join("etc/hook"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let container = container.set("/annotations", json!({ "k": "v" })).set(
        "/hooks",
        json!({
            "createRuntime": [hook(scratch.path(), "runtime", "exit 0")],
            "createContainer": [
                hook(scratch.path(), "first", &record),
                hook(scratch.path(), "second", &record),
            ],
            "startContainer": [{ "path": "/etc/hook", "args": ["hook"] }],
        }),
    );
    let created = Created::new(container);
    assert_eq!(next(&created.started.setup), Setup::Environment);
    assert!(!log.exists(), "before the caller's hooks have run");
    runtime::proceed(created.started.setup.as_fd()).unwrap();
    assert_eq!(next(&created.started.setup), Setup::Created);
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (line, name) in lines.iter().zip(["first", "second"]) {
        let (head, state) = line.split_once('{').unwrap();
        assert!(head.contains(&format!("/{name} a b value")), "{head}");
        let state: serde_json::Value = serde_json::from_str(&format!("{{{state}")).unwrap();
        assert_eq!(state["id"], "one");
        assert_eq!(state["status"], "creating");
        assert_eq!(state["pid"], 1);
        assert_eq!(state["bundle"], "/bundle");
        assert_eq!(state["annotations"]["k"], "v");
    }
    assert_eq!(next(&created.start()), Setup::Executed);
    let (_, output) = created.end();
    assert_eq!(output, "ran\n");
}

#[test]
fn a_hook_that_fails_ends_the_container_and_says_why() {
    if !can_run() {
        return;
    }
    let scratch = TempDir::new().unwrap();
    for (script, needles) in [
        ("echo no luck >&2; exit 3", ["exit status 3", "no luck"]),
        ("kill -9 $$", ["killed by signal 9", ""]),
        ("sleep 100", ["not finished after 1 s", ""]),
    ] {
        let mut bad = hook(scratch.path(), "bad", script);
        bad["timeout"] = json!(1);
        let container = Container::new("true").set("/hooks", json!({ "createContainer": [bad] }));
        let created = Created::new(container);
        let Setup::Failed(error) = next(&created.started.setup) else {
            panic!("no failure");
        };
        let text = error.to_string();
        assert!(
            text.starts_with("running the createContainer hook"),
            "{text}"
        );
        for needle in needles {
            assert!(text.contains(needle), "{text}");
        }
        let (status, _) = created.end();
        assert!(matches!(status, WaitStatus::Exited(_, 127)), "{status:?}");
    }
}

#[test]
fn hooks_of_the_runtime_have_their_environment_and_no_descriptor_of_ours() {
    let scratch = TempDir::new().unwrap();
    let log = scratch.path().join("log");
    let script = format!("ls /proc/self/fd > {0}; env >> {0}", log.display());
    let hooks = [serde_json::from_value(hook(scratch.path(), "post", &script)).unwrap()];
    let state = json!({ "ociVersion": "1.2.0", "id": "one", "status": "stopped", "bundle": "/" });
    let state = serde_json::from_value(state).unwrap();
    runtime::hooks::run("poststop", &hooks, &state).unwrap();
    let text = fs::read_to_string(&log).unwrap();
    // 3 is the directory that ls reads.
    assert!(text.starts_with("0\n1\n2\n3\n"), "{text}");
    assert!(
        text.contains("NAME=value") && !text.contains("CARGO"),
        "{text}"
    );

    let bad = [serde_json::from_value(json!({ "path": "/nothing" })).unwrap()];
    let error = runtime::hooks::run("poststop", &bad, &state).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("poststop hook /nothing: exit status 127: No such file"),
        "{text}"
    );
}

#[test]
fn hooks_without_an_environment_have_the_callers_and_every_signal_is_the_kernels() {
    let scratch = TempDir::new().unwrap();
    let log = scratch.path().join("log");
    let script = format!(
        "env > {0}; grep -E '^Sig(Blk|Ign)' /proc/self/status >> {0}",
        log.display()
    );
    let mut hook = hook(scratch.path(), "post", &script);
    let state = json!({ "ociVersion": "1.2.0", "id": "one", "status": "stopped", "bundle": "/" });
    let state = serde_json::from_value(state).unwrap();
    for (env, has) in [(json!(null), true), (json!([]), false)] {
        hook["env"] = env;
        let hooks = [serde_json::from_value(hook.clone()).unwrap()];
        runtime::hooks::run("poststop", &hooks, &state).unwrap();
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text.contains("CARGO"), has, "{text}");
        // This process ignores SIGPIPE, as every Rust program does.
        for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
            assert!(text.contains(line), "{text}");
        }
    }
}

/// Hostile: an image has a startContainer hook that prints its environment. Outcome: it sees that of the container's process, not the caller's.
#[test]
fn hooks_in_the_container_do_not_see_the_callers_environment() {
    if !can_run() {
        return;
    }
    let hook = json!({ "path": "/usr/bin/env", "args": ["env", "sh", "-c", "env > /tmp/seen"] });
    let container =
        Container::new("cat /tmp/seen").set("/hooks", json!({ "startContainer": [hook] }));
    let created = Created::new(container);
    assert_eq!(next(&created.started.setup), Setup::Created);
    let _connection = created.start();
    let (_, output) = created.end();
    assert!(
        output.contains("LC_ALL=C") && !output.contains("CARGO"),
        "{output}"
    );
}

#[test]
fn a_create_container_hook_may_write_into_a_read_only_root() {
    if !can_run() {
        return;
    }
    let scratch = TempDir::new().unwrap();
    let container = Container::new("cat /etc/made; touch /etc/other || echo read-only");
    let made = container.root.path().join("etc/made");
    let hook = hook(
        scratch.path(),
        "make",
        &format!("echo by the hook > {}", made.display()),
    );
    let created = Created::new(container.set("/hooks", json!({ "createContainer": [hook] })));
    assert_eq!(next(&created.started.setup), Setup::Created);
    let _connection = created.start();
    let (_, output) = created.end();
    assert!(output.contains("by the hook"), "{output}");
    assert!(output.contains("read-only"), "{output}");
}
