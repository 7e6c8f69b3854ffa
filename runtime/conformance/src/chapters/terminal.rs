//! config.md, Process terminal, by a console socket as runc has it.

use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::json;

use crate::bench::{Bench, Bundle, Container};
use crate::clause::{Check, Clause, Problem, Try, command_line, demand, must};
use crate::needs::Need;
use crate::probe::{self, Done, Step};
use crate::sys;

pub const CLAUSES: &[Clause] = &[
    must(
        "config.md#process terminal",
        "true: standard input, output and error are a terminal of the container's /dev/pts",
        &[],
        standard_streams,
    ),
    must(
        "config.md#process terminal",
        "it is the process's controlling terminal, in a session of its own",
        &[],
        controlling,
    ),
    must(
        "config.md#process consoleSize",
        "the terminal has this size",
        &[],
        size,
    ),
    must(
        "config-linux.md#default-devices /dev/console",
        "with a terminal it is that terminal",
        &[],
        console,
    ),
    must(
        "config.md#process terminal",
        "what is written to the other side reaches the program",
        &[],
        input,
    ),
    must(
        "config.md#process terminal",
        "it works in a user namespace",
        &[Need::UserNamespace],
        in_user_namespace,
    ),
    must(
        "config.md#process terminal",
        "false: there is none",
        &[],
        none,
    ),
    command_line(
        "command line: create",
        "the terminal belongs to the user of the process",
        &[],
        owner,
    ),
    command_line(
        "command line: create",
        "a terminal without --console-socket is an error",
        &[],
        no_socket,
    ),
    command_line(
        "command line: create",
        "--console-socket without a terminal is an error",
        &[],
        no_terminal,
    ),
    command_line(
        "command line: exec",
        "--tty with --console-socket gives the process a terminal of the container",
        &[],
        executed,
    ),
];

/// A listening console socket.
struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl Console {
    fn new(bench: &Bench) -> Try<Console> {
        let path = bench.path("console");
        let listener = UnixListener::bind(&path)?;
        Ok(Console { path, listener })
    }

    /// The terminal's other side, which came when its creator was done.
    fn master(&self) -> Try<fs::File> {
        self.listener.set_nonblocking(true)?;
        let (stream, _) = self
            .listener
            .accept()
            .map_err(|error| Problem::Failed(format!("nothing came to the socket: {error}")))?;
        stream.set_nonblocking(false)?;
        Ok(fs::File::from(descriptor(&stream)?))
    }
}

fn descriptor(stream: &UnixStream) -> Try<OwnedFd> {
    let mut bytes = [0_u8; 4096];
    let mut space = cmsg_space!([i32; 4]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut found = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            found.extend(numbers.into_iter().map(sys::received));
        }
    }
    demand!(found.len() == 1, "{} descriptors came", found.len());
    found
        .pop()
        .ok_or_else(|| Problem::Failed("no descriptor came".to_owned()))
}

/// Reads until the last process has closed the terminal.
fn drain(mut master: &fs::File) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = master.read(&mut buffer) {
        if count == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn created<'bench>(
    bench: &'bench Bench,
    bundle: &mut Bundle,
) -> Try<(Container<'bench>, fs::File)> {
    bundle.set("/process/terminal", json!(true));
    let console = Console::new(bench)?;
    let path = console.path.to_string_lossy().into_owned();
    let container = Container::create(bench, bundle, &bench.id(), &["--console-socket", &path])?
        .map_err(|message| Problem::Failed(format!("create failed: {}", message.trim())))?;
    Ok((container, console.master()?))
}

/// Runs steps on a terminal: their results.
fn run(bench: &Bench, bundle: &mut Bundle, steps: &[Step]) -> Try<Vec<Done>> {
    bundle.steps(steps);
    let (container, master) = created(bench, bundle)?;
    container.start()?;
    let text = drain(&master);
    container.wait()?;
    let lines = probe::lines(&text);
    demand!(lines.len() == steps.len(), "the terminal showed {text:?}");
    Ok(lines)
}

fn standard_streams(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let lines = run(
        bench,
        &mut bundle,
        &[
            Step::Link("/proc/self/fd/0".to_owned()),
            Step::Link("/proc/self/fd/1".to_owned()),
            Step::Link("/proc/self/fd/2".to_owned()),
            Step::World,
        ],
    )?;
    for line in &lines[..3] {
        demand!(
            line.text().starts_with("/dev/pts/") || line.text() == "/dev/console",
            "one is {line}"
        );
    }
    let world: probe::world::World = serde_json::from_value(lines[3].value().clone())?;
    let numbers: Vec<_> = world.descriptors.keys().collect();
    demand!(numbers == [&0, &1, &2], "open are {:?}", world.descriptors);
    Ok(())
}

fn controlling(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let lines = run(
        bench,
        &mut bundle,
        &[Step::Open("/dev/tty".to_owned(), libc::O_RDWR), Step::World],
    )?;
    demand!(lines[0].worked(), "/dev/tty: {}", lines[0]);
    let world: probe::world::World = serde_json::from_value(lines[1].value().clone())?;
    demand!(
        world.session == world.pid && world.pid == 1,
        "its session is {}",
        world.session
    );
    Ok(())
}

fn size(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/process/consoleSize",
        json!({ "height": 33, "width": 111 }),
    );
    bundle.steps(&[Step::World]);
    let (container, master) = created(bench, &mut bundle)?;
    let found = sys::window_size(master.as_fd())?;
    demand!(found == (33, 111), "it is {found:?}");
    container.start()?;
    let lines = probe::lines(&drain(&master));
    let window = lines.first().map(|line| line.value()["window"].clone());
    demand!(window == Some(json!([33, 111])), "inside it is {window:?}");
    Ok(())
}

fn console(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let lines = run(
        bench,
        &mut bundle,
        &[
            Step::Stat("/dev/console".to_owned()),
            Step::Stat("/dev/pts/0".to_owned()),
            Step::Open("/dev/console".to_owned(), libc::O_RDWR | libc::O_NOCTTY),
        ],
    )?;
    let (console, terminal) = (lines[0].value(), lines[1].value());
    demand!(
        console["kind"] == "c"
            && console["major"] == terminal["major"]
            && console["minor"] == terminal["minor"],
        "it is {console}, the terminal {terminal}"
    );
    demand!(lines[2].worked(), "it does not open: {}", lines[2]);
    Ok(())
}

fn input(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    // Line editing is on: one read is one line, and a control character ends
    // the file.
    bundle.steps(&[Step::Read("/dev/stdin".to_owned())]);
    let (container, mut master) = created(bench, &mut bundle)?;
    container.start()?;
    master.write_all(b"typed\n\x04")?;
    let lines = probe::lines(&drain(&master));
    let read = lines.first().map(Done::text);
    demand!(read == Some("typed\n"), "it read {read:?}");
    Ok(())
}

fn in_user_namespace(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    let lines = run(
        bench,
        &mut bundle,
        &[
            Step::Open("/dev/tty".to_owned(), libc::O_RDWR),
            Step::Stat("/dev/console".to_owned()),
        ],
    )?;
    demand!(lines[0].worked(), "/dev/tty: {}", lines[0]);
    demand!(
        lines[1].value()["kind"] == "c",
        "/dev/console: {}",
        lines[1]
    );
    Ok(())
}

fn none(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let ran = bench.run(
        &mut bundle,
        &[Step::Open("/dev/tty".to_owned(), libc::O_RDWR), Step::World],
    )?;
    demand!(!ran.result(0)?.worked(), "it has a controlling terminal");
    demand!(ran.world(1)?.terminals == [false; 3], "a stream is one");
    Ok(())
}

fn owner(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let lines = run(bench, &mut bundle, &[Step::Stat("/dev/pts/0".to_owned())])?;
    demand!(lines[0].value()["uid"] == 1000, "it is {}", lines[0]);
    Ok(())
}

fn no_socket(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/process/terminal", json!(true));
    bench.refuses(&bundle)?;
    Ok(())
}

fn no_terminal(bench: &Bench) -> Check {
    let bundle = bench.bundle()?;
    let console = Console::new(bench)?;
    let path = console.path.to_string_lossy().into_owned();
    let created = Container::create(bench, &bundle, &bench.id(), &["--console-socket", &path])?;
    demand!(created.is_err(), "create did not fail");
    Ok(())
}

fn executed(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&bundle)?;
    let console = Console::new(bench)?;
    let path = console.path.to_string_lossy().into_owned();
    let steps = [
        Step::Open("/dev/tty".to_owned(), libc::O_RDWR),
        Step::Link("/proc/self/fd/0".to_owned()),
        Step::Sleep(200),
    ];
    let output = container.exec(
        &["--tty", "--detach", "--console-socket", &path],
        &probe::arguments(&steps),
    )?;
    demand!(output.worked(), "exec failed: {}", output.stderr.trim());
    let lines = probe::lines(&drain(&console.master()?));
    demand!(lines.len() == 3, "it printed {lines:?}");
    demand!(lines[0].worked(), "/dev/tty: {}", lines[0]);
    demand!(
        lines[1].text().starts_with("/dev/pts/"),
        "standard input is {}",
        lines[1]
    );
    Ok(())
}
