//! The service supervisor as a pure state machine.

mod event;
mod name;
mod policy;
mod service;
mod state;
mod step;

pub use event::{Action, Event, Exit, Notice, Shutdown};
pub use name::{InvalidName, ServiceName};
pub use policy::{Health, Limits, Policy, Ready, Restart, RestartLimit, RestartPolicy};
pub use service::Service;
pub use state::{Failure, State};
pub use step::Supervisor;
