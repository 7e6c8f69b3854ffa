//! The program in the test services' containers: it does the steps that its
//! arguments name, in order, and then exits with 0.
//!
//! `"say hello"`, `"notify READY=1"`, `"until SIGTERM"`, …: a word and what
//! follows it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use control::{Client, ClientError, Refusal, Request};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg, setsockopt, sockopt,
};
use nix::sys::wait::waitpid;

use crate::sys;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Does the steps.
pub fn run(steps: impl Iterator<Item = String>) -> ExitCode {
    for step in steps {
        let (word, rest) = step.split_once(' ').unwrap_or((&step, ""));
        match act(word, rest) {
            Ok(None) => {}
            Ok(Some(code)) => return ExitCode::from(code),
            Err(error) => {
                eprintln!("step '{step}': {error}");
                return ExitCode::from(99);
            }
        }
    }
    ExitCode::SUCCESS
}

/// Does one step. The result is the code to exit with, where it is the last.
fn act(word: &str, rest: &str) -> Result<Option<u8>> {
    match word {
        "say" => println!("{rest}"),
        "chatter" => {
            for number in 0..rest.parse::<u32>()? {
                // As long as a status may be.
                notify(format!("STATUS={number:0256}").as_bytes())?;
            }
        }
        "tick" => {
            let pause = Duration::from_millis(rest.parse()?);
            for number in 1_u64.. {
                println!("tick {number}");
                std::thread::sleep(pause);
            }
        }
        "notify" => notify(rest.replace(';', "\n").as_bytes())?,
        // Datagrams of all sizes, with bytes of all values.
        "notify-garbage" => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(std::env::var("NOTIFY_SOCKET")?)?;
            for number in 0..rest.parse::<u32>()? {
                let bytes: Vec<u8> = (0..number % 5000).map(|at| (at * number) as u8).collect();
                // One that is too large for the socket is refused by the kernel.
                let _ = socket.send(&bytes);
            }
        }
        "store" => store(rest)?,
        "send-lingering" => send_lingering(rest.parse()?)?,
        "send-descriptors" => {
            let (count, message) = rest.split_once(' ').ok_or("send-descriptors N MESSAGE")?;
            let null = File::open("/dev/null")?;
            let descriptors = vec![null.as_raw_fd(); count.parse()?];
            notify_with(message.replace(';', "\n").as_bytes(), &descriptors)?;
        }
        "notify-long" => {
            let (count, after) = rest.split_once(' ').ok_or("notify-long N MESSAGE")?;
            let status = "x".repeat(count.parse()?);
            notify(format!("STATUS={status}\n{after}").as_bytes())?;
        }
        "exit-if-stored" => {
            let (name, code) = rest.split_once(' ').ok_or("exit-if-stored NAME CODE")?;
            if stored(name)?.as_deref() == Some(name) {
                return Ok(Some(code.parse()?));
            }
        }
        "append" => {
            let (path, line) = rest.split_once(' ').ok_or("append PATH LINE")?;
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{line}")?;
        }
        "exit-if" => {
            let (path, code) = rest.split_once(' ').ok_or("exit-if PATH CODE")?;
            if Path::new(path).exists() {
                return Ok(Some(code.parse()?));
            }
        }
        "block" => set_of(rest)?.thread_block()?,
        "until" => {
            let signals = set_of(rest)?;
            signals.thread_block()?;
            signals.wait()?;
        }
        "sleep" => std::thread::sleep(Duration::from_millis(rest.parse()?)),
        "forever" => loop {
            std::thread::park();
        },
        "serve" => serve(listening("unix").ok_or("no socket")?)?,
        "serve-last" => {
            let names = std::env::var("LISTEN_FDNAMES")?;
            let count = i32::try_from(names.split(':').count())?;
            serve(sys::owned(2 + count))?;
        }
        // Processes that stay when this one ends.
        "leave" => {
            for _ in 0..rest.parse::<u32>()? {
                sys::fork_to(|| {
                    loop {
                        std::thread::park();
                    }
                })?;
            }
        }
        "ask" => ask(rest)?,
        "orphans" => orphans(rest.parse()?)?,
        "collect" => collect()?,
        "exit" => return Ok(Some(rest.parse()?)),
        _ => return Err("there is no such step".into()),
    }
    Ok(None)
}

fn set_of(names: &str) -> Result<SigSet> {
    let mut set = SigSet::empty();
    for name in names.split(' ') {
        set.add(Signal::from_str(name)?);
    }
    Ok(set)
}

fn notify(message: &[u8]) -> Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.send_to(message, std::env::var("NOTIFY_SOCKET")?)?;
    Ok(())
}

fn notify_with(message: &[u8], descriptors: &[i32]) -> Result<()> {
    let socket = UnixDatagram::unbound()?;
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(message)],
        &[ControlMessage::ScmRights(descriptors)],
        MsgFlags::empty(),
        Some(&UnixAddr::new(std::env::var("NOTIFY_SOCKET")?.as_str())?),
    )?;
    Ok(())
}

/// Stores a pipe that holds the name's text.
fn store(name: &str) -> Result<()> {
    let (read, mut write) = std::io::pipe()?;
    write.write_all(name.as_bytes())?;
    let message = format!("FDSTORE=1\nFDNAME={name}");
    notify_with(message.as_bytes(), &[read.as_raw_fd()])
}

/// Sends TCP sockets whose last close takes an hour: SO_LINGER, and a peer, this
/// process, that does not read what was sent.
fn send_lingering(count: u32) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::mem::forget(listener);
    // The sender ends, so that the receiver's copies are the last ones.
    let sender = sys::fork_to(|| {
        for _ in 0..count {
            if let Err(error) = send_one_lingering(address) {
                eprintln!("cannot send a socket: {error}");
            }
        }
    })?;
    waitpid(sender, None)?;
    Ok(())
}

fn send_one_lingering(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 3600,
    };
    setsockopt(&stream, sockopt::Linger, &linger)?;
    stream.set_nonblocking(true)?;
    while stream.write(&[0; 65536]).is_ok() {}
    stream.set_nonblocking(false)?;
    notify_with(b"STATUS=lingers", &[stream.as_raw_fd()])?;
    // Its close would wait here; the end of the process does not.
    std::mem::forget(stream);
    Ok(())
}

/// What the stored pipe of that name holds, where there is one.
fn stored(name: &str) -> Result<Option<String>> {
    let Some(descriptor) = listening(name) else {
        return Ok(None);
    };
    let mut bytes = [0; 256];
    let count = File::from(descriptor).read(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes[..count]).into_owned()))
}

/// Asks PID 1 over the socket, and fails where the answer is another than
/// expected: `PATH granted|refused REQUEST`.
fn ask(rest: &str) -> Result<()> {
    let mut words = rest.splitn(3, ' ');
    let (Some(path), Some(expected), Some(request)) = (words.next(), words.next(), words.next())
    else {
        return Err("ask PATH granted|refused REQUEST".into());
    };
    let request: Request = serde_json::from_str(request)?;
    let answer = Client::connect(path)?.ask(&request);
    let is_expected = match expected {
        "granted" => answer.is_ok(),
        _ => matches!(answer, Err(ClientError::Refused(Refusal::NotPermitted))),
    };
    if is_expected {
        Ok(())
    } else {
        Err(format!("{answer:?}").into())
    }
}

/// The descriptor of that name in `LISTEN_FDNAMES`.
fn listening(name: &str) -> Option<OwnedFd> {
    let names = std::env::var("LISTEN_FDNAMES").ok()?;
    let index = names.split(':').position(|each| each == name)?;
    let number = 3 + i32::try_from(index).ok()?;
    Some(sys::owned(number))
}

/// Answers each client of the listening socket with one line.
fn serve(socket: OwnedFd) -> Result<()> {
    // It blocks, as sd_listen_fds(3) says.
    let listener = UnixListener::from(socket);
    loop {
        let (mut client, _) = listener.accept()?;
        let _ = writeln!(client, "served");
    }
}

/// Leaves that many processes behind, a hundred for each parent that has ended.
fn orphans(count: u32) -> Result<()> {
    const FOR_EACH: u32 = 100;
    for _ in 0..count / FOR_EACH {
        let parent = sys::fork_to(|| {
            for _ in 0..FOR_EACH {
                let _ = sys::fork_to(|| {});
            }
        })?;
        waitpid(parent, None)?;
    }
    Ok(())
}

/// Keeps what each service writes, as a file of its name in `/run/output`.
fn collect() -> Result<()> {
    let socket = listening("outputs").ok_or("no outputs")?;
    notify(b"READY=1")?;
    let mut bytes = [0; 4096];
    let mut control = nix::cmsg_space!([i32; 4]);
    loop {
        wait_readable(&socket)?;
        let mut buffer = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut buffer,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        if message.bytes == 0 {
            return Ok(());
        }
        let pipe = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::ScmRights(numbers) => numbers.first().copied(),
            _ => None,
        });
        let length = message.bytes;
        let name: BTreeMap<String, String> = serde_json::from_slice(&bytes[..length])?;
        let name = name["service"].clone();
        if let Some(pipe) = pipe {
            let pipe = sys::owned(pipe);
            std::thread::spawn(move || copy(&name, pipe));
        }
    }
}

fn wait_readable(descriptor: &impl AsFd) -> Result<()> {
    poll(
        &mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)],
        PollTimeout::NONE,
    )?;
    Ok(())
}

fn copy(service: &str, pipe: OwnedFd) {
    let mut pipe = File::from(pipe);
    let path = format!("/run/output/{service}");
    let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) else {
        return;
    };
    let mut bytes = [0; 4096];
    while wait_readable(&pipe).is_ok() {
        match pipe.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => {
                let _ = file.write_all(&bytes[..count]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
