//! The updater's control protocol.
