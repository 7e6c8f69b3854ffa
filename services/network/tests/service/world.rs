//! Two machines and a cable: the service runs in one namespace with the link
//! `eth0`, a DHCP server in the other.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use machine::Tools;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The configuration of most tests: the machine's end of the cable is a veth
/// link, which only its full name means.
pub const ETH0: &str = "[[link]]\nmatch = { name = \"eth0\" }\n";

pub struct World {
    client: String,
    server: String,
    directory: TempDir,
    dnsmasq: Option<Child>,
    service: Option<Child>,
    notifications: UnixDatagram,
    said: Cell<bool>,
}

impl World {
    /// `None` where namespaces cannot be made: the test is skipped.
    pub fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !requirement::root() {
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let base = format!("net{}-{number}", std::process::id());
        let directory = tempfile::tempdir().unwrap();
        let notifications = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        notifications.set_read_timeout(Some(PATIENCE)).unwrap();
        let world = Self {
            client: format!("{base}-client"),
            server: format!("{base}-server"),
            directory,
            dnsmasq: None,
            service: None,
            notifications,
            said: Cell::new(false),
        };
        for namespace in [&world.client, &world.server] {
            run("ip", &["netns", "add", namespace]);
            run("ip", &["-n", namespace, "link", "set", "lo", "up"]);
        }
        world.plug("eth0", "server0", "10.7.0.1/24");
        Some(world)
    }

    /// Connects the two by another cable.
    pub fn plug(&self, link: &str, peer: &str, address: &str) {
        let (client, server) = (&self.client, &self.server);
        run(
            "ip",
            &[
                "link", "add", "name", link, "netns", client, "type", "veth", "peer", "name", peer,
                "netns", server,
            ],
        );
        self.server_ip(&["addr", "add", address, "dev", peer]);
        self.server_ip(&["link", "set", peer, "up"]);
    }

    /// `ip` on the machine of the service.
    pub fn ip(&self, arguments: &[&str]) -> String {
        let namespace = ["-n", &self.client];
        run("ip", &[&namespace, arguments].concat())
    }

    /// `ip` on the machine of the server.
    pub fn server_ip(&self, arguments: &[&str]) -> String {
        let namespace = ["-n", &self.server];
        run("ip", &[&namespace, arguments].concat())
    }

    /// Starts a DHCP server; without further arguments it leases IPv4
    /// addresses, on all links.
    pub fn serve(&mut self, arguments: &[&str]) {
        assert!(self.dnsmasq.is_none());
        let log = self.path("dnsmasq.log");
        let leases = self.path("dnsmasq.leases");
        let child = program("ip")
            .args(["netns", "exec", &self.server])
            .args(words(&program("dnsmasq")))
            .args(["--conf-file=/dev/null", "--keep-in-foreground", "--port=0"])
            .args(["--user=root", "--no-ping", "--bind-dynamic", "--log-dhcp"])
            .arg("--pid-file=")
            .arg("--dhcp-authoritative")
            .arg(format!("--log-facility={}", log.display()))
            .arg(format!("--dhcp-leasefile={}", leases.display()))
            .arg("--dhcp-option=option:router,10.7.0.1")
            .arg("--dhcp-option=option:dns-server,10.7.0.53")
            .args(arguments)
            .stdin(Stdio::null())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) => panic!("ip netns exec dnsmasq: {error}"),
        };
        self.dnsmasq = Some(child);
        let started = || fs::read_to_string(&log).is_ok_and(|log| log.contains("started"));
        self.until(
            "the DHCP server starts (do the tools tree or this host have a dnsmasq?)",
            started,
        );
    }

    /// The range that most tests lease from.
    pub fn serve_plain(&mut self) {
        self.serve(&["--dhcp-range=10.7.0.10,10.7.0.50,2m"]);
    }

    pub fn stop_server(&mut self) {
        if let Some(mut child) = self.dnsmasq.take() {
            kill(&child, Signal::SIGTERM);
            child.wait().unwrap();
            // The next server writes it anew.
            fs::rename(self.path("dnsmasq.log"), self.path("dnsmasq.old.log")).unwrap();
        }
    }

    pub fn server_log(&self) -> String {
        fs::read_to_string(self.path("dnsmasq.log")).unwrap()
    }

    /// Writes the service's configuration.
    pub fn configure(&self, text: &str) {
        fs::write(self.path("network.toml"), text).unwrap();
    }

    /// Starts the service.
    pub fn start(&mut self) {
        assert!(self.service.is_none());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("service.log"))
            .unwrap();
        let child = program("ip")
            .args(self.service_arguments())
            .args(["--config", &self.text("network.toml")])
            .args(["--last-good", &self.text("last-good.toml")])
            .args(["--directory", &self.text("network")])
            .env("NOTIFY_SOCKET", self.path("notify"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.service = Some(child);
    }

    /// What makes `ip` run the service's program on its machine.
    fn service_arguments(&self) -> [&str; 4] {
        ["netns", "exec", &self.client, env!("CARGO_BIN_EXE_network")]
    }

    /// Ends the service, which must succeed.
    pub fn stop(&mut self) {
        let mut child = self.service.take().unwrap();
        kill(&child, Signal::SIGTERM);
        assert!(child.wait().unwrap().success());
        while self.notifications_now().is_some() {}
    }

    /// Has the service read its configuration again.
    pub fn reload(&self) {
        kill(self.service.as_ref().unwrap(), Signal::SIGHUP);
    }

    /// Waits for `READY=1` and returns the message with it.
    pub fn ready(&self) -> String {
        let mut buffer = [0; 4096];
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let length = match self.notifications.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) => panic!("the service does not get ready: {error}"),
            };
            let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if message.lines().any(|line| line == "READY=1") {
                return message;
            }
        }
        panic!("the service does not get ready");
    }

    fn notifications_now(&self) -> Option<()> {
        let mut buffer = [0; 4096];
        self.notifications.set_nonblocking(true).unwrap();
        let received = self.notifications.recv(&mut buffer);
        self.notifications.set_nonblocking(false).unwrap();
        match received {
            Ok(_) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until something holds.
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the service's summary contains this.
    pub fn until_summary(&self, part: &str) {
        self.until(&format!("the service says '{part}'"), || {
            self.status()["summary"]
                .as_str()
                .is_some_and(|summary| summary.contains(part))
        });
    }

    /// `status.json`, or nothing.
    pub fn status(&self) -> Value {
        fs::read_to_string(self.path("network/status.json"))
            .map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
    }

    pub fn resolv_conf(&self) -> String {
        fs::read_to_string(self.path("network/resolv.conf")).unwrap()
    }

    /// What the service logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("service.log")).unwrap()
    }

    /// `network check`: whether all is well, and what it prints.
    pub fn check(&self) -> (bool, String) {
        let output = program("ip")
            .args(self.service_arguments())
            .args(["check", "--directory", &self.text("network")])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), text)
    }

    /// The addresses of a link in the kernel, with their lengths.
    pub fn addresses(&self, link: &str) -> Vec<String> {
        let json = self.ip(&["-j", "addr", "show", "dev", link]);
        let links: Value = serde_json::from_str(&json).unwrap();
        links[0]["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            .map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"]))
            .collect()
    }

    /// The IPv4 addresses of `eth0` in the kernel.
    pub fn ipv4(&self) -> Vec<String> {
        let is_ipv4 = |address: &String| {
            let (address, _) = address.split_once('/').unwrap();
            address.parse::<IpAddr>().unwrap().is_ipv4()
        };
        self.addresses("eth0").into_iter().filter(is_ipv4).collect()
    }

    /// The kernel's IPv4 routes as `ip route` prints them.
    pub fn routes(&self) -> String {
        self.ip(&["route"])
    }

    /// Watches the IPv4 addresses and routes of the service's machine.
    pub fn monitor(&self) -> Monitor {
        let path = self.path("monitor.log");
        let child = program("ip")
            .args(["-4", "-n", &self.client, "monitor", "address", "route"])
            .stdin(Stdio::null())
            .stdout(File::create(&path).unwrap())
            .spawn()
            .unwrap();
        Monitor { child, path }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn show(&self, name: &str) {
        let path = self.path(name);
        if path.exists() {
            eprintln!(
                "--- {name}\n{}",
                fs::read_to_string(&path).unwrap_or_default()
            );
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in [self.service.take(), self.dnsmasq.take()]
            .iter_mut()
            .flatten()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() && !self.said.replace(true) {
            for name in ["service.log", "network/status.json", "dnsmasq.log"] {
                self.show(name);
            }
        }
        for namespace in [&self.client, &self.server] {
            let _ = program("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// `ip monitor` while it runs.
pub struct Monitor {
    child: Child,
    path: PathBuf,
}

impl Monitor {
    /// Ends it and returns what it saw.
    pub fn end(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        fs::read_to_string(&self.path).unwrap()
    }
}

fn kill(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// A command for a program of the tools tree, where `cargo xtask test` says
/// that there is one and it is in it, else of the host.
fn program(name: &str) -> Command {
    std::env::var_os("WHERRY_BUILD")
        .map(|build| Tools::at(PathBuf::from(build).join("tools")))
        .and_then(|tools| tools.command(name).ok())
        .unwrap_or_else(|| Command::new(name))
}

/// A command as another one's arguments.
fn words(command: &Command) -> Vec<&OsStr> {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .collect()
}

/// Runs a program that must succeed and returns what it printed.
fn run(name: &str, arguments: &[&str]) -> String {
    let output: Output = match program(name).args(arguments).output() {
        Ok(output) => output,
        Err(error) => panic!("{name}: {error} (do the tools tree or this host have it?)"),
    };
    assert!(
        output.status.success(),
        "{name} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Whether the path holds a file with this text.
pub fn holds(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|content| content == text)
}
