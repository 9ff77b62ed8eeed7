#![doc = include_str!("../README.md")]

mod backlog;
mod check;
mod commits;
mod contender;
mod machine;
mod operations;
mod page;
mod report;
mod run;
mod server;
mod traffic;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser};

use crate::backlog::Size;
use crate::contender::Programs;
use crate::run::Plan;

#[derive(Debug, Parser)]
#[command(about)]
enum Cli {
    /// Measure, print the tables, and write bench.json
    Run(RunArguments),
    /// Put the tables of a run into a page
    Render { json: PathBuf, page: PathBuf },
    /// Count what has a budget; an error where one is exceeded
    Check {
        budgets: PathBuf,
        #[command(flatten)]
        programs: Programs,
        /// Where data folders are made: on a disk
        #[arg(long, default_value = "target/bench")]
        work: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    #[command(flatten)]
    programs: Programs,
    /// Where data folders are made, and bench.json: on a disk
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// One short round with a small backlog: to see that it works
    #[arg(long)]
    quick: bool,
    /// How often each figure is taken
    #[arg(long)]
    rounds: Option<u32>,
    /// How long each run takes
    #[arg(long)]
    seconds: Option<u32>,
    /// How many settled deliveries the backlog has
    #[arg(long)]
    settled: Option<u32>,
    /// How many deliveries wait in it
    #[arg(long)]
    waiting: Option<u32>,
}

impl RunArguments {
    fn plan(&self) -> Plan {
        let (rounds, seconds, settled, waiting) =
            if self.quick { (1, 1, 10_000, 2_000) } else { (5, 2, 1_000_000, 200_000) };
        Plan {
            rounds: self.rounds.unwrap_or(rounds),
            seconds: self.seconds.unwrap_or(seconds),
            callers: vec![1, 16, 64, 256],
            size: Size { settled: self.settled.unwrap_or(settled), waiting: self.waiting.unwrap_or(waiting) },
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match execute(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("relay-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(cli: Cli) -> io::Result<ExitCode> {
    match cli {
        Cli::Run(arguments) => {
            fs::create_dir_all(&arguments.work)?;
            let report = run::run(&arguments.programs, &arguments.work, &arguments.plan()).await?;
            // A quick run is not one to publish.
            let file = if arguments.quick { "bench-quick.json" } else { "bench.json" };
            report.write(&arguments.work.join(file))?;
            println!("{}", page::render(&report));
        }
        Cli::Render { json, page } => page::write_into(&page, &json)?,
        Cli::Check { budgets, programs, work } => {
            fs::create_dir_all(&work)?;
            if !check::check(&budgets, &programs, &work).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
