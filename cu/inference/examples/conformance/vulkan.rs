//! The run on a Vulkan device: all forms of its kernels, whole models, the control in free order, its speed.
//! Not here: what is compared.

use std::time::Instant;

use inference::Error;
use inference::backend::conformance::{self, Tally};
use inference::backend::vulkan::gpu::{Facts, Gpu};
use inference::backend::vulkan::shader::{self, Shape};
use inference::backend::vulkan::{Vulkan, usual};
use inference::backend::{Backend, Host};

use crate::{Asked, models, report, speed};

/// Every form of sums, dot products and products of many rows that the device has, and soft floats, in small and large
/// workgroups.
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
                tiles: false,
                soft: !facts.pinned,
                spans,
            });
        }
    }
    if facts.tile.is_some() {
        let tiled = [usual, all[all.len() - 1]].map(|shape| Shape { tiles: true, ..shape });
        all.extend(tiled.iter().filter(|shape| !shape.soft));
    }
    all.dedup();
    all
}

/// The sizes of cooperative matrices as text.
fn tile(facts: &Facts) -> String {
    facts.tile.map_or("none".to_owned(), |tile| {
        format!("{} x {} x {}", tile.rows, tile.tokens, tile.step)
    })
}

/// Compares, measures and reports.
pub fn run(asked: &Asked, device: usize, text: &mut String) -> Result<Tally, Error> {
    let facts = Gpu::open(device)?.facts;
    let shapes = shapes(&facts);
    let (mut tally, start) = (Tally::default(), Instant::now());
    for (at, shape) in shapes.iter().enumerate() {
        let vulkan = Vulkan::shaped(Gpu::open(device)?, *shape)?;
        let share = asked.values.div_ceil(shapes.len() as u64);
        let found = conformance::compare(&vulkan, &Host::scalar(), 1000 + at as u64, share)?;
        eprintln!(
            "{shape:?}: {} values, wrong: {:?}",
            found.compared(),
            found.wrong()
        );
        tally.join(found);
    }
    // Models from the last shape on, which has the most forms.
    for (round, shape) in (0..asked.rounds).zip(shapes.iter().rev().cycle()) {
        let open = || Vulkan::shaped(Gpu::open(device)?, *shape);
        tally.join(models::compare(open, Host::scalar, 5000 + round)?);
    }
    let seconds = start.elapsed().as_secs_f64();
    let vulkan = Vulkan::open(device)?;
    let (name, chosen) = (vulkan.name(), vulkan.shape());
    let [free, products] = vulkan.control()?;
    let sums = if chosen.subgroup {
        "subgroups"
    } else {
        "shared memory"
    };
    let facts = [
        format!(
            "In {seconds:.0} s over {} shapes; modules `{}`; subgroups of {}, rounding pinned: {}, integer dot products: {}, cooperative matrices: {}.",
            shapes.len(),
            shader::hash(),
            facts.subgroup,
            facts.pinned,
            facts.dot,
            tile(&facts)
        ),
        format!(
            "Control: {free} of {products} float products in free order differ from the same sums in order."
        ),
        format!(
            "Chosen: workgroup {}, sums by {sums}, cooperative matrices: {}.",
            chosen.workgroup, chosen.tiles
        ),
        speed(vulkan)?,
    ];
    report(text, &name, &tally, &facts);
    Ok(tally)
}
