//! PID 1's control protocol: what `wherry` and the system services ask of
//! `init`, and what it answers, over the Unix stream socket
//! [`SOCKET`].
//!
//! A frame is a little-endian `u32` length and that many bytes of JSON, at
//! most [`MAX_REQUEST`] towards the server and [`MAX_REPLY`] back. The first
//! frame each way is a [`Hello`] with the protocol's name and version. Then a
//! client sends one [`Request`] a frame and reads one [`Reply`] for each, in
//! order; [`Request::Watch`] turns the connection into a stream of
//! [`Reply::Changed`]. PID 1 checks the peer's credentials: user 0 may do
//! everything, any other user only what changes nothing.
//!
//! JSON because every reader has it, the frames are few and small, and PID 1
//! already carries the parser for OCI specifications.
//!
//! A service with a socket of its own ([`Protocol`]) is asked in the same way:
//! [`Connection`] is its blocking client, [`ClientEnd`] and [`ServerEnd`] are
//! the two ends for programs that wait in their own way.
//!
//! The types here are the wire's own; what they mean inside PID 1 is in
//! `supervisor` and `init`. `docs/control.md` is the manual page.

pub mod admission;
mod connection;
mod frame;
mod init;
mod protocol;
mod reply;
mod request;

pub use connection::{Connection, ConnectionError};
pub use frame::{FrameBuffer, FrameError, encode};
pub use init::{Client, ClientError, Init};
pub use protocol::{ClientEnd, Hello, Protocol, ProtocolError, Reason, Server, ServerEnd};
pub use reply::{
    BootRecord, Disk, Health, InhibitMode, Inhibitor, Machine, Memory, Outcome, Phase, Refusal,
    Reply, Service, ServiceDetail, ServiceState, Slot, Span, Status, Storage, StorageState, Trial,
};
pub use request::{Request, Shutdown};

/// Where PID 1 listens.
pub const SOCKET: &str = "/run/wherry/init.sock";

/// The longest request in bytes; a longer one ends the connection.
pub const MAX_REQUEST: usize = 64 * 1024;

/// The longest reply in bytes.
pub const MAX_REPLY: usize = 4 * 1024 * 1024;
