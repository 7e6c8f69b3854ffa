//! `wherry completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell as Generator;

use crate::arguments::{Arguments, Shell};
use crate::failure::Failure;
use crate::output;

pub fn run(shell: Shell) -> Result<(), Failure> {
    let generator = match shell {
        Shell::Bash => Generator::Bash,
        Shell::Fish => Generator::Fish,
        Shell::Zsh => Generator::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut Arguments::command(), "wherry", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
