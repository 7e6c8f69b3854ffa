//! What a console says before its shell: which machine this is, how it is, and
//! where to look on.

use control::{Client, ClientError, Reply, Request, Service, ServiceState, Status};
use std::path::Path;

/// The machine as PID 1 describes it.
#[derive(Debug)]
pub struct Machine {
    /// Its name, for the prompt.
    pub hostname: String,
    /// The greeting's first line.
    title: String,
    /// How it is, in one line.
    state: String,
}

/// Asks PID 1. Where that fails the greeting says so: the person at the console
/// is the one to know.
pub fn ask(socket: &Path) -> Machine {
    let status = Client::connect(socket).and_then(|mut client| client.ask(&Request::Status));
    match status {
        Ok(Reply::Status(status)) => describe(&status),
        Ok(_) => unknown("PID 1 does not answer as expected"),
        Err(error) => unknown(&reason(&error)),
    }
}

fn reason(error: &ClientError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn unknown(why: &str) -> Machine {
    Machine {
        hostname: nix::unistd::gethostname()
            .map_or_else(|_| String::new(), |name| name.to_string_lossy().into()),
        title: String::from("Wherry"),
        state: why.to_owned(),
    }
}

fn describe(status: &Status) -> Machine {
    let machine = &status.machine;
    Machine {
        hostname: machine.hostname.clone(),
        title: format!("{} on {}", machine.system, machine.hostname),
        state: state(status),
    }
}

fn state(status: &Status) -> String {
    let machine = &status.machine;
    if !machine.degraded.is_empty() {
        let degraded = machine.degraded.join("; ");
        return format!("{}: {degraded}", machine.phase.as_str());
    }
    let with = |states: &[ServiceState]| -> Vec<&str> {
        let found = |service: &&Service| states.contains(&service.state);
        let services = status.services.iter().filter(found);
        services.map(|service| service.name.as_str()).collect()
    };
    let failed = with(&[ServiceState::Failed, ServiceState::Invalid]);
    let starting = with(&[ServiceState::Waiting, ServiceState::Starting]);
    let ready = with(&[ServiceState::Ready]).len();
    let plural = if ready == 1 { "" } else { "s" };
    let phase = machine.phase.as_str();
    let mut line = format!("{phase}: {ready} service{plural} ready");
    for (names, what) in [(starting, "starting"), (failed, "failed")] {
        if !names.is_empty() {
            line += &format!(", {what}: {}", names.join(" "));
        }
    }
    line
}

impl Machine {
    /// The greeting on `console`, line ends as a terminal in any mode needs them.
    pub fn greeting(&self, console: &str) -> String {
        let lines = [
            String::new(),
            format!("{} ({console})", self.title),
            self.state.clone(),
            String::from("`wherry status` shows the machine, `wherry help` what else there is."),
        ];
        let lines = lines.iter().map(|line| log_line::harmless(line) + "\r\n");
        lines.collect()
    }

    /// The prompt: the shell expands it each time. The name comes from
    /// configuration, so what a shell would expand in it is left out.
    pub fn prompt(&self) -> String {
        let name: String = self
            .hostname
            .chars()
            .filter(|it| it.is_ascii_alphanumeric() || ".-_".contains(*it))
            .collect();
        format!("{name}:$PWD# ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::Phase;

    fn status(phase: Phase, services: &[(&str, ServiceState)]) -> Status {
        let mut status = fake_init::status();
        status.machine.phase = phase;
        status.machine.hostname = "boat$(reboot)\x1b".into();
        let service = |(name, state): &(&str, ServiceState)| fake_init::service(name, *state);
        status.services = services.iter().map(service).collect();
        status
    }

    #[test]
    fn the_state_is_one_line() {
        use ServiceState as S;
        let ready = status(Phase::Ready, &[("log", S::Ready), ("state", S::Ended)]);
        assert_eq!(state(&ready), "ready: 1 service ready");
        let booting = status(Phase::Booting, &[("log", S::Ready), ("web", S::Waiting)]);
        assert_eq!(state(&booting), "booting: 1 service ready, starting: web");
        let mut degraded = status(Phase::Degraded, &[("web", S::Failed)]);
        assert_eq!(state(&degraded), "degraded: 0 services ready, failed: web");
        degraded.machine.degraded = vec!["state is volatile".into(), "web failed".into()];
        assert_eq!(state(&degraded), "degraded: state is volatile; web failed");
    }

    #[test]
    fn neither_greeting_nor_prompt_carries_what_a_terminal_or_shell_obeys() {
        let machine = describe(&status(Phase::Ready, &[]));
        assert_eq!(machine.prompt(), "boatreboot:$PWD# ");
        assert!(!machine.greeting("ttyS0").contains('\x1b'));
        assert!(machine.greeting("ttyS0").contains("(ttyS0)\r\n"));
    }

    #[test]
    fn without_pid_1_the_greeting_says_so() {
        let machine = ask(Path::new("/nonexistent/init.sock"));
        assert!(machine.state.contains("cannot reach PID 1"));
    }
}
