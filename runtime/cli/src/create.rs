//! Creates a container, up to the point where its program can be started.

use std::collections::BTreeMap;
use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::unistd::Pid;
use oci_spec::runtime::{ContainerState, Hook, LinuxNamespaceType, LinuxResources, Spec};
use runtime::cgroup::Cgroup;
use runtime::{Lifecycle, Prepared, Setup, Start, Started, Stdio, hooks};

use crate::arguments::{Create, Global};
use crate::bundle::Bundle;
use crate::cgroup::{Fresh, Place, Planned};
use crate::console::{Console, connected};
use crate::delete;
use crate::descriptors::{Inherited, give_standard};
use crate::log;
use crate::process::Identity;
use crate::rdt;
use crate::setup;
use crate::state::{Container, State};
use crate::store::{Lock, Store, replace};
use crate::time::rfc3339;

/// A container that was created and waits at its gate.
pub struct Made {
    pub container: Container,
    pub lock: Lock,
    pub started: Started,
    /// The terminal's master, if this program relays it.
    pub terminal: Option<OwnedFd>,
}

/// Creates the container; if that fails, everything created so far is removed.
pub fn create(store: &Store, global: &Global, options: &Create, detached: bool) -> Result<Made> {
    if options.no_pivot {
        bail!("--no-pivot is not supported: the root is changed by pivot_root, the only safe way");
    }
    let inherited = Inherited::find(options.preserve_fds)?;
    let bundle = Bundle::load(&options.bundle)?;
    let prepared = runtime::prepare(&bundle.spec)?;
    for capability in prepared.ungranted_capabilities() {
        log::warn(&format!("cannot be granted: {capability}"));
    }
    let terminal = bundle
        .spec
        .process()
        .as_ref()
        .and_then(|process| process.terminal());
    let console = Console::new(
        terminal == Some(true),
        detached,
        options.console_socket.as_deref(),
    )?;
    let listener = listener(&prepared, &bundle.spec)?;
    let shares = bundle
        .intel_rdt
        .as_ref()
        .map(|intel_rdt| rdt::Plan::new(intel_rdt, options.id.as_str()))
        .transpose()?;
    let planned = Planned::new(&bundle, global)?;
    let place = planned.place(&options.id)?;

    let (folder, lock) = store.create(&options.id)?;
    let state = new_state(options, &bundle, place);
    let container = Container { folder, state };
    let mut making = Making {
        container: Some(container),
        cgroup: Fresh::None,
        started: None,
        child: None,
    };
    let container = making.container()?;
    container.folder.write_state(&container.state)?;
    container.folder.write_config(&bundle.text)?;

    let none = LinuxResources::default();
    let linux = bundle.spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    making.cgroup = planned.create(&options.id, resources.unwrap_or(&none))?;
    making.note_cgroup()?;
    let groups = match &shares {
        Some(shares) => Some(making.make_groups(shares)?),
        None => None,
    };
    let gate = making
        .container()?
        .folder
        .at_gate(make_gate)
        .context("make the container's gate")?;
    let lifecycle = Lifecycle {
        id: options.id.as_str(),
        bundle: &bundle.directory,
        gate: gate.as_fd(),
        console: console.fd(),
        listener: listener.as_ref().map(AsFd::as_fd),
        keep_keyring: options.no_new_keyring,
    };
    let started = making.start(&prepared, &bundle, &inherited, lifecycle)?;
    making.settle()?;
    making.note_process()?;
    if let Some(groups) = groups {
        groups.add(started.pid.as_raw())?;
    }
    drop(gate);
    wait_until_created(&mut making, &started, &bundle.spec)?;

    let container = making.container()?;
    container.state.complete = true;
    container.folder.write_state(&container.state)?;
    if let Some(path) = &options.pid_file {
        write_pid(path, started.pid.as_raw())?;
    }
    let terminal = console.receive()?;
    log::debug(|| format!("container {} waits as process {}", options.id, started.pid));
    Ok(Made {
        container: making.done()?,
        lock,
        started,
        terminal,
    })
}

fn new_state(options: &Create, bundle: &Bundle, place: Place) -> State {
    let spec = &bundle.spec;
    let hooks = |list: Option<&Option<Vec<Hook>>>| list.cloned().flatten().unwrap_or_default();
    State {
        format: State::FORMAT,
        oci_version: spec.version().clone(),
        id: options.id.to_string(),
        complete: false,
        process: None,
        bundle: bundle.directory.clone(),
        rootfs: bundle.rootfs.clone(),
        program: program(spec),
        created: rfc3339(SystemTime::now()),
        owner: nix::unistd::getuid().as_raw(),
        cgroup: Some(place),
        own_pid_namespace: spec
            .linux()
            .iter()
            .flat_map(|linux| linux.namespaces().iter().flatten())
            .any(|namespace| {
                namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none()
            }),
        keep_keyring: options.no_new_keyring,
        resctrl: rdt::Made::default(),
        annotations: spec
            .annotations()
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<BTreeMap<_, _>>(),
        poststart: hooks(spec.hooks().as_ref().map(|hooks| hooks.poststart())),
        poststop: hooks(spec.hooks().as_ref().map(|hooks| hooks.poststop())),
    }
}

/// The socket of the seccomp agent, if the profile has an action that it
/// answers.
pub fn listener(prepared: &Prepared, spec: &Spec) -> Result<Option<OwnedFd>> {
    let seccomp = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    seccomp
        .and_then(|seccomp| seccomp.listener_path().as_deref())
        .filter(|_| prepared.needs_listener())
        .map(|path| {
            connected(path).with_context(|| {
                format!("linux.seccomp.listenerPath: connect to {}", path.display())
            })
        })
        .transpose()
}

fn program(spec: &Spec) -> String {
    spec.process()
        .as_ref()
        .and_then(|process| process.args().as_ref()?.first().cloned())
        .unwrap_or_default()
}

/// A listening socket at the path.
fn make_gate(path: &Path) -> Result<OwnedFd, Errno> {
    let gate = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(gate.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&gate, Backlog::new(1)?)?;
    Ok(gate)
}

/// Follows the process to its gate, and runs the runtime's hooks on the way.
fn wait_until_created(making: &mut Making, started: &Started, spec: &Spec) -> Result<()> {
    loop {
        match setup::next(started.setup.as_fd())? {
            Setup::Environment => {
                let container = making.container()?;
                // The hooks may ask for it.
                container.folder.write_state(&container.state)?;
                run_hooks(spec, &container.state)?;
                runtime::proceed(started.setup.as_fd())?;
            }
            Setup::Created => return Ok(()),
            Setup::Failed(error) => {
                return Err(setup::failure(&error, &making.container()?.state.program));
            }
            Setup::Executed | Setup::Pending => {
                bail!("unable to start container process: it was killed before it was set up")
            }
        }
    }
}

#[allow(deprecated)] // Docker's network is set up by a prestart hook.
fn run_hooks(spec: &Spec, state: &State) -> Result<()> {
    let Some(all) = spec.hooks() else {
        return Ok(());
    };
    let state = state.for_hooks(ContainerState::Creating)?;
    for (kind, list) in [
        ("prestart", all.prestart()),
        ("createRuntime", all.create_runtime()),
    ] {
        hooks::run(kind, list.as_deref().unwrap_or_default(), &state)?;
    }
    Ok(())
}

/// Writes the pid file atomically.
pub fn write_pid(path: &Path, pid: i32) -> Result<()> {
    replace(path, pid.to_string().as_bytes(), 0o644).context("--pid-file")
}

/// This program's own standard descriptors.
pub fn standard<T>(operation: impl FnOnce(Stdio<'_>) -> T) -> T {
    let (stdin, stdout, stderr) = (stdin(), stdout(), stderr());
    operation(Stdio {
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
    })
}

/// A container that is being created: if it is dropped, everything that was
/// made is removed.
struct Making {
    container: Option<Container>,
    cgroup: Fresh,
    started: Option<Identity>,
    child: Option<Pid>,
}

impl Making {
    fn container(&mut self) -> Result<&mut Container> {
        self.container
            .as_mut()
            .ok_or_else(|| anyhow!("the container was created already"))
    }

    fn start(
        &mut self,
        prepared: &Prepared,
        bundle: &Bundle,
        inherited: &Inherited,
        lifecycle: Lifecycle<'_>,
    ) -> Result<Started> {
        let process = bundle.spec.process().as_ref();
        let started = standard(|stdio| {
            if let Some(process) = process.filter(|process| process.terminal() != Some(true)) {
                give_standard(&stdio, &bundle.spec, process.user().uid());
            }
            prepared.start(Start {
                cgroup: self.cgroup.cgroup().map(Cgroup::fd),
                stdio,
                listen: &inherited.listen,
                passed: &inherited.passed,
                env: &[],
                lifecycle: Some(lifecycle),
            })
        })?;
        // If it has ended already, the report says why.
        self.started = Identity::of(started.pid.as_raw());
        self.child = Some(started.pid);
        let process = self.started;
        self.container()?.state.process = process;
        Ok(started)
    }

    /// Records where the cgroup is, or that there is none.
    fn note_cgroup(&mut self) -> Result<()> {
        let directory = self
            .cgroup
            .cgroup()
            .map(Cgroup::path)
            .map(|path| path.map(PathBuf::from));
        let container = self.container()?;
        match (directory, &mut container.state.cgroup) {
            (None, place) => *place = None,
            (Some(Some(directory)), Some(place)) if place.directory != directory => {
                place.directory = directory;
                container.folder.write_state(&container.state)?;
            }
            (Some(_), _) => {}
        }
        Ok(())
    }

    /// Records the process at once where there is no cgroup by which it could be
    /// found if this program is killed.
    fn note_process(&mut self) -> Result<()> {
        let container = self.container()?;
        match container.state.cgroup {
            Some(_) => Ok(()),
            None => container.folder.write_state(&container.state),
        }
    }

    fn make_groups(&mut self, shares: &rdt::Plan) -> Result<rdt::Groups> {
        let container = self.container()?;
        let state = &mut container.state;
        let groups = shares.create(&state.id, &mut state.resctrl);
        container.folder.write_state(state)?;
        groups
    }

    fn settle(&mut self) -> Result<()> {
        let fresh = std::mem::replace(&mut self.cgroup, Fresh::None);
        if let Some(cgroup) = fresh.settle()? {
            self.cgroup = Fresh::Plain(cgroup);
        }
        Ok(())
    }

    fn done(mut self) -> Result<Container> {
        self.container
            .take()
            .ok_or_else(|| anyhow!("the container was created already"))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let Some(container) = self.container.take() else {
            return;
        };
        // The first error is the one that the caller gets.
        let tell = |result: Result<()>| {
            if let Err(error) = result {
                log::warn(&format!("{error:#}"));
            }
        };
        if let Some(process) = self.started {
            tell(
                process
                    .signal(libc::SIGKILL)
                    .map(drop)
                    .context("kill the container's process"),
            );
        }
        if let Some(child) = self.child {
            setup::reap(child);
        }
        let ours = !matches!(self.cgroup, Fresh::None) || self.child.is_some();
        // The placeholder must go first: otherwise the wait would include it.
        self.cgroup = Fresh::None;
        if let Some(place) = container.state.cgroup.as_ref().filter(|_| ours) {
            // This needs no descriptor, of which there may be none left.
            place.remove_empty();
            tell(place.destroy(&container.state.id));
        }
        tell(container.state.resctrl.remove());
        tell(container.folder.remove());
        if self.child.is_some() {
            tell(delete::run_poststop(&container.state));
        }
    }
}
