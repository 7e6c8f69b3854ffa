//! Fetching from real servers on loopback, good ones and hostile ones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod blocks;
mod full_state;
mod hostile;
mod metadata;
mod tuf;
mod uki;
mod world;
