//! The service supervisor as a pure state machine.
//!
//! [`Supervisor::step`] takes the time and one [`Event`], and says which
//! [`Action`]s follow. It does no input or output, has no clock, no
//! randomness and no processes: the shell around it (PID 1) waits, tells it
//! what happened, and does what it says. What could not be done comes back
//! as an event or as the passing of a deadline. The whole machine can be
//! serialized at any time and goes on elsewhere as if nothing had been.
//!
//! This page is the specification. `tests/rules` has one test for each of
//! its rules; `src/explore` walks through all that can happen to small sets
//! of services and checks the laws below at each step.
//!
//! # States
//!
//! ```text
//!             wanted            free             ready
//! ┌─────────┐        ┌─────────┐       ┌──────────┐       ┌───────┐
//! │ Stopped ├───────►│ Waiting ├──────►│ Starting ├──────►│ Ready │
//! └─────────┘        └─┬─────▲─┘       └─┬──┬───┬─┘       └─┬─┬─┬─┘
//!   ▲ ▲       cannot be│     │repaired   │  │   └───┐   ┌───┘ │ │
//!   │ │                ▼     │           │  │   stop▼   ▼stop │ │
//!   │ │ stop         ┌───────┴┐          │  │   ┌──────────┐  │ │
//!   │ ├──────────────┤ Failed │          │  │   │ Stopping │  │ │
//!   │ │              └────▲───┘          │  │   └────┬─────┘  │ │
//!   │ │          too often│              │  │        │        │ │
//!   │ │ stop         ┌────┴────┐  failure│  │        │        │ │
//!   │ ├──────────────┤ Backoff │◄────────┴──┼────────┼────────┘ │
//!   │ │              └────┬────┘            │        │          │
//!   │ │                   └─► Waiting       │        │          │
//!   │ │ stop         ┌───────┐       success│        │          │
//!   │ └──────────────┤ Ended │◄─────────────┴────────┼──────────┘
//!   │                └───────┘                       │
//!   └────────────────────────────────────────────────┘
//!     the run has ended (stopped for a failure: as a failure)
//! ```
//!
//! A service has a *run* from [`Action::Start`] until [`Event::Exited`] or
//! [`Event::StartFailed`], that is in Starting, Ready and Stopping; never
//! two. Waiting, Failed for another service's sake, and Stopped while wanted
//! are judged again after each event, so they may be passed through in one
//! step. Each run of any service has its own number; events of another run
//! than the current one, and of unknown services, change nothing.
//!
//! A service is *up* when it is Ready, or Ended where it is a one-shot
//! (`ready = "exit"`).
//!
//! # What is wanted
//!
//! A service is wanted when it is enabled, when an operator starts it, and
//! when a wanted one requires it. It stays wanted until an operator stops it.
//! What an operator stopped is started again only by [`Event::Start`] or
//! [`Event::Restart`], of itself or of one that requires it.
//!
//! `Start` makes sure that a service is up: it takes away a failure, its
//! restart count and a backoff, here and in all that it requires, and leaves
//! alone what is up. `Restart` is the same, but ends the current run first;
//! a one-shot runs again.
//!
//! # Starting
//!
//! A wanted service starts as soon as
//! - each service that it `requires` is up, and
//! - none that it is `after` is starting, stopping, or waiting for one that
//!   is. One that failed is not waited for a second time, and
//! - none that requires it is still stopping. So no run ever sees two runs of
//!   what it requires.
//!
//! It cannot start, and is Failed until that is repaired, when what it requires
//! is not defined (`MissingDependency`), has failed or, not being a one-shot,
//! has ended (`Dependency`), or when it is in a cycle of `requires` and
//! `after` (`Cycle`). As soon as that is repaired it starts by itself. Edges
//! inside a cycle order nothing else.
//!
//! The run is ready when its program is executed (`started`), has exited with
//! 0 (`exit`), has said so (`notify`), or when a probe succeeded (`health`).
//! With `start_timeout` over before that, it is stopped and has failed. An
//! exit before it is ready is a failure, even with 0.
//!
//! # Stopping
//!
//! A service stops when an operator says so, when its definition is removed,
//! when one that it requires is not up any more, when it failed (below), and
//! when all is shut down. It gets the stop signal as soon as none that
//! depends on it, directly or by way of others, is stopping; after
//! `stop_timeout` its cgroup is killed; after [`Limits::kill`] more it is
//! given up: Failed with `StopTimeout`, which nobody waits for. It gets no
//! new run until the old one has ended after all.
//!
//! What stopped with a dependency is still wanted: it waits for that, and
//! comes back with it, be it after an operator's stop and start, a restart
//! or a crash. A one-shot that has ended is done and stays Ended whatever
//! becomes of what it required.
//!
//! A service that says `STOPPING=1` is stopping already and gets no signal.
//! When it exits, that is judged as any exit unasked for.
//!
//! # Ends unasked for
//!
//! A run fails when it exits with other than 0 or before it is ready, could
//! not be started, was not ready in time, did not say `WATCHDOG=1` in time,
//! or failed `retries` probes in a row. (A probe without an answer in time
//! has failed. Probes before it is ready do not count.) The last three stop
//! it first, its dependents before it. What follows is in `restart`:
//!
//! | policy     | exit with 0                  | failure |
//! |------------|------------------------------|---------|
//! | never      | Ended                        | Failed  |
//! | on-failure | Ended                        | Backoff |
//! | always     | Backoff, a one-shot as well  | Backoff |
//!
//! The wait is `backoff_min`, doubled with each end in a row up to
//! `backoff_max`. A run that was ready for `backoff_max` starts this again.
//! More than `limit.count` restarts in `limit.window` fail the service with
//! `RestartLimit`; restarts by an operator or with a dependency do not count.
//!
//! # Clients
//!
//! The shell watches the sockets of a service that has no run and says when a
//! client waits ([`Event::Client`]). A service that is Stopped or Ended is
//! started for it, with its count of restarts as it was. Where the client has
//! waited since the last run, that run ended without taking it (`ClientLeft`):
//! that is a failure, and what follows is in `restart`. One that has failed turns its clients
//! away ([`Action::Refuse`]) instead of leaving them waiting; after
//! `RestartLimit` it is started for the first client for which the window has
//! room again.
//!
//! # Definitions
//!
//! A new definition of a service that runs lets it run. Its dependencies,
//! restart policy and stop timeout count at once; what its process was told
//! (ready, watchdog, probes) from the next run on. A dependency that is new
//! to a running service stops it when that goes down, not because it is not
//! up. A service that failed is tried again. One that is not enabled any more
//! and does not run is not wanted any more, unless it is required.
//!
//! # Settled
//!
//! [`Action::Settled`] comes once, after [`Event::AllDefined`], as soon as
//! each enabled service is Ready, Ended, Failed, stopped by an operator, has
//! failed three times in a row, or waits for one of those.
//!
//! # Shutdown
//!
//! Nothing starts any more. All stop as above: in reverse order, in parallel
//! where independent. After [`Limits::shutdown`] all that is left is killed.
//! [`Action::Finish`] comes when each run has ended or is given up, so at
//! the latest after [`Limits::shutdown`] and [`Limits::kill`] together, if
//! only [`Event::Tick`] comes when [`Supervisor::next_deadline`] says. It is
//! the last action. A second [`Event::Shutdown`] changes the kind only.
//!
//! # Laws
//!
//! - Nothing starts before its hard dependencies are ready.
//! - Stop order reverses start order.
//! - Shutdown always ends, in bounded time.
//! - No exit is lost: none leaves a service in a state that has a run.
//! - Restarts stay within policy.
//! - A service has at most one run at a time, and each start has one end.
//! - Settled is said at most once.
//! - Serialization changes nothing.
//! - A tick never leaves a deadline in the past: the shell cannot spin.
//! - No event makes it panic.

mod command;
mod deadline;
mod event;
mod graph;
mod health;
mod name;
mod order;
mod policy;
mod run;
mod service;
mod settle;
mod shutdown;
mod state;
mod step;

#[cfg(test)]
mod explore;

pub use event::{Action, Event, Notice, Shutdown};
pub use name::{InvalidName, ServiceName};
pub use policy::{Health, Limits, Policy, Ready, Restart, RestartLimit, RestartPolicy};
pub use service::Service;
pub use state::{Exit, Failure, State};
pub use step::Supervisor;
