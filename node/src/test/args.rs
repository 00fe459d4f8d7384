//! What `weft test`, `weft new` and `weft bench test` take. Not here: what they do.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `weft test`
#[derive(Args, Debug, Clone)]
pub struct TestArgs {
    /// Spec files, or folders to search for `*_spec.lua`. Default: the current folder.
    #[arg(value_name = "PATHS")]
    pub paths: Vec<PathBuf>,
    /// Run only tests whose full name (blocks and test, joined by spaces) contains this text.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Also write the results as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Print the results in TAP version 14.
    #[arg(long, conflicts_with = "json")]
    pub tap: bool,
    /// Print the results as one JSON document.
    #[arg(long)]
    pub json: bool,
    /// Count the executed lines of the Lua files that processes load; writes LCOV to FILE (`--coverage=FILE`).
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "lcov.info")]
    pub coverage: Option<PathBuf>,
    /// Seed of ids, hash chains and `math.random`: the same seed, the same run.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The module that processes run unless `spawn` names one: WebAssembly, or Lua source. Default: the aos kernel.
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,
    /// Most seconds that one test may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
    /// Files run at once. Default: one for each core.
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Name every test, not only those that fail.
    #[arg(long, short)]
    pub verbose: bool,
}

/// `weft bench test`
#[derive(Args, Debug)]
pub struct BenchTestArgs {
    /// Tests in the generated file.
    #[arg(long, default_value_t = 2000)]
    pub tests: usize,
    /// Runs; medians are printed.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// The module that processes run. Default: the aos kernel.
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,
}

/// `weft new`
#[derive(Args, Debug)]
pub struct NewArgs {
    /// Name of the project, and of the folder that is made.
    pub name: String,
    /// What to begin with.
    #[arg(long, value_enum, default_value = "blank")]
    pub template: Template,
}

/// What a new project begins with.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// A fungible token: Info, Balance, Transfer, Mint.
    Token,
    /// A chat room: Join, Say, Leave, History.
    Chat,
    /// One handler and one test.
    Blank,
}
