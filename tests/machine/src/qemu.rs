//! A virtual machine's description, and the QEMU command line made of it.

use crate::{Error, Storage, Tools};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the machine starts.
#[derive(Debug, Clone)]
pub enum Boot {
    /// OVMF, then whatever boot loader the disk holds.
    Firmware {
        /// OVMF's variable store, written by the machine; made where missing.
        variables: PathBuf,
    },
    /// QEMU loads the kernel itself: no firmware, no boot loader.
    Direct {
        /// `vmlinux` or `bzImage`.
        kernel: PathBuf,
        /// The kernel's command line.
        command_line: String,
    },
}

/// Where the serial console goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// This process's terminal: Ctrl-A is QEMU's escape key, Ctrl-C is the guest's.
    Terminal,
    /// Standard input and output as they are, without an escape key.
    Pipe,
}

/// A virtual machine: q35, one virtio disk, one virtio network card, random
/// numbers and the hardware watchdog that the image drives.
#[derive(Debug, Clone)]
pub struct Qemu {
    tools: Tools,
    boot: Boot,
    /// Memory in MiB.
    pub memory: u32,
    /// The raw disk, if the machine has one.
    pub disk: Option<PathBuf>,
    /// What is between the machine and that disk.
    pub storage: Storage,
    /// Where the serial console goes.
    pub console: Console,
    /// What follows `-netdev`; its id has to be `net`. None: no network card.
    pub network: Option<String>,
    /// Whether a reboot starts the machine again; if not, QEMU ends.
    pub reboots: bool,
    /// The saved state from which the machine goes on, in place of a boot. It
    /// waits for QMP's `cont`.
    pub incoming: Option<PathBuf>,
    /// Where QEMU listens for QMP commands.
    pub monitor: Option<PathBuf>,
    /// Arguments of QEMU's that are added as they are.
    pub arguments: Vec<OsString>,
}

/// An isolated machine's network.
const NO_WAY_OUT: &str = "user,id=net,restrict=on";

impl Qemu {
    /// A machine with 512 MiB, a network without a way out, and no disk.
    pub fn new(tools: &Tools, boot: Boot) -> Self {
        Self {
            tools: tools.clone(),
            boot,
            memory: 512,
            disk: None,
            storage: Storage::default(),
            console: Console::Pipe,
            network: Some(NO_WAY_OUT.to_owned()),
            reboots: false,
            incoming: None,
            monitor: None,
            arguments: Vec::new(),
        }
    }

    /// The command that is this machine.
    pub fn command(&self) -> Result<Command, Error> {
        let mut qemu = self.tools.command("qemu-system-x86_64")?;
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            qemu.arg("-L").arg(self.tools.file(data)?);
        }
        qemu.args(["-machine", "q35", "-nodefaults", "-display", "none"])
            .args(acceleration())
            .args(["-m", &self.memory.to_string()])
            .args(["-device", "virtio-rng-pci"])
            .args(["-device", "i6300esb", "-action", "watchdog=reset"]);
        match self.console {
            Console::Terminal => qemu
                .args(["-chardev", "stdio,id=console,mux=on,signal=off"])
                .args(["-serial", "chardev:console", "-mon", "chardev=console"]),
            Console::Pipe => qemu.args(["-serial", "stdio"]),
        };
        match &self.boot {
            Boot::Direct {
                kernel,
                command_line,
            } => {
                qemu.arg("-kernel")
                    .arg(kernel)
                    .args(["-append", command_line]);
            }
            Boot::Firmware { variables } => {
                if !variables.exists() {
                    let fresh = self.tools.file("usr/share/OVMF/OVMF_VARS_4M.fd")?;
                    fs::copy(fresh, variables).map_err(Error::io("create", variables))?;
                }
                let code = self.tools.file("usr/share/OVMF/OVMF_CODE_4M.fd")?;
                qemu.arg("-drive")
                    .arg(drive("if=pflash,unit=0,readonly=on", &code))
                    .arg("-drive")
                    .arg(drive("if=pflash,unit=1", variables));
            }
        }
        if let Some(disk) = &self.disk {
            self.storage.attach(&mut qemu, disk)?;
        }
        if let Some(network) = &self.network {
            qemu.args(["-netdev", network])
                // Without its option ROM the firmware does not try the network.
                .args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        }
        if !self.reboots {
            qemu.arg("-no-reboot");
        }
        if let Some(state) = &self.incoming {
            qemu.arg("-incoming")
                .arg(format!("file:{}", state.display()));
        }
        if let Some(monitor) = &self.monitor {
            qemu.arg("-qmp")
                .arg(format!("unix:{},server=on,wait=off", monitor.display()));
        }
        qemu.args(&self.arguments);
        Ok(qemu)
    }
}

/// A `-drive` for a raw file. QEMU reads a doubled comma in a path as one.
fn drive(options: &str, file: &Path) -> String {
    let file = file.display().to_string().replace(',', ",,");
    format!("{options},format=raw,file={file}")
}

/// The arguments that choose between KVM and emulation.
///
/// `/dev/kvm` alone says little: inside some virtual machines it exists and
/// hangs a stock kernel, so the CPU has to show that it virtualises. Under
/// emulation one CPU in one thread is the steadiest, and `max` is the model that
/// kernels boot on; but without the "fast string" flags, with which Linux clears
/// and copies pages by `rep stosb` and `rep movsb`: QEMU emulates those byte by
/// byte, and clearing memory takes twice as long.
pub fn acceleration() -> &'static [&'static str] {
    if kvm_works() {
        &["-accel", "kvm", "-cpu", "host", "-smp", "2"]
    } else {
        &[
            "-accel",
            "tcg,thread=single",
            "-cpu",
            "max,-erms,-fsrm,-fsrs",
            "-smp",
            "1",
        ]
    }
}

fn kvm_works() -> bool {
    let accessible = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    accessible && fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| virtualises(&text))
}

fn virtualises(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("flags"))
        .any(|flags| flags.split_whitespace().any(|f| f == "vmx" || f == "svm"))
}

#[cfg(test)]
mod tests {
    use super::{drive, virtualises};
    use std::path::Path;

    #[test]
    fn kvm_is_chosen_only_where_the_cpu_virtualises() {
        assert!(virtualises("processor\t: 0\nflags\t\t: fpu vmx sse\n"));
        assert!(virtualises("flags\t\t: svm\n"));
        assert!(!virtualises(
            "flags\t\t: fpu sse svm_lock\nmodel name: vmx\n"
        ));
    }

    #[test]
    fn a_comma_in_a_disks_path_is_doubled() {
        assert_eq!(
            drive("if=none", Path::new("/a,b")),
            "if=none,format=raw,file=/a,,b"
        );
    }
}
