//! The Debian guest: a machine that runs shell scripts and returns what they
//! print.

use crate::{Boot, Build, Error, Machine, Qemu, Snapshot, snapshot};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// From QEMU's start until the guest answers, on the slowest of hosts.
const BOOT: Duration = Duration::from_secs(180);
/// The guest ends a script itself; its answer may come this much later.
const GRACE: Duration = Duration::from_secs(30);
/// In MiB: everything that is written in the guest is in memory.
const MEMORY: u32 = 2048;
/// Our kernel, the guest's own first program, and a systemd that is quiet.
const COMMAND_LINE: &str = "console=ttyS0 root=/dev/vda rootfstype=erofs ro \
     init=/usr/lib/guest/init panic=-1 systemd.show_status=0 systemd.log_target=journal";

/// What a script printed, and its exit status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptOutput {
    /// Standard output and error, in their order.
    pub text: String,
    /// The exit status; 124 when the script took longer than its limit.
    pub exit: i32,
}

/// A Debian guest that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Guest {
    machine: Machine,
    agent: BufReader<UnixStream>,
    name: String,
}

impl Guest {
    /// Boots the guest of `build`; `name` names its saved console. The machine
    /// ends after `limit`, whatever happens.
    pub fn boot(build: &Build, name: &str, limit: Duration) -> Result<Self, Error> {
        let mut guest = Self::launch(build, name, limit, None)?;
        match guest.line(BOOT)?.as_str() {
            "ready" => Ok(guest),
            other => Err(guest.silent("ready", format!("the guest said {other:?}"))),
        }
    }

    /// Boots the guest of `build`, saves it and ends it.
    pub fn save(build: &Build) -> Result<Snapshot, Error> {
        const NAME: &str = "guest-booted";
        let snapshot = Snapshot::new(build, NAME)?;
        let guest = Self::boot(build, NAME, 2 * BOOT)?;
        snapshot.take(guest.machine)?;
        Ok(snapshot)
    }

    /// Goes on where the guest of `build` was saved, in place of a boot.
    pub fn restore(
        build: &Build,
        snapshot: &Snapshot,
        name: &str,
        limit: Duration,
    ) -> Result<Self, Error> {
        let mut guest = Self::launch(build, name, limit, Some(snapshot))?;
        snapshot::go_on(&mut guest.machine)?;
        Ok(guest)
    }

    fn launch(
        build: &Build,
        name: &str,
        limit: Duration,
        snapshot: Option<&Snapshot>,
    ) -> Result<Self, Error> {
        let scratch = TempDir::with_prefix("wherry-guest-")
            .map_err(Error::io("create a folder in", std::env::temp_dir()))?;
        let socket = scratch.path().join("agent");
        let listener = UnixListener::bind(&socket).map_err(Error::io("listen on", &socket))?;
        let boot = Boot::Direct {
            kernel: build.vmlinux()?,
            command_line: COMMAND_LINE.to_owned(),
        };
        let mut qemu = Qemu::new(&build.tools()?, boot);
        qemu.memory = MEMORY;
        qemu.incoming = snapshot.map(Snapshot::state);
        qemu.monitor = Some(scratch.path().join("monitor"));
        qemu.arguments = [
            disk("debian", &build.guest_disk()?),
            disk("programs", &build.guest_programs()?),
            agent(&socket),
        ]
        .concat();
        let logs = build.console_logs();
        fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
        let log = logs.join(format!("{name}.log"));
        let machine = Machine::spawn(&qemu, scratch, log, limit)?;
        // QEMU connects before it starts the machine.
        let (stream, _) = listener
            .accept()
            .map_err(Error::io("wait for QEMU on", &socket))?;
        Ok(Self {
            machine,
            agent: BufReader::new(stream),
            name: name.to_owned(),
        })
    }

    /// Has `sh` run `script` as root in the guest.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<ScriptOutput, Error> {
        let request = format!("{} {}\n{script}", limit.as_secs().max(1), script.len());
        self.agent
            .get_mut()
            .write_all(request.as_bytes())
            .map_err(Error::io("ask the guest of", self.machine.log()))?;
        let line = self.line(limit + GRACE)?;
        let answer = line
            .split_once(' ')
            .and_then(|(exit, length)| Some((exit.parse().ok()?, length.parse().ok()?)));
        let Some((exit, length)) = answer else {
            return Err(self.silent(script, format!("the guest said {line:?}")));
        };
        let mut text: Vec<u8> = vec![0; length];
        self.agent
            .read_exact(&mut text)
            .map_err(Error::io("read an output of", self.machine.log()))?;
        Ok(ScriptOutput {
            text: String::from_utf8_lossy(&text).into_owned(),
            exit,
        })
    }

    /// The machine itself.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// The name it was booted with.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn line(&mut self, limit: Duration) -> Result<String, Error> {
        self.agent
            .get_mut()
            .set_read_timeout(Some(limit))
            .map_err(Error::io("set a time limit on", self.machine.log()))?;
        let mut line = String::new();
        match self.agent.read_line(&mut line) {
            Ok(0) => Err(self.silent("an answer", "the machine ended".to_owned())),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(_) => Err(self.silent("an answer", format!("it did not come within {limit:?}"))),
        }
    }

    fn silent(&self, pattern: &str, because: String) -> Error {
        self.machine.silent(pattern, because)
    }
}

/// A disk that is never written, so that several machines can have it at once.
fn disk(id: &str, file: &Path) -> Vec<OsString> {
    let file = file.display().to_string().replace(',', ",,");
    [
        "-drive".to_owned(),
        format!("if=none,id={id},readonly=on,format=raw,file={file}"),
        "-device".to_owned(),
        format!("virtio-blk-pci,drive={id}"),
    ]
    .map(OsString::from)
    .into()
}

fn agent(socket: &Path) -> Vec<OsString> {
    let socket = socket.display().to_string().replace(',', ",,");
    [
        "-chardev".to_owned(),
        format!("socket,id=agent,path={socket}"),
        "-device".to_owned(),
        "virtio-serial-pci".to_owned(),
        "-device".to_owned(),
        "virtserialport,chardev=agent,name=wherry.guest-agent".to_owned(),
    ]
    .map(OsString::from)
    .into()
}
