//! The five sets of capabilities of a process.
//!
//! What cannot be granted is left out and named, but not an error: so says the
//! specification (config.md, "Linux Process", `capabilities`).

use nix::errno::Errno;
use oci_spec::runtime::{Capabilities, LinuxCapabilities};

use crate::capability;
use crate::error::Step;
use crate::report::{At, Failure};
use crate::sys;

/// The sets as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sets {
    bounding: u64,
    effective: u64,
    inheritable: u64,
    permitted: u64,
    ambient: u64,
}

impl Sets {
    /// Without the field the process has none.
    pub fn new(asked: Option<&LinuxCapabilities>) -> Sets {
        let get = |set: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
            capability::bits(asked.and_then(|sets| set(sets).as_ref()))
        };
        Sets {
            bounding: get(LinuxCapabilities::bounding),
            effective: get(LinuxCapabilities::effective),
            inheritable: get(LinuxCapabilities::inheritable),
            permitted: get(LinuxCapabilities::permitted),
            ambient: get(LinuxCapabilities::ambient),
        }
    }

    /// The subset that a process that may have `available` can get.
    fn granted(&self, available: u64) -> Sets {
        let permitted = self.permitted & available;
        let inheritable = self.inheritable & available;
        Sets {
            bounding: self.bounding & available,
            effective: self.effective & permitted,
            inheritable,
            permitted,
            // Only what is both can be ambient (capabilities(7)).
            ambient: self.ambient & permitted & inheritable,
        }
    }

    /// Every capability that a process with the caller's bounding set cannot be
    /// granted, with the set it was requested in.
    pub fn ungranted(&self) -> Vec<String> {
        let available = (0..64)
            .filter(|number| sys::in_bounding_set(*number))
            .fold(0, |bits, number| bits | 1_u64 << number);
        let granted = self.granted(available);
        let mut missing = Vec::new();
        for (name, asked, granted) in [
            ("bounding", self.bounding, granted.bounding),
            ("effective", self.effective, granted.effective),
            ("inheritable", self.inheritable, granted.inheritable),
            ("permitted", self.permitted, granted.permitted),
            ("ambient", self.ambient, granted.ambient),
        ] {
            for capability in capability::names(asked & !granted) {
                missing.push(format!("process.capabilities.{name}: {capability}"));
            }
        }
        missing
    }

    /// Before the change of the user.
    pub fn bound(&self) -> Result<(), Failure<'static>> {
        for number in 0..64 {
            if self.bounding & 1 << number != 0 {
                continue;
            }
            match sys::drop_bounding(number) {
                Ok(()) => {}
                // The previous one was the last that the kernel has.
                Err(Errno::EINVAL) => break,
                Err(Errno::EPERM) if !sys::in_bounding_set(number) => {}
                Err(errno) => return Err(errno).at(Step::Bounding, b""),
            }
        }
        Ok(())
    }

    /// After the change of the user, which kept the permitted set.
    pub fn set(&self) -> Result<(), Failure<'static>> {
        let available = sys::permitted_capabilities().at(Step::Capabilities, b"")?;
        let sets = self.granted(available);
        sys::set_capabilities(sets.effective, sets.permitted, sets.inheritable)
            .at(Step::Capabilities, b"")?;
        for number in (0..64).filter(|number| sets.ambient & 1 << number != 0) {
            sys::raise_ambient(number).at(Step::Ambient, b"")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Capability, LinuxCapabilitiesBuilder};

    use super::*;

    #[test]
    fn what_cannot_be_granted_is_left_out_and_named() {
        let both = [Capability::Kill, Capability::Chown];
        let sets = Sets::new(Some(
            &LinuxCapabilitiesBuilder::default()
                .bounding(both)
                .effective([Capability::Chown])
                .inheritable([Capability::Kill])
                .permitted(both)
                .ambient(both)
                .build()
                .unwrap(),
        ));
        let all = sets.granted(u64::MAX);
        // Not inheritable, so not ambient.
        assert_eq!((all.ambient, all.permitted), (1 << 5, 1 << 5 | 1));
        let some = sets.granted(1);
        assert_eq!((some.effective, some.permitted, some.bounding), (1, 1, 1));
        assert_eq!((some.inheritable, some.ambient), (0, 0));
        assert!(
            sets.ungranted()
                .contains(&"process.capabilities.ambient: CAP_CHOWN".to_string())
        );
    }
}
