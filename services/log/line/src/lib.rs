//! A line of the log: how severe it is, and the fields of an event.
//!
//! A service writes lines to standard output or standard error. A line may begin
//! with its level as `<3>`, in the syntax of sd-daemon(3). A line that tells of an
//! event names it first, then its fields, and ends with a message for people:
//!
//! ```text
//! <5>event=fell-back version=2.0 reason="it did not get ready" message="2.0 gave way"
//! ```
//!
//! Services write such lines ([`Line`], [`event`]), PID 1 writes its own to the
//! kernel's log, and the log service reads the level of both ([`split_level`]).
//! What is in a line comes from anybody: [`harmless`] makes of it what a terminal
//! may show. Pure, and depends on nothing. `docs/log.md` is the manual page.

mod event;
mod harmless;
mod level;

pub use event::event;
pub use harmless::{harmless, harmless_lines, is_harmful};
pub use level::{Level, Line, UnknownLevel, split_level};
