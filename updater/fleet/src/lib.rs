//! A fleet of simulated machines that run the real policy.
