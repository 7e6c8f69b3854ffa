//! The update machine: which change to the disk comes next. Pure: no I/O, no
//! clock.
//!
//! It is level-triggered. [`next`] compares the disk ([`View`]) with the
//! [`Goal`] and returns one [`Action`]; the shell performs it, looks again and
//! asks again, until the answer is [`Step::Done`]. Nothing is remembered between
//! two calls, so a power cut needs no journal: the disk shows how far the update
//! came.
//!
//! # What holds at every moment
//! - The slot that runs is never written, and its boot entry is only renamed, or
//!   written where it is missing.
//! - A boot entry is on the ESP only while the slot that it names is complete: an
//!   entry is removed before its slot is changed, and published after the slot
//!   has been read back and named.
//! - So the entry that the loader chooses either boots or has counted tries,
//!   after which the loader falls back to one that boots.
//!
//! # Installing
//! remove the entries of what the spare slot holds → name the slot empty → fill
//! and prove it → name it → replace an older boot loader → stage the unified
//! kernel image beside the entries → publish it as `wherry_<version>+3-0.efi` →
//! where the new release is the older one, take the running one's tries, so that
//! the loader prefers the new one.
//!
//! # Counting
//! systemd-boot counts an entry's tries in its name (`+left-done`, Boot Loader
//! Specification) and prefers entries with tries left or without a count. A new
//! release gets [`TRIES`]. A blessed one gets [`GUARD`], which is renewed while
//! it is healthy, if there is another release to fall back to: when its slot
//! goes bad and dm-verity restarts the machine again and again, the loader gives
//! up on it. Without another release, a blessed one has no count.

mod loader;
mod next;
mod refusal;
mod view;

pub use loader::loader_choice;
pub use next::{Action, Goal, Step, Target, check, next};
pub use refusal::Refusal;
pub use view::{Entry, Proof, SlotView, Staged, View, order};

// The types of a view.
pub use layout::entry::{TRIES, Tries};
pub use layout::partition::{Label, SlotId};

/// The tries of a blessed release when there is another to fall back to.
pub const GUARD: u32 = 7;

/// A guard is renewed when it has come down to this.
pub const GUARD_LOW: u32 = 3;

#[cfg(test)]
mod tests;
