//! A PID 1 for tests: a real socket that speaks the control protocol, and behind
//! it a machine that a test describes.
//!
//! It keeps what `status` shows, gives each request the answer that PID 1 gives
//! when all goes well, tells watchers of each change, and remembers what was
//! asked. What a test wants otherwise it says: another machine
//! ([`FakeInit::edit`]), a refusal ([`FakeInit::refuse`]), an answer of its own
//! ([`FakeInit::answer`]), what a service goes through when it is started or
//! stopped ([`FakeInit::script`]).
//!
//! For tests only: it panics where a client breaks the protocol.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod machine;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use control::{
    BootRecord, Init, Outcome, Phase, Refusal, Reply, Request, ServerEnd, Service, ServiceDetail,
    ServiceState, Status,
};

pub use machine::{service, status};

/// The machine, and what was asked of it. Clones are the same machine.
#[derive(Clone)]
pub struct FakeInit(Arc<Mutex<State>>);

struct State {
    status: Status,
    script: Vec<(ServiceState, String)>,
    refusal: Option<Refusal>,
    answers: Vec<(Request, Reply)>,
    asked: Vec<Request>,
    watching: Vec<UnixStream>,
}

impl FakeInit {
    /// Listens at `socket` until the test's process ends. The machine is
    /// [`status`]: ready, and without a service.
    pub fn listen(socket: &Path) -> Self {
        // The socket of a fake before this one.
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let fake = Self(Arc::new(Mutex::new(State {
            status: status(),
            script: Vec::new(),
            refusal: None,
            answers: Vec::new(),
            asked: Vec::new(),
            watching: Vec::new(),
        })));
        let serving = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream.unwrap()));
            }
        });
        fake
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Changes what `status` shows. Watchers are not told: see [`Self::change`].
    pub fn edit(&self, edit: impl FnOnce(&mut Status)) {
        edit(&mut self.state().status);
    }

    /// A service appears or changes: watchers are told.
    pub fn change(&self, service: Service) {
        self.state().change(service);
    }

    /// What a service goes through, each state with its detail, as soon as a
    /// start, stop or restart of it was accepted.
    pub fn script(&self, steps: &[(ServiceState, &str)]) {
        let steps = steps
            .iter()
            .map(|(state, detail)| (*state, (*detail).into()));
        self.state().script = steps.collect();
    }

    /// Refuses whatever is asked.
    pub fn refuse(&self, refusal: Refusal) {
        self.state().refusal = Some(refusal);
    }

    /// Answers this request so.
    pub fn answer(&self, request: Request, reply: Reply) {
        self.state().answers.push((request, reply));
    }

    /// What was asked that is not only a look, in order.
    pub fn asked(&self) -> Vec<Request> {
        self.state().asked.clone()
    }

    /// Whether this was asked.
    pub fn was_asked(&self, wanted: &Request) -> bool {
        self.state().asked.contains(wanted)
    }

    fn serve(&self, mut stream: UnixStream) {
        let (mut end, hello) = ServerEnd::<Init>::accept();
        send(&mut stream, &hello);
        let mut bytes = [0; 4096];
        loop {
            while let Some(request) = end.next_request().unwrap() {
                let mut state = self.state();
                if request == Request::Watch {
                    for service in &state.status.services {
                        send_reply(&mut stream, &Reply::Changed(service.clone()));
                    }
                    state.watching.push(stream);
                    return;
                }
                let reply = state.answer(&request);
                send_reply(&mut stream, &reply);
                if !matches!(reply, Reply::Refused(_)) {
                    state.perform(&request);
                }
            }
            match stream.read(&mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(count) => end.push(&bytes[..count]),
            }
        }
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> Reply {
        if !request.is_read_only() {
            self.asked.push(request.clone());
        }
        if let Some(refusal) = &self.refusal {
            return Reply::Refused(refusal.clone());
        }
        let own = self.answers.iter().find(|(known, _)| known == request);
        if let Some((_, reply)) = own {
            return reply.clone();
        }
        match request {
            Request::Status => Reply::Status(Box::new(self.status.clone())),
            Request::Show { service } => match self.service(service) {
                Some(service) => Reply::Service(Box::new(detail(service.clone()))),
                None => Reply::Refused(Refusal::UnknownService {
                    service: service.clone(),
                }),
            },
            Request::Boot => Reply::Boot(BootRecord {
                version: self.status.machine.version.clone(),
                init_us: 900_000,
                settled_us: Some(1_200_000),
                stages: vec![],
                services: vec![],
            }),
            _ => Reply::Done(Outcome::default()),
        }
    }

    /// What an accepted request changes.
    fn perform(&mut self, request: &Request) {
        match request {
            Request::Start { service }
            | Request::Stop { service }
            | Request::Restart { service } => self.go_through_the_script(service),
            Request::Poweroff | Request::Reboot | Request::Halt | Request::ForceShutdown { .. } => {
                self.status.machine.phase = Phase::Stopping;
            }
            Request::SetHostname { hostname } => {
                self.status.machine.hostname.clone_from(hostname);
            }
            Request::Define { service, .. } => {
                let mut service = machine::service(service, ServiceState::Ready);
                service.operator = true;
                service.for_this_boot = true;
                self.change(service);
            }
            Request::Remove { service } => {
                let services = &mut self.status.services;
                services.retain(|known| known.name != *service);
            }
            _ => {}
        }
    }

    fn go_through_the_script(&mut self, name: &str) {
        let Some(mut service) = self.service(name).cloned() else {
            return;
        };
        for (second, (state, detail)) in (2..).zip(self.script.clone()) {
            service.state = state;
            service.since_us = second * 1_000_000;
            service.detail = detail;
            self.change(service.clone());
        }
    }

    fn service(&self, name: &str) -> Option<&Service> {
        let mut services = self.status.services.iter();
        services.find(|service| service.name == name)
    }

    fn change(&mut self, service: Service) {
        let services = &mut self.status.services;
        services.retain(|old| old.name != service.name);
        services.push(service.clone());
        services.sort_by(|a, b| a.name.cmp(&b.name));
        for stream in &mut self.watching {
            send_reply(stream, &Reply::Changed(service.clone()));
        }
    }
}

fn detail(service: Service) -> ServiceDetail {
    ServiceDetail {
        definition: format!("/state/services/{}/service.toml", service.name),
        service,
        text: String::new(),
        requires: vec![],
        after: vec![],
        required_by: vec![],
        cgroup: String::new(),
        tasks: None,
        cpu_us: None,
        last_exit: None,
        stored_descriptors: 0,
    }
}

fn send_reply(stream: &mut UnixStream, reply: &Reply) {
    send(stream, &ServerEnd::<Init>::reply(reply).unwrap());
}

fn send(stream: &mut UnixStream, bytes: &[u8]) {
    // A client that has gone hears nothing.
    let _ = stream.write_all(bytes);
}
