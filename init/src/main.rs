//! Wherry's PID 1: the thin shell around the `supervisor`.
//!
//! ```text
//! mount → cmdline → machine → trial → catalog → services ─▶ supervisor
//!     container (needs → spec → runtime) → children        ◀─┘  ▲
//!     notify · state_partition · requests → status           ───┘
//!                                               shutdown | reexec
//! ```
//!
//! This is the order in time; `spec` is of the crate `definition`. A file owns its
//! part's state; `ARCHITECTURE.md` has the order in which the files can be read.
//! [`init`] holds the parts and connects them with the supervisor, [`requests`]
//! and [`reexec`] are what others ask of all of them, [`event_loop`] waits.
//!
//! One thread, one epoll loop. What may wait for a disk is done by a child
//! ([`job`]). After boot nothing exits and nothing unwraps; a failure of PID 1
//! itself goes to [`emergency`].

mod boot_record;
mod catalog;
mod children;
mod clock;
mod cmdline;
mod connection;
mod console;
mod container;
mod emergency;
mod event_loop;
mod foreign;
mod inhibit;
mod init;
mod job;
mod kernel_log;
mod listening;
mod machine;
mod mount;
mod needs;
mod notify;
mod outputs;
mod power;
mod reexec;
mod requests;
mod service;
mod services;
mod shutdown;
mod source;
mod state_partition;
mod status;
mod storage;
mod sys;
mod trial;
mod watchdog;

use event_loop::EventLoop;
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
    let event_loop = start(begun).unwrap_or_else(|reason| emergency::enter(&reason));
    event_loop.run()
}

fn start(begun: std::time::Duration) -> Result<EventLoop, String> {
    let mut boot = boot_record::BootRecord::new(begun);
    mount::early_file_systems()?;
    mount::runtime_folders()?;
    let cmdline = cmdline::parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let mounted = machine::now();
    boot.stage("mount", begun, mounted);
    machine::tune_kernel();
    machine::raise_descriptor_limit();
    let clock_is_wrong = clock::set_at_boot();
    machine::loopback_up();
    let mut machine = machine::Machine::identify();
    machine.clock_is_wrong = clock_is_wrong;
    machine.set_hostname();
    log!(Notice, "{} on Linux {}", machine.system, machine.kernel);
    for complaint in &cmdline.complaints {
        log!(Warning, "{complaint}");
    }
    let signals = event_loop::open_signals()?;
    let mut event_loop = EventLoop::new(Init::new(cmdline, machine, boot)?, signals)?;
    let init = &mut event_loop.init;
    let identified = machine::now();
    init.boot.stage("machine", mounted, identified);
    init.look_for_trial();
    init.define_system_services();
    init.boot.stage("definitions", identified, machine::now());
    Ok(event_loop)
}

/// From an earlier run of this program to the loop.
fn resume(snapshot: &str) -> ! {
    emergency::arm();
    let event_loop =
        Init::resume(snapshot).and_then(|init| EventLoop::new(init, event_loop::open_signals()?));
    let mut event_loop = event_loop.unwrap_or_else(|reason| emergency::enter(&reason));
    // Children that ended meanwhile sent their signal to the old program.
    event_loop.reap();
    event_loop.run()
}
