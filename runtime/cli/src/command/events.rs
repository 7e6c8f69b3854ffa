//! `events`.

use std::fs::File;
use std::io::{Write, stdout};
use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::arguments::Events;
use crate::state::{Container, Status};
use crate::store::Store;

pub fn run(store: &Store, options: &Events) -> Result<()> {
    let container = Container::load(store, &options.id)?;
    if container.status()? == Status::Stopped {
        bail!("container with id {} is not running", options.id);
    }
    let cgroup = container.cgroup()?;
    let statistics = || -> Result<()> {
        let data = serde_json::to_value(cgroup.statistics()?).context("the statistics")?;
        print(&container, "stats", Some(data))
    };
    if options.stats {
        return statistics();
    }
    let Some(process) = container.state.process else {
        bail!("container with id {} is not running", options.id);
    };
    let Some(process) = process.open().context("open the container's process")? else {
        return Ok(());
    };
    let kills = || cgroup.stats().map(|stats| stats.oom_kills);
    // Reports each change; without the controller there is nothing to report.
    let memory = cgroup
        .path()
        .and_then(|path| File::open(path.join("memory.events")).ok());
    let mut killed = kills()?;
    let mut due = Instant::now() + options.interval;
    loop {
        let rest = due.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        if let Some(memory) = &memory {
            fds.push(PollFd::new(memory.as_fd(), PollFlags::POLLPRI));
        }
        match poll(
            &mut fds,
            PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("wait for events"),
        }
        let ended = fds.first().is_some_and(|fd| fd.any() == Some(true));
        let now = kills().unwrap_or(killed);
        if now > killed {
            killed = now;
            print(&container, "oom", None)?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= due {
            statistics()?;
            due += options.interval;
        }
    }
}

fn print(container: &Container, kind: &str, data: Option<Value>) -> Result<()> {
    let mut event = json!({ "type": kind, "id": container.state.id });
    if let Some(data) = data {
        event["data"] = data;
    }
    writeln!(stdout(), "{event}").context("print the event")
}
