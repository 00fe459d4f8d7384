//! The compute unit on Lua modules: spawn, evaluate, dry run, crons, waking from a checkpoint; and on our kernel.
//! Not here: the machine alone (`lua`).
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod fakes;

use fakes::*;
use spec::contract::{Compute, Content};
use spec::{DataItem, ItemParts, ModuleId, Signer, Tag};

const LUA: ModuleId = ModuleId([30; 32]);

const SOURCE: &str = r#"
local json = require("json")
Seen = {}
function handle(msg, env)
  Seen[#Seen + 1] = msg.Cron and "cron" or msg.Nonce or "dry"
  local shown = { id = msg.Id, nonce = msg.Nonce, from = msg.From, data = msg.Data, cron = msg.Cron,
    readonly = msg["Read-Only"], process = env.Process.Id, seen = #Seen, anchor = msg.Anchor, tags = #msg.Tags }
  return { Output = shown, Messages = { { Target = "T", Data = "d", Tags = {}, Anchor = "" } } }
end
"#;

fn lua_tags() -> Vec<Tag> {
    tags(&[
        ("Data-Protocol", "ao"),
        ("Type", "Module"),
        ("Module-Format", "lua@5.3a"),
    ])
}

fn world(source: &'static str) -> World {
    let world = World::new();
    world.permanent.register(LUA, source.into(), lua_tags());
    world
}

#[tokio::test]
async fn a_script_without_any_limits_is_a_module() {
    let world = world(SOURCE);
    let process = world.scheduler.spawn(LUA, &[("Cron-Interval", "10-seconds")]);
    let boot = world.outcome(process, process).await;
    assert_eq!(boot["Output"]["process"], process.to_string(), "{boot}");
    assert_eq!(
        (&boot["Output"]["nonce"], &boot["Output"]["data"]),
        (&0.into(), &"boot".into())
    );
    let id = world.scheduler.send(process, "Ping", &[]);
    let outcome = world.outcome(process, id).await;
    let output = &outcome["Output"];
    assert_eq!(
        (&output["id"], &output["seen"]),
        (&id.to_string().into(), &2.into())
    );
    assert_eq!(output["anchor"], "a".repeat(32));
    assert_eq!(outcome["Messages"][0]["Target"], "T");
    let (_, dry) = world
        .dry_run(
            process,
            "",
            r#"{"Owner":"me","Data":"asked","Tags":[{"name":"A","value":"b"}]}"#,
        )
        .await;
    assert_eq!(dry["Output"]["data"], "asked", "{dry}");
    assert_eq!(
        (&dry["Output"]["readonly"], &dry["Output"]["seen"]),
        (&true.into(), &3.into())
    );
    world.scheduler.pass(25_000);
    let id = world.scheduler.send(process, "Ping", &[]);
    assert_eq!(
        world.outcome(process, id).await["Output"]["seen"],
        5,
        "two crons came between"
    );
}

#[tokio::test]
async fn a_process_wakes_from_its_checkpoint_and_from_its_log() {
    let mut world = world(SOURCE);
    let process = world.scheduler.spawn(LUA, &[]);
    for _ in 0..20 {
        world.scheduler.send(process, "Ping", &[]);
    }
    let id = world.scheduler.send(process, "Ping", &[]);
    world.outcome(process, id).await;
    let root = world.root(process).await;
    world.restart(true).await;
    assert_eq!(world.root(process).await, root);
    let id = world.scheduler.send(process, "Ping", &[]);
    assert_eq!(world.outcome(process, id).await["Output"]["seen"], 23);
    let root = world.root(process).await;
    world.restart(false).await;
    assert_eq!(world.root(process).await, root);
}

#[tokio::test]
async fn a_source_that_does_not_load_is_refused_with_its_line() {
    let world = world("x = 1\nfunction handle(m)\n  return return\nend");
    let process = world.scheduler.spawn(LUA, &[]);
    let refusal = world.cu.result(process, process.into()).await.unwrap_err();
    assert_eq!(refusal.code, "module-refused");
    assert!(refusal.text.contains("module:3:"), "{}", refusal.text);
}

#[tokio::test]
async fn our_kernel_evaluates() {
    let world = World::new();
    for item in cu::shipped::items() {
        world.permanent.hold(item);
    }
    let process = world.scheduler.spawn(cu::kernel_id(), &[("Name", "first")]);
    let boot = world.outcome(process, process).await;
    assert!(boot.get("Error").is_none(), "{boot}");
    let mut data = 0;
    for (code, expected) in [
        ("1 + 1", "2"),
        ("Count = 41 return Count + 1", "42"),
        ("return Count", "41"),
    ] {
        data += 1;
        let parts = ItemParts {
            target: Some(process.0),
            anchor: Some([data; 32]),
            tags: tags(&[("Data-Protocol", "ao"), ("Type", "Message"), ("Action", "Eval")]),
            data: code.into(),
        };
        let item = DataItem::sign(&parts, &user()).unwrap();
        let id = item.id();
        world
            .scheduler
            .put(process, Content::Item(item), Some(id), vec![]);
        let outcome = world.outcome(process, id).await;
        assert_eq!(outcome["Output"]["data"], expected, "{code}: {outcome}");
    }
    let stranger = world
        .scheduler
        .send_as(process, "Eval", &[], &Signer::ed25519(&[1; 32]));
    assert!(world.outcome(process, stranger).await.get("Error").is_none());
}
