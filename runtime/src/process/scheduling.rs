//! Scheduler, I/O priority and CPUs of a process (runtime-spec, config.md,
//! "Linux Process").

use nix::errno::Errno;
use oci_spec::runtime::{
    IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, Process, Scheduler,
};

use crate::error::{Error, Step};
use crate::report::{At, Failure};
use crate::sys::{self, SchedulerAttributes};

/// As many CPUs as any kernel is built for.
const CPUS: usize = 8192;

/// When and where a process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    scheduler: Option<SchedulerAttributes>,
    io_priority: Option<u32>,
    /// CPUs until its program is executed, and from then on: only for another
    /// process of a container.
    initial: Option<Vec<u64>>,
    last: Option<Vec<u64>>,
}

impl Plan {
    pub fn new(process: &Process) -> Result<Plan, Error> {
        let affinity = process.exec_cpu_affinity().as_ref();
        let cpus = |name: &str, list: Option<&String>| {
            list.filter(|list| !list.is_empty())
                .map(|list| cpus(&format!("process.execCPUAffinity.{name}"), list))
                .transpose()
        };
        Ok(Plan {
            scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
            io_priority: process
                .io_priority()
                .map(|io| {
                    let class = match io.class() {
                        IOPriorityClass::IoprioClassRt => 1,
                        IOPriorityClass::IoprioClassBe => 2,
                        IOPriorityClass::IoprioClassIdle => 3,
                    };
                    match u32::try_from(io.priority()) {
                        Ok(priority @ 0..=7) => Ok(class << 13 | priority),
                        Ok(_) | Err(_) => Err(Error::invalid(
                            "process.ioPriority.priority",
                            format!("{} is not between 0 and 7", io.priority()),
                        )),
                    }
                })
                .transpose()?,
            initial: cpus("initial", affinity.and_then(|cpus| cpus.initial().as_ref()))?,
            last: cpus(
                "final",
                affinity.and_then(|cpus| cpus.cpu_affinity_final().as_ref()),
            )?,
        })
    }

    /// The container's first process has no CPUs of its own.
    pub fn of_first_process(mut self) -> Plan {
        (self.initial, self.last) = (None, None);
        self
    }

    /// As soon as the process exists. Without CPUs of its own it may use all of
    /// its cgroup: the caller's may be fewer.
    pub fn begin(&self) -> Result<(), Failure<'static>> {
        const ALL: [u64; CPUS / 64] = [u64::MAX; CPUS / 64];
        let Some(initial) = &self.initial else {
            // What a security module or a filter forbids stays as it is.
            let _ = sys::set_affinity(&ALL);
            return Ok(());
        };
        match sys::set_affinity(initial) {
            // It is born in the container's cgroup, whose CPUs may differ.
            Ok(()) | Err(Errno::EINVAL) => Ok(()),
            Err(errno) => Err(errno).at(Step::Affinity, b"process.execCPUAffinity.initial"),
        }
    }

    /// While it has the privileges that this may need.
    pub fn apply(&self) -> Result<(), Failure<'static>> {
        if let Some(cpus) = &self.last {
            sys::set_affinity(cpus).at(Step::Affinity, b"process.execCPUAffinity.final")?;
        }
        if let Some(priority) = self.io_priority {
            sys::set_io_priority(priority).at(Step::IoPriority, b"")?;
        }
        match &self.scheduler {
            Some(scheduler) => sys::set_scheduler(scheduler).at(Step::Scheduler, b""),
            None => Ok(()),
        }
    }
}

fn scheduler(asked: &Scheduler) -> Result<SchedulerAttributes, Error> {
    let refused =
        |name: &str, reason: &str| Err(Error::invalid(format!("process.scheduler.{name}"), reason));
    let policy = match asked.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => {
            return refused("policy", "SCHED_ISO was never in a Linux kernel");
        }
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flags = asked.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
            }
    });
    let nice = asked.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return refused("nice", "is not between -20 and 19");
    }
    let real_time = matches!(policy, 1 | 2);
    let priority = asked.priority().unwrap_or(0);
    if priority != 0 && !real_time {
        return refused("priority", "is for SCHED_FIFO and SCHED_RR");
    }
    if real_time && !(1..=99).contains(&priority) {
        return refused("priority", "is not between 1 and 99");
    }
    for (name, value) in [
        ("runtime", asked.runtime()),
        ("deadline", asked.deadline()),
        ("period", asked.period()),
    ] {
        if policy != 6 && value.is_some_and(|value| value != 0) {
            return refused(name, "is for SCHED_DEADLINE");
        }
    }
    Ok(SchedulerAttributes {
        size: size_of::<SchedulerAttributes>() as u32,
        policy,
        flags,
        nice,
        priority: priority.unsigned_abs(),
        runtime: asked.runtime().unwrap_or(0),
        deadline: asked.deadline().unwrap_or(0),
        period: asked.period().unwrap_or(0),
        clamp_min: 0,
        clamp_max: 0,
    })
}

/// A list such as `0-3,7`, one bit per CPU.
fn cpus(field: &str, list: &str) -> Result<Vec<u64>, Error> {
    let wrong = || Error::invalid(field, format!("\"{list}\" is not a list of CPUs"));
    let mut bits = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| wrong())?;
        let last: usize = last.parse().map_err(|_| wrong())?;
        if first > last || last >= CPUS {
            return Err(wrong());
        }
        if bits.len() <= last / 64 {
            bits.resize(last / 64 + 1, 0);
        }
        for cpu in first..=last {
            bits[cpu / 64] |= 1 << (cpu % 64);
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(field: &str, value: Value) -> Result<Plan, Error> {
        let mut process = json!({ "user": { "uid": 0, "gid": 0 }, "cwd": "/" });
        process[field] = value;
        Plan::new(&serde_json::from_value(process).unwrap())
    }

    #[test]
    fn a_list_of_cpus_becomes_bits() {
        assert_eq!(cpus("x", "0-3,7,64").unwrap(), [0b1000_1111, 1]);
        for wrong in ["", "3-1", "a", "1,", "8192"] {
            assert!(cpus("x", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_io_priority_has_its_class_above() {
        let io = |class: &str, priority: i64| {
            plan(
                "ioPriority",
                json!({ "class": class, "priority": priority }),
            )
        };
        assert_eq!(
            io("IOPRIO_CLASS_IDLE", 7).unwrap().io_priority,
            Some(0x6007)
        );
        let text = io("IOPRIO_CLASS_BE", 8).unwrap_err().to_string();
        assert!(text.contains("process.ioPriority.priority"), "{text}");
    }

    #[test]
    fn a_scheduler_has_what_its_policy_understands() {
        let all = plan(
            "scheduler",
            json!({ "policy": "SCHED_DEADLINE", "flags": ["SCHED_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"], "runtime": 1, "deadline": 2, "period": 3 }),
        );
        let attributes = all.unwrap().scheduler.unwrap();
        assert_eq!((attributes.policy, attributes.flags), (6, 3));
        assert_eq!(attributes.size, 56);
        for (value, field) in [
            (json!({ "policy": "SCHED_ISO" }), "process.scheduler.policy"),
            (
                json!({ "policy": "SCHED_OTHER", "nice": 20 }),
                "process.scheduler.nice",
            ),
            (
                json!({ "policy": "SCHED_BATCH", "priority": 1 }),
                "process.scheduler.priority",
            ),
            (
                json!({ "policy": "SCHED_FIFO" }),
                "process.scheduler.priority",
            ),
            (
                json!({ "policy": "SCHED_RR", "priority": 1, "period": 1 }),
                "process.scheduler.period",
            ),
        ] {
            let text = plan("scheduler", value).unwrap_err().to_string();
            assert!(text.starts_with(field), "{text}");
        }
    }
}
