//! The long conformance run: every operator in many shapes against the definition, and the free-order control.
//!
//! `cargo run --release -p inference --example conformance -- [--values N] [--device N] [--results FILE]`
//! prints what it found; with a file, appends it there (`cu/inference/RESULTS.md`). On lavapipe,
//! `LP_NATIVE_VECTOR_WIDTH=128`, `256` and `512` give subgroups of 4, 8 and 16. It fails if one bit differs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use inference::backend::vulkan::conformance::{self, Tally};
use inference::backend::vulkan::gpu::{Facts, Gpu};
use inference::backend::vulkan::shader::{self, Shape};
use inference::backend::vulkan::{Vulkan, usual};
use inference::backend::{Backend, Host};
use inference::weight::{Matrix, Width};
use inference::{Error, NUMERICS, Profile};

/// What was asked.
struct Wanted {
    values: u64,
    device: usize,
    results: Option<String>,
}

fn wanted() -> Result<Wanted, String> {
    let mut wanted = Wanted {
        values: 20_000_000,
        device: 0,
        results: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|e| format!("{word} {value}: {e}"));
        match word.as_str() {
            "--values" => wanted.values = number()?,
            "--device" => wanted.device = number()? as usize,
            "--results" => wanted.results = Some(value),
            _ => return Err(format!("{word}: --values, --device or --results")),
        }
    }
    Ok(wanted)
}

/// Every form of sums and dot products that the device has, and soft floats, in small and large workgroups.
fn shapes(facts: &Facts) -> Vec<Shape> {
    let usual = usual(facts);
    let forms = [false, true].map(|dot| [false, true].map(|subgroup| (dot && facts.dot, subgroup)));
    let mut all = vec![usual, Shape { soft: true, ..usual }];
    for (at, (dot, subgroup)) in forms.into_iter().flatten().enumerate() {
        for (workgroup, lanes, tokens, spans) in [(16, 2, 1, 1), (64, 64, 4, 4), (256, 16, 8, 64)] {
            let subgroup = subgroup && (1..=workgroup).contains(&facts.subgroup);
            let tokens = tokens.max(at as u32 + 1);
            let workgroup = workgroup.min(usual.workgroup.max(64));
            let lanes = lanes.min(workgroup);
            all.push(Shape {
                workgroup,
                lanes,
                tokens,
                subgroup,
                dot,
                soft: !facts.pinned,
                spans,
            });
        }
    }
    all.dedup();
    all
}

/// Milliseconds of one product with a 4096 x 4096 matrix, for one row and for 64, upload and read included.
fn speed(device: &Vulkan) -> Result<[f64; 2], Error> {
    const SIDE: usize = 4096;
    let mut w = Matrix::new(SIDE, SIDE, Width::Eight)?;
    let row: Vec<f32> = (0..SIDE).map(|i| (i % 251) as f32 - 125.0).collect();
    (0..SIDE).for_each(|_| w.push_floats(&row));
    let w = device.matrix(&w)?;
    let mut best = [f64::MAX; 2];
    for (best, rows) in best.iter_mut().zip([1, 64]) {
        for _ in 0..6 {
            let start = Instant::now();
            let x = device.rows(SIDE, vec![1.0; SIDE * rows]);
            let y = device.linear(&w, &device.quantise(&x, Profile::A16), None);
            device.read(&device.select(&y, &[0]))?;
            *best = best.min(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(best)
}

fn report(
    text: &mut String,
    device: &Vulkan,
    shapes: usize,
    tally: &Tally,
    seconds: f64,
) -> Result<(), Error> {
    let Facts {
        subgroup,
        pinned,
        dot,
        ..
    } = device.facts();
    let [free, products] = device.control()?;
    let [one, many] = speed(device)?;
    let shape = device.shape();
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes all");
    line(format!("\n## {}\n", device.name()));
    line(format!(
        "numerics `{NUMERICS}`, modules `{}`; subgroups of {subgroup}, rounding pinned: {pinned}, integer dot products: {dot}\n",
        shader::hash()
    ));
    line(format!(
        "**{} values compared over {shapes} shapes in {seconds:.0} s, {} differ.**",
        tally.compared(),
        tally.wrong().iter().map(|(_, n)| n).sum::<u64>()
    ));
    line(format!(
        "Control: {free} of {products} float products in free order differ from the same sums in order."
    ));
    line(format!(
        "Chosen: workgroup {}, sums by {}. Product 4096 x 4096, 8-bit codes, A16: {one:.2} ms for one row, {many:.2} ms for 64.\n",
        shape.workgroup,
        if shape.subgroup {
            "subgroups"
        } else {
            "shared memory"
        }
    ));
    line("| operator | values | differ |\n|---|---|---|".to_owned());
    for (name, [compared, differing]) in &tally.operators {
        line(format!("| {name} | {compared} | {differing} |"));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wanted = wanted()?;
    let facts = Gpu::open(wanted.device)?.facts;
    let shapes = shapes(&facts);
    let (mut tally, start) = (Tally::default(), Instant::now());
    for (at, shape) in shapes.iter().enumerate() {
        let device = Vulkan::shaped(Gpu::open(wanted.device)?, *shape)?;
        let share = wanted.values.div_ceil(shapes.len() as u64);
        let found = conformance::compare(&device, &Host::scalar(), 1000 + at as u64, share)?;
        eprintln!(
            "{shape:?}: {} values, wrong: {:?}",
            found.compared(),
            found.wrong()
        );
        tally.join(found);
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut text = String::new();
    report(
        &mut text,
        &Vulkan::open(wanted.device)?,
        shapes.len(),
        &tally,
        seconds,
    )?;
    print!("{text}");
    if let Some(path) = wanted.results {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(text.as_bytes())?;
    }
    match tally.wrong().is_empty() {
        true => Ok(()),
        false => Err(format!("not DIN-1: {:?}", tally.wrong()).into()),
    }
}
