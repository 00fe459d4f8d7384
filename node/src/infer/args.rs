//! What the commands of `weft infer` take. Not here: what they do.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `weft infer`
#[derive(Subcommand, Debug)]
pub enum InferCommand {
    /// Answer a prompt.
    #[command(after_help = "\
Examples:
  weft infer generate --model m.gguf --prompt 'Once' --max-tokens 64
  weft infer generate --model m.gguf --prompt 'Once' --receipt r.json --json")]
    Generate(GenerateArgs),
    /// What every operator gave on the way to a token of a receipt: by it a difference is found to the operator.
    Trace(TraceArgs),
    /// An encoder's folder as one file, so that one content id names it whole.
    Pack(PackArgs),
    /// Vectors of texts: one per line of standard input.
    #[command(after_help = "\
Examples:
  echo 'A man is eating.' | weft infer embed --model all-MiniLM-L6-v2/")]
    Embed(EmbedArgs),
    /// The logits after some tokens.
    Logits(LogitsArgs),
    /// Check a receipt: names the first wrong token of a forged one, and the operator that made it wrong.
    #[command(after_help = "\
A wrong token is looked into at once: this device is compared with the definition, operator by operator. With the
maker's own trace of that token, made by `weft infer trace`, the first operator is named that the maker had wrong.

Examples:
  weft infer verify r.json --model m.gguf
  weft infer trace r.json --model m.gguf --token 17 --out t.json    the maker
  weft infer verify r.json --model m.gguf --trace t.json            the checker")]
    Verify(VerifyArgs),
    /// The devices of this machine.
    Devices(DevicesArgs),
    /// Tokens per second of a model, reading and writing.
    Bench(BenchInferArgs),
}

/// Which model, and what computes it.
#[derive(Args, Debug)]
pub struct ModelArgs {
    /// The model: a GGUF file of a decoder.
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// What computes: auto, cpu, scalar or vulkan[:N]. One that is named never falls back to another.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// How fine activations are: a16 or a8. They give different answers. Default: a receipt's own, else a16.
    #[arg(long)]
    pub profile: Option<String>,
    /// Threads; 0 for one per processor. Never changes an answer.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `weft infer generate`
#[derive(Args, Debug)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The prompt.
    #[arg(long, required_unless_present = "tokens")]
    pub prompt: Option<String>,
    /// The prompt as tokens.
    #[arg(long, value_delimiter = ',', conflicts_with = "prompt")]
    pub tokens: Vec<u32>,
    /// Tokens of the answer at most.
    #[arg(long, default_value_t = 128)]
    pub max_tokens: usize,
    /// 0 takes the likeliest token; larger is more varied.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Only this many of the likeliest tokens; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub top_k: u32,
    /// Only the likeliest tokens with this share of the probability.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub top_p: f32,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write the receipt here.
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
}

/// `weft infer logits`
#[derive(Args, Debug)]
pub struct LogitsArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The tokens.
    #[arg(long, value_delimiter = ',', required = true)]
    pub tokens: Vec<u32>,
}

/// `weft infer verify`
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The receipt.
    pub receipt: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    /// The maker's trace of the wrong token.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// `weft infer trace`
#[derive(Args, Debug)]
pub struct TraceArgs {
    /// The receipt.
    pub receipt: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Which token of the answer, from 0. Default: the first.
    #[arg(long, value_name = "N")]
    pub token: Option<usize>,
    /// Write the trace here instead of to standard output. With `--json` the device stands beside it.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `weft infer pack`
#[derive(Args, Debug)]
pub struct PackArgs {
    /// A folder with `model.safetensors`, `config.json` and `tokenizer.json`.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Where to write the file.
    #[arg(value_name = "FILE")]
    pub out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `weft infer embed`
#[derive(Args, Debug)]
pub struct EmbedArgs {
    /// A folder with `model.safetensors`, `config.json` and `tokenizer.json`, a packed encoder, or a GGUF file.
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// What computes: auto, cpu, scalar or vulkan[:N].
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// How fine activations are: a16 or a8.
    #[arg(long, default_value = "a16")]
    pub profile: String,
    /// Threads; 0 for one per processor.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Print an object per line, with the device.
    #[arg(long)]
    pub json: bool,
}

/// `weft infer devices`
#[derive(Args, Debug)]
pub struct DevicesArgs {
    /// Print JSON, a device per line.
    #[arg(long)]
    pub json: bool,
    /// Open each and have it prove itself.
    #[arg(long)]
    pub prove: bool,
}

/// `weft infer bench`
#[derive(Args, Debug)]
pub struct BenchInferArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Tokens read at once.
    #[arg(long, default_value_t = 128)]
    pub prompt_tokens: usize,
    /// Tokens written one by one.
    #[arg(long, default_value_t = 64)]
    pub answer_tokens: usize,
    /// Rounds; the best counts.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
}
