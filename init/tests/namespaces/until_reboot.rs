//! What clients ask for until the next boot: services, a host name, inhibitors of
//! a shutdown.

use std::time::{Duration, Instant};

use control::{Client, InhibitMode, Inhibitor, Refusal, Reply, Request, ServiceState, Shutdown};
use nix::sys::signal::Signal;

use crate::pid1::{End, Pid1, service, until};

/// As long as PID 1 waits for those who delay a shutdown.
const LIMIT: Duration = Duration::from_secs(5);

fn define(service: &str, text: &str) -> Request {
    Request::Define {
        service: service.to_owned(),
        text: text.to_owned(),
        root: None,
    }
}

fn remove(service: &str) -> Request {
    Request::Remove {
        service: service.to_owned(),
    }
}

/// Asks until PID 1's child that read definitions before is gone.
fn ask(pid1: &Pid1, request: &Request) -> Result<(), Refusal> {
    let mut refusal = None;
    until("PID 1 has time", || match pid1.try_ask(request) {
        Ok(Reply::Done(_)) => {
            refusal = None;
            true
        }
        Err(control::ClientError::Refused(Refusal::Failed { message }))
            if message.contains("try again") =>
        {
            false
        }
        Err(control::ClientError::Refused(other)) => {
            refusal = Some(other);
            true
        }
        other => panic!("{other:?}"),
    });
    refusal.map_or(Ok(()), Err)
}

fn inhibitor(mode: InhibitMode) -> Inhibitor {
    Inhibitor {
        who: "backup".to_owned(),
        why: "writes to the disk".to_owned(),
        mode,
    }
}

/// Inhibits a shutdown until the connection is dropped.
fn inhibit(pid1: &Pid1, mode: InhibitMode) -> Client {
    let Inhibitor { who, why, mode } = inhibitor(mode);
    let mut client = pid1.client();
    client.ask(&Request::Inhibit { who, why, mode }).unwrap();
    client
}

pub fn a_service_is_defined_outlives_reload_and_reexecution_and_is_removed() {
    let mut pid1 = Pid1::boot(&[]);
    ask(&pid1, &define("job", &service(&["until SIGTERM"], ""))).unwrap();
    let line = pid1.wait_for_state("job", ServiceState::Ready);
    assert!(line.operator && line.for_this_boot);
    pid1.define("job", &service(&["exit 1"], ""));
    let told = pid1.reload();
    assert!(
        told.iter()
            .any(|line| line.contains("`wherry service remove job`")),
        "{told:?}"
    );
    until("it re-executes", || pid1.try_ask(&Request::Reexec).is_ok());
    until("the fresh PID 1 answers", || {
        pid1.try_ask(&Request::Status).is_ok() && pid1.status().machine.reexecuted == 1
    });
    let after = pid1.service("job");
    assert_eq!((after.pid, after.for_this_boot), (line.pid, true));
    pid1.undefine("job");
    pid1.reload();
    assert_eq!(
        pid1.service("job").pid,
        line.pid,
        "a reload leaves it alone"
    );

    let socket = pid1.path("/run/wherry/notify/job");
    assert!(socket.exists());
    ask(&pid1, &remove("job")).unwrap();
    until("it is gone", || {
        let services = pid1.status().services;
        services.iter().all(|line| line.name != "job")
    });
    until("its socket is gone", || !socket.exists());
    let refusal = ask(&pid1, &remove("job")).unwrap_err();
    assert!(
        matches!(refusal, Refusal::UnknownService { .. }),
        "{refusal}"
    );
}

pub fn a_definition_with_a_mistake_or_anothers_name_leaves_nothing_behind() {
    let pid1 = Pid1::boot(&[("web", service(&["forever"], ""))]);
    pid1.define("own", &service(&["forever"], ""));
    pid1.define("broken", "nonsense");
    pid1.reload();
    let before = pid1.status().services;
    let mistake = "description = \"x\"\nimage = \"program\"\ncommando = [\"/program\"]\n";
    let refusal = ask(&pid1, &define("job", mistake)).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains(":3") && text.contains("commando"), "{text}");
    let rootless = "description = \"x\"\ncommand = [\"/program\"]\n";
    ask(&pid1, &define("job", rootless)).unwrap_err();
    ask(&pid1, &define("No Name", &service(&["forever"], ""))).unwrap_err();
    for name in ["web", "own", "broken", "state"] {
        let refusal = ask(&pid1, &define(name, &service(&["exit 1"], ""))).unwrap_err();
        assert!(refusal.to_string().contains("another name"), "{refusal}");
        ask(&pid1, &remove(name)).unwrap_err();
    }
    let names = |services: &[control::Service]| -> Vec<_> {
        let state = |line: &control::Service| (line.name.clone(), line.pid);
        services.iter().map(state).collect()
    };
    assert_eq!(names(&pid1.status().services), names(&before));
}

pub fn the_machine_takes_a_host_name_and_no_nonsense() {
    let pid1 = Pid1::boot(&[]);
    let set = |hostname: &str| Request::SetHostname {
        hostname: hostname.to_owned(),
    };
    pid1.ask(&set("boat-7"));
    assert_eq!(pid1.status().machine.hostname, "boat-7");
    for wrong in ["", "-x", "a b", "a\n", &"x".repeat(64)] {
        pid1.refused(&set(wrong));
    }
    assert_eq!(pid1.status().machine.hostname, "boat-7");
}

pub fn an_inhibitor_blocks_a_shutdown_as_long_as_its_connection_is_open() {
    let mut pid1 = Pid1::boot(&[]);
    let client = inhibit(&pid1, InhibitMode::Block);
    assert_eq!(pid1.status().inhibitors, [inhibitor(InhibitMode::Block)]);
    for request in [Request::Poweroff, Request::Reboot, Request::Halt] {
        let by = vec![inhibitor(InhibitMode::Block)];
        assert_eq!(pid1.refused(&request), Refusal::Inhibited { by });
    }
    drop(client);
    until("it is released", || pid1.status().inhibitors.is_empty());
    pid1.ask(&Request::Reboot);
    assert_eq!(pid1.end(), End::Restart);

    let mut pid1 = Pid1::boot(&[]);
    let _client = inhibit(&pid1, InhibitMode::Block);
    pid1.ask(&Request::ForceShutdown {
        shutdown: Shutdown::Poweroff,
    });
    assert_eq!(pid1.end(), End::Poweroff);
}

pub fn an_inhibitor_delays_a_shutdown_until_its_release_or_the_limit() {
    for is_released in [true, false] {
        let mut pid1 = Pid1::boot(&[]);
        let mut client = inhibit(&pid1, InhibitMode::Delay);
        let begun = Instant::now();
        let reply = pid1.ask(&Request::Reboot);
        let Reply::Done(outcome) = reply else {
            panic!("{reply:?}");
        };
        assert!(outcome.notes[0].contains("backup"), "{outcome:?}");
        let told = client.receive(Some(LIMIT)).unwrap();
        assert!(matches!(told, Reply::ShutdownWaits { .. }), "{told:?}");
        if is_released {
            drop(client);
            assert_eq!(pid1.end(), End::Restart);
            assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
        } else {
            assert_eq!(pid1.end(), End::Restart);
            assert!(begun.elapsed() >= LIMIT, "{:?}", begun.elapsed());
        }
    }
}

pub fn a_signal_is_not_blocked_and_waits_for_the_limit() {
    let mut pid1 = Pid1::boot(&[]);
    let _client = inhibit(&pid1, InhibitMode::Block);
    let begun = Instant::now();
    pid1.signal(Signal::SIGPWR);
    assert_eq!(pid1.end(), End::Poweroff);
    assert!(begun.elapsed() >= LIMIT, "{:?}", begun.elapsed());
}
