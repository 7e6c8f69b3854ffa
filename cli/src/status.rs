//! `wherry status`: the machine and its services on one screen.

use control::{
    Client, Health, InhibitMode, Machine, Phase, Reply, Request, Service, ServiceState, Status,
    Storage, StorageState,
};

use crate::arguments::Place;
use crate::failure::Failure;
use crate::output;
use crate::table::{Align, Cell, Table};
use crate::terminal::{Reader, Tone, harmless};
use crate::units;

pub fn run(place: &Place) -> Result<(), Failure> {
    let status = ask(&mut Client::connect(&place.socket)?)?;
    if place.json {
        return output::print_json(&status);
    }
    output::print(&render(&status, Reader::of_stdout()))
}

/// Asks PID 1 for its status.
pub fn ask(client: &mut Client) -> Result<Status, Failure> {
    match client.ask(&Request::Status)? {
        Reply::Status(status) => Ok(*status),
        other => Err(unexpected(&other)),
    }
}

/// PID 1's reply does not match the request.
pub fn unexpected(reply: &Reply) -> Failure {
    Failure::Failed(format!(
        "PID 1 gave an answer to another question: {reply:?}"
    ))
}

fn render(status: &Status, reader: Reader) -> String {
    let mut lines = head(&status.machine, reader);
    lines.push(String::new());
    lines.push(memory(status));
    lines.push(state(&status.storage, reader));
    for note in &status.storage.notes {
        lines.push(format!("         {}", harmless(note)));
    }
    for inhibitor in &status.inhibitors {
        let what = match inhibitor.mode {
            InhibitMode::Block => "blocked",
            InhibitMode::Delay => "delayed",
        };
        let line = format!("Shutdown {what} by {}", harmless(&inhibitor.to_string()));
        lines.push(reader.paint(Tone::Busy, &line));
    }
    lines.push(String::new());
    // A reason is never cut: a long one wraps.
    lines.join("\n") + "\n" + &services(&status.services, status.machine.uptime_us, reader)
}

fn head(machine: &Machine, reader: Reader) -> Vec<String> {
    let slot = machine.slot.map_or_else(
        || String::from("no slot"),
        |slot| format!("slot {}", slot.letter().to_uppercase()),
    );
    let phase = match machine.phase {
        Phase::Ready => Tone::Good,
        Phase::Degraded => Tone::Bad,
        Phase::Booting | Phase::Stopping => Tone::Busy,
    };
    let title = format!(
        "{} on {}",
        harmless(&machine.system),
        harmless(&machine.hostname)
    );
    let mut lines = vec![
        format!(
            "{}: {}",
            reader.paint(Tone::Heading, &title),
            reader.paint(phase, machine.phase.as_str())
        ),
        format!(
            "version {}, {slot}, kernel {}, up {}",
            harmless(&machine.version),
            harmless(&machine.kernel),
            units::span(machine.uptime_us)
        ),
    ];
    if let Some(trial) = &machine.trial {
        let left = trial.until_us.saturating_sub(machine.uptime_us);
        let line = format!(
            "on trial: restarts in {} unless confirmed",
            units::span(left)
        );
        lines.push(reader.paint(Tone::Busy, &line));
    }
    for reason in &machine.degraded {
        let reason = format!("  ! {}", harmless(reason));
        lines.push(reader.paint(Tone::Bad, &reason));
    }
    lines
}

fn memory(status: &Status) -> String {
    let memory = status.memory;
    format!(
        "Memory   {} of {} available, PID 1 uses {}",
        units::size(memory.available),
        units::size(memory.total),
        units::size(memory.init_private)
    )
}

fn state(storage: &Storage, reader: Reader) -> String {
    let mut line = String::from("State    ");
    if let Some(disk) = storage.disk {
        line += &format!(
            "{} of {} available, ",
            units::size(disk.available),
            units::size(disk.total)
        );
    }
    let tone = match storage.state {
        StorageState::Persistent => Tone::Plain,
        StorageState::Pending | StorageState::Volatile => Tone::Bad,
    };
    line += &reader.paint(tone, storage.state.as_str());
    if let Some(device) = &storage.device {
        line += &format!(" on {}", harmless(device));
    }
    line
}

/// The list of services, made at `now_us` by PID 1's clock.
pub fn services(services: &[Service], now_us: u64, reader: Reader) -> String {
    if services.is_empty() {
        return String::from("no services\n");
    }
    let mut table = Table::new(&[
        ("SERVICE", Align::Left),
        ("STATE", Align::Left),
        ("SINCE", Align::Right),
        ("MEMORY", Align::Right),
        ("RESTARTS", Align::Right),
        ("DETAIL", Align::Left),
    ]);
    for service in services {
        let (tone, state) = state_of(service);
        table.row([
            Cell::from(&service.name),
            Cell::new(tone, state),
            Cell::from(since(service, now_us).unwrap_or_default()),
            Cell::from(service.memory.map(units::size).unwrap_or_default()),
            match service.restarts {
                0 => Cell::from(""),
                restarts => Cell::new(Tone::Busy, restarts.to_string()),
            },
            Cell::from(&service.detail),
        ]);
    }
    table.render(reader)
}

/// How long ago the state began; `None` for one that the service has had all
/// along, such as that of a definition with an error.
pub fn since(service: &Service, now_us: u64) -> Option<String> {
    (service.since_us > 0).then(|| units::ago(now_us.saturating_sub(service.since_us)))
}

/// The state as shown, and its tone. A ready service whose probe fails is
/// unhealthy.
pub fn state_of(service: &Service) -> (Tone, &'static str) {
    match service.state {
        ServiceState::Ready => match service.health {
            Health::Unhealthy => (Tone::Bad, "unhealthy"),
            Health::Healthy | Health::Unknown => (Tone::Good, "ready"),
        },
        ServiceState::Ended => (Tone::Good, "ended"),
        ServiceState::Waiting
        | ServiceState::Starting
        | ServiceState::Stopping
        | ServiceState::Backoff => (Tone::Busy, service.state.as_str()),
        ServiceState::Failed | ServiceState::Invalid => (Tone::Bad, service.state.as_str()),
        ServiceState::Stopped => (Tone::Quiet, "stopped"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use control::{Disk, Inhibitor, Memory, Slot};

    pub fn service(name: &str, state: ServiceState) -> Service {
        Service {
            name: name.into(),
            description: format!("the {name} service"),
            state,
            since_us: 1_000_000,
            detail: String::new(),
            health: Health::Unknown,
            pid: None,
            restarts: 0,
            memory: None,
            essential: false,
            operator: false,
            for_this_boot: false,
        }
    }

    fn status() -> Status {
        let mut log = service("log", ServiceState::Ready);
        log.memory = Some(1_900_544);
        log.pid = Some(201);
        let mut network = service("network", ServiceState::Ready);
        network.detail = "eth0 10.0.2.15/24".into();
        network.memory = Some(3_145_728);
        network.health = Health::Unhealthy;
        let mut web = service("web", ServiceState::Backoff);
        web.detail = "exited with 3; starts again in 2 s\x1b[2J".into();
        web.restarts = 4;
        web.since_us = 250_000_000;
        Status {
            machine: Machine {
                system: "Wherry 0.1.0".into(),
                version: "0.1.0".into(),
                slot: Some(Slot::A),
                root_hash: Some("ab".repeat(32)),
                kernel: "6.12.57-wherry".into(),
                hostname: "wherry-1a2b".into(),
                machine_id: "1a2b".repeat(8),
                boot_id: "3c4d".repeat(8),
                uptime_us: 252_400_000,
                phase: Phase::Degraded,
                degraded: vec![
                    "the state partition does not mount; state is volatile".into(),
                    "service 'web' failed".into(),
                ],
                reexecuted: 0,
                trial: None,
                watchdog_reset: false,
            },
            memory: Memory {
                total: 510_656_512,
                available: 430_112_768,
                free: 401_112_768,
                init_private: 983_040,
            },
            storage: Storage {
                state: StorageState::Persistent,
                device: Some("/dev/vda6".into()),
                disk: Some(Disk {
                    total: 3_435_973_836,
                    available: 3_328_599_654,
                }),
                notes: vec!["grown to the end of the disk".into()],
            },
            inhibitors: vec![Inhibitor {
                who: "backup".into(),
                why: "writes to the disk".into(),
                mode: InhibitMode::Block,
            }],
            services: vec![
                Service {
                    since_us: 0,
                    ..service("broken", ServiceState::Invalid)
                },
                log,
                network,
                service("state", ServiceState::Ended),
                web,
            ],
        }
    }

    #[test]
    fn the_machine_is_shown_on_one_screen() {
        insta::assert_snapshot!(render(&status(), Reader::PLAIN));
    }

    #[test]
    fn a_terminal_gets_colours_and_lines_of_its_width() {
        let reader = Reader {
            colour: true,
            width: Some(60),
        };
        insta::assert_snapshot!(render(&status(), reader).replace('\x1b', "^"));
    }

    /// The shape is documented: it changes together with docs/cli.md.
    #[test]
    fn the_json_shape_is_stable() {
        let mut status = status();
        status.services.truncate(1);
        insta::assert_snapshot!(serde_json::to_string_pretty(&status).unwrap());
    }
}
