//! Which wave of a release's rollout a machine belongs to.
//!
//! A machine's place is the hash of its id and the release's version: the same
//! each time it asks, and another for each release, so that not always the same
//! machines go first.

use jiff::Timestamp;
use release::{Offer, Version};

use crate::MachineId;

/// The machine's place in the release's rollout, in hundredths of a percent:
/// 0..10000. The machine belongs to each wave whose `percent` is above it.
///
/// It is `SHA-256(machine id ‖ version)`, both as text, its first 64 bits as a
/// fraction of 2^64.
pub fn share(machine: &MachineId, version: &Version) -> u32 {
    let fraction = u128::from(machine.number(&[version.as_str()]));
    // Below 10000, as the fraction is below 2^64.
    u32::try_from((fraction * 10_000) >> 64).unwrap_or(u32::MAX)
}

/// From when on the machine may take the offer; `None`: no wave has it.
/// Everyone's is the beginning of time where there are no waves. A time that is
/// none never comes.
pub fn wave_start(offer: &Offer, machine: &MachineId) -> Option<Timestamp> {
    if offer.waves.is_empty() {
        return Some(Timestamp::MIN);
    }
    let place = share(machine, &offer.manifest.version);
    offer
        .waves
        .iter()
        .filter(|wave| place < u32::from(wave.percent) * 100)
        .filter_map(|wave| wave.start.parse().ok())
        .min()
}

#[cfg(test)]
mod tests;
