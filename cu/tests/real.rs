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
        println!(
            "{name}: {} bytes, root {:02x?}",
            p.machine.memory_bytes(),
            &p.machine.state_root().unwrap()[..4]
        );
    }
}

#[test]
fn speed() {
    let Some(module) = load("aos2_0_1") else { return };
    let mut p = Process::boot(&module, "x");
    for _ in 0..50 {
        p.eval("1 + 1").unwrap();
    }
    let msgs: Vec<String> = (100..1100).map(|s| eval(s, "1 + 1").to_string()).collect();
    for round in 0..3 {
        let t = cpu();
        for m in &msgs {
            let v = p.machine.call(m.as_bytes(), p.env.as_bytes()).unwrap();
            v.unwrap();
            p.machine.commit().unwrap();
        }
        println!("{round}: {:.0}/s", 1000.0 / (cpu() - t));
    }
    let t = std::time::Instant::now();
    let r = p.machine.state_root().unwrap();
    println!("root {:?} {:02x?}", t.elapsed(), &r[..4]);
    let t = std::time::Instant::now();
    let i = p.machine.encode().unwrap();
    println!("encode {:?} {}", t.elapsed(), i.len());
    let t = std::time::Instant::now();
    let i = p.machine.encode().unwrap();
    println!("encode {:?} {}", t.elapsed(), i.len());
    let t = std::time::Instant::now();
    let mut q = cu::runtime::Machine::restore(&module, Default::default(), &i).unwrap();
    println!("restore {:?}", t.elapsed());
    assert_eq!(q.state_root().unwrap(), r);
    let t = std::time::Instant::now();
    for _ in 0..20 {
        let _ = p.eval("error('x')");
    }
    println!("errors {:?} each", t.elapsed() / 20);
    assert_eq!(p.machine.state_root().unwrap(), r);
    for n in [
        "abc",
        "abcdefghijklmnopqrstuvwxyz",
        &"n".repeat(60),
        &"reference".to_string(),
    ] {
        let mut b = Process::boot(&module, n);
        println!("boot image {}: {}", n.len(), b.machine.encode().unwrap().len());
    }
}
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    s.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
#[test]
fn errors_cost() {
    let Some(module) = load("aos2_0_1") else { return };
    let mut p = Process::boot(&module, "x");
    for _ in 0..3 {
        let _ = p.eval("error('x')");
    }
    for i in 0..6 {
        let m = eval(1000, "error('x')").to_string();
        let t = std::time::Instant::now();
        let v = p.machine.call(m.as_bytes(), p.env.as_bytes()).unwrap();
        let _ = v;
        let a = t.elapsed();
        let t = std::time::Instant::now();
        p.machine.roll_back().unwrap();
        println!("{i} call {a:?} rollback {:?}", t.elapsed());
    }
    let t = std::time::Instant::now();
    let f = p.machine.fork().unwrap();
    println!("fork {:?}", t.elapsed());
    let t = std::time::Instant::now();
    drop(f);
    println!("drop {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let f = cu::runtime::Machine::start(&module, Default::default()).unwrap();
    println!("start {:?}", t.elapsed());
    drop(f);
}
