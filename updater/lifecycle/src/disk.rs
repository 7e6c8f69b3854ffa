//! What is known of the disk.

use slots::View;

/// The disk, as the worker last saw it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// The last look that worked.
    view: Option<Box<View>>,
    /// Why the last look did not.
    problem: Option<String>,
}

impl Disk {
    pub(crate) fn view(&self) -> Option<&View> {
        self.view.as_deref()
    }

    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Takes a look in. Returns what is newly wrong.
    pub(crate) fn seen(&mut self, view: Result<Box<View>, String>) -> Option<String> {
        match view {
            Ok(view) => {
                self.view = Some(view);
                self.problem = None;
                None
            }
            Err(problem) => {
                let is_new = self.problem.as_ref() != Some(&problem);
                self.problem = Some(problem.clone());
                is_new.then_some(problem)
            }
        }
    }
}
