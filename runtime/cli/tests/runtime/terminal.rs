//! Terminals: relayed in the foreground, sent over a console socket.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Box, can_run, is_alive, until};
use crate::sys;

/// The output of a terminal's master, read by a separate thread.
struct Screen {
    master: File,
    parts: Receiver<String>,
    text: String,
}

impl Screen {
    fn new(master: OwnedFd) -> Screen {
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (send, parts) = channel();
        std::thread::spawn(move || {
            let mut part = [0; 1024];
            // EIO: nobody has the terminal open any more.
            while let Ok(length @ 1..) = reader.read(&mut part) {
                let text = String::from_utf8_lossy(&part[..length]).into_owned();
                if send.send(text).is_err() {
                    break;
                }
            }
        });
        Screen {
            master,
            parts,
            text: String::new(),
        }
    }

    /// Waits for this text, and leaves what follows it for the next time.
    fn expect(&mut self, wanted: &str) {
        loop {
            if let Some(begin) = self.text.find(wanted) {
                self.text.drain(..begin + wanted.len());
                return;
            }
            match self.parts.recv_timeout(Duration::from_secs(20)) {
                Ok(part) => self.text.push_str(&part),
                Err(error) => panic!("{wanted:?} never came ({error}): {:?}", self.text),
            }
        }
    }

    fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }
}

/// A terminal of this size: its master and its other end.
fn terminal(rows: u16, columns: u16) -> (Screen, OwnedFd) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pair = openpty(&size, None).unwrap();
    (Screen::new(pair.master), pair.slave)
}

/// Gives a command this terminal.
fn on(command: &mut Command, slave: &OwnedFd) {
    let end = || Stdio::from(slave.try_clone().unwrap());
    command.stdin(end()).stdout(end()).stderr(end());
}

fn stty(slave: &OwnedFd, arguments: &[&str]) -> String {
    let output = Command::new("stty")
        .args(arguments)
        .stdin(Stdio::from(slave.try_clone().unwrap()))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

const SCRIPT: &str = "test -t 0 && test -t 1 && test -t 2 && tty; while read line; do \
    echo got $line, $(stty size); test $line = end && exit 4; done";

#[test]
fn in_the_foreground_the_terminal_is_relayed() {
    if !can_run() {
        return;
    }
    let container = Box::new(SCRIPT).set("/process/terminal", json!(true));
    let (mut screen, slave) = terminal(33, 77);
    let before = stty(&slave, &["-a"]);
    let mut command = container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    on(&mut command, &slave);
    let mut runtime = command.spawn().unwrap();
    screen.expect("/dev/");
    screen.type_in("hello\r");
    screen.expect("got hello, 33 77");
    stty(&slave, &["rows", "44", "cols", "88"]);
    kill(Pid::from_raw(runtime.id() as i32), Signal::SIGWINCH).unwrap();
    screen.type_in("end\r");
    screen.expect("got end, 44 88");
    assert_eq!(runtime.wait().unwrap().code(), Some(4));
    // The terminal is as it was, except for its size.
    stty(&slave, &["rows", "33", "cols", "77"]);
    assert_eq!(stty(&slave, &["-a"]), before);
}

#[test]
fn a_further_process_gets_a_terminal_of_its_own() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    container.create();
    container.must(&["start", "ID"]);
    let (mut screen, slave) = terminal(22, 66);
    let mut command = container.command(&["exec", "-t", "ID", "sh", "-c", SCRIPT]);
    on(&mut command, &slave);
    let mut runtime = command.spawn().unwrap();
    screen.expect("/dev/");
    screen.type_in("more\r");
    screen.expect("got more, 22 66");
    screen.type_in("end\r");
    assert_eq!(runtime.wait().unwrap().code(), Some(4));
}

#[test]
fn all_that_was_written_is_shown_before_the_end() {
    if !can_run() {
        return;
    }
    let container = Box::new("seq 1 5000; echo the-end").set("/process/terminal", json!(true));
    let (mut screen, slave) = terminal(24, 80);
    let mut command = container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    on(&mut command, &slave);
    let mut runtime = command.spawn().unwrap();
    screen.expect("\n5000\r\nthe-end");
    assert_eq!(runtime.wait().unwrap().code(), Some(0));
}

fn receive(listener: &UnixListener) -> OwnedFd {
    let (connection, _) = listener.accept().unwrap();
    let mut byte = [0; 256];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(i32);
    let message = recvmsg::<()>(
        connection.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .unwrap();
    match message.cmsgs().unwrap().next() {
        Some(ControlMessageOwned::ScmRights(numbers)) => sys::received(numbers[0]),
        other => panic!("no descriptor: {other:?}"),
    }
}

#[test]
fn a_console_socket_gets_the_terminal() {
    if !can_run() {
        return;
    }
    let container = Box::new(SCRIPT).set("/process/terminal", json!(true));
    let path = container.folder.path().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    container.create_with(&["--console-socket", path.to_str().unwrap()]);
    let mut screen = Screen::new(receive(&listener));
    container.must(&["start", "ID"]);
    screen.expect("/dev/");
    screen.type_in("hello\n");
    screen.expect("got hello");

    container
        .begin(&[
            "exec",
            "--detach",
            "--tty",
            "--console-socket",
            path.to_str().unwrap(),
            "ID",
            "sh",
            "-c",
            "tty; read line; echo second $line; sleep 100",
        ])
        .unwrap();
    let mut second = Screen::new(receive(&listener));
    second.expect("/dev/");
    second.type_in("one\n");
    second.expect("second one");
}

#[test]
fn what_is_written_after_everyone_had_closed_the_terminal_arrives() {
    if !can_run() {
        return;
    }
    let script = "exec </dev/null >/dev/null 2>&1; sleep 0.5; seq 1 5000 >/dev/console; \
                  sleep 0.2; echo again >/dev/console; sleep 0.5; exit 3";
    let container = Box::new(script).set("/process/terminal", json!(true));
    let (mut screen, slave) = terminal(24, 80);
    let mut command = container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    on(&mut command, &slave);
    let mut runtime = command.spawn().unwrap();
    screen.expect("\n5000\r\nagain");
    assert_eq!(runtime.wait().unwrap().code(), Some(3));
}

/// Hostile: a program writes without end to a terminal whose reader has stopped. Outcome: signals still reach it.
#[test]
fn a_reader_that_stops_keeps_no_signal_from_the_process() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    container.create();
    container.must(&["start", "ID"]);
    let (_screen, slave) = terminal(24, 80);
    let pid_file = container.folder.path().join("pid");
    let mut command = container.command(&[
        "exec",
        "-t",
        "--pid-file",
        pid_file.to_str().unwrap(),
        "ID",
        "sh",
        "-c",
        "yes",
    ]);
    on(&mut command, &slave);
    let mut runtime = command.stdout(Stdio::piped()).spawn().unwrap();
    until(|| std::fs::read_to_string(&pid_file).is_ok_and(|pid| !pid.is_empty()));
    let pid = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    // Until pipe and terminal are full.
    std::thread::sleep(std::time::Duration::from_secs(1));
    kill(Pid::from_raw(runtime.id() as i32), Signal::SIGTERM).unwrap();
    until(|| !is_alive(pid));
    // Its output waits for its reader, until that is gone or a signal says so.
    assert_eq!(runtime.try_wait().unwrap(), None);
    kill(Pid::from_raw(runtime.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(runtime.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn a_console_socket_may_have_a_long_path() {
    if !can_run() {
        return;
    }
    let container = Box::new(SCRIPT).set("/process/terminal", json!(true));
    let long = container.folder.path().join("d".repeat(120));
    std::fs::create_dir(&long).unwrap();
    let folder = std::fs::File::open(&long).unwrap();
    let short = format!("/proc/self/fd/{}/s", folder.as_raw_fd());
    let listener = UnixListener::bind(short).unwrap();
    let path = long.join("s");
    container.create_with(&["--console-socket", path.to_str().unwrap()]);
    let mut screen = Screen::new(receive(&listener));
    container.must(&["start", "ID"]);
    screen.expect("/dev/");
}
