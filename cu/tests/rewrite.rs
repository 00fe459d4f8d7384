//! The rewritten module must do what the original does, traps included.
//! Not here: whole processes (`machine`, `real`, `oracle`).

use cu::rewrite::{Options, guard, simplify};
use wasmtime::{Config, Engine, Instance, Module, OptLevel, Store, Trap, Val, ValType};

fn engine() -> Engine {
    let mut c = Config::new();
    c.wasm_memory64(true)
        .wasm_backtrace_max_frames(None)
        .cranelift_opt_level(OptLevel::None);
    Engine::new(&c).unwrap()
}

fn rewritten(wasm: &[u8]) -> Vec<u8> {
    simplify(wasm, &Options::default()).unwrap().0
}

type Observed = (Result<Vec<String>, Trap>, Vec<u8>);

/// Calls one export on a fresh instance: its results or trap, and the memory afterwards.
fn observe(module: &Module, name: &str, args: &[Val]) -> Observed {
    let mut store = Store::new(module.engine(), ());
    let instance = Instance::new(&mut store, module, &[]).unwrap();
    let f = instance.get_func(&mut store, name).unwrap();
    let mut results = vec![Val::I32(0); f.ty(&store).results().len()];
    let outcome = match f.call(&mut store, args, &mut results) {
        Ok(()) => Ok(results.iter().map(|v| format!("{v:?}")).collect()),
        Err(e) => Err(*e.downcast_ref::<Trap>().unwrap()),
    };
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    (outcome, memory.data(&store).to_vec())
}

const ADDRESSES: [u64; 18] = [
    0,
    1,
    8,
    0xfff0,
    0xfff8,
    0xffff,
    0x10000,
    0x2ffff,
    0x30000,
    0x30001,
    0xffff_0000,
    0xffff_ffff,
    1 << 32,
    (1 << 32) + 8,
    (5 << 32) + 64,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
];

const LOADS: &str = "i32.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u i64.load i64.load8_s i64.load8_u \
    i64.load16_s i64.load16_u i64.load32_s i64.load32_u f32.load f64.load";
const VECTOR_LOADS: &str = "v128.load v128.load8x8_s v128.load8_splat v128.load32_zero v128.load64_zero";
const STORES: &str =
    "i32.store i32.store8 i32.store16 i64.store i64.store8 i64.store16 i64.store32 f32.store f64.store";

/// Names of exports, and how many arguments each takes.
struct Accesses {
    text: String,
    names: Vec<(String, usize)>,
}

impl Accesses {
    fn new() -> Accesses {
        let text = "(module (memory (export \"memory\") i64 1 3)
            (data (i64.const 4) \"0123456789abcdefghijklmnopq\") (data $p \"passive\")";
        Accesses {
            text: text.into(),
            names: Vec::new(),
        }
    }

    fn add(&mut self, name: &str, arguments: usize, rest: &str) {
        self.text += &format!("(func (export \"{name}\") {rest})");
        self.names.push((name.into(), arguments));
    }

    fn add_offset(&mut self, offset: u64) {
        for op in LOADS.split_whitespace() {
            let body = format!(
                "(param i64) (result {}) ({op} offset={offset} (local.get 0))",
                &op[..3]
            );
            self.add(&format!("{op} {offset}"), 1, &body);
        }
        for op in VECTOR_LOADS.split_whitespace() {
            let load = format!("({op} offset={offset} (i64.add (local.get 0) (i64.const 0)))");
            let body = format!("(param i64) (result i64) (i64x2.extract_lane 0 {load})");
            self.add(&format!("{op} {offset}"), 1, &body);
        }
        for op in STORES.split_whitespace() {
            let ty = &op[..3];
            // A value with a side effect, and one without.
            let value = format!("({ty}.load (i64.const 4))");
            let body = format!("(param i64) ({op} offset={offset} (local.get 0) {value})");
            self.add(&format!("{op} {offset}"), 1, &body);
            let body = format!(
                "(param i64) (local i64) ({op} offset={offset} (local.tee 1 (local.get 0)) ({ty}.const 77))
                ({op} offset={offset} (local.get 1) ({ty}.const 78))"
            );
            self.add(&format!("{op} c {offset}"), 1, &body);
        }
        let lane = format!("(v128.load32_lane offset={offset} 0 (local.get 0) (v128.load (i64.const 4)))");
        let body = format!("(param i64) (v128.store32_lane offset={offset} 1 (local.get 0) {lane})");
        self.add(&format!("lane {offset}"), 1, &body);
    }

    fn add_bulk(&mut self) {
        self.add("size", 1, "(param i64) (result i64) (memory.size)");
        self.add(
            "grow",
            1,
            "(param i64) (result i64 i64) (memory.grow (local.get 0)) (memory.size)",
        );
        self.add(
            "fill",
            2,
            "(param i64 i64) (memory.fill (local.get 0) (i32.const 7) (local.get 1))",
        );
        self.add(
            "copy",
            2,
            "(param i64 i64) (memory.copy (local.get 0) (i64.const 4) (local.get 1))",
        );
        self.add(
            "copy2",
            2,
            "(param i64 i64) (memory.copy (i64.const 4) (local.get 0) (local.get 1))",
        );
        self.add(
            "init",
            1,
            "(param i64) (memory.init $p (local.get 0) (i32.const 1) (i32.const 5))",
        );
        self.add(
            "init0",
            1,
            "(param i64) (memory.init $p (local.get 0) (i32.const 0) (i32.const 0))",
        );
    }

    /// Where a fact about an address must not outlive the address.
    fn add_flow(&mut self) {
        self.add(
            "wrapping",
            1,
            "(param i64) (result i32) (i32.load8_u (local.get 0))
            (i32.load8_u (i64.add (local.get 0) (i64.const -1))) i32.add",
        );
        self.add(
            "derived",
            1,
            "(param i64) (result i32) (local i64) (local.set 1 (i64.add (local.get 0) (i64.const 0xfffffff0)))
            (drop (i32.load8_u (local.get 0))) (i32.load8_u (local.get 1))",
        );
        self.add(
            "loop",
            1,
            "(param i64) (result i32) (local i32) (drop (i32.load8_u (local.get 0)))
            (loop (local.set 1 (i32.add (local.get 1) (i32.load8_u (local.get 0))))
                (local.set 0 (i64.mul (i64.add (local.get 0) (i64.const 3)) (i64.const 5)))
                (br_if 0 (i32.lt_u (local.get 1) (i32.const 300)))) (local.get 1)",
        );
    }
}

#[test]
fn every_access_at_every_kind_of_address() {
    let mut accesses = Accesses::new();
    for offset in [0u64, 16, 0xffff_fff0] {
        accesses.add_offset(offset);
    }
    accesses.add_bulk();
    accesses.add_flow();
    let original = wat::parse_str(accesses.text.clone() + ")").unwrap();
    let plain = Options {
        elide_guards: false,
        fold: false,
        ..Options::default()
    };
    let all = simplify(&original, &plain).unwrap().0;
    let engine = engine();
    let compile = |wasm: &[u8]| Module::new(&engine, wasm).unwrap();
    let (stock, variants) = (
        compile(&original),
        [compile(&rewritten(&original)), compile(&all)],
    );
    let mut compared = 0;
    for (name, count) in accesses.names {
        for a in ADDRESSES {
            for b in if count == 2 {
                &ADDRESSES[..]
            } else {
                &ADDRESSES[..1]
            } {
                let args = [Val::I64(a as i64), Val::I64(*b as i64)];
                let expected = observe(&stock, &name, &args[..count]);
                for variant in &variants {
                    let got = observe(variant, &name, &args[..count]);
                    assert_eq!(expected.0, got.0, "{name} {a:#x} {b:#x}");
                    assert!(expected.1 == got.1, "{name} {a:#x} {b:#x}: memory");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 5_000, "{compared} calls compared");
}

#[test]
fn refusals() {
    const STATE: &str = "(func (export \"asyncify_get_state\") (result i32) (global.get $s))";
    let outside =
        format!("(module (global $s (mut i32) (i32.const 0)) {STATE} (func (global.set $s (i32.const 1))))");
    let exported = format!("(module (global $s (export \"s\") (mut i32) (i32.const 0)) {STATE})");
    let started = format!("(module (global $s (mut i32) (i32.const 1)) {STATE})");
    for (text, why) in [
        ("(module (memory i64 65536))", "too many"),
        ("(module (memory i64 1 2) (memory 1))", "multiple memories"),
        ("(module (import \"a\" \"m\" (memory i64 1 2)))", "imports"),
        (
            "(module (import \"a\" \"g\" (global $g i64)) (memory i64 1) (data (global.get $g) \"x\"))",
            "offset",
        ),
        (
            "(module (memory i64 1) (func (drop (i32.load offset=0x100000000 (i64.const 0)))))",
            "offset of 4 GiB",
        ),
        (&outside, "outside its runtime"),
        (&exported, "is exported"),
        (&started, "does not start at 0"),
        (
            "(module (func (export \"asyncify_get_state\") (result i32) (i32.const 3)))",
            "plain read",
        ),
    ] {
        let e = simplify(&wat::parse_str(text).unwrap(), &Options::default())
            .unwrap_err()
            .to_string();
        assert!(e.contains(why), "{text}: {e}");
    }
}

#[test]
fn a_larger_declared_maximum_is_clamped() {
    let module = wat::parse_str("(module (memory (export \"memory\") i64 1 100000))").unwrap();
    let engine = engine();
    let module = Module::new(&engine, rewritten(&module)).unwrap();
    let mut store = Store::new(&engine, ());
    let memory = Instance::new(&mut store, &module, &[])
        .unwrap()
        .get_memory(&mut store, "memory")
        .unwrap();
    assert!(!memory.ty(&store).is_64());
    assert_eq!(memory.ty(&store).maximum(), Some(65535));
}

/// A small stream of pseudo-random bytes.
fn noise(state: &mut u64, bytes: usize) -> Vec<u8> {
    let mut next = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn smith_config(n: u64) -> wasm_smith::Config {
    wasm_smith::Config {
        memory64_enabled: true,
        memory_max_size_required: true,
        min_memories: 1,
        max_memories: 1,
        max_memory64_bytes: 1 << 20,
        max_memory32_bytes: 1 << 20,
        max_imports: 0,
        min_funcs: 3,
        export_everything: true,
        max_data_segments: 4,
        max_instructions: 400,
        multi_value_enabled: false,
        exceptions_enabled: false,
        reference_types_enabled: false,
        gc_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        relaxed_simd_enabled: false,
        extended_const_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        canonicalize_nans: true,
        // Traps end most runs early, so half of the modules check before they access.
        disallow_traps: n % 2 == 1,
        memory_offset_choices: wasm_smith::MemoryOffsetChoices(90, 9, 0),
        ..Default::default()
    }
}

/// Every function called with a few arguments, then memory and globals.
fn behaviour(engine: &Engine, wasm: &[u8]) -> Vec<String> {
    let module = Module::new(engine, wasm).unwrap();
    let mut store = Store::new(engine, ());
    let instance = match Instance::new(&mut store, &module, &[]) {
        Ok(i) => i,
        Err(e) => return vec![format!("{:?}", e.downcast_ref::<Trap>())],
    };
    let mut seen = vec![];
    let exports: Vec<_> = instance
        .exports(&mut store)
        .filter(|e| !e.name().starts_with("weft:"))
        .collect();
    let exports: Vec<_> = exports.into_iter().map(|e| e.into_extern()).collect();
    for f in exports.iter().filter_map(|e| e.clone().into_func()) {
        for seed in [0u64, 5, 1 << 32] {
            let args: Vec<Val> = f.ty(&store).params().map(|t| argument(&t, seed)).collect();
            let mut results = vec![Val::I32(0); f.ty(&store).results().len()];
            seen.push(match f.call(&mut store, &args, &mut results) {
                Ok(()) => format!("{results:?}"),
                Err(e) => format!("{:?}", e.downcast_ref::<Trap>()),
            });
        }
    }
    for e in exports {
        if let Some(m) = e.clone().into_memory() {
            let data = m.data(&store);
            let sum: u64 = data
                .iter()
                .zip(1..)
                .filter(|(b, _)| **b != 0)
                .map(|(b, i)| i * *b as u64)
                .sum();
            seen.push(format!("{} {sum}", data.len()));
        } else if let Some(g) = e.into_global() {
            seen.push(format!("{:?}", g.get(&mut store)));
        }
    }
    seen
}

fn argument(ty: &ValType, seed: u64) -> Val {
    match ty {
        ValType::I32 => Val::I32(seed as i32),
        ValType::I64 => Val::I64(seed as i64),
        ValType::F32 => Val::F32((seed as f32).to_bits()),
        ValType::F64 => Val::F64((seed as f64).to_bits()),
        ValType::V128 => Val::V128((seed as u128).into()),
        _ => panic!("a reference parameter"),
    }
}

/// Random modules end the same way before and after the rewrites. `RANDOM_MODULES` sets how many.
#[test]
fn random_modules() {
    let count = std::env::var("RANDOM_MODULES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(150);
    let engine = engine();
    let (mut observations, mut guards, mut refused) = (0, 0, 0);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for n in 0..count {
        let bytes = noise(&mut state, 6000);
        let mut source = arbitrary::Unstructured::new(&bytes);
        let mut module = wasm_smith::Module::new(smith_config(n), &mut source).unwrap();
        if module.ensure_termination(1000).is_err() {
            continue;
        }
        let original = module.to_bytes();
        let Ok((simple, stats)) = simplify(&original, &Options::default()) else {
            refused += 1;
            continue;
        };
        guards += stats.guards;
        let guarded = guard::instrument(
            &simple,
            guard::Options {
                depth: true,
                safepoints: false,
            },
        )
        .unwrap();
        let (a, b, c) = (
            behaviour(&engine, &original),
            behaviour(&engine, &simple),
            behaviour(&engine, &guarded),
        );
        // The depth of recursion is defined on the rewritten form.
        if a.iter().chain(&b).chain(&c).any(|s| s.contains("StackOverflow")) {
            continue;
        }
        observations += a.len();
        assert_eq!(a, b, "module {n}, simplified");
        assert_eq!(a, c, "module {n}, guarded");
    }
    assert!(observations > 5 * count as usize, "{observations} observations");
    assert!(
        guards > 50 && refused < count / 4,
        "{guards} guards, {refused} refused"
    );
}
