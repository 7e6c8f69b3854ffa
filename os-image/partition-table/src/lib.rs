//! The partition table, written in an order that survives a power cut.
