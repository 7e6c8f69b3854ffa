//! Fetching from real servers on loopback, good ones and hostile ones.

mod blocks;
mod hostile;
mod metadata;
mod server;
mod tuf;
mod uki;
mod world;
