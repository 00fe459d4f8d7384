//! Vectors of sentences by candle in fp32: groups of tokens of equal length on standard input, a JSON list a line; the
//! vectors and then `{"vectors_per_s"}` on standard output. Part of no crate: `minilm.py` builds and runs it.
use std::io::BufRead;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, DTYPE};

/// Time of this thread on the processor.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(text.split(' ').next().expect("a number").parse().expect("a number"))
}

fn embed(model: &BertModel, group: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
    let ids = Tensor::new(group.to_vec(), &Device::Cpu)?;
    let states = model.forward(&ids, &ids.zeros_like()?, None)?;
    let mean = states.mean(1)?;
    let size = mean.sqr()?.sum_keepdim(1)?.sqrt()?;
    mean.broadcast_div(&size)?.to_vec2()
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).expect("FOLDER"));
    let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    let weights = std::fs::read(folder.join("model.safetensors"))?;
    let weights = VarBuilder::from_buffered_safetensors(weights, DTYPE, &Device::Cpu)?;
    let model = BertModel::load(weights, &config)?;
    let groups: Vec<Vec<Vec<u32>>> = std::io::stdin()
        .lock()
        .lines()
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect::<std::result::Result<_, Box<dyn std::error::Error>>>()?;
    embed(&model, &groups[0])?;
    let (cpu, wall) = (on_cpu(), Instant::now());
    let mut vectors = vec![];
    for group in &groups {
        vectors.extend(embed(&model, group)?);
    }
    let alone = std::env::var("RAYON_NUM_THREADS").is_ok_and(|threads| threads == "1");
    let spent = if alone { on_cpu() - cpu } else { wall.elapsed() };
    println!("{}", serde_json::to_string(&vectors)?);
    println!("{}", serde_json::json!({"vectors_per_s": vectors.len() as f64 / spent.as_secs_f64()}));
    Ok(())
}
