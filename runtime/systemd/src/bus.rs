//! A connection to a systemd, and the calls over it.
//!
//! Synchronous: each call waits for its answer, at most [`LIMIT`]. Signals that
//! arrive meanwhile are kept if they report the end of a job.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use zbus::{OwnedObjectPath, Type, Variant};

use crate::message::{FIXED, Kind, Message};
use crate::properties::Property;
use crate::{Error, Unit};

/// Longer than systemd itself waits for a process that is asked to stop.
const LIMIT: Duration = Duration::from_secs(100);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const BUS: &str = "org.freedesktop.DBus";

/// A connection to a systemd.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    /// Through a bus, where a message needs a destination.
    through_bus: bool,
    serial: u32,
    received: Vec<u8>,
    /// Results of jobs that have ended, by their paths.
    ended: HashMap<String, String>,
}

/// The caller's number outside its user namespace, as its folder in `/run` is named.
fn outer_user() -> u32 {
    let own = nix::unistd::geteuid().as_raw();
    std::fs::read_to_string("/proc/self/uid_map")
        .ok()
        .and_then(|map| outside(&map, own))
        .unwrap_or(own)
}

/// A number outside, from the lines of a map: first inside, first outside,
/// count.
fn outside(map: &str, number: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (
            words.next()?.ok()?,
            words.next()?.ok()?,
            words.next()?.ok()?,
        );
        let offset = number.checked_sub(inside)?;
        (offset < count).then(|| outside + offset)
    })
}

/// Where the user's systemd listens, and its bus, which on some systems is the
/// only one.
pub fn user_socket(
    runtime_dir: Option<&Path>,
    bus_address: Option<&str>,
    uid: u32,
) -> Vec<(PathBuf, bool)> {
    let fallback = PathBuf::from(format!("/run/user/{uid}"));
    let directory = runtime_dir.unwrap_or(&fallback);
    let mut sockets = vec![(directory.join("systemd/private"), false)];
    sockets.extend(bus_address.and_then(bus_path).map(|path| (path, true)));
    sockets.push((directory.join("bus"), true));
    sockets
}

/// The path in an address like `unix:path=/run/user/1000/bus,guid=…`.
fn bus_path(address: &str) -> Option<PathBuf> {
    address.split(';').find_map(|one| {
        let path = one
            .strip_prefix("unix:")?
            .split(',')
            .find_map(|pair| pair.strip_prefix("path="))?;
        // Others than these are escaped.
        (!path.contains('%')).then(|| PathBuf::from(path))
    })
}

impl Bus {
    /// Connects to the machine's systemd, or to the user's if the caller is not
    /// root of the machine.
    pub fn connect(user: bool) -> Result<Bus, Error> {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let sockets = if user {
            user_socket(
                text("XDG_RUNTIME_DIR").as_deref().map(Path::new),
                text("DBUS_SESSION_BUS_ADDRESS").as_deref(),
                outer_user(),
            )
        } else {
            let bus = text("DBUS_SYSTEM_BUS_ADDRESS")
                .as_deref()
                .and_then(bus_path)
                .unwrap_or_else(|| "/run/dbus/system_bus_socket".into());
            vec![("/run/systemd/private".into(), false), (bus, true)]
        };
        let mut tried = Vec::new();
        for (path, through_bus) in sockets {
            match UnixStream::connect(&path)
                .and_then(|stream| Bus::begin(stream, through_bus).map_err(io::Error::other))
            {
                Ok(bus) => return Ok(bus),
                Err(error) => tried.push((path, error)),
            }
        }
        Err(Error::Connect { tried })
    }

    /// Connects to the systemd that listens at this socket.
    pub fn connect_to(path: &Path, through_bus: bool) -> Result<Bus, Error> {
        let stream = UnixStream::connect(path).map_err(|error| Error::Connect {
            tried: vec![(path.to_path_buf(), error)],
        })?;
        Bus::begin(stream, through_bus)
    }

    fn begin(stream: UnixStream, through_bus: bool) -> Result<Bus, Error> {
        let mut bus = Bus {
            stream,
            through_bus,
            serial: 0,
            received: Vec::new(),
            ended: HashMap::new(),
        };
        bus.authenticate().map_err(|source| Error::Connection {
            call: "authentication",
            source,
        })?;
        if through_bus {
            let rule = format!("type='signal',interface='{MANAGER}',member='JobRemoved'");
            bus.call("Hello", Peer::Bus, "", &())?;
            bus.call("AddMatch", Peer::Bus, "", &(rule,))?;
            // Without a subscriber systemd sends no signals to the bus.
            match bus.call("Subscribe", Peer::Systemd, "", &()) {
                Ok(_) | Err(Error::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bus)
    }

    /// By the credentials that the kernel reports: the user is not named, since
    /// the number would differ in a user namespace.
    fn authenticate(&mut self) -> io::Result<()> {
        self.stream.set_write_timeout(Some(LIMIT))?;
        self.stream
            .write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let line = loop {
                let end = self.received.windows(2).position(|pair| pair == b"\r\n");
                match end {
                    Some(end) => break self.received.drain(..end + 2).collect::<Vec<u8>>(),
                    None => self.receive(deadline)?,
                }
            };
            if line.starts_with(b"OK ") {
                return Ok(());
            }
            if !line.starts_with(b"DATA") {
                let line = String::from_utf8_lossy(&line);
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("refused: {}", line.trim()),
                ));
            }
        }
    }

    /// Reads what is available, at least one byte.
    fn receive(&mut self, deadline: Instant) -> io::Result<()> {
        let mut part = [0; 4096];
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(rest))?;
        match self.stream.read(&mut part) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.received.extend_from_slice(&part[..length]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(error) => Err(error),
        }
    }

    /// The next message of a known kind.
    fn next(&mut self, deadline: Instant) -> io::Result<Message> {
        loop {
            let length = match Message::length(&self.received)? {
                Some(length) if length <= self.received.len() => length.max(FIXED),
                _ => {
                    self.receive(deadline)?;
                    continue;
                }
            };
            let bytes: Vec<u8> = self.received.drain(..length).collect();
            let Some(message) = Message::parse(&bytes)? else {
                continue;
            };
            if message.kind == Kind::Signal && message.member.as_deref() == Some("JobRemoved") {
                let (_, job, _, result): (u32, OwnedObjectPath, String, String) = message.body()?;
                self.ended.insert(job.to_string(), result);
            }
            return Ok(message);
        }
    }

    fn call<B: Serialize + Type>(
        &mut self,
        member: &'static str,
        peer: Peer,
        unit: &str,
        body: &B,
    ) -> Result<Message, Error> {
        let deadline = Instant::now() + LIMIT;
        let answer = self
            .send(member, peer, body)
            .and_then(|serial| {
                loop {
                    let message = self.next(deadline)?;
                    if message.reply_serial == Some(serial) {
                        return Ok(message);
                    }
                }
            })
            .map_err(|source| Error::Connection {
                call: member,
                source,
            })?;
        if answer.kind == Kind::Error {
            return Err(Error::Refused {
                call: member,
                unit: unit.to_string(),
                // An error need not say more than its name.
                message: answer
                    .body()
                    .map_or_else(|_| "refused".to_string(), |(text,): (String,)| text),
                name: answer.error.unwrap_or_default(),
            });
        }
        Ok(answer)
    }

    fn send<B: Serialize + Type>(&mut self, member: &str, peer: Peer, body: &B) -> io::Result<u32> {
        let mut message = Message::new(Kind::Call, body)?;
        self.serial += 1;
        message.serial = self.serial;
        message.member = Some(member.to_string());
        let (path, interface, name) = match peer {
            Peer::Bus => ("/org/freedesktop/DBus", BUS, BUS),
            Peer::Systemd => (MANAGER_PATH, MANAGER, SYSTEMD),
        };
        message.path = Some(path.to_string());
        message.interface = Some(interface.to_string());
        message.destination = self.through_bus.then(|| name.to_string());
        self.stream.write_all(&message.to_bytes()?)?;
        Ok(self.serial)
    }

    /// Makes a call that starts a job, and waits for its end.
    fn job<B: Serialize + Type>(
        &mut self,
        member: &'static str,
        unit: &Unit,
        body: &B,
    ) -> Result<String, Error> {
        let failed = |source| Error::Connection {
            call: member,
            source,
        };
        let answer = self.call(member, Peer::Systemd, unit.name(), body)?;
        let (job,): (OwnedObjectPath,) = answer.body().map_err(failed)?;
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(result) = self.ended.remove(job.as_str()) {
                return Ok(result);
            }
            self.next(deadline).map_err(failed)?;
        }
    }

    /// Starts a scope with this process in it, and waits until it exists.
    pub(crate) fn start_scope(
        &mut self,
        unit: &Unit,
        pid: u32,
        limits: Vec<Property>,
    ) -> Result<(), Error> {
        let mut properties: Vec<Property> = vec![
            ("Description", format!("container {}", unit.name()).into()),
            ("PIDs", vec![pid].into()),
            ("Delegate", true.into()),
            // It ends with its container, whatever the defaults say.
            ("DefaultDependencies", false.into()),
            ("MemoryAccounting", true.into()),
            ("CPUAccounting", true.into()),
            ("IOAccounting", true.into()),
            ("TasksAccounting", true.into()),
        ];
        if let Some(slice) = unit.slice() {
            properties.push(("Slice", slice.to_string().into()));
        }
        properties.extend(limits);
        let none: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let body = (unit.name(), "replace", properties, none);
        let mut result = self.job("StartTransientUnit", unit, &body);
        if matches!(&result, Err(Error::Refused { name, .. }) if name.ends_with(".UnitExists")) {
            // A failed one keeps the name until it is reset.
            self.forget(unit)?;
            result = self.job("StartTransientUnit", unit, &body);
        }
        match result?.as_str() {
            "done" => Ok(()),
            result => {
                let error = Error::Job {
                    unit: unit.name().to_string(),
                    result: result.to_string(),
                };
                self.forget(unit)?;
                Err(error)
            }
        }
    }

    /// Changes properties until the next boot.
    pub(crate) fn set_properties(
        &mut self,
        unit: &Unit,
        properties: Vec<Property>,
    ) -> Result<(), Error> {
        let body = (unit.name(), true, properties);
        self.call("SetUnitProperties", Peer::Systemd, unit.name(), &body)
            .map(drop)
    }

    /// Stops a unit and resets its failed state.
    pub(crate) fn stop(&mut self, unit: &Unit) -> Result<(), Error> {
        match self.job("StopUnit", unit, &(unit.name(), "replace")) {
            Ok(_) => self.forget(unit),
            Err(Error::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn forget(&mut self, unit: &Unit) -> Result<(), Error> {
        match self.call(
            "ResetFailedUnit",
            Peer::Systemd,
            unit.name(),
            &(unit.name(),),
        ) {
            // It no longer exists, or did not fail.
            Ok(_) | Err(Error::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Who is called.
#[derive(Debug, Clone, Copy)]
enum Peer {
    Bus,
    Systemd,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_another_number_outside_its_namespace() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside(map, 0), Some(1000));
        assert_eq!(outside(map, 5), Some(100_004));
        assert_eq!(outside(map, 70_000), None);
        assert_eq!(outside("0 0 4294967295\n", 1000), Some(1000));
    }

    #[test]
    fn the_users_sockets_are_where_the_environment_says() {
        let sockets = user_socket(
            Some(Path::new("/tmp/run")),
            Some("tcp:host=x;unix:guid=1,path=/tmp/bus"),
            1000,
        );
        let expected = [
            ("/tmp/run/systemd/private", false),
            ("/tmp/bus", true),
            ("/tmp/run/bus", true),
        ];
        assert_eq!(
            sockets,
            expected.map(|(path, bus)| (PathBuf::from(path), bus))
        );
        let sockets = user_socket(None, None, 1000);
        assert_eq!(sockets[0].0, Path::new("/run/user/1000/systemd/private"));
        assert_eq!(bus_path("unix:abstract=/tmp/x"), None);
    }
}
