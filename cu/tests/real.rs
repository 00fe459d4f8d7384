//! Published modules, where this machine has them: they boot, answer, keep their state, and go back.

mod support;
use support::*;

#[test]
fn aos_boots_and_evaluates() {
    for name in ["aos2_0_1", "aos2_0_4_32", "aos2_0_6", "aos2_0_3", "aos", "sqlite"] {
        let Some(module) = load(name) else { return };
        let mut p = Process::boot(&module, "x");
        assert_eq!(p.says("1 + 1"), "2", "{name}");
        assert_eq!(p.says("return string.rep('a', 3)"), "aaa", "{name}");
        println!("{name}: {} bytes, root {:02x?}", p.machine.memory_bytes(), &p.machine.state_root().unwrap()[..4]);
    }
}
