//! Events that no sound shell would send: at any time, in any order, with
//! clocks that jump.

use super::draw;
use super::worlds::any_definitions;
use crate::{Action, Event, Exit, Limits, Notice, ServiceName, Shutdown, Supervisor};
use std::time::Duration;

/// A name that may be defined or not, and a run that may be its.
fn any_run(supervisor: &Supervisor, random: &mut u64) -> (ServiceName, u32) {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let name: ServiceName = names[draw(random, names.len())].parse().unwrap();
    let run = supervisor.service(&name).map_or(0, |s| s.run());
    let run = match draw(random, 5) {
        0 => run.wrapping_sub(1),
        1 => run.wrapping_add(1),
        _ => run,
    };
    (name, run)
}

fn any_event(supervisor: &Supervisor, random: &mut u64) -> Event {
    let (service, run) = any_run(supervisor, random);
    match draw(random, 26) {
        0 => Event::Define(any_definitions(random)),
        1 => Event::Remove(service),
        2 => Event::Start(service),
        3 => Event::Stop(service),
        4 => Event::Restart(service),
        5 => Event::AllDefined,
        6 => Event::StartFailed {
            service,
            run,
            reason: "no memory".into(),
        },
        7..=9 => Event::Exited {
            service,
            run,
            exit: match draw(random, 3) {
                0 => Exit::Code(0),
                1 => Exit::Code(255),
                _ => Exit::Signal(11),
            },
        },
        10..=13 => Event::Notified {
            service,
            run,
            notice: match draw(random, 6) {
                0 => Notice::Stopping,
                1 => Notice::Reloading,
                2 => Notice::Watchdog,
                _ => Notice::Ready,
            },
        },
        14..=15 => Event::Probed {
            service,
            run,
            healthy: draw(random, 2) == 0,
        },
        16..=19 => Event::Executed { service, run },
        20..=21 => Event::Client {
            service,
            left: draw(random, 2) == 0,
        },
        _ => Event::Tick,
    }
}

fn any_time(now: Duration, random: &mut u64) -> Duration {
    let step = Duration::from_millis(draw(random, 3000) as u64);
    match draw(random, 20) {
        0 => now.saturating_sub(step),
        1 => now + step * 1000,
        _ => now + step,
    }
}

#[test]
fn whatever_is_told_nothing_panics_and_a_shutdown_ends() {
    for seed in 0..300 {
        let mut random = seed;
        let mut now = Duration::ZERO;
        let mut supervisor = Supervisor::new(Limits::default());
        for _ in 0..300 {
            now = any_time(now, &mut random);
            let event = any_event(&supervisor, &mut random);
            supervisor.step(now, event);
        }
        let limits = Limits::default();
        let latest = now + limits.shutdown + limits.kill;
        let mut actions = supervisor.step(now, Event::Shutdown(Shutdown::Halt));
        while let Some(deadline) = supervisor.next_deadline() {
            assert!(deadline <= latest, "with seed {seed}");
            now = now.max(deadline);
            actions = supervisor.step(now, Event::Tick);
        }
        let last = actions.last();
        assert_eq!(
            last,
            Some(&Action::Finish(Shutdown::Halt)),
            "with seed {seed}"
        );
    }
}
