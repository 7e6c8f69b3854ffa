//! Integration tests

#[cfg(test)]
mod state_partition;
