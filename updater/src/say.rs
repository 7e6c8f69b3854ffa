//! What the updater says: events for the log, and what PID 1 shows of it.

pub use service::{Level, Notify, event};
