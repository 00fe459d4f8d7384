//! `weft`: the one binary. Parses the command line and hands each command to its file.

mod admin;
mod assemble;
mod bench;
mod cli;
mod client;
mod config;
mod double;
mod events;
mod follow;
mod gateways;
mod health;
mod infer;
mod keys;
mod mainnet;
mod module;
mod proof;
mod rebuild;
mod serve;
mod spawn_rules;
#[cfg(test)]
mod staged;
mod test;
mod upload;
mod wallet;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use client::args::DevArgs;

use cli::{BenchCommand, Cli, Command, KeysCommand, ModuleCommand, WalletCommand};

/// What a shell reports of a program whose reader went away: 128 and the number of the signal.
const READER_GONE: i32 = 141;

/// A reader that has seen enough, as `head`, ends the program quietly; any other panic is told as ever.
fn end_with_the_reader() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to stdout") && text.contains("Broken pipe") {
            std::process::exit(READER_GONE);
        }
        told(panic);
    }));
}

fn main() -> ExitCode {
    end_with_the_reader();
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let dev = DevArgs {
        options: cli.dev,
        ..DevArgs::default()
    };
    let command = cli.command.unwrap_or(Command::Client(client::Command::Dev(dev)));
    let done = match command {
        Command::Client(command) => return Ok(client::run(command)),
        Command::Test(args) => return Ok(test::run(&args)),
        Command::Completions(args) => {
            clap_complete::generate(args.shell, &mut Cli::command(), "weft", &mut std::io::stdout());
            Ok(())
        }
        Command::New(args) => return Ok(test::new(&args)),
        Command::Node(args) => serve::run(&args),
        Command::Keys(KeysCommand::Succeed(args)) => keys::succeed(&args),
        Command::Module(ModuleCommand::Add(args)) => module::add(&args),
        Command::Wallet(WalletCommand::New(args)) => wallet::new(&args),
        Command::Wallet(WalletCommand::Address(args)) => wallet::address(&args),
        Command::Double(args) => double::run(&args),
        Command::Infer(command) => infer::run(&command),
        Command::Bench(BenchCommand::Verify(args)) => {
            bench::verify::run(args.runs);
            Ok(())
        }
        Command::Bench(BenchCommand::Su(args)) => bench::su::run(&args),
        Command::Bench(BenchCommand::Upload(args)) => bench::su::run_upload(&args),
        Command::Bench(BenchCommand::Cu(args)) => bench::cu::run(&args),
        Command::Bench(BenchCommand::Test(args)) => bench::test::run(&args),
        Command::Bench(BenchCommand::Density(args)) => bench::density::run(&args),
        Command::Bench(BenchCommand::Rebuild(args)) => bench::rebuild::run(&args),
        Command::Bench(BenchCommand::Fork) => bench::fork::run(),
        Command::Bench(BenchCommand::Checkpoint(args)) => bench::checkpoint::run(&args),
    };
    done.map(|()| ExitCode::SUCCESS)
}
