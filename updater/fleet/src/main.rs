//! `cargo run -p fleet`: simulates a fleet and shows its rollouts.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;
use fleet::{Scenario, draw, run, summary};

/// Simulates a fleet's updates over two weeks, with the real update policy.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Number of machines
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    machines: u32,
    /// Seed of all randomness
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw the rollouts into this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let scenario = Scenario::two_weeks(arguments.machines as usize, arguments.seed);
    let record = run(&scenario)?;
    let summary = summary(&scenario, &record);
    if let Some(path) = &arguments.svg {
        fs::write(path, draw(&scenario, &record))
            .with_context(|| format!("write the picture to {}", path.display()))?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print!("{summary}");
    }
    Ok(())
}
