//! The containers of services: made ready, started, signalled, probed and
//! cleared away. From here on it is the embedded runtime's work.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use definition::Share;
use definition::spec::{self, Provided};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::epoll::EpollFlags;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use runtime::{Exec, ExecProcess, HostPaths, Prepared, Setup, Start, Stdio};
use supervisor::Exit;

use crate::children::{Child, Children};
use crate::kernel_log::log;
use crate::service::{Id, Run, Service, notify_path};
use crate::source::{Source, Sources};
use crate::{listening, mount, needs, outputs, storage, sys};

/// How long the rest of a container may take to end after its first process,
/// once it is killed. A process that is not gone by then hangs in the kernel.
const REMAINS: Duration = Duration::from_secs(5);

/// Containers can write below these, so no link in a path below them is followed.
const GUARDED: [&str; 4] = ["/state", "/run", "/var", "/tmp"];

/// A mount's source is made below these.
const MADE: [&str; 2] = [storage::STATE, "/run/wherry"];

/// What every container is started with.
#[derive(Debug)]
pub struct Containers {
    cgroups: OwnedFd,
    null: OwnedFd,
}

impl Containers {
    /// Makes the cgroup of all services.
    ///
    /// # Errors
    /// What failed.
    pub fn open() -> Result<Self, String> {
        Ok(Self {
            cgroups: mount::cgroup_tree()?,
            null: mount::null()?,
        })
    }

    /// The cgroup of all services.
    pub fn cgroups(&self) -> BorrowedFd<'_> {
        self.cgroups.as_fd()
    }

    fn stdio<'a>(&'a self, service: &'a Service) -> Stdio<'a> {
        Stdio {
            stdin: self.null.as_fd(),
            stdout: service.output.write.as_fd(),
            stderr: service.output.write.as_fd(),
        }
    }

    /// Starts what [`prepare`] has made of a service; `outputs` is for the one
    /// that gets the others' outputs.
    ///
    /// # Errors
    /// What failed, on what.
    #[allow(clippy::too_many_arguments)]
    pub fn start(
        &self,
        id: Id,
        service: &mut Service,
        number: u32,
        (prepared, resources): (Prepared, LinuxResources),
        outputs: Option<&OwnedFd>,
        sources: &Sources,
        children: &mut Children,
    ) -> Result<(), String> {
        let cgroup = runtime::cgroup::create(self.cgroups(), service.name(), &resources)
            .map_err(|error| explain(&error))?;
        for socket in &service.sockets {
            listening::set_blocking(socket, true);
        }
        kill_as_a_whole(cgroup.fd(), service.name());
        let (listen, names) = descriptors(service, outputs);
        let mut env = Vec::new();
        if !names.is_empty() {
            env.push(format!("LISTEN_FDNAMES={}", names.join(":")));
        }
        let started = prepared
            .start(Start {
                cgroup: Some(cgroup.fd()),
                stdio: self.stdio(service),
                listen: &listen,
                passed: &[],
                env: &env,
                lifecycle: None,
            })
            .map_err(|error| explain(&error))?;
        if let Err(error) = sources.add(&started.setup, Source::Setup(id), EpollFlags::EPOLLIN) {
            log!(Error, "{error}");
        }
        service.prepared = Some(prepared);
        service.run = Some(Run {
            process: Some((started.pid, started.pidfd)),
            setup: Some(started.setup),
            cgroup: Some(cgroup),
            ..Run::without_process(number)
        });
        children.insert(started.pid, Child::Service(id));
        Ok(())
    }

    /// Runs a service's probe in its container.
    ///
    /// # Errors
    /// Why there is none.
    pub fn probe(
        &self,
        id: Id,
        service: &mut Service,
        number: u32,
        children: &mut Children,
    ) -> Result<(), String> {
        let command = service.entry.definition.probe.clone();
        let run = service.run.as_ref().ok_or("it does not run")?;
        if run.setup.is_some() {
            // Until its program runs, the container still sees the machine's root.
            return Err("its container is being set up".to_owned());
        }
        let (_, pidfd) = run.process.as_ref().ok_or("it has no process")?;
        let cgroup = run.cgroup.as_ref().ok_or("it has no cgroup")?;
        let prepared = service.prepared.as_ref().ok_or("it is not prepared")?;
        let process = ExecProcess {
            args: command.ok_or("it has no probe")?,
            env: Vec::new(),
            cwd: None,
        };
        let exec = Exec {
            cgroup: Some(cgroup.fd()),
            stdio: self.stdio(service),
            passed: &[],
            console: None,
            listener: None,
            keep_keyring: false,
        };
        let started = prepared
            .exec(&process)
            .and_then(|prepared| prepared.start(pidfd.as_fd(), exec))
            .map_err(|error| explain(&error))?;
        // Its exit says all: where its program cannot be executed, that is 127.
        service.probe = Some(started.pid);
        children.insert(started.pid, Child::Probe(id, number));
        Ok(())
    }
}

/// Checks a service's definition against the machine as it is now; `arguments`
/// are added to its command.
///
/// # Errors
/// What the machine or the runtime cannot give it.
pub fn prepare(
    service: &Service,
    arguments: &[String],
    state_disk: Option<&Path>,
) -> Result<(Prepared, LinuxResources), String> {
    let mut definition = service.entry.definition.clone();
    definition.command.extend_from_slice(arguments);
    let devices = needs::devices(&definition, state_disk)?;
    let spec = spec::build(
        service.name(),
        &definition,
        Provided {
            root: &service.entry.root,
            notify: &notify_path(service.name()),
            memory: mount::memory(),
            protected: !service.operator && definition.policy.essential,
            devices: &devices,
            seccomp: runtime::default_seccomp(&definition.capabilities),
        },
    )
    .map_err(|error| error.to_string())?;
    let mut prepared = runtime::prepare(&spec).map_err(|error| explain(&error))?;
    // The definition's mounts are the last ones.
    let all = spec.mounts().as_ref().map_or(0, Vec::len);
    let first = all.saturating_sub(definition.mounts.len());
    let optional: Vec<usize> = (first..)
        .zip(&definition.mounts)
        .filter_map(|(number, mount)| mount.optional.then_some(number))
        .collect();
    prepared
        .guard(&HostPaths {
            guarded: &GUARDED,
            made: &MADE,
            optional: &optional,
        })
        .map_err(|error| explain(&error))?;
    let resources = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().clone())
        .unwrap_or_default();
    Ok((prepared, resources))
}

/// Prepares a service that runs since before this program did, for its probes.
pub fn prepare_again(service: &mut Service, state_disk: Option<&Path>) {
    if service.run.is_none() || service.entry.definition.probe.is_none() {
        return;
    }
    match prepare(service, &[], state_disk) {
        Ok((prepared, _)) => service.prepared = Some(prepared),
        Err(reason) => log!(Error, "{}: cannot be probed: {reason}", service.name()),
    }
}

/// A container reports on its set-up: returns the run whose program has been
/// executed.
pub fn take_setup(service: &mut Service, sources: &Sources) -> Option<u32> {
    let run = service.run.as_mut()?;
    let setup = run.setup.as_ref()?;
    let failure = match runtime::setup_outcome(setup.as_fd()) {
        // The others are for containers that are created first and started later.
        Ok(Setup::Pending | Setup::Environment | Setup::Created) => return None,
        Ok(Setup::Executed) => None,
        // The process ends by itself; then the supervisor hears why.
        Ok(Setup::Failed(error)) => Some(error.to_string()),
        Err(error) => Some(explain(&error)),
    };
    sources.remove(setup);
    run.setup = None;
    run.failure = failure;
    run.failure.is_none().then_some(run.number)
}

/// Asks a service's process to end. One that cannot hear it is killed.
pub fn terminate(service: &Service) {
    let signal = service.entry.definition.stop_signal;
    let Some((pid, pidfd)) = service.run.as_ref().and_then(|run| run.process.as_ref()) else {
        return;
    };
    // The first process of a pid namespace is not ended by a signal that it has
    // no handler for (pid_namespaces(7)). Elsewhere it would be, and there is
    // nothing to wait for.
    if service.entry.definition.pid == Share::Private && is_deaf(*pid, signal.0) {
        return kill(service);
    }
    if let Err(error) = sys::signal_process(pidfd.as_fd(), signal.0) {
        log!(Warning, "{}: cannot send {signal}: {error}", service.name());
    }
    // One that is stopped (SIGSTOP) hears the signal only now.
    let _ = sys::signal_process(pidfd.as_fd(), Signal::SIGCONT as i32);
}

/// Makes the kernel kill all of a service where one of its processes takes too much
/// memory: a service without one of its parts would still look ready.
fn kill_as_a_whole(cgroup: BorrowedFd<'_>, name: &str) {
    const FILE: &str = "memory.oom.group";
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let written =
        openat(cgroup, FILE, flags, Mode::empty()).and_then(|file| nix::unistd::write(&file, b"1"));
    match written {
        // Without the kernel's controller no memory is limited.
        Ok(_) | Err(Errno::ENOENT) => {}
        Err(error) => log!(Warning, "{name}: cannot write {FILE}: {}", error.desc()),
    }
}

/// How the service's run ended: the kernel kills with SIGKILL where memory runs out,
/// and counts that.
pub fn exit_of(run: &Run) -> Exit {
    let exit = run.exit.unwrap_or(Exit::Code(0));
    let is_killed = exit == Exit::Signal(Signal::SIGKILL as i32);
    let kills = run
        .cgroup
        .as_ref()
        .filter(|_| is_killed)
        .and_then(|cgroup| cgroup.stats().ok())
        .map_or(0, |stats| stats.oom_kills);
    if kills > 0 { Exit::OutOfMemory } else { exit }
}

/// Kills all of a service's processes.
pub fn kill(service: &Service) {
    let Some(run) = &service.run else {
        return;
    };
    if let Some(cgroup) = &run.cgroup
        && let Err(error) = cgroup.kill()
    {
        log!(Error, "{}: {}", service.name(), explain(&error));
    }
    if let Some((_, pidfd)) = &run.process {
        let _ = sys::signal_process(pidfd.as_fd(), Signal::SIGKILL as i32);
    }
}

/// The first process of a service's container has ended. Returns whether its run
/// is over; where other processes are left they are killed, and their end is
/// watched.
pub fn first_process_ended(
    id: Id,
    service: &mut Service,
    exit: Exit,
    now: Duration,
    sources: &Sources,
) -> bool {
    let Some(run) = &mut service.run else {
        return false;
    };
    run.exit = Some(exit);
    let Some(cgroup) = &run.cgroup else {
        return true;
    };
    let is_populated = || cgroup.populated().unwrap_or(false);
    if !is_populated() {
        return true;
    }
    let _ = cgroup.kill();
    let watched = cgroup.events().ok().filter(|events| {
        let source = Source::Cgroup(id);
        sources.add(events, source, EpollFlags::EPOLLPRI).is_ok()
    });
    let Some(events) = watched else {
        return true;
    };
    if !is_populated() {
        sources.remove(&events);
        return true;
    }
    run.remains = Some(events);
    run.remains_until = Some(now + REMAINS);
    false
}

/// Whether no process is left in the cgroup of a service's run.
pub fn is_empty(service: &Service) -> bool {
    service
        .run
        .as_ref()
        .and_then(|run| run.cgroup.as_ref())
        .is_some_and(|cgroup| !cgroup.populated().unwrap_or(false))
}

/// The descriptors that a service starts with, from 3 on, and their names.
fn descriptors<'a>(
    service: &'a Service,
    outputs: Option<&'a OwnedFd>,
) -> (Vec<BorrowedFd<'a>>, Vec<String>) {
    let mut listen = Vec::new();
    let mut names = Vec::new();
    if let Some(outputs) = outputs {
        listen.push(outputs.as_fd());
        names.push(outputs::NAME.to_owned());
    }
    for (socket, wanted) in service
        .sockets
        .iter()
        .zip(&service.entry.definition.sockets)
    {
        listen.push(socket.as_fd());
        names.push(wanted.name().to_owned());
    }
    for (name, stored) in &service.stored {
        listen.push(stored.as_fd());
        names.push(name.clone());
    }
    (listen, names)
}

/// Whether the process neither handles nor blocks nor ignores the signal, nor
/// waits for it: its lines of `/proc/PID/status` are masks with bit 0 for
/// signal 1.
fn is_deaf(pid: Pid, signal: i32) -> bool {
    // While a process waits in sigwait(3), the kernel takes the signals that it
    // waits for out of the mask of blocked ones (signal.c, do_sigtimedwait).
    let waits = fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|line| {
        line.split(' ').next() == Some(&nix::libc::SYS_rt_sigtimedwait.to_string())
    });
    if waits {
        return false;
    }
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let bit = 1u64 << (signal - 1);
    ["SigBlk:", "SigIgn:", "SigCgt:"].iter().all(|key| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & bit == 0)
    })
}

/// An error with its causes, in one line.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_handlers_is_deaf() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        // Until exec, the child has this process's mask.
        while !fs::read_to_string(format!("/proc/{pid}/comm"))
            .unwrap()
            .starts_with("sleep")
        {
            std::thread::yield_now();
        }
        assert!(is_deaf(pid, Signal::SIGTERM as i32));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
