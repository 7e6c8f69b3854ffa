//! What makes an image another one than this checkout's: tests and benchmarks
//! need releases that differ in known ways.

use std::path::PathBuf;

/// The differences. The default has none.
#[derive(Debug, Default, Clone)]
pub struct Variant {
    /// A folder whose files are put over the staged root's.
    pub overlay: Option<PathBuf>,
    /// The root of the metadata by which the updater trusts a repository.
    pub trust: Option<PathBuf>,
    /// What is added to the kernel's command line.
    pub command_line: String,
    /// Settings of cargo's configuration with which our programs are built.
    pub cargo: Vec<String>,
    /// Another compressed kernel.
    pub kernel: Option<PathBuf>,
    /// Other options of `mkfs.erofs`.
    pub erofs: Option<String>,
}
