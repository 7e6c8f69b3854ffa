//! Wherry's PID 1: the thin shell around the `supervisor`.
//!
//! Boot: [`cmdline`] → [`mount`] → [`definition`] ([`catalog`]) → supervisor →
//! [`spec`] → `runtime` → the loop in [`init`] ⇄ supervisor → [`shutdown`].
//!
//! One thread, one epoll loop. What may wait for a disk is done by a child
//! ([`job`]). After boot nothing exits and nothing unwraps; a failure of PID 1
//! itself goes to [`emergency`].

mod boot_record;
mod catalog;
mod cmdline;
mod connection;
mod console;
mod emergency;
mod inhibit;
mod init;
mod job;
mod kernel_log;
mod machine;
mod mount;
mod needs;
mod notify;
mod outputs;
mod perform;
mod power;
mod reap;
mod reexec;
mod requests;
mod service;
mod shutdown;
mod source;
mod state_partition;
mod storage;
mod sys;
mod trial;
mod watchdog;

use init::Init;
use kernel_log::log;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [_, "--emergency", reason, rest @ ..] if is_first_process() => {
            emergency::run(reason, rest.first().copied())
        }
        [_, "--resume", snapshot] if is_first_process() => resume(snapshot),
        // The kernel hands over every argument that it does not know itself.
        _ if is_first_process() => boot(),
        _ => {
            eprintln!(
                "init: this is Wherry's PID 1; the kernel starts it. To end the machine, use `wherry reboot` or `wherry poweroff`."
            );
            std::process::exit(2);
        }
    }
}

fn is_first_process() -> bool {
    std::process::id() == 1
}

/// From the kernel's hand-over to the loop.
fn boot() -> ! {
    emergency::arm();
    let begun = machine::now();
    let init = start(begun).unwrap_or_else(|reason| emergency::enter(&reason));
    init.run()
}

fn start(begun: std::time::Duration) -> Result<Init, String> {
    let mut boot = boot_record::BootRecord::new(begun);
    mount::early_file_systems()?;
    mount::runtime_folders()?;
    let cmdline = cmdline::parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let mounted = machine::now();
    boot.stage("mount", begun, mounted);
    machine::tune_kernel();
    machine::raise_clock_to_build();
    machine::loopback_up();
    let machine = machine::Machine::identify();
    machine.set_hostname();
    log!(Notice, "{} on Linux {}", machine.system, machine.kernel);
    for complaint in &cmdline.complaints {
        log!(Warning, "{complaint}");
    }
    let mut init = Init::new(cmdline, machine, boot)?;
    let identified = machine::now();
    init.boot.stage("machine", mounted, identified);
    init.look_for_trial();
    init.define_system_services();
    init.boot.stage("definitions", identified, machine::now());
    Ok(init)
}

/// From an earlier run of this program to the loop.
fn resume(snapshot: &str) -> ! {
    emergency::arm();
    let init = Init::resume(snapshot).unwrap_or_else(|reason| emergency::enter(&reason));
    init.run()
}
