//! The service supervisor as a pure state machine
