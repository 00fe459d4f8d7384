//! The machine on a small module of our own: verdicts, gas, memory, depth, going back, saving and restoring.
//! Not here: published modules (`real`, `oracle`).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::Bytes;
use cu::runtime::{Answer, Bounds, Config, Engine, Error, Fault, Limits, Machine, Module, ModuleFormat};
use std::sync::OnceLock;

/// A module whose first message byte says what to do. `counter` lives in memory, `$mark` in a global.
const FIXTURE: &str = r#"(module
  (import "env" "nobody_has_this" (func $unknown))
  (import "env" "emscripten_date_now" (func $now (result f64)))
  (memory (export "memory") 2 64)
  (global $sp (mut i32) (i32.const 65536))
  (global $mark (mut i64) (i64.const 0))
  (data (i32.const 256) "{\"ok\":true,\"response\":{\"Output\":\"0000000000\"}}\00")
  (data (i32.const 384) "{\"ok\":false,\"response\":\"no\"}\00")
  (data (i32.const 448) "rubbish\00")
  (func (export "stackSave") (result i32) (global.get $sp))
  (func (export "stackRestore") (param i32) (global.set $sp (local.get 0)))
  (func (export "stackAlloc") (param i32) (result i32)
    (global.set $sp (i32.and (i32.sub (global.get $sp) (local.get 0)) (i32.const -16))) (global.get $sp))
  (func (export "emscripten_stack_get_end") (result i32) (i32.const 1024))
  (func $count (param $n i32) (result i32) (local $at i32)
    (local.set $at (i32.const 298))
    (loop $digit
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
      (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $digit (i32.ge_u (local.get $at) (i32.const 289))))
    (i32.const 256))
  (func $recurse (param i32) (result i32)
    (i32.add (i32.const 1) (call $recurse (i32.add (local.get 0) (i32.const 1)))))
  (func $wide (param i64) (result i64)
    (local $a i64) (local $b i64) (local $c i64) (local $d i64) (local $e i64) (local $f i64) (local $g i64)
    (local.set $a (i64.mul (local.get 0) (i64.const 3))) (local.set $b (i64.add (local.get $a) (local.get 0)))
    (local.set $c (i64.xor (local.get $b) (local.get $a))) (local.set $d (i64.rotl (local.get $c) (local.get 0)))
    (local.set $e (i64.sub (local.get $d) (local.get $b))) (local.set $f (i64.or (local.get $e) (local.get $a)))
    (local.set $g (call $wide (local.get $f)))
    (i64.add (local.get $a) (i64.add (local.get $b) (i64.add (local.get $c) (i64.add (local.get $d)
      (i64.add (local.get $e) (i64.add (local.get $f) (local.get $g))))))))
  (func (export "handle") (param $message i32) (param $env i32) (result i32) (local $what i32) (local $n i32)
    (local.set $what (i32.load8_u (local.get $message)))
    (i32.store (i32.const 128) (i32.add (i32.load (i32.const 128)) (i32.const 1)))
    (global.set $mark (i64.add (global.get $mark) (i64.const 7)))
    (if (i32.eq (local.get $what) (i32.const 117)) (then unreachable))                                    ;; u
    (if (i32.eq (local.get $what) (i32.const 111)) (then (drop (i32.load (i32.const 0x7fffffff)))))       ;; o
    (if (i32.eq (local.get $what) (i32.const 120)) (then (call $unknown)))                                ;; x
    (if (i32.eq (local.get $what) (i32.const 98)) (then (return (i32.const 448))))                        ;; b
    (if (i32.eq (local.get $what) (i32.const 102)) (then (return (i32.const 384))))                       ;; f
    (if (i32.eq (local.get $what) (i32.const 97)) (then (return (i32.const -1))))                         ;; a
    (if (i32.eq (local.get $what) (i32.const 114)) (then (drop (call $recurse (i32.const 0)))))           ;; r
    (if (i32.eq (local.get $what) (i32.const 119)) (then (drop (call $wide (i64.const 1)))))              ;; w
    (if (i32.eq (local.get $what) (i32.const 108)) (then (loop $ever (br $ever))))                        ;; l
    (if (i32.eq (local.get $what) (i32.const 76)) (then                                                   ;; L
      (local.set $n (i32.const 300000000))
      (loop $long (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $long (local.get $n)))))
    (if (i32.eq (local.get $what) (i32.const 116)) (then                                                  ;; t
      (return (call $count (i32.trunc_f64_u (call $now))))))
    (if (i32.eq (local.get $what) (i32.const 109)) (then (return (call $count (memory.size)))))           ;; m
    (if (i32.eq (local.get $what) (i32.const 103)) (then                                                  ;; g
      (loop $grow
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then
          (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8)) (memory.size))
          (br $grow))))
      (return (call $count (memory.size)))))
    (call $count (i32.load (i32.const 128))))
)"#;

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(Config::default()).unwrap())
}

fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| load(FIXTURE, ModuleFormat::Emscripten2).unwrap())
}

fn load(text: &str, format: ModuleFormat) -> Result<Module, Error> {
    engine().load(&Bytes::from(wat::parse_str(text).unwrap()), format)
}

const LIMITS: Limits = Limits {
    memory_bytes_max: 1 << 30,
    gas_max: 10_000_000_000,
    metered_gas_max: 1 << 40,
};

fn start() -> Machine {
    Machine::start(module(), LIMITS).unwrap()
}

/// What the fixture says, as a number; the effect is kept.
fn number(m: &mut Machine, what: &str) -> u64 {
    let answer = m.call(what.as_bytes(), b"{}").unwrap().unwrap();
    m.commit().unwrap();
    output(&answer)
}

fn output(answer: &Answer) -> u64 {
    let text = std::str::from_utf8(&answer.response).unwrap();
    text.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

/// How a call ends that does not end well; its effect is taken back.
fn fault(m: &mut Machine, what: &str) -> Fault {
    let fault = m.call(what.as_bytes(), b"{}").unwrap().unwrap_err();
    m.roll_back().unwrap();
    fault
}

#[test]
fn the_format_shows_in_the_binary() {
    let wasm = wat::parse_str(FIXTURE).unwrap();
    assert_eq!(ModuleFormat::detect(&wasm), Some(ModuleFormat::Emscripten2));
    assert_eq!(ModuleFormat::detect(b"\0asm\x01\0\0\0"), None);
    assert_eq!(ModuleFormat::detect(b"rubbish"), None);
    for format in ModuleFormat::ALL {
        assert_eq!(ModuleFormat::from_name(format.name()), Some(format));
    }
}

#[test]
fn every_fault_is_typed_and_leaves_the_state_before() {
    let mut m = start();
    assert_eq!(number(&mut m, "c"), 1);
    let root = m.state_root().unwrap();
    let trap = |text: &str| Fault::Trap(text.into());
    for (what, expected) in [
        ("u", trap("unreachable")),
        ("o", trap("memory access out of bounds")),
        ("x", trap("import env.nobody_has_this is not provided")),
        ("f", Fault::Thrown("\"no\"".into())),
        (
            "a",
            Fault::BadResponse("its address is outside the memory".into()),
        ),
        ("r", Fault::StackDepth),
        ("w", Fault::StackDepth),
    ] {
        assert_eq!(fault(&mut m, what), expected, "{what}");
        assert_eq!(m.state_root().unwrap(), root, "{what}");
    }
    assert!(matches!(fault(&mut m, "b"), Fault::BadResponse(_)));
    let large = "c".repeat(70_000);
    assert_eq!(fault(&mut m, &large), Fault::MessageTooBig(70_000));
    assert_eq!(number(&mut m, "c"), 2);
}

#[test]
fn faults_become_json() {
    assert_eq!(Fault::Thrown("{\"a\":1}".into()).error_json(), "{\"a\":1}");
    assert_eq!(Fault::OutOfGas.error_json(), "\"out of gas!\"");
}

#[test]
fn an_endless_loop_runs_out_of_gas_and_a_long_one_does_not() {
    let mut m = start();
    assert_eq!(number(&mut m, "c"), 1);
    assert_eq!(fault(&mut m, "l"), Fault::OutOfGas);
    assert_eq!(number(&mut m, "L"), 2);
    assert_eq!(number(&mut m, "c"), 3);
    // Too little gas for the watch: counted from the start.
    let mut poor = Machine::start(
        module(),
        Limits {
            gas_max: 1_000_000,
            ..LIMITS
        },
    )
    .unwrap();
    assert_eq!(fault(&mut poor, "L"), Fault::OutOfGas);
    assert_eq!(number(&mut poor, "c"), 1);
    assert_eq!(fault(&mut poor, "l"), Fault::OutOfGas);
    assert_eq!(number(&mut poor, "c"), 2);
}

/// The state is the same whichever build ran the messages.
#[test]
fn counting_gas_changes_nothing_else() {
    let mut rich = start();
    let mut poor = Machine::start(
        module(),
        Limits {
            gas_max: 4_000_000_000,
            ..LIMITS
        },
    )
    .unwrap();
    for what in ["c", "t", "L", "g", "t", "c"] {
        assert_eq!(number(&mut rich, what), number(&mut poor, what), "{what}");
        assert_eq!(rich.state_root().unwrap(), poor.state_root().unwrap(), "{what}");
    }
}

#[test]
fn memory_grows_to_the_limit_of_process_and_module() {
    let mut m = Machine::start(
        module(),
        Limits {
            memory_bytes_max: 10 << 16,
            ..LIMITS
        },
    )
    .unwrap();
    assert_eq!(number(&mut m, "g"), 10);
    assert_eq!(m.memory_bytes(), 10 << 16);
    let mut m = start();
    assert_eq!(number(&mut m, "g"), 64, "what the module itself declares");
    let small = Limits {
        memory_bytes_max: 1 << 16,
        ..LIMITS
    };
    assert!(matches!(Machine::start(module(), small), Err(Error::Refused(_))));
}

/// A growth that is taken back is gone, also in size.
#[test]
fn going_back_shrinks_the_memory() {
    let mut m = start();
    let root = m.state_root().unwrap();
    m.call(b"g", b"{}").unwrap().unwrap();
    m.roll_back().unwrap();
    assert_eq!((m.memory_bytes(), m.state_root().unwrap()), (2 << 16, root));
    assert_eq!(number(&mut m, "m"), 2);
}

#[test]
fn live_replayed_and_restored_states_are_equal() {
    let calls = ["c", "t", "c", "g", "c", "t", "m", "c"];
    let mut live = start();
    let mut images = Vec::new();
    for what in calls {
        number(&mut live, what);
        images.push(live.encode().unwrap());
    }
    let root = live.state_root().unwrap();
    let mut replayed = start();
    calls.iter().for_each(|what| {
        number(&mut replayed, what);
        // Errors in between leave nothing behind.
        fault(&mut replayed, "u");
    });
    assert_eq!(replayed.state_root().unwrap(), root, "replayed");
    for (done, image) in images.iter().enumerate() {
        let mut restored = Machine::restore(module(), LIMITS, image).unwrap();
        for what in &calls[done + 1..] {
            number(&mut restored, what);
        }
        assert_eq!(restored.state_root().unwrap(), root, "restored after {done}");
        assert_eq!(restored.memory(), live.memory());
    }
}

#[test]
fn the_clock_is_part_of_the_state() {
    let mut m = start();
    assert_eq!(number(&mut m, "t"), 10_000);
    assert_eq!(number(&mut m, "t"), 10_001);
    m.call(b"t", b"{}").unwrap().unwrap();
    m.roll_back().unwrap();
    let image = m.encode().unwrap();
    assert_eq!(number(&mut m, "t"), 10_002);
    let mut restored = Machine::restore(module(), LIMITS, &image).unwrap();
    assert_eq!(number(&mut restored, "t"), 10_002);
}

#[test]
fn a_fork_goes_its_own_way() {
    let mut m = start();
    number(&mut m, "c");
    let mut fork = m.fork().unwrap();
    assert_eq!(number(&mut fork, "c"), 2);
    assert_eq!(number(&mut fork, "g"), 64);
    assert_eq!(number(&mut m, "c"), 2);
    assert_eq!(number(&mut m, "m"), 2);
    let mut again = m.fork().unwrap();
    drop(m);
    assert_eq!(number(&mut again, "c"), 4);
}

#[test]
fn damaged_and_foreign_images_are_refused() {
    let mut m = start();
    number(&mut m, "c");
    let image = m.encode().unwrap();
    let refused = |bytes: Vec<u8>| {
        matches!(
            Machine::restore(module(), LIMITS, &bytes.into()),
            Err(Error::Image(_))
        )
    };
    for at in [0, 7, 8, 50, 100, image.len() / 2, image.len() - 1] {
        let mut bytes = image.to_vec();
        bytes[at] ^= 1;
        assert!(refused(bytes), "bit at {at}");
    }
    for length in [0, 31, 32, 100, image.len() - 1] {
        assert!(refused(image[..length].to_vec()), "cut at {length}");
    }
    let other = load(&FIXTURE.replace("rubbish", "RUBBISH"), ModuleFormat::Emscripten2).unwrap();
    assert!(matches!(
        Machine::restore(&other, LIMITS, &image),
        Err(Error::Image(_))
    ));
    let small = Limits {
        memory_bytes_max: 1 << 16,
        ..LIMITS
    };
    assert!(matches!(
        Machine::restore(module(), small, &image),
        Err(Error::Image(_))
    ));
}

/// Failing calls between good ones cost no more than a bounded number of repetitions.
#[test]
fn errors_are_no_amplifier() {
    let mut m = start();
    for round in 0..50 {
        for _ in 0..20 {
            number(&mut m, "c");
        }
        for _ in 0..5 {
            fault(&mut m, "u");
        }
        assert_eq!(number(&mut m, "c"), 21 * round + 21);
    }
}

#[test]
fn compile_bombs_are_refused_before_they_are_compiled() {
    let refused = |text: &str, why: &str| {
        let e = load(text, ModuleFormat::Emscripten2)
            .err()
            .expect("refused")
            .to_string();
        assert!(e.contains(why), "{e}");
    };
    let body = "(local.set 0 (i32.add (local.get 0) (i32.const 1)))".repeat(60_000);
    refused(
        &format!("(module (memory (export \"memory\") 1) (func (local i32) {body}))"),
        "bytes, more than",
    );
    let locals = "(local i64)".repeat(10_001);
    refused(
        &format!("(module (memory (export \"memory\") 1) (func {locals}))"),
        "locals",
    );
    let blocks = "(block (br_if 0 (i32.const 1)))".repeat(9_000);
    let locals = "(local i64)".repeat(9_000);
    refused(
        &format!("(module (memory 1) (func {locals} {blocks}))"),
        "locals meet at",
    );
    refused(
        &format!("(module (memory 1) (func (param {})))", "i32 ".repeat(65)),
        "parameters",
    );
    refused(
        &format!("(module (memory 1) {})", "(func)".repeat(50_001)),
        "functions",
    );
    refused("(module (memory 1) (table 2000000 funcref))", "table starts with");
    let tight = Bounds {
        module_bytes_max: 100,
        ..Bounds::default()
    };
    let engine = Engine::new(Config {
        bounds: tight,
        ..Config::default()
    })
    .unwrap();
    let e = engine.load(
        &Bytes::from(wat::parse_str(FIXTURE).unwrap()),
        ModuleFormat::Emscripten2,
    );
    assert!(e.err().expect("refused").to_string().contains("exceed 100"));
}

#[test]
fn state_out_of_reach_is_refused() {
    for (text, why) in [
        (
            "(module (import \"env\" \"memory\" (memory 1)))",
            "not a function",
        ),
        (
            "(module (import \"env\" \"g\" (global i32)) (memory 1))",
            "not a function",
        ),
        ("(module (memory 1) (func $s) (start $s))", "start function"),
        (
            "(module (memory 1) (table 1 funcref) (func (table.set (i32.const 0) (ref.null func))))",
            "TableSet",
        ),
        (
            "(module (memory 1) (data $d \"x\") (func (data.drop $d)))",
            "DataDrop",
        ),
        ("(module (memory 1) (memory 1))", "memories"),
        ("(module (func))", "no memory"),
        (
            "(module (memory (export \"memory\") 1) (func (export \"weft:g0\")))",
            "weft:",
        ),
        (
            "(module (memory (export \"memory\") 1))",
            "does not export handle",
        ),
    ] {
        let e = load(text, ModuleFormat::Emscripten2)
            .err()
            .expect(why)
            .to_string();
        assert!(e.contains(why), "{text}: {e}");
    }
}

/// The cost of a call by the field's table, counted by hand.
#[test]
fn metering_counts_what_the_table_says() {
    let text = r#"(module
      (import "env" "metering_gasUsed" (func $used (result i32)))
      (memory (export "memory") 2)
      (global $sp (mut i32) (i32.const 65536))
      (data (i32.const 256) "{\"ok\":true,\"response\":{}}\00")
      (func (export "emscripten_stack_get_current") (result i32) (global.get $sp))
      (func (export "_emscripten_stack_restore") (param i32) (global.set $sp (local.get 0)))
      (func (export "_emscripten_stack_alloc") (param i32) (result i32)
        (global.set $sp (i32.sub (global.get $sp) (local.get 0))) (global.get $sp))
      (func (export "handle") (param i32 i32) (result i32)
        (if (i32.eqz (local.get 0)) (then (unreachable)) (else (drop (i32.div_u (local.get 0) (i32.const 3)))))
        (i32.const 256)))"#;
    let metered = load(text, ModuleFormat::Emscripten4Metering).unwrap();
    let mut m = Machine::start(&metered, LIMITS).unwrap();
    let answer = m.call(b"{}", b"{}").unwrap().unwrap();
    m.commit().unwrap();
    // The stack pointer read, two allocations, and the pointer put back.
    let save = 120 + 91;
    let alloc = 120 + 120 + 45 + 120 + 120 + 91;
    let restore = 120 + 120 + 91;
    // get eqz if; (unreachable else is skipped); get const div drop end; const end.
    let handle = (120 + 45 + 1 + 91) + (120 + 1 + 36_000 + 120 + 91) + (1 + 91);
    assert_eq!(answer.gas_used, (save + 2 * alloc + handle + restore) as u64);
    let poor = Limits {
        metered_gas_max: 10_000,
        ..LIMITS
    };
    let mut m = Machine::start(&metered, poor).unwrap();
    assert_eq!(fault(&mut m, "{}"), Fault::OutOfGas);
}

#[test]
fn compiled_modules_come_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = Bytes::from(wat::parse_str(FIXTURE).unwrap());
    let config = Config {
        cache: Some(folder.path().join("code")),
        ..Config::default()
    };
    for round in 0..3 {
        let engine = Engine::new(config.clone()).unwrap();
        let module = engine.load(&wasm, ModuleFormat::Emscripten2).unwrap();
        assert_eq!(number(&mut Machine::start(&module, LIMITS).unwrap(), "c"), 1);
        let file = std::fs::read_dir(folder.path().join("code"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        if round == 1 {
            std::fs::write(&file, b"rubbish").unwrap();
        }
        assert!(round == 1 || std::fs::metadata(&file).unwrap().len() > 1000);
    }
}

/// Many machines at once share a module's boot pages.
#[test]
fn many_machines_live_side_by_side() {
    let mut machines: Vec<Machine> = (0..64).map(|_| start()).collect();
    for (i, m) in machines.iter_mut().enumerate() {
        for _ in 0..=i % 5 {
            number(m, "c");
        }
    }
    for (i, m) in machines.iter_mut().enumerate() {
        assert_eq!(number(m, "c"), (i % 5) as u64 + 2);
    }
}
