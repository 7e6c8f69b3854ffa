//! The embedded OCI runtime
