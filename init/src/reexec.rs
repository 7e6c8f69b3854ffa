//! A fresh copy of the program takes over from the running one: all state goes
//! through a memfd, all descriptors stay open, and no container notices.
//!
//! What cannot be carried over is left behind: control connections (their
//! clients connect again, and those who inhibit a shutdown ask once more) and
//! probes under way (they count as cancelled by the supervisor's own deadline).

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use definition::Entry;
use nix::sys::epoll::EpollFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use supervisor::{Exit, Supervisor};

use crate::boot_record::BootRecord;
use crate::children::{Child, Children};
use crate::connection::Clients;
use crate::container::{self, Containers};
use crate::foreign::Foreign;
use crate::init::{Inheritance, Init};
use crate::kernel_log::log;
use crate::machine::Machine;
use crate::outputs::Outputs;
use crate::service::{Id, Output, Run, Service};
use crate::services::Services;
use crate::source::{Source, Sources};
use crate::state_partition::{Mounted, StatePartition};
use crate::trial::{Trial, Waiting};
use crate::watchdog::Watchdog;
use crate::{cmdline, sys};

/// The form of the snapshot. A program of another release that does not know it
/// refuses, and the old one is asked to stay.
const FORM: u32 = 4;

/// Everything that the fresh program needs. Descriptors are numbers here, and
/// stay the same over execve(2).
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    form: u32,
    machine: Machine,
    supervisor: Supervisor,
    services: Vec<Option<HeldService>>,
    invalid: BTreeMap<String, (config::Error, bool)>,
    probes: Vec<(i32, Id, u32)>,
    listener: RawFd,
    outputs: Option<RawFd>,
    watchdog: Option<RawFd>,
    mounted: Mounted,
    notes: Vec<String>,
    trial: Option<Waiting>,
    boot: BootRecord,
    degraded: Vec<String>,
    reexecuted: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct HeldService {
    entry: Entry,
    operator: bool,
    for_this_boot: bool,
    output: (RawFd, RawFd),
    notify: RawFd,
    sockets: Vec<RawFd>,
    stored: Vec<(String, RawFd)>,
    run: Option<HeldRun>,
    probe: Option<i32>,
    status: String,
    last_exit: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HeldRun {
    number: u32,
    process: Option<(i32, RawFd)>,
    setup: Option<RawFd>,
    has_cgroup: bool,
    failure: Option<String>,
    exit: Option<Exit>,
}

impl Init {
    /// Puts a fresh program in this one's place. Returns only where that fails;
    /// then everything goes on as before.
    pub fn reexecute(&mut self) {
        log!(Notice, "a fresh PID 1 takes over");
        if let Err(reason) = self.try_reexecute() {
            log!(Error, "no fresh PID 1: {reason}; this one goes on");
        }
    }

    fn try_reexecute(&mut self) -> Result<(), String> {
        let mut memory = memfd_create(c"wherry-init", MFdFlags::MFD_CLOEXEC)
            .map(File::from)
            .map_err(|error| format!("memfd_create: {}", error.desc()))?;
        let snapshot = self.snapshot();
        let bytes = serde_json::to_vec(&snapshot).map_err(|error| error.to_string())?;
        memory
            .write_all(&bytes)
            .and_then(|()| memory.rewind())
            .map_err(|error| format!("the snapshot cannot be written: {error}"))?;
        let mut kept = snapshot.descriptors();
        kept.push(memory.as_raw_fd());
        let number = CString::new(memory.as_raw_fd().to_string()).unwrap_or_default();
        let set = |close: bool| {
            for descriptor in &kept {
                let _ = sys::set_close_on_exec(descriptor, close);
            }
        };
        set(false);
        let error = sys::execute(
            c"/proc/self/exe",
            &[c"/usr/bin/init".to_owned(), c"--resume".to_owned(), number],
        );
        set(true);
        Err(format!("execve: {error}"))
    }

    fn snapshot(&self) -> Snapshot {
        let services = &self.services;
        let watchdog = self.watchdog.as_ref();
        Snapshot {
            form: FORM,
            machine: self.machine.clone(),
            supervisor: self.supervisor.clone(),
            services: services
                .table()
                .iter()
                .map(|service| service.as_ref().map(hold))
                .collect(),
            invalid: services.invalid().clone(),
            probes: self
                .children
                .probes()
                .map(|(pid, id, run)| (pid.as_raw(), id, run))
                .collect(),
            listener: self.clients.listener().as_raw_fd(),
            outputs: services.outputs().socket().map(AsRawFd::as_raw_fd),
            watchdog: watchdog.map(|watchdog| watchdog.descriptor().as_raw_fd()),
            mounted: self.state.mounted.clone(),
            notes: self.state.notes.clone(),
            degraded: self.state.problems.clone(),
            trial: self.trial.waiting.clone(),
            boot: self.boot.clone(),
            reexecuted: self.reexecuted + 1,
        }
    }

    /// The fresh program's beginning: `init --resume NUMBER`.
    ///
    /// # Errors
    /// What of the snapshot cannot be used; then nobody supervises the services
    /// any more.
    pub fn resume(number: &str) -> Result<Self, String> {
        let memory = number
            .parse()
            .map_err(|_| format!("'{number}' is not a descriptor"))
            .and_then(|number| sys::inherit(number).map_err(|error| error.to_string()))?;
        let mut bytes = Vec::new();
        File::from(memory)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("the snapshot cannot be read: {error}"))?;
        let snapshot: Snapshot = serde_json::from_slice(&bytes)
            .map_err(|error| format!("the snapshot is not understood: {error}"))?;
        if snapshot.form != FORM {
            return Err(format!("the snapshot has form {}", snapshot.form));
        }
        Self::from_snapshot(snapshot)
    }

    fn from_snapshot(snapshot: Snapshot) -> Result<Self, String> {
        let containers = Containers::open()?;
        let sources = Sources::new()?;
        let mut children = Children::default();
        let mut table = Vec::new();
        for (id, held) in (0..).zip(snapshot.services) {
            let service = held
                .map(|held| release(held, id, &containers, &sources))
                .transpose()?;
            if let Some(pid) = service.as_ref().and_then(Service::process) {
                children.insert(pid, Child::Service(id));
            }
            table.push(service);
        }
        for (pid, id, run) in snapshot.probes {
            children.insert(Pid::from_raw(pid), Child::Probe(id, run));
        }
        let outputs = Outputs::inherited(snapshot.outputs.map(inherit).transpose()?);
        if let Some(socket) = outputs.socket() {
            sources.add(socket, Source::Outputs, EpollFlags::empty())?;
        }
        let clients = Clients::inherited(inherit(snapshot.listener)?)?;
        clients.watch(&sources)?;
        let watchdog = snapshot.watchdog.map(inherit).transpose()?;
        let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let mut init = Self::inheriting(
            cmdline::parse(&command_line),
            Inheritance {
                machine: snapshot.machine,
                boot: snapshot.boot,
                supervisor: snapshot.supervisor,
                services: Services::inherited(table, snapshot.invalid, outputs),
                containers,
                children,
                state: StatePartition::inherited(
                    snapshot.mounted,
                    snapshot.notes,
                    snapshot.degraded,
                ),
                trial: Trial::inherited(snapshot.trial),
                clients,
                sources,
                watchdog: watchdog.map(Watchdog::inherited),
                reexecuted: snapshot.reexecuted,
            },
        );
        for id in 0..Id::try_from(init.services.table().len()).unwrap_or(0) {
            if let Some(service) = init.services.get_mut(id) {
                container::prepare_again(service, init.state.disk());
            }
            init.watch_activation(id);
        }
        log!(Notice, "the fresh PID 1 has taken over");
        Ok(init)
    }
}

impl Snapshot {
    /// Every descriptor in it.
    fn descriptors(&self) -> Vec<RawFd> {
        let mut all = vec![self.listener];
        all.extend(self.outputs);
        all.extend(self.watchdog);
        for service in self.services.iter().flatten() {
            all.extend([service.output.0, service.output.1, service.notify]);
            all.extend(&service.sockets);
            all.extend(service.stored.iter().map(|(_, descriptor)| *descriptor));
            if let Some(run) = &service.run {
                all.extend(run.process.map(|(_, pidfd)| pidfd));
                all.extend(run.setup);
            }
        }
        all
    }
}

fn inherit(number: RawFd) -> Result<OwnedFd, String> {
    sys::inherit(number).map_err(|error| format!("descriptor {number}: {error}"))
}

fn hold(service: &Service) -> HeldService {
    HeldService {
        entry: service.entry.clone(),
        operator: service.operator,
        for_this_boot: service.for_this_boot,
        output: (
            service.output.read.as_raw_fd(),
            service.output.write.as_raw_fd(),
        ),
        notify: service.notify.as_raw_fd(),
        sockets: service.sockets.iter().map(AsRawFd::as_raw_fd).collect(),
        stored: service
            .stored
            .iter()
            .map(|(name, descriptor)| (name.clone(), descriptor.as_raw_fd()))
            .collect(),
        run: service.run.as_ref().map(|run| HeldRun {
            number: run.number,
            process: run
                .process
                .as_ref()
                .map(|(pid, pidfd)| (pid.as_raw(), pidfd.as_raw_fd())),
            setup: run.setup.as_ref().map(AsRawFd::as_raw_fd),
            has_cgroup: run.cgroup.is_some(),
            failure: run.failure.clone(),
            exit: run.exit,
        }),
        probe: service.probe.map(Pid::as_raw),
        status: service.status.clone(),
        last_exit: service.last_exit.clone(),
    }
}

fn release(
    held: HeldService,
    id: Id,
    containers: &Containers,
    sources: &Sources,
) -> Result<Service, String> {
    let notify = Foreign::new(id, inherit(held.notify)?);
    sources.add(&notify, Source::Notify(id), EpollFlags::EPOLLIN)?;
    let run = held
        .run
        .map(|run| -> Result<Run, String> {
            let setup = run.setup.map(inherit).transpose()?;
            if let Some(setup) = &setup {
                sources.add(setup, Source::Setup(id), EpollFlags::EPOLLIN)?;
            }
            let cgroup = run
                .has_cgroup
                .then(|| {
                    runtime::cgroup::open(containers.cgroups(), held.entry.name.as_str())
                        .map_err(|error| error.to_string())
                })
                .transpose()?;
            let mut run = Run {
                number: run.number,
                process: run
                    .process
                    .map(|(pid, pidfd)| inherit(pidfd).map(|pidfd| (Pid::from_raw(pid), pidfd)))
                    .transpose()?,
                setup,
                cgroup,
                remains: None,
                remains_until: None,
                failure: run.failure,
                exit: run.exit,
            };
            if run.exit.is_some() {
                // Its first process had ended and others had not: they are
                // waited for no longer than until the loop's next turn.
                run.remains_until = Some(std::time::Duration::ZERO);
            }
            Ok(run)
        })
        .transpose()?;
    Ok(Service {
        entry: held.entry,
        operator: held.operator,
        for_this_boot: held.for_this_boot,
        output: Output {
            read: inherit(held.output.0)?,
            write: inherit(held.output.1)?,
        },
        notify,
        sockets: held
            .sockets
            .into_iter()
            .map(|number| Ok(Foreign::new(id, inherit(number)?)))
            .collect::<Result<_, String>>()?,
        activation: false,
        stored: held
            .stored
            .into_iter()
            .map(|(name, number)| Ok((name, Foreign::new(id, inherit(number)?))))
            .collect::<Result<_, String>>()?,
        run,
        prepared: None,
        probe: held.probe.map(Pid::from_raw),
        status: held.status,
        last_exit: held.last_exit,
        is_muted: false,
        complained: None,
    })
}
