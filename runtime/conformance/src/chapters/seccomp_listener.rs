//! config-linux.md, Seccomp: SCMP_ACT_NOTIFY and its agent.

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

use crate::bench::{Bench, Container, End, text};
use crate::clause::{Check, Clause, Try, demand, must};
use crate::probe::{self};
use crate::sys::{self, Call};

use super::seccomp::{all_but, call, refused, under};

pub const CLAUSES: &[Clause] = &[
    must(
        "config-linux.md#seccomp listenerPath",
        "the agent gets the container process state with seccompFd, and decides",
        &[],
        listener,
    ),
    must(
        "config-linux.md#seccomp listenerPath",
        "an agent that cannot be reached is an error",
        &[],
        no_agent,
    ),
    must(
        "config-linux.md#seccomp listenerPath",
        "without SCMP_ACT_NOTIFY it is ignored",
        &[],
        listener_without_use,
    ),
    must(
        "config-linux.md#seccomp listenerMetadata",
        "without listenerPath it is an error",
        &[],
        metadata_alone,
    ),
];

pub(super) fn notifying(path: &str) -> Value {
    let mut profile = all_but(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }]));
    profile["listenerPath"] = json!(path);
    profile["listenerMetadata"] = json!("of the suite");
    profile
}

/// Receives from a connection: its text and its descriptors.
pub(super) fn take(stream: &mut UnixStream) -> Try<(String, Vec<OwnedFd>)> {
    let mut bytes = vec![0_u8; 1 << 16];
    let mut space = cmsg_space!([i32; 8]);
    let (count, descriptors) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<()>(
            stream.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let mut descriptors = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                descriptors.extend(numbers.into_iter().map(sys::received));
            }
        }
        (message.bytes, descriptors)
    };
    bytes.truncate(count);
    // The connection ends with the state.
    stream.read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), descriptors))
}

fn listener(bench: &Bench) -> Check {
    let path = bench.path("agent");
    let agent = UnixListener::bind(&path)?;
    let mut bundle = bench.bundle()?;
    bundle.set("/annotations", json!({ "org.example.key": "value" }));
    bundle.set("/linux/seccomp", notifying(&path.to_string_lossy()));
    bundle.steps(&[call(Call::Mkdir), call(Call::Mkdir), call(Call::Getpgrp)]);
    let answers = std::thread::spawn(move || -> Try<(String, usize, u32)> {
        let (mut stream, _) = agent.accept()?;
        let (state, descriptors) = take(&mut stream)?;
        let count = descriptors.len();
        let mut pid = 0;
        if let Some(notify) = descriptors.first() {
            (pid, _) = sys::answer_notification(notify.as_fd(), Some(77))?;
            sys::answer_notification(notify.as_fd(), None)?;
        }
        Ok((state, count, pid))
    });
    let container: Container = bench.start(&bundle)?;
    let end = container.wait()?;
    demand!(end == End::Code(0), "{end}");
    let ran = container.ran(end)?;
    demand!(
        *ran.result(0)? == probe::Done::Error(77),
        "the agent's error became {:?}",
        ran.result(0)?
    );
    demand!(
        ran.result(1)?.failed_with(Errno::EFAULT),
        "the call that the agent let go on: {}",
        ran.result(1)?
    );
    let Ok(answer) = answers.join() else {
        demand!(false, "the agent broke off");
        return Ok(());
    };
    let (state, count, _) = answer?;
    demand!(count == 1, "{count} descriptors came");
    let state: Value = serde_json::from_str(&state)?;
    demand!(
        state["fds"] == json!(["seccompFd"]),
        "fds is {}",
        state["fds"]
    );
    demand!(
        text(&state, "metadata") == "of the suite",
        "metadata is {}",
        state["metadata"]
    );
    demand!(
        !text(&state, "ociVersion").is_empty() && state["pid"] == container.pid.as_raw(),
        "it is {state}"
    );
    let inner = &state["state"];
    demand!(
        text(inner, "id") == container.id
            && text(inner, "status") == "creating"
            && inner["pid"] == container.pid.as_raw()
            && text(inner, "bundle") == bundle.folder().to_string_lossy()
            && inner["annotations"]["org.example.key"] == "value",
        "its state is {inner}"
    );
    Ok(())
}

fn no_agent(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/seccomp", notifying("/no/such/socket"));
    bench.refuses_to_run(&mut bundle)?;
    let mut profile = notifying("");
    if let Some(fields) = profile.as_object_mut() {
        fields.remove("listenerPath");
        fields.remove("listenerMetadata");
    }
    bundle.set("/linux/seccomp", profile);
    bench.refuses_to_run(&mut bundle)?;
    Ok(())
}

fn listener_without_use(bench: &Bench) -> Check {
    let mut profile = all_but(json!([{ "names": ["getpgrp"], "action": "SCMP_ACT_ERRNO" }]));
    profile["listenerPath"] = json!("/no/such/socket");
    let ran = under(bench, profile, &[call(Call::Getpgrp)])?;
    demand!(
        ran.result(0)?.failed_with(Errno::EPERM),
        "{}",
        ran.result(0)?
    );
    Ok(())
}

fn metadata_alone(bench: &Bench) -> Check {
    let mut profile = all_but(json!([]));
    profile["listenerMetadata"] = json!("alone");
    refused(bench, profile)
}
