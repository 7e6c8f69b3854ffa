//! HTTP requests in which everything is bounded.
//!
//! A server is not trusted: how long an answer may be, and how long it may take,
//! is known before it is asked for ([`Wanted`], [`Patience`], [`Bounds`]). A
//! request uses only its [`Settings`], not the environment: proxy,
//! trusted authorities, rate limit. Redirects are followed a few times, and never
//! from HTTPS to HTTP. Answers are taken without compression. An error is
//! a [`Failure`], which names the address and
//! the [`Fault`]; [`Fault::may_pass`] and [`Retry`] say whether and when to ask
//! again, which is the caller's to do.
//!
//! The modules in the order of a request: `settings`, `tls`, `resolver`,
//! `client`, `redirect`, `body`, `rate`, `fault`.

mod body;
mod client;
mod fault;
mod rate;
mod redirect;
mod resolver;
mod settings;
mod tls;

pub use body::Body;
pub use client::{Answer, Bounds, Client, Wanted};
pub use fault::{Failure, Fault, SettingError, shown};
pub use settings::{Patience, Retry, Settings};
