//! Resource limits of a process.

use oci_spec::runtime::{PosixRlimit, PosixRlimitType};

use crate::error::{Error, Step};
use crate::report::{At, Failure};
use crate::sys;

#[derive(Debug, Clone)]
pub(crate) struct Rlimit {
    label: String,
    resource: u32,
    soft: u64,
    hard: u64,
}

impl Rlimit {
    pub fn set(&self) -> Result<(), Failure<'_>> {
        sys::set_limit(self.resource, self.soft, self.hard).at(Step::Rlimit, self.label.as_bytes())
    }

    /// Raises the hard limit to its final value: inside a user namespace nobody
    /// may, but what the caller's privileges have raised is inherited. The soft
    /// limit stays, since the set-up needs it.
    pub fn raise(&self) -> Result<(), Failure<'_>> {
        sys::raise_hard_limit(self.resource, self.hard).at(Step::Rlimit, self.label.as_bytes())
    }
}

/// Checks `process.rlimits`.
pub(crate) fn plan(limits: &[PosixRlimit]) -> Result<Vec<Rlimit>, Error> {
    let mut plan: Vec<Rlimit> = Vec::new();
    for (index, limit) in limits.iter().enumerate() {
        let limit = rlimit(index, limit)?;
        if plan.iter().any(|known| known.resource == limit.resource) {
            return Err(Error::invalid(
                format!("process.rlimits[{index}].type"),
                format!("{} is listed twice", limit.label),
            ));
        }
        plan.push(limit);
    }
    Ok(plan)
}

fn rlimit(index: usize, limit: &PosixRlimit) -> Result<Rlimit, Error> {
    let (name, resource) = match limit.typ() {
        PosixRlimitType::RlimitCpu => ("RLIMIT_CPU", libc::RLIMIT_CPU),
        PosixRlimitType::RlimitFsize => ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
        PosixRlimitType::RlimitData => ("RLIMIT_DATA", libc::RLIMIT_DATA),
        PosixRlimitType::RlimitStack => ("RLIMIT_STACK", libc::RLIMIT_STACK),
        PosixRlimitType::RlimitCore => ("RLIMIT_CORE", libc::RLIMIT_CORE),
        PosixRlimitType::RlimitRss => ("RLIMIT_RSS", libc::RLIMIT_RSS),
        PosixRlimitType::RlimitNproc => ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
        PosixRlimitType::RlimitNofile => ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
        PosixRlimitType::RlimitMemlock => ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
        PosixRlimitType::RlimitAs => ("RLIMIT_AS", libc::RLIMIT_AS),
        PosixRlimitType::RlimitLocks => ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
        PosixRlimitType::RlimitSigpending => ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
        PosixRlimitType::RlimitMsgqueue => ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
        PosixRlimitType::RlimitNice => ("RLIMIT_NICE", libc::RLIMIT_NICE),
        PosixRlimitType::RlimitRtprio => ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
        PosixRlimitType::RlimitRttime => ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    };
    if limit.soft() > limit.hard() {
        return Err(Error::invalid(
            format!("process.rlimits[{index}]"),
            format!("the soft {name} is above the hard one"),
        ));
    }
    Ok(Rlimit {
        label: name.to_string(),
        resource,
        soft: limit.soft(),
        hard: limit.hard(),
    })
}
