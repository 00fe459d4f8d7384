//! `weft`: the one binary. Parses the command line and hands each command to its file.

mod admin;
mod assemble;
mod bench;
mod cli;
mod config;
mod double;
mod health;
mod module;
mod serve;
mod wallet;

use std::process::ExitCode;

use clap::Parser;

use cli::{BenchCommand, Cli, Command, ModuleCommand, WalletCommand};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Node(args) => serve::run(&args),
        Command::Module(ModuleCommand::Add(args)) => module::add(&args),
        Command::Wallet(WalletCommand::New(args)) => wallet::new(&args),
        Command::Double(args) => double::run(&args),
        Command::Bench(BenchCommand::Verify(args)) => {
            bench::verify::run(args.runs);
            Ok(())
        }
        Command::Bench(BenchCommand::Su(args)) => bench::su::run(&args),
        Command::Bench(BenchCommand::Cu(args)) => bench::cu::run(&args),
        Command::Bench(BenchCommand::Density(args)) => bench::density::run(&args),
    }
}
