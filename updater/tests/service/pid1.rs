//! A machine whose PID 1 answers what the updater asks.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use control::{
    FrameBuffer, Health, MAX_REPLY, MAX_REQUEST, Machine, Memory, Outcome, Reply, Request, Service,
    ServiceState, Status, Storage, encode,
};

/// What is so on the machine, and what was asked of it.
pub struct State {
    pub machine: Machine,
    pub services: Vec<Service>,
    pub asked: Vec<Request>,
    watching: Vec<UnixStream>,
}

/// PID 1.
#[derive(Clone)]
pub struct Pid1(pub Arc<Mutex<State>>);

impl Pid1 {
    /// Listens at `socket` until the test's process ends.
    pub fn start(socket: &Path, version: &str, root_hash: &str, boot_id: &str) -> Self {
        let state = State {
            machine: Machine {
                system: format!("Wherry {version}"),
                version: version.into(),
                slot: Some("a".into()),
                root_hash: Some(root_hash.into()),
                kernel: "6.12".into(),
                hostname: "boat".into(),
                machine_id: "0123456789abcdef0123456789abcdef".into(),
                boot_id: boot_id.into(),
                uptime_us: 1,
                phase: "ready".into(),
                degraded: vec![],
                reexecuted: 0,
                trial: None,
                watchdog_reset: false,
            },
            services: vec![service("log", ServiceState::Ready)],
            asked: vec![],
            watching: vec![],
        };
        let pid1 = Self(Arc::new(Mutex::new(state)));
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let serving = pid1.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream.unwrap()));
            }
        });
        pid1
    }

    fn serve(&self, mut stream: UnixStream) {
        let mut buffer = FrameBuffer::new(MAX_REQUEST);
        let mut bytes = [0; 4096];
        loop {
            while let Some(json) = buffer.next_frame().unwrap() {
                let request: Request = serde_json::from_slice(&json).unwrap();
                let mut state = self.0.lock().unwrap();
                if request == Request::Watch {
                    for service in &state.services {
                        send(&mut stream, &Reply::Changed(service.clone()));
                    }
                    state.watching.push(stream);
                    return;
                }
                let reply = if request == Request::Status {
                    Reply::Status(Box::new(Status {
                        machine: state.machine.clone(),
                        memory: Memory::default(),
                        storage: Storage {
                            state: "persistent".into(),
                            device: None,
                            disk: None,
                            notes: vec![],
                        },
                        services: state.services.clone(),
                    }))
                } else {
                    if request == Request::Reboot {
                        state.machine.phase = "stopping".into();
                    }
                    state.asked.push(request);
                    Reply::Done(Outcome::default())
                };
                send(&mut stream, &reply);
            }
            match stream.read(&mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(count) => buffer.push(&bytes[..count]),
            }
        }
    }

    /// A service changes.
    pub fn change(&self, service: Service) {
        let mut state = self.0.lock().unwrap();
        state.services.retain(|old| old.name != service.name);
        state.services.push(service.clone());
        for stream in &mut state.watching {
            send(stream, &Reply::Changed(service.clone()));
        }
    }

    /// Whether this was asked of it.
    pub fn was_asked(&self, wanted: &Request) -> bool {
        self.0.lock().unwrap().asked.contains(wanted)
    }
}

fn send(stream: &mut UnixStream, reply: &Reply) {
    // A client that is gone hears nothing.
    let _ = stream.write_all(&encode(reply, MAX_REPLY).unwrap());
}

/// An essential service.
pub fn service(name: &str, state: ServiceState) -> Service {
    Service {
        name: name.into(),
        description: String::new(),
        state,
        since_us: 1,
        detail: String::new(),
        health: Health::Unknown,
        pid: None,
        restarts: 0,
        memory: None,
        essential: true,
        operator: false,
    }
}
