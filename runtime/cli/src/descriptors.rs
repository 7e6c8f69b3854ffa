//! The descriptors that the caller leaves open for the container.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, bail};

use crate::sys;

/// Beside the standard ones.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Those of socket activation: LISTEN_FDS, from 3 on.
    pub listen: Vec<BorrowedFd<'static>>,
    /// Those of `--preserve-fds`, which follow.
    pub passed: Vec<BorrowedFd<'static>>,
}

impl Inherited {
    /// Finds them; `preserve` is the option's value.
    pub fn find(preserve: u32) -> Result<Inherited> {
        let variable = |name: &str| std::env::var(name).ok();
        // LISTEN_PID says for whom they are.
        let listen = match (variable("LISTEN_FDS"), variable("LISTEN_PID")) {
            (Some(count), Some(pid)) if pid.parse() == Ok(std::process::id()) => {
                count.parse::<u32>().context("LISTEN_FDS")?
            }
            _ => 0,
        };
        let range = |first: u32, count: u32, whose: &str| {
            (first..first.saturating_add(count))
                .map(|number| {
                    let number = i32::try_from(number).unwrap_or(i32::MAX);
                    if !sys::is_inherited(number) {
                        bail!("{whose} names the descriptor {number}, which is not open");
                    }
                    Ok(sys::inherited(number))
                })
                .collect::<Result<Vec<_>>>()
        };
        Ok(Inherited {
            listen: range(3, listen, "LISTEN_FDS")?,
            passed: range(3 + listen, preserve, "--preserve-fds")?,
        })
    }
}
