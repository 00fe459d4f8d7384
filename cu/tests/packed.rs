//! Packed states: whatever a process's future depends on is in them, and no bytes are taken for a state that they are
//! not.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/stream.rs"]
mod stream;
mod support;

use bytes::Bytes;
use cu::runtime::{Config, Engine, Error, Limits, Machine, Module, ModuleFormat, STACK_BYTES, State, frame};
use std::sync::OnceLock;

const MAX: u64 = 1 << 30;

/// Counts in memory and in a global, reads the clock, writes a file that stays open, and grows its memory.
const FIXTURE: &str = r#"(module
  (import "env" "emscripten_date_now" (func $now (result f64)))
  (import "env" "__syscall_openat" (func $open (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2 64)
  (global $sp (mut i32) (i32.const 65536))
  (global $mark (mut i64) (i64.const 0))
  (data (i32.const 256) "{\"ok\":true,\"response\":{\"Output\":\"0000000000\"}}\00")
  (data (i32.const 512) "/tmp/kept\00")
  (data (i32.const 600) "some bytes")
  (func (export "stackSave") (result i32) (global.get $sp))
  (func (export "stackRestore") (param i32) (global.set $sp (local.get 0)))
  (func (export "stackAlloc") (param i32) (result i32)
    (global.set $sp (i32.and (i32.sub (global.get $sp) (local.get 0)) (i32.const -16))) (global.get $sp))
  (func $say (param $n i32) (local $at i32)
    (local.set $at (i32.const 298))
    (loop $digit
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
      (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $digit (i32.ge_u (local.get $at) (i32.const 289)))))
  (func (export "handle") (param $message i32) (param $env i32) (result i32) (local $what i32)
    (local.set $what (i32.load8_u (local.get $message)))
    (i32.store (i32.const 128) (i32.add (i32.load (i32.const 128)) (i32.const 1)))
    (global.set $mark (i64.add (global.get $mark) (i64.const 7)))
    (if (i32.eq (local.get $what) (i32.const 116)) (then                                                  ;; t
      (call $say (i32.trunc_f64_u (call $now))) (return (i32.const 256))))
    (if (i32.eq (local.get $what) (i32.const 119)) (then                                                  ;; w
      (if (i32.eqz (i32.load (i32.const 132))) (then
        (i32.store (i32.const 132) (call $open (i32.const -100) (i32.const 512) (i32.const 66) (i32.const 0)))))
      (i32.store (i32.const 640) (i32.const 600)) (i32.store (i32.const 644) (i32.const 10))
      (drop (call $write (i32.load (i32.const 132)) (i32.const 640) (i32.const 1) (i32.const 648)))
      (call $say (i32.load (i32.const 648))) (return (i32.const 256))))
    (if (i32.eq (local.get $what) (i32.const 103)) (then                                                  ;; g
      (drop (memory.grow (i32.const 1)))
      (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8)) (memory.size))))
    (if (i32.eq (local.get $what) (i32.const 122)) (then                                                  ;; z
      (memory.fill (i32.const 0x10000) (i32.const 0) (i32.const 0x1000))))
    (if (i32.eq (local.get $what) (i32.const 102)) (then                                                  ;; f
      (memory.fill (i32.const 0x10000) (i32.const 85) (i32.const 0x3000))))
    (call $say (i32.load (i32.const 128)))
    (i32.const 256))
)"#;

fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| {
        let wasm = Bytes::from(wat::parse_str(FIXTURE).unwrap());
        let engine = Engine::new(Config::default()).unwrap();
        engine.load(&wasm, ModuleFormat::Emscripten4).unwrap()
    })
}

fn run(machine: &mut Machine, calls: &str) -> String {
    let mut said = String::new();
    for what in calls.chars() {
        let answer = machine.call(what.to_string().as_bytes(), b"{}").unwrap().unwrap();
        machine.commit().unwrap();
        said.push_str(std::str::from_utf8(&answer.response).unwrap());
    }
    said
}

fn on(state: &State) -> Machine {
    Machine::stand_on(module(), Limits::default(), state).unwrap()
}

#[test]
fn everything_that_the_future_depends_on_comes_along() {
    let calls = "ctwfgtwzcwgtffzw";
    let mut live = Machine::start(module(), Limits::default()).unwrap();
    let mut base: Option<State> = None;
    for (at, what) in calls.char_indices() {
        run(&mut live, &what.to_string());
        let root = live.state_root().unwrap();
        // Alone, and against the state before.
        let alone = module().unpack(MAX, None, &live.pack(None).unwrap()).unwrap();
        let packed = live.pack(base.as_ref()).unwrap();
        let chained = module().unpack(MAX, base.as_ref(), &packed).unwrap();
        for state in [&alone, &chained] {
            assert_eq!(state.root(), root, "after {at} calls");
            let mut woken = on(state);
            assert_eq!(woken.state_root().unwrap(), root, "after {at} calls");
            assert_eq!(woken.memory(), live.memory());
            let mut fork = live.fork().unwrap();
            assert_eq!(run(&mut woken, calls), run(&mut fork, calls), "after {at} calls");
            assert_eq!(woken.state_root().unwrap(), fork.state_root().unwrap());
        }
        // Every other one is the base of the next two.
        base = if at % 2 == 0 { Some(chained) } else { base };
    }
}

/// A page that a shared state file holds may be emptied; who stands on the file must not find the old bytes again when
/// the next state is taken.
#[test]
fn a_page_that_was_emptied_stays_empty_whoever_else_stands_on_its_file() {
    let mut live = Machine::start(module(), Limits::default()).unwrap();
    run(&mut live, "f");
    let state = module().unpack(MAX, None, &live.pack(None).unwrap()).unwrap();
    // On the anchor that it shares with a fork, on a patch of the dictionary, and on neither.
    let other = live.fork().unwrap();
    let mut woken = on(&state);
    let mut alone = Machine::start(module(), Limits::default()).unwrap();
    run(&mut alone, "f");
    for machine in [&mut live, &mut woken, &mut alone] {
        run(machine, "z");
        let before = machine.memory().to_vec();
        let root = machine.state_root().unwrap();
        drop(machine.fork().unwrap());
        assert!(machine.memory() == before, "taking the state changes nothing");
        assert_eq!(machine.state_root().unwrap(), root);
    }
    let roots = [&mut live, &mut woken, &mut alone].map(|machine| machine.state_root().unwrap());
    assert!(roots.iter().all(|root| *root == roots[2]));
    drop(other);
}

#[test]
fn what_was_packed_against_another_base_is_refused() {
    let mut machine = Machine::start(module(), Limits::default()).unwrap();
    let state = |machine: &mut Machine| module().unpack(MAX, None, &machine.pack(None).unwrap()).unwrap();
    run(&mut machine, "c");
    let first = state(&mut machine);
    run(&mut machine, "c");
    let second = state(&mut machine);
    run(&mut machine, "c");
    let packed = machine.pack(Some(&first)).unwrap();
    for wrong in [None, Some(&second)] {
        assert!(matches!(
            module().unpack(MAX, wrong, &packed),
            Err(Error::Image(_))
        ));
    }
    assert!(module().unpack(MAX, Some(&first), &packed).is_ok());
    let small = 1 << 16;
    assert!(matches!(
        module().unpack(small, Some(&first), &packed),
        Err(Error::Image(_))
    ));
}

/// The same bytes under a checksum that fits.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 32;
    let checksum = *blake3::hash(&bytes[..end]).as_bytes();
    bytes[end..].copy_from_slice(&checksum);
    bytes
}

#[test]
fn flipped_and_missing_bytes_are_refused_or_show_in_the_root() {
    let mut machine = Machine::start(module(), Limits::default()).unwrap();
    run(&mut machine, "cwtg");
    let base = module().unpack(MAX, None, &machine.pack(None).unwrap()).unwrap();
    run(&mut machine, "wfzc");
    let root = machine.state_root().unwrap();
    for base in [None, Some(&base)] {
        let whole = machine.pack(base).unwrap();
        let mut as_it_was = 0;
        for at in 0..whole.len() - 32 {
            for bit in 0..8 {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 1 << bit;
                assert!(
                    module().unpack(MAX, base, &bytes).is_err(),
                    "byte {at}: its checksum"
                );
                match module().unpack(MAX, base, &resealed(bytes)) {
                    Err(Error::Image(_)) => {}
                    Err(other) => panic!("byte {at}, bit {bit}: {other}"),
                    // Bits that no reader looks at, such as a frame's reserved ones.
                    Ok(state) => as_it_was += usize::from(state.root() == root),
                }
            }
        }
        assert!(
            as_it_was < whole.len() / 8,
            "{as_it_was} of {} flips",
            whole.len() * 8
        );
        for length in 0..whole.len() {
            assert!(
                module().unpack(MAX, base, &whole[..length]).is_err(),
                "cut at {length}"
            );
            let cut = whole[..length].to_vec();
            let cut = if length > 32 { resealed(cut) } else { cut };
            assert!(
                module().unpack(MAX, base, &cut).is_err(),
                "cut at {length}, sealed"
            );
        }
        let mut longer = whole.to_vec();
        longer.extend([0; 7]);
        assert!(module().unpack(MAX, base, &resealed(longer)).is_err());
    }
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_memory() {
    let mut machine = Machine::start(module(), Limits::default()).unwrap();
    run(&mut machine, "c");
    let whole = machine.pack(None).unwrap();
    // Head: magic and three hashes, memory size, clock, globals, length of the disk, its frame.
    let head = 8 + 3 * 32;
    let globals = u32::from_le_bytes(whole[head + 16..head + 20].try_into().unwrap()) as usize;
    let disk = head + 20 + 16 * globals;
    let frame = u32::from_le_bytes(whole[disk + 4..disk + 8].try_into().unwrap()) as usize;
    let runs = disk + 8 + frame;
    let with = |at: usize, value: u32| {
        let mut bytes = whole.to_vec();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        resealed(bytes)
    };
    let sizes = [
        (disk, u32::MAX),
        (disk, 100 << 20),
        (disk + 4, u32::MAX),
        (head + 16, u32::MAX),
        (runs, u32::MAX),
    ];
    for (at, value) in sizes.into_iter().chain([
        (head + 4, 1),
        (runs + 4, 1 << 30),
        (runs + 8, 0),
        (runs + 8, 1 << 30),
    ]) {
        let refused = module().unpack(MAX, None, &with(at, value));
        assert!(matches!(refused, Err(Error::Image(_))), "{value} at {at}");
    }
    // A frame of zeros that unpacks to far more than the pages that are named.
    let mut bytes = whole[..runs].to_vec();
    for number in [1, 3, 1] {
        bytes.extend_from_slice(&u32::to_le_bytes(number));
    }
    let zeros = vec![0u8; 64 << 20];
    let mut bomb = Vec::with_capacity(zstd_safe::compress_bound(zeros.len()));
    zstd_safe::compress(&mut bomb, &zeros, 3).unwrap();
    bytes.extend_from_slice(&(bomb.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&bomb);
    bytes.extend([0; 32]);
    assert!(matches!(
        module().unpack(MAX, None, &resealed(bytes)),
        Err(Error::Image(_))
    ));
}

/// A packed state of the first version opens, or is refused because the engine is another one by now.
#[test]
fn version_1_opens() {
    let vector = include_bytes!("../../spec/vectors/packed_v1.bin");
    let mut machine = Machine::start(module(), Limits::default()).unwrap();
    run(&mut machine, "cwtgf");
    match module().unpack(MAX, None, vector) {
        Ok(state) => assert_eq!(state.root(), machine.state_root().unwrap()),
        Err(Error::Image(why)) => {
            let epoch = blake3::hash(Engine::epoch().as_bytes());
            assert_ne!(vector[40..72], epoch.as_bytes()[..], "{why}");
        }
        Err(other) => panic!("{other}"),
    }
}

fn on_a_deep_thread(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, work).unwrap().join().unwrap();
    });
}

/// A process that goes to a packed state and back at every look is the process that never did.
fn naps(module: &Module, count: usize, every: usize) {
    let framed = |json: String| match module.format() {
        ModuleFormat::Lua => frame::of_json(json.as_bytes()).unwrap(),
        _ => json.into_bytes(),
    };
    let env = framed(support::env("roots"));
    let (mut live, limits) = (
        Machine::start(module, Limits::default()).unwrap(),
        Limits::default(),
    );
    let mut napping = live.fork().unwrap();
    let mut base: Option<State> = None;
    for (number, item) in stream::stream(20_261_122, "roots", count).iter().enumerate() {
        let message = framed(item.message.to_string());
        let [one, other] = [&mut live, &mut napping].map(|machine| {
            let verdict = machine.call(&message, &env).unwrap();
            support::settle(machine, verdict)
        });
        assert_eq!(one, other, "message {number}");
        if number % every == every - 1 {
            let root = live.state_root().unwrap();
            let packed = napping.pack(base.as_ref()).unwrap();
            let state = module.unpack(MAX, base.as_ref(), &packed).unwrap();
            assert_eq!(state.root(), root, "message {number}");
            napping = Machine::stand_on(module, limits, &state).unwrap();
            assert_eq!(napping.state_root().unwrap(), root, "message {number}");
            base = Some(state).filter(|_| number / every % 4 != 3);
        }
    }
}

#[test]
fn a_kernel_process_is_one_state_however_often_it_is_packed() {
    let mut items = cu::shipped::items().into_iter();
    let kernel = items.find(|item| item.id() == cu::kernel_id().into()).unwrap();
    let kernel = support::engine().load(&kernel.data(), ModuleFormat::Lua).unwrap();
    on_a_deep_thread(|| naps(&kernel, 200, 12));
}

#[test]
fn a_published_process_is_one_state_however_often_it_is_packed() {
    for name in ["aos2_0_1", "aos2_0_4_32"] {
        let Some(module) = support::load(name) else { return };
        on_a_deep_thread(|| naps(&module, 60, 9));
    }
}
