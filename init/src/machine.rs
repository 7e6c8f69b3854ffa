//! What this machine is: release, slot, ids, host name.
//!
//! What the root and the kernel know is read by PID 1 itself; what is kept in
//! the state partition ([`Kept`]) by the child that mounts it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use layout::partition::SlotId;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::kernel_log::log;
use crate::sys;

/// What boots and runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `PRETTY_NAME` of os-release.
    pub system: String,
    /// `IMAGE_VERSION` of os-release.
    pub version: String,
    /// The booted slot, `a` or `b`.
    pub slot: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// 32 hexadecimal digits, another one at each boot.
    pub boot_id: String,
    /// 32 hexadecimal digits that stay.
    pub machine_id: String,
    /// The host name.
    pub hostname: String,
    /// The hardware's clock cannot be right: a saved time is better.
    #[serde(default)]
    pub clock_is_wrong: bool,
}

/// What the state partition keeps of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The machine's id.
    pub machine_id: String,
    /// The operator's host name, where there is one.
    pub hostname: Option<String>,
    /// The last time that was saved, in seconds since 1970.
    pub clock: Option<i64>,
    /// What could not be read or written, a sentence each.
    pub complaints: Vec<String>,
}

/// The host name until the operator gives one.
const HOSTNAME: &str = "wherry";

/// Below the state partition.
const MACHINE_ID: &str = "config/machine-id";
const HOSTNAME_FILE: &str = "config/hostname";

/// The most bytes that are read of an id or a name.
const LONGEST: usize = 4096;

/// Where programs look for the machine's id; `/etc/machine-id` leads there.
const RUNTIME_MACHINE_ID: &str = "/run/machine-id";

/// Time since the kernel started, suspended time included.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

impl Machine {
    /// Reads what is known without the state partition.
    pub fn identify() -> Self {
        let os_release = fs::read_to_string("/usr/lib/os-release").unwrap_or_default();
        let line = |path: &str| {
            fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        Self {
            system: value(&os_release, "PRETTY_NAME").unwrap_or_else(|| "Wherry".to_owned()),
            version: value(&os_release, "IMAGE_VERSION").unwrap_or_else(|| "unknown".to_owned()),
            slot: booted_slot(Path::new("/sys")),
            kernel: line("/proc/sys/kernel/osrelease"),
            boot_id: line("/proc/sys/kernel/random/boot_id").replace('-', ""),
            machine_id: String::new(),
            hostname: HOSTNAME.to_owned(),
            clock_is_wrong: false,
        }
    }

    /// Takes over what the state partition keeps, and tells the system.
    pub fn adopt(&mut self, kept: &Kept) {
        for complaint in &kept.complaints {
            log!(Warning, "{complaint}");
        }
        self.machine_id.clone_from(&kept.machine_id);
        if let Err(error) = fs::write(RUNTIME_MACHINE_ID, format!("{}\n", kept.machine_id)) {
            log!(Warning, "cannot write {RUNTIME_MACHINE_ID}: {error}");
        }
        if let Some(hostname) = &kept.hostname {
            self.hostname.clone_from(hostname);
            self.set_hostname();
        }
        if let Some(saved) = kept.clock
            && std::mem::take(&mut self.clock_is_wrong)
        {
            clock::restore(saved);
        }
    }

    /// Tells the kernel the host name.
    pub fn set_hostname(&self) {
        if let Err(error) = nix::unistd::sethostname(&self.hostname) {
            log!(Warning, "cannot set the host name: {}", error.desc());
        }
    }
}

/// How many descriptors PID 1 may have open. 512 services with ten of its own for
/// each and the 256 that each may store are less than a third of it.
const DESCRIPTORS: u64 = 1 << 19;

/// Lets PID 1 have as many descriptors as its services can need; the kernel's own
/// limit is 1024. Each container has its own (`open-files`).
pub fn raise_descriptor_limit() {
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS) {
        log!(
            Warning,
            "cannot raise the limit of descriptors: {}",
            error.desc()
        );
    }
}

/// Brings the loopback interface up.
pub fn loopback_up() {
    let result = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(std::io::Error::from)
    .and_then(|socket| sys::loopback_up(&socket));
    if let Err(error) = result {
        log!(Warning, "cannot bring the loopback interface up: {error}");
    }
}

/// Settings of the kernel that hold for the whole machine.
pub fn tune_kernel() {
    for (path, text) in [
        // Everything that services and PID 1 log, without a rate limit of the
        // kernel's: the log service bounds what it keeps.
        ("/proc/sys/kernel/printk_devkmsg", "on\n"),
        // PID 1 is told of Ctrl-Alt-Del instead of the kernel acting on it.
        ("/proc/sys/kernel/ctrl-alt-del", "0"),
        ("/proc/sys/vm/panic_on_oom", "0"),
    ] {
        if let Err(error) = fs::write(path, text) {
            log!(Warning, "cannot write {path}: {error}");
        }
    }
}

/// Reads what `state` keeps, and makes what is missing. For the child that
/// mounts the state partition: it may block.
pub fn read_kept(state: &Path) -> Kept {
    let mut kept = Kept::default();
    let path = state.join(MACHINE_ID);
    match config::read(&path, LONGEST) {
        Ok(Some(id)) if is_machine_id(id.trim()) => kept.machine_id = id.trim().to_owned(),
        found => {
            match found {
                Ok(None) => {}
                Ok(Some(text)) => kept.complaints.push(format!(
                    "{} holds '{}', which is not 32 hexadecimal digits; a new one is made",
                    path.display(),
                    text.trim()
                        .chars()
                        .take(64)
                        .collect::<String>()
                        .escape_debug()
                )),
                Err(error) => kept.complaints.push(format!("{error}; a new one is made")),
            }
            kept.machine_id = fs::read_to_string("/proc/sys/kernel/random/uuid")
                .unwrap_or_default()
                .trim()
                .replace('-', "");
            if let Err(error) =
                atomic_file::replace(&path, format!("{}\n", kept.machine_id).as_bytes())
            {
                kept.complaints.push(format!(
                    "cannot write {}, so the machine's id is another one at the next boot: {error}",
                    path.display()
                ));
            }
        }
    }
    let path = state.join(HOSTNAME_FILE);
    match config::read(&path, LONGEST) {
        Ok(None) => {}
        Ok(Some(text)) if is_hostname(text.trim()) => kept.hostname = Some(text.trim().to_owned()),
        Ok(Some(_)) => kept.complaints.push(format!(
            "{} holds no host name: 1 to 63 letters, digits and '-'",
            path.display()
        )),
        Err(error) => kept.complaints.push(error.to_string()),
    }
    kept.clock = clock::saved(state);
    kept
}

fn is_machine_id(text: &str) -> bool {
    text.len() == 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

pub fn is_hostname(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A value of os-release(5), without its quotes.
fn value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(key)?.strip_prefix('=')?;
        Some(value.trim_matches(['"', '\'']).to_owned())
    })
}

/// The slot of the partition below the verity root, in lower case.
fn booted_slot(sys: &Path) -> Option<String> {
    let slaves = fs::read_dir(sys.join("block/dm-0/slaves")).ok()?;
    let numbers = slaves.filter_map(|slave| {
        fs::read_to_string(slave.ok()?.path().join("partition"))
            .ok()?
            .trim()
            .parse::<u32>()
            .ok()
    });
    let slot = SlotId::of_root_partition(numbers.min()?)?;
    Some(slot.to_string().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_os_release_comes_without_quotes() {
        let text = "ID=wherry\nPRETTY_NAME=\"Wherry 0.1\"\nIMAGE_VERSION=0.1\n";
        assert_eq!(value(text, "PRETTY_NAME").as_deref(), Some("Wherry 0.1"));
        assert_eq!(value(text, "IMAGE_VERSION").as_deref(), Some("0.1"));
        assert_eq!(value(text, "VERSION"), None);
    }

    #[test]
    fn a_machine_id_is_made_once_and_then_kept() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("config")).unwrap();
        let first = read_kept(state.path());
        assert!(is_machine_id(&first.machine_id));
        assert_eq!(first.complaints, Vec::<String>::new());
        assert_eq!(read_kept(state.path()).machine_id, first.machine_id);
    }

    #[test]
    fn what_is_kept_and_not_understood_is_told_and_not_used() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("config")).unwrap();
        fs::write(state.path().join(MACHINE_ID), "garbage").unwrap();
        fs::write(state.path().join(HOSTNAME_FILE), "-x y\n").unwrap();
        let kept = read_kept(state.path());
        assert!(is_machine_id(&kept.machine_id));
        assert_eq!(kept.hostname, None);
        assert_eq!(kept.complaints.len(), 2);
    }

    /// Hostile: replaces the machine's id, host name and saved time by FIFOs, devices and folders. Outcome: each is named, the machine boots with a new id and its default name, and the time is saved anew.
    #[test]
    fn what_is_kept_and_no_file_is_named_and_never_waited_for() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("config")).unwrap();
        fs::create_dir(state.path().join("var")).unwrap();
        for path in [MACHINE_ID, "var/clock"] {
            let path = state.path().join(path);
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", state.path().join(HOSTNAME_FILE)).unwrap();
        let kept = read_kept(state.path());
        assert!(is_machine_id(&kept.machine_id));
        assert_eq!((&kept.hostname, kept.clock), (&None, None));
        assert!(
            kept.complaints[0].contains("machine-id: is a FIFO"),
            "{kept:?}"
        );
        assert!(
            kept.complaints[1].contains("hostname: is a device"),
            "{kept:?}"
        );
        clock::save(state.path()).unwrap();
        let again = read_kept(state.path());
        assert_eq!(again.machine_id, kept.machine_id);
        assert!(again.clock.is_some());
    }

    #[test]
    fn state_that_cannot_be_written_still_gives_an_id() {
        let state = tempfile::tempdir().unwrap();
        let kept = read_kept(&state.path().join("missing"));
        assert!(is_machine_id(&kept.machine_id));
        assert_eq!(kept.complaints.len(), 1);
    }
}
