//! Tokens per second of a model file: prefill of 128, then decode of 64. `speed FILE [threads] [a16|a8] [level]`.
use std::time::{Duration, Instant};

use inference::Profile;
use inference::backend::{Host, Level};
use inference::decoder::Decoder;
use inference::engine::{Engine, Sequence, Wanted};
use inference::gguf::Gguf;

/// Time on the processor of this thread, which a busy machine does not stretch; the clock's where it is not told.
struct Spent(Instant, Option<u64>);

fn on_cpu_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

impl Spent {
    fn start() -> Spent {
        Spent(Instant::now(), on_cpu_ns())
    }

    fn seconds(&self) -> f64 {
        let cpu = self
            .1
            .and_then(|start| Some(Duration::from_nanos(on_cpu_ns()? - start)));
        cpu.unwrap_or_else(|| self.0.elapsed()).as_secs_f64()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let bytes = std::fs::read(&args[1])?;
    let threads = args.get(2).map_or(1, |n| n.parse().unwrap_or(1));
    let profile = if args.get(3).is_some_and(|p| p == "a8") {
        Profile::A8
    } else {
        Profile::A16
    };
    let level = if args.get(4).is_some_and(|p| p == "avx2") {
        Level::Avx2
    } else {
        Level::best()
    };
    let start = Spent::start();
    let decoder = Decoder::load(Host::new(level, threads), &Gguf::parse(&bytes)?, profile, 2048)?;
    println!("load {:.2} s", start.seconds());
    let mut engine = Engine::new(decoder, 2048)?;
    let prompt: Vec<u32> = (0..128).map(|i| 3 + (i * 37) % 250).collect();
    let (mut prefill, mut decode) = (0.0_f64, 0.0_f64);
    for _ in 0..5 {
        let mut sequence = Sequence::default();
        let start = Spent::start();
        engine.extend(&mut [(&mut sequence, &prompt)], Wanted::Last)?;
        prefill = prefill.max(128.0 / start.seconds());
        let start = Spent::start();
        for i in 0..64 {
            engine.extend(&mut [(&mut sequence, &[3 + i])], Wanted::Last)?;
        }
        decode = decode.max(64.0 / start.seconds());
        engine.end(sequence);
    }
    println!(
        "{} {profile:?}: prefill {prefill:.1} t/s, decode {decode:.1} t/s",
        inference::Backend::name(engine.decoder().backend())
    );
    Ok(())
}
