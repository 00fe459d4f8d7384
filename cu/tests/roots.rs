//! One log, one state: evaluated live, replayed, from checkpoints, counting gas, and (with the feature `pulley`) on
//! wasmtime's interpreter, a process of our kernel has the same state root and the same answers.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/stream.rs"]
mod stream;
mod support;

use cu::runtime::{Config, Engine, Limits, Machine, Module, ModuleFormat, STACK_BYTES, frame};
use serde_json::Value;

const LIMITS: Limits = Limits {
    memory_bytes_max: 128 << 20,
    gas_max: 50_000_000_000,
    metered_gas_max: 1 << 40,
};

/// Messages between two looks at the state.
const LOOK_EVERY: usize = 100;

fn kernel(engine: &Engine) -> Module {
    let items = cu::shipped::items().into_iter();
    let mut items = items.filter(|item| item.id() == cu::kernel_id().into());
    engine
        .load(&items.next().unwrap().data(), ModuleFormat::Lua)
        .unwrap()
}

/// What is compared: the state root and a hash of all answers, every so often.
type Trace = Vec<([u8; 32], blake3::Hash)>;

struct Run<'a> {
    name: &'static str,
    module: &'a Module,
    limits: Limits,
    /// Goes to an image and back at every look.
    naps: bool,
}

impl Run<'_> {
    fn trace(&self, messages: &[Vec<u8>], env: &[u8]) -> Trace {
        let started = std::time::Instant::now();
        let mut machine = Machine::start(self.module, self.limits).unwrap();
        let (mut answers, mut trace) = (blake3::Hasher::new(), Vec::new());
        for (number, message) in messages.iter().enumerate() {
            let verdict = machine.call(message, env).unwrap();
            let said = match support::settle(&mut machine, verdict) {
                Ok(value) => value,
                Err(error) => Value::from(vec![error]),
            };
            answers.update(said.to_string().as_bytes());
            if number % LOOK_EVERY == LOOK_EVERY - 1 || number + 1 == messages.len() {
                trace.push((machine.state_root().unwrap(), answers.finalize()));
                if self.naps {
                    let image = machine.encode().unwrap();
                    machine = Machine::restore(self.module, self.limits, &image).unwrap();
                }
            }
        }
        eprintln!("{} took {:?}", self.name, started.elapsed());
        trace
    }
}

fn messages(count: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let framed = |json: String| frame::of_json(json.as_bytes()).unwrap();
    let items = stream::stream(20_261_122, "roots", count);
    let messages = items.iter().map(|item| framed(item.message.to_string()));
    (messages.collect(), framed(support::env("roots")))
}

/// Each way on a thread with an owner's stack, side by side.
fn compare(count: usize) {
    let (messages, env) = messages(count);
    let engine = Engine::new(Config::default()).unwrap();
    let module = kernel(&engine);
    let again = kernel(&Engine::new(Config::default()).unwrap());
    let counted = Limits {
        // Under this much the gas build runs at once.
        gas_max: 4_900_000_000,
        ..LIMITS
    };
    let mut runs = vec![
        ("live", &module, LIMITS, false),
        ("replayed on another engine", &again, LIMITS, false),
        ("from checkpoints", &module, LIMITS, true),
        ("counting gas", &module, counted, true),
    ];
    #[cfg(feature = "pulley")]
    let interpreted = kernel(
        &Engine::new(Config {
            interprets: true,
            ..Config::default()
        })
        .unwrap(),
    );
    #[cfg(feature = "pulley")]
    runs.push(("interpreted", &interpreted, LIMITS, false));
    let traces = std::thread::scope(|scope| {
        let start = |(name, module, limits, naps)| {
            let (messages, env) = (&messages, &env);
            let work = move || {
                Run {
                    name,
                    module,
                    limits,
                    naps,
                }
                .trace(messages, env)
            };
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            (name, thread.spawn_scoped(scope, work).unwrap())
        };
        let threads: Vec<_> = runs.drain(..).map(start).collect();
        let join = |(name, thread): (&'static str, std::thread::ScopedJoinHandle<'_, Trace>)| {
            (name, thread.join().unwrap())
        };
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
    let (_, live) = &traces[0];
    assert_eq!(live.len(), count.div_ceil(LOOK_EVERY));
    for (name, trace) in &traces {
        let first = trace.iter().zip(live).position(|(a, b)| a != b);
        assert!(
            first.is_none(),
            "{name} differs from live after {} messages",
            (first.unwrap() + 1) * LOOK_EVERY
        );
    }
}

#[test]
fn every_way_leads_to_one_state() {
    compare(250);
}

#[test]
#[ignore = "minutes; run with --run-ignored only --features pulley"]
fn every_way_leads_to_one_state_for_long() {
    compare(10_200);
}
