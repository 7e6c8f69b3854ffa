//! The booted image against what it must withstand. Each module is one
//! behaviour; the machines are real ones in QEMU, driven by [`operator`] over
//! their console.

#[cfg(test)]
mod console;
#[cfg(test)]
mod guest;
#[cfg(test)]
mod image;
#[cfg(test)]
mod init;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod root;
#[cfg(test)]
mod services;
#[cfg(test)]
mod state_partition;
#[cfg(test)]
mod update;
