//! `wherry service …`

use std::io::{IsTerminal, Write};
use std::path::Path;

use control::{Client, Health, Reply, Request, ServiceDetail};

use serde::Serialize;

use crate::arguments::{Place, ServiceCommand, Stop};
use crate::failure::Failure;
use crate::outcome::{self, Wish};
use crate::output;
use crate::status;
use crate::terminal::{Reader, Tone, harmless};
use crate::{logs, units};

pub fn run(place: &Place, command: &ServiceCommand) -> Result<(), Failure> {
    match command {
        ServiceCommand::List => list(place),
        ServiceCommand::Show { name } => show(place, name),
        ServiceCommand::Start(change) => outcome::bring_about(place, Wish::Start, change),
        ServiceCommand::Stop(stop) => {
            confirm(stop)?;
            outcome::bring_about(place, Wish::Stop, &stop.change)
        }
        ServiceCommand::Restart(change) => outcome::bring_about(place, Wish::Restart, change),
        ServiceCommand::Logs { name, selection } => {
            logs::show(place, std::slice::from_ref(name), selection)
        }
        ServiceCommand::Check { file } => check(place, file),
        ServiceCommand::Reload => reload(place),
        ServiceCommand::Define { name, file, root } => define(place, name, file, root.as_deref()),
        ServiceCommand::Remove { name } => remove(place, name),
    }
}

/// The service whose shells are the only way into a machine that has no other.
const CONSOLE: &str = "console";

/// Asks before the last way into the machine is closed; refuses where nobody can be
/// asked.
fn confirm(stop: &Stop) -> Result<(), Failure> {
    const WHAT: &str =
        "stopping the console ends every shell on it, and only the power key is left";
    if stop.yes || !stop.change.names.iter().any(|name| name == CONSOLE) {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let message = format!("{WHAT}; add --yes to do it, or use `wherry service restart`");
        return Err(Failure::Refused(message));
    }
    eprint!("{WHAT}. Stop it? [y/N] ");
    let mut answer = String::new();
    std::io::stderr()
        .flush()
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|error| Failure::io("terminal", &error))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::Refused("nothing was stopped".to_owned()))
    }
}

fn list(place: &Place) -> Result<(), Failure> {
    let status = status::ask(&mut Client::connect(&place.socket)?)?;
    if place.json {
        return output::print_json(&status.services);
    }
    output::print(&status::services(
        &status.services,
        status.machine.uptime_us,
        Reader::of_stdout(),
    ))
}

fn show(place: &Place, name: &str) -> Result<(), Failure> {
    let mut client = Client::connect(&place.socket)?;
    let request = Request::Show {
        service: name.to_owned(),
    };
    let detail = match client.ask(&request)? {
        Reply::Service(detail) => *detail,
        other => return Err(status::unexpected(&other)),
    };
    if place.json {
        return output::print_json(&detail);
    }
    output::print(&render(&detail, units::boottime_us(), Reader::of_stdout()))
}

/// A mistake as `--json` prints it.
#[derive(Serialize)]
struct Mistake {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    key: String,
    message: String,
}

/// Checks a file as PID 1 will read it. Images, devices and mounts that it names
/// need not exist: the file may be meant for another machine.
fn check(place: &Place, file: &Path) -> Result<(), Failure> {
    let path = file.display().to_string();
    let text = config::read(file, definition::MAX_LENGTH)
        .and_then(|text| text.ok_or_else(|| config::Error::of_file(&path, "does not exist")));
    let mistake = text.and_then(|text| definition::parse(&path, &text)).err();
    if place.json {
        let mistakes: Vec<Mistake> = mistake
            .iter()
            .map(|error| Mistake {
                file: error.file.clone(),
                line: error.position.map(|position| position.line),
                column: error.position.map(|position| position.column),
                key: error.key.to_string(),
                message: error.message(),
            })
            .collect();
        output::print_json(&mistakes)?;
    }
    match mistake {
        // Without the command's name: editors expect the location first.
        Some(error) => {
            eprintln!("{}", harmless(&error.to_string()));
            Err(Failure::Reported)
        }
        None if place.json => Ok(()),
        None => output::print(&format!("{}: no mistake\n", harmless(&path))),
    }
}

fn reload(place: &Place) -> Result<(), Failure> {
    done(place, &Request::Reload, "definitions reloaded")
}

fn define(place: &Place, name: &str, file: &Path, root: Option<&Path>) -> Result<(), Failure> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let request = Request::Define {
        service: name.to_owned(),
        text: text.map_err(|error| Failure::io(file.display(), &error))?,
        root: root.map(|root| root.display().to_string()),
    };
    done(
        place,
        &request,
        &format!("{name}: defined until the next boot"),
    )
}

fn remove(place: &Place, name: &str) -> Result<(), Failure> {
    let request = Request::Remove {
        service: name.to_owned(),
    };
    done(place, &request, &format!("{name}: removed"))
}

fn done(place: &Place, request: &Request, sentence: &str) -> Result<(), Failure> {
    let outcome = match Client::connect(&place.socket)?.ask(request)? {
        Reply::Done(outcome) => outcome,
        other => return Err(status::unexpected(&other)),
    };
    if place.json {
        return output::print_json(&outcome);
    }
    let mut text = format!("{}\n", harmless(sentence));
    for note in &outcome.notes {
        text += &format!("  {}\n", harmless(note));
    }
    output::print(&text)
}

fn render(detail: &ServiceDetail, now_us: u64, reader: Reader) -> String {
    let service = &detail.service;
    let (tone, state) = status::state_of(service);
    let mut state = reader.paint(tone, state);
    if let Some(since) = status::since(service, now_us) {
        state += &format!(", {since}");
    }
    if !service.detail.is_empty() {
        state += &format!(": {}", harmless(&service.detail));
    }
    let health = match service.health {
        Health::Unknown => None,
        Health::Healthy => Some(String::from("healthy")),
        Health::Unhealthy => Some(reader.paint(Tone::Bad, "unhealthy")),
    };
    let mut kind = vec![if service.operator {
        "the operator's"
    } else {
        "the system's"
    }];
    if service.for_this_boot {
        kind.push("until the next boot");
    }
    if service.essential {
        kind.push("essential");
    }
    let list = |names: &[String]| (!names.is_empty()).then(|| harmless(&names.join(", ")));
    let facts = [
        ("State", Some(state)),
        ("Health", health),
        ("Last run", detail.last_exit.as_deref().map(harmless)),
        (
            "Restarts",
            (service.restarts > 0).then(|| service.restarts.to_string()),
        ),
        ("Kind", Some(kind.join(", "))),
        ("Process", service.pid.map(|pid| pid.to_string())),
        ("Tasks", detail.tasks.map(|tasks| tasks.to_string())),
        ("Memory", service.memory.map(units::size)),
        ("CPU time", detail.cpu_us.map(units::span)),
        ("Requires", list(&detail.requires)),
        ("After", list(&detail.after)),
        ("Required by", list(&detail.required_by)),
        (
            "Stored",
            (detail.stored_descriptors > 0)
                .then(|| format!("{} descriptors", detail.stored_descriptors)),
        ),
        (
            "Cgroup",
            Some(harmless(&detail.cgroup)).filter(|cgroup| !cgroup.is_empty()),
        ),
        ("Definition", Some(harmless(&detail.definition))),
    ];
    let mut text = reader.paint(Tone::Heading, &harmless(&service.name));
    if !service.description.is_empty() {
        text += &format!(": {}", harmless(&service.description));
    }
    text.push('\n');
    for (name, value) in facts {
        if let Some(value) = value {
            text += &format!("  {name:<12} {value}\n");
        }
    }
    text.push('\n');
    for line in detail.text.lines() {
        text += &format!("  {}\n", reader.paint(Tone::Quiet, &harmless(line)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::ServiceState;

    fn detail() -> ServiceDetail {
        let mut service = status::tests::service("network", ServiceState::Ready);
        service.pid = Some(204);
        service.memory = Some(3_145_728);
        service.detail = "eth0 10.0.2.15/24".into();
        service.essential = true;
        service.restarts = 1;
        ServiceDetail {
            service,
            definition: "/usr/lib/wherry/services/network/service.toml".into(),
            text: "description = \"the network service\"\ncommand = [\"/usr/bin/network\"]\n"
                .into(),
            requires: vec!["log".into()],
            after: vec![],
            required_by: vec!["web".into(), "time".into()],
            cgroup: "services/network".into(),
            tasks: Some(1),
            cpu_us: Some(48_000),
            last_exit: Some("exited with 1".into()),
            stored_descriptors: 0,
        }
    }

    #[test]
    fn all_of_a_service_is_shown_with_its_definition() {
        insta::assert_snapshot!(render(&detail(), 65_000_000, Reader::PLAIN));
    }

    /// The shape is documented: it changes together with docs/cli.md.
    #[test]
    fn the_json_shape_is_stable() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&detail()).unwrap());
    }
}
