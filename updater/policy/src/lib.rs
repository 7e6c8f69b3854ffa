//! Which release a machine takes, and when it may reboot. Pure.
