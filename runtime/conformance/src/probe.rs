//! The program inside the containers: this binary, started as `/probe do
//! STEPS`. It performs each step for real and prints the result, one line of
//! JSON per step.

pub mod hook;
mod watch;
pub mod world;

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::ForkResult;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::sys::{self, Call};

/// One thing to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Step {
    /// Everything about the process: [`world::World`].
    World,
    /// A file's text.
    Read(String),
    /// Writes to an existing file.
    Write(String, String),
    /// Makes a file.
    Create(String),
    /// Opens with flags of open(2) and closes.
    Open(String, i32),
    /// Of the path itself, not of a link's target.
    Stat(String),
    Link(String),
    List(String),
    Mkdir(String),
    Remove(String),
    /// Kind `b`, `c` or `p`, major, minor.
    Mknod(String, char, u64, u64),
    /// Source, target, type, flags of mount(2).
    Mount(String, String, String, u64),
    Unmount(String),
    Chmod(String, u32),
    Chown(String, u32, u32),
    /// A call with its arguments: its result.
    Call(Call, [u64; 6]),
    /// The same by its x32 number.
    CallX32(Call, [u64; 6]),
    /// getpgrp(2) as a 32-bit program calls it.
    CallI386,
    /// Steps in a child: how it ended and its output.
    Child(Vec<Step>),
    /// Steps of another program file that is the probe: the same.
    Program(String, Vec<Step>),
    /// Sleeping children: how many of the requested number could be created.
    Children(u32),
    /// Touches memory and keeps it.
    Occupy(usize),
    /// Uses the processor for this many milliseconds: how much of it was
    /// available.
    Spin(u64),
    /// Blocks these signals, so that `Signal` takes them.
    Block(Vec<i32>),
    /// Waits for a blocked signal: its number.
    Signal,
    /// Waits until a file exists.
    Await(String),
    Sleep(u64),
    SetUser(u32, u32),
    /// For this many milliseconds, opens the executables of all other
    /// processes; then reports which of them could be opened for writing.
    Executables(u64),
    /// For this many milliseconds, opens what the descriptors of all other
    /// processes lead to: reports which directories were reached.
    Descriptors(u64),
    /// For this many milliseconds, looks at the roots of all other processes:
    /// how many were met, and how many of them had another root.
    Roots(u64),
    /// Starts a thread that sleeps for a minute, and ends the first one.
    EndFirstThread,
    Exit(i32),
}

type Outcome = Result<Value, Errno>;

/// The result of a step, as the probe printed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Done {
    /// It worked, with its findings.
    Ok(Value),
    /// It failed with this errno.
    Error(i32),
}

impl Done {
    /// Whether it worked.
    pub fn worked(&self) -> bool {
        matches!(self, Done::Ok(_))
    }

    /// Whether it failed with this error.
    pub fn failed_with(&self, errno: Errno) -> bool {
        *self == Done::Error(errno as i32)
    }

    /// Its findings, if it worked.
    pub fn value(&self) -> &Value {
        match self {
            Done::Ok(value) => value,
            Done::Error(_) => &Value::Null,
        }
    }

    /// The text that it found, or an empty text.
    pub fn text(&self) -> &str {
        self.value().as_str().unwrap_or_default()
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Done::Ok(value) => write!(f, "{value}"),
            Done::Error(number) => write!(f, "{}", Errno::from_raw(*number)),
        }
    }
}

/// The arguments that make the probe do these steps.
pub fn arguments(steps: &[Step]) -> Vec<String> {
    // Plain data: its serialization cannot fail.
    let steps = serde_json::to_string(steps).unwrap_or_default();
    vec!["/probe".to_owned(), "do".to_owned(), steps]
}

/// `probe do STEPS`. Returns the exit code.
pub fn main(steps: &str) -> i32 {
    let steps: Vec<Step> = match serde_json::from_str(steps) {
        Ok(steps) => steps,
        Err(error) => {
            eprintln!("probe: {error}");
            return 2;
        }
    };
    run(&steps)
}

fn run(steps: &[Step]) -> i32 {
    for step in steps {
        if let Step::Exit(code) = step {
            return *code;
        }
        let done = match perform(step) {
            Ok(value) => Done::Ok(value),
            Err(errno) => Done::Error(errno as i32),
        };
        let mut line = serde_json::to_string(&done).unwrap_or_default();
        line.push('\n');
        let mut output = std::io::stdout();
        if output.write_all(line.as_bytes()).is_err() || output.flush().is_err() {
            return 3;
        }
    }
    0
}

fn perform(step: &Step) -> Outcome {
    match step {
        Step::World => Ok(serde_json::to_value(world::look()).unwrap_or_default()),
        Step::Read(path) => {
            let mut bytes = Vec::new();
            let file = fs::File::open(path).map_err(errno)?;
            file.take(1 << 20).read_to_end(&mut bytes).map_err(errno)?;
            Ok(json!(String::from_utf8_lossy(&bytes)))
        }
        Step::Write(path, text) => {
            let mut file = OpenOptions::new().write(true).open(path).map_err(errno)?;
            file.write_all(text.as_bytes()).map_err(errno)?;
            Ok(Value::Null)
        }
        Step::Create(path) => fs::File::create(path).map(drop).map_err(errno).map(null),
        Step::Open(path, flags) => nix::fcntl::open(
            path.as_str(),
            nix::fcntl::OFlag::from_bits_retain(*flags),
            Mode::empty(),
        )
        .map(drop)
        .map(null),
        Step::Stat(path) => stat(Path::new(path)),
        Step::Link(path) => Ok(json!(fs::read_link(path).map_err(errno)?)),
        Step::List(path) => {
            let mut names: Vec<String> = fs::read_dir(path)
                .map_err(errno)?
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            Ok(json!(names))
        }
        Step::Mkdir(path) => fs::create_dir(path).map_err(errno).map(null),
        Step::Remove(path) => fs::remove_file(path).map_err(errno).map(null),
        Step::Mknod(path, kind, major, minor) => {
            let kind = match kind {
                'b' => SFlag::S_IFBLK,
                'p' => SFlag::S_IFIFO,
                _ => SFlag::S_IFCHR,
            };
            let mode = Mode::from_bits_truncate(0o600);
            mknod(path.as_str(), kind, mode, makedev(*major, *minor)).map(null)
        }
        Step::Mount(source, target, kind, flags) => mount(
            Some(source.as_str()),
            target.as_str(),
            Some(kind.as_str()),
            MsFlags::from_bits_retain(*flags),
            None::<&str>,
        )
        .map(null),
        Step::Unmount(path) => umount(path.as_str()).map(null),
        Step::Chmod(path, mode) => {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))
                .map_err(errno)
                .map(null)
        }
        Step::Chown(path, uid, gid) => std::os::unix::fs::lchown(path, Some(*uid), Some(*gid))
            .map_err(errno)
            .map(null),
        Step::Call(call, arguments) => call_result(sys::try_call(*call, 0, *arguments)),
        Step::CallX32(call, arguments) => {
            call_result(sys::try_call(*call, 0x4000_0000, *arguments))
        }
        Step::CallI386 => call_result(sys::getpgrp_i386()),
        Step::Child(steps) => child(steps),
        Step::Program(path, steps) => program(path, steps),
        Step::Children(count) => Ok(json!(children(*count))),
        Step::Occupy(bytes) => sys::occupy(*bytes).map_err(errno).map(null),
        Step::Spin(milliseconds) => Ok(json!(spin(*milliseconds))),
        Step::Block(numbers) => {
            let set = signals(numbers)?;
            sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map(null)
        }
        Step::Signal => {
            let set = SigSet::thread_get_mask()?;
            Ok(json!(set.wait()? as i32))
        }
        Step::Await(path) => {
            while !Path::new(path).exists() {
                thread::sleep(Duration::from_millis(10));
            }
            Ok(Value::Null)
        }
        Step::Sleep(milliseconds) => {
            thread::sleep(Duration::from_millis(*milliseconds));
            Ok(Value::Null)
        }
        Step::SetUser(uid, gid) => {
            nix::unistd::setgroups(&[])?;
            nix::unistd::setgid((*gid).into())?;
            nix::unistd::setuid((*uid).into()).map(null)
        }
        Step::Executables(milliseconds) => Ok(json!(watch::executables(*milliseconds))),
        Step::Descriptors(milliseconds) => Ok(json!(watch::descriptors(*milliseconds))),
        Step::Roots(milliseconds) => {
            let (met, others) = watch::roots(*milliseconds);
            Ok(json!({ "met": met, "others": others }))
        }
        Step::EndFirstThread => {
            thread::spawn(|| thread::sleep(Duration::from_secs(60)));
            sys::end_thread()
        }
        Step::Exit(_) => Ok(Value::Null),
    }
}

fn null(_: ()) -> Value {
    Value::Null
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn call_result(result: Result<i64, i32>) -> Outcome {
    match result {
        Ok(value) => Ok(json!(value)),
        Err(number) => Err(Errno::from_raw(number)),
    }
}

fn stat(path: &Path) -> Outcome {
    let found = fs::symlink_metadata(path).map_err(errno)?;
    let kind = found.file_type();
    let kind = if kind.is_symlink() {
        "link"
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_char_device() {
        "c"
    } else if kind.is_block_device() {
        "b"
    } else if kind.is_fifo() {
        "p"
    } else if kind.is_socket() {
        "socket"
    } else {
        "file"
    };
    Ok(json!({
        "kind": kind,
        "mode": found.mode() & 0o7777,
        "uid": found.uid(),
        "gid": found.gid(),
        "major": nix::sys::stat::major(found.rdev()),
        "minor": nix::sys::stat::minor(found.rdev()),
        "device": found.dev(),
        "inode": found.ino(),
        "size": found.size(),
    }))
}

/// How a child ended, and its lines.
fn child(steps: &[Step]) -> Outcome {
    let (reader, writer) = nix::unistd::pipe()?;
    match sys::fork()? {
        ForkResult::Child => {
            drop(reader);
            let code = match nix::unistd::dup2_stdout(&writer) {
                Ok(()) => run(steps),
                Err(_) => 4,
            };
            // Only the steps' own output belongs to it.
            std::process::exit(code)
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut text = String::new();
            fs::File::from(reader)
                .read_to_string(&mut text)
                .map_err(errno)?;
            Ok(json!({ "end": ended(waitpid(child, None)?), "lines": lines(&text) }))
        }
    }
}

fn program(path: &str, steps: &[Step]) -> Outcome {
    let output = Command::new(path)
        .args(&arguments(steps)[1..])
        .output()
        .map_err(errno)?;
    let end = match output.status.code() {
        Some(code) => json!({ "code": code }),
        None => json!({ "killed": true }),
    };
    Ok(json!({ "end": end, "lines": lines(&String::from_utf8_lossy(&output.stdout)) }))
}

/// The results that a probe printed.
pub fn lines(text: &str) -> Vec<Done> {
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn ended(status: WaitStatus) -> Value {
    match status {
        WaitStatus::Exited(_, code) => json!({ "code": code }),
        WaitStatus::Signaled(_, signal, _) => json!({ "signal": signal as i32 }),
        other => json!({ "other": format!("{other:?}") }),
    }
}

fn children(count: u32) -> u32 {
    let mut made = 0;
    for _ in 0..count {
        match sys::fork() {
            Ok(ForkResult::Child) => loop {
                thread::sleep(Duration::from_secs(60));
            },
            Ok(ForkResult::Parent { .. }) => made += 1,
            Err(_) => break,
        }
    }
    made
}

fn spin(milliseconds: u64) -> u64 {
    let end = Instant::now() + Duration::from_millis(milliseconds);
    let mut value = 0_u64;
    while Instant::now() < end {
        for _ in 0..1000 {
            value = std::hint::black_box(value.wrapping_mul(31).wrapping_add(1));
        }
    }
    let used = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)
        .map_or(0, |usage| {
            usage.user_time().tv_sec() * 1000 + usage.user_time().tv_usec() / 1000
        });
    used as u64
}

fn signals(numbers: &[i32]) -> Result<SigSet, Errno> {
    let mut set = SigSet::empty();
    for &number in numbers {
        set.add(Signal::try_from(number)?);
    }
    Ok(set)
}
