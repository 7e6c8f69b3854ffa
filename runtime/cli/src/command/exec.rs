//! `exec`.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilitiesBuilder, Process, Spec, User};
use runtime::cgroup::Cgroup;
use runtime::{Exec as Start, Listener, Setup};

use crate::arguments::Exec;
use crate::bundle::{Bundle, parse_process, read_bounded};
use crate::cgroup::Place;
use crate::console::Console;
use crate::create::{listener, standard, write_pid};
use crate::descriptors::{Inherited, give_standard};
use crate::foreground::{self, Signals};
use crate::setup;
use crate::state::{Container, Status};
use crate::store::Store;

pub fn run(store: &Store, options: &Exec) -> Result<u8> {
    exec(store, options).context("exec failed")
}

fn exec(store: &Store, options: &Exec) -> Result<u8> {
    let container = Container::load(store, &options.id)?;
    match container.status()? {
        Status::Running | Status::Created => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => {
            bail!("cannot exec in a paused container (use --ignore-paused to override)")
        }
        Status::Stopped => bail!("cannot exec in a stopped container: container not running"),
        Status::Creating => bail!("cannot exec in a container that is being created"),
    }
    let inherited = Inherited::find(options.preserve_fds)?;
    let bundle = Bundle::parse(container.state.bundle.clone(), container.folder.config()?)?;
    let process = process(options, &bundle.spec)?;
    let prepared = runtime::prepare(&bundle.spec)?;
    let agent = listener(&prepared, &bundle.spec)?;
    let prepared = prepared.exec_process(&process)?;
    let console = Console::new(
        process.terminal() == Some(true),
        options.detach,
        options.console_socket.as_deref(),
    )?;
    let cgroup = cgroup(&container, options.cgroup.as_deref())?;
    // The first process cannot end unnoticed before that: joining it then
    // fails.
    let first = container
        .state
        .process
        .map(|process| process.open())
        .transpose()
        .context("open the container's process")?
        .flatten()
        .ok_or_else(|| anyhow!("container not running"))?;
    let signals = match options.detach {
        true => None,
        false => Some(Signals::take()?),
    };
    let started = standard(|stdio| {
        if process.terminal() != Some(true) {
            give_standard(&stdio, &bundle.spec, process.user().uid());
        }
        prepared.start(
            first.as_fd(),
            Start {
                cgroup: cgroup.as_ref().map(Cgroup::fd),
                stdio,
                passed: &inherited.passed,
                console: console.fd(),
                listener: agent.as_ref().map(|socket| Listener {
                    id: &container.state.id,
                    bundle: &container.state.bundle,
                    socket: socket.as_fd(),
                }),
                keep_keyring: container.state.keep_keyring,
            },
        )
    })?;
    match setup::next(started.setup.as_fd())? {
        Setup::Executed => {}
        Setup::Failed(error) => {
            setup::reap(started.pid);
            let program = process.args().as_ref().and_then(|args| args.first());
            return Err(setup::failure(&error, program.map_or("", String::as_str)));
        }
        Setup::Pending | Setup::Environment | Setup::Created => {
            bail!("the process sent an unexpected report when it was executed")
        }
    }
    if let Some(path) = &options.pid_file {
        write_pid(path, started.pid.as_raw())?;
    }
    let terminal = console.receive()?;
    match &signals {
        Some(signals) => Ok(foreground::wait(&started, terminal, signals)? as u8),
        None => Ok(0),
    }
}

/// The process from its file, or the container's process as changed by the
/// options.
fn process(options: &Exec, spec: &Spec) -> Result<Process> {
    if let Some(path) = &options.process {
        // A pipe will do: the caller of this program waits for what it names.
        let text = File::open(path)
            .and_then(read_bounded)
            .with_context(|| format!("read {}", path.display()))?;
        let mut process = parse_process(&text)
            .with_context(|| format!("parse the process {}", path.display()))?;
        if options.tty {
            process.set_terminal(Some(true));
        }
        return Ok(process);
    }
    let Some(mut process) = spec.process().clone() else {
        bail!("process: is missing in the container's config.json");
    };
    if options.command.is_empty() {
        bail!("process args cannot be empty: name a program, or give --process");
    }
    process.set_args(Some(options.command.clone()));
    // The terminal of the container's process does not apply to another one.
    process.set_terminal(Some(options.tty));
    if !options.tty {
        process.set_console_size(None);
    }
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some(profile) = &options.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &options.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if options.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend_from_slice(&options.env);
    process.set_env(Some(env));
    if let Some(text) = &options.user {
        set_user(process.user_mut(), text)?;
    }
    if !options.additional_gids.is_empty() {
        let user = process.user_mut();
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend_from_slice(&options.additional_gids);
        user.set_additional_gids(Some(groups));
    }
    if !options.cap.is_empty() {
        add_capabilities(&mut process, &options.cap)?;
    }
    Ok(process)
}

/// `UID[:GID]`.
fn set_user(user: &mut User, text: &str) -> Result<()> {
    let number = |text: &str, what: &str| {
        text.parse()
            .with_context(|| format!("--user: {text:?} is not a {what} number"))
    };
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    user.set_uid(number(uid, "user")?);
    if let Some(gid) = gid {
        user.set_gid(number(gid, "group")?);
    }
    Ok(())
}

/// Adds capabilities to the process; to what it passes on only those that it
/// could pass on before (so that a program of another user does not get them
/// unasked).
fn add_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    let mut added = Capabilities::new();
    for name in names {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        let known: Capability = serde_json::from_value(serde_json::json!(format!("CAP_{name}")))
            .with_context(|| format!("--cap: unknown capability {name:?}"))?;
        added.insert(known);
    }
    // Not the builder's, which starts with some.
    let none = Capabilities::new;
    let mut sets = LinuxCapabilitiesBuilder::default()
        .bounding(none())
        .permitted(none())
        .effective(none())
        .inheritable(none())
        .ambient(none())
        .build()
        .context("--cap")?;
    if let Some(old) = process.capabilities() {
        sets = old.clone();
    }
    let with = |set: &Option<Capabilities>| -> Option<Capabilities> {
        Some(set.iter().flatten().chain(&added).copied().collect())
    };
    sets.set_bounding(with(sets.bounding()));
    sets.set_permitted(with(sets.permitted()));
    sets.set_effective(with(sets.effective()));
    process.set_capabilities(Some(sets));
    Ok(())
}

/// The container's cgroup, or one below it.
fn cgroup(container: &Container, below: Option<&str>) -> Result<Option<Cgroup>> {
    let Some(place) = &container.state.cgroup else {
        return match below {
            Some(_) => bail!("--cgroup: container {} has no cgroup", container.state.id),
            None => Ok(None),
        };
    };
    let place = match below {
        Some(path) => place.below(path)?,
        None => place.clone(),
    };
    Place::open(&place)?
        .map(Some)
        .ok_or_else(|| anyhow!("there is no cgroup {}", place.directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_as_numbers() {
        let mut user = User::default();
        set_user(&mut user, "7").unwrap();
        assert_eq!((user.uid(), user.gid()), (7, 0));
        set_user(&mut user, "8:9").unwrap();
        assert_eq!((user.uid(), user.gid()), (8, 9));
        for wrong in ["", "x", "1:", ":1", "1:x", "-1"] {
            assert!(set_user(&mut user, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn added_capabilities_are_not_handed_on() {
        let mut process = Process::default();
        process.set_capabilities(None);
        let names = ["net_raw".to_string(), "CAP_KILL".to_string()];
        add_capabilities(&mut process, &names).unwrap();
        let sets = process.capabilities().clone().unwrap();
        let wanted: Capabilities = [Capability::NetRaw, Capability::Kill].into();
        for (set, has) in [
            (sets.bounding(), true),
            (sets.permitted(), true),
            (sets.effective(), true),
            (sets.inheritable(), false),
            (sets.ambient(), false),
        ] {
            let expected = if has {
                wanted.clone()
            } else {
                Capabilities::new()
            };
            assert_eq!(set.as_ref(), Some(&expected));
        }
        assert!(add_capabilities(&mut process, &["NOTHING".to_string()]).is_err());
    }
}
