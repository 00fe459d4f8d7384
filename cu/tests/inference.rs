//! Processes that ask models, on forged ones: the same state however it is evaluated, and what a node without an answer
//! does. Not here: the models' arithmetic (`inference`).
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod fakes;

use std::sync::{Arc, Mutex, mpsc};

use fakes::*;
use inference::device::Device;
use inference::encoder::Pooling;
use inference::package;
use inference::service::{Blob, Models, Refusal, Service};
use inference::testing::forge::{self, Shape};
use serde_json::Value;
use spec::contract::{Compute, Content};
use spec::{DataItem, ItemId, ItemParts, Kind, ModuleId, ProcessId, Tag};

fn item(data: Vec<u8>) -> DataItem {
    let parts = ItemParts {
        data: data.into(),
        tags: tags(&[("Content-Type", "application/octet-stream")]),
        ..ItemParts::default()
    };
    DataItem::sign(&parts, &user()).unwrap()
}

/// A decoder of 300 tokens, the first 259 of them bytes.
fn decoder() -> DataItem {
    item(forge::llama(&Shape::tiny(), "Q8_0"))
}

fn encoder() -> DataItem {
    let (config, weights) = forge::bert(32, 64, 64, 7);
    item(package::pack(&weights, &config, &forge::wordpiece(64), Pooling::Mean, 32).unwrap())
}

fn on(device: &str) -> cu::Config {
    let mut config = cu::Config {
        threads: 2,
        ..cu::Config::default()
    };
    config.inference.service.device = device.parse().unwrap();
    config.inference.service.threads = 1;
    config
}

/// A world with our kernels and both models.
fn world(config: cu::Config) -> World {
    let world = World::with(config);
    for item in cu::shipped::items().into_iter().chain([decoder(), encoder()]) {
        world.permanent.hold(item);
    }
    world
}

fn put(world: &World, process: ProcessId, own: &[(&str, &str)], data: &str) -> ItemId {
    let mut all = tags(&[("Data-Protocol", "ao"), ("Type", "Message")]);
    all.extend(tags(own));
    all.push(Tag::new("Count", world.scheduler.now_ms().to_string()));
    let parts = ItemParts {
        target: Some(process.0),
        tags: all,
        data: data.to_owned().into(),
        ..ItemParts::default()
    };
    let item = DataItem::sign(&parts, &user()).unwrap();
    let id = item.id();
    world
        .scheduler
        .put(process, Content::Item(item), Some(id), vec![]);
    id
}

fn with_ids(code: &str) -> String {
    let code = code.replace("DECODER", &decoder().id().to_string());
    code.replace("ENCODER", &encoder().id().to_string())
}

async fn eval(world: &World, process: ProcessId, code: &str) -> Value {
    let id = put(world, process, &[("Action", "Eval")], &with_ids(code));
    world.outcome(process, id).await
}

/// What an Eval prints; an error fails the test.
async fn says(world: &World, process: ProcessId, code: &str) -> String {
    let outcome = eval(world, process, code).await;
    assert!(outcome.get("Error").is_none(), "{code}: {outcome}");
    outcome["Output"]["data"].as_str().unwrap().to_owned()
}

fn spawn(world: &World, own: &[(&str, &str)]) -> ProcessId {
    world.scheduler.spawn(cu::kernel_id(), own)
}

/// A handler that embeds a text, looks for the nearest of those before, and has an answer generated.
const MEMORY: &str = r#"
Seen = {}
Handlers.add("Tell", { Action = "Tell" }, function(msg)
  local vector = ao.ai.embed{ model = "ENCODER", input = msg.Data }.vectors[1]
  local nearest, best = "nothing", -2
  for _, one in ipairs(Seen) do
    local alike = ao.ai.similarity(one.vector, vector)
    if alike > best then nearest, best = one.text, alike end
  end
  table.insert(Seen, { text = msg.Data, vector = vector })
  local answer = ao.ai.generate{ model = "DECODER", prompt = nearest .. msg.Data, max_tokens = 6, temperature = 0.9 }
  msg.reply{ Action = "Told", Data = answer.text, Nearest = nearest, Link = answer.attest.link }
end)
"#;

const TEXTS: [&str; 4] = ["a cat", "a dog sat", "the cat", "it rains"];

/// Tells a process all texts; what it replied.
async fn tell(world: &World, process: ProcessId) -> Vec<Value> {
    let mut replies = vec![];
    for text in TEXTS {
        let id = put(world, process, &[("Action", "Tell")], text);
        let outcome = world.outcome(process, id).await;
        assert!(outcome.get("Error").is_none(), "{outcome}");
        assert!(outcome["GasUsed"].as_u64().unwrap() > 20_000_000, "{outcome}");
        replies.push(outcome["Messages"][0].clone());
    }
    replies
}

#[tokio::test]
async fn an_eval_generates() {
    let world = world(on("cpu"));
    let process = spawn(&world, &[]);
    let code = r#"local a = ao.ai.generate{ model = "DECODER", prompt = "hello", max_tokens = 4 }
        return #a.tokens .. a.finish .. a.prompt_tokens .. a.attest.profile"#;
    assert_eq!(says(&world, process, code).await, "4length9din1-a16");
    let roundtrip = r#"return ao.ai.detokenize("DECODER", ao.ai.tokenize("DECODER", "héllo"))"#;
    assert_eq!(says(&world, process, roundtrip).await.trim(), "▁héllo");
    assert_eq!(
        says(&world, process, r#"return ao.ai.facts("DECODER").layers"#).await,
        "2"
    );
    let scored = r#"local best, all = ao.ai.choose({ model = "DECODER", prompt = "x" }, { "a", "b", "c" })
        return best >= 1 and #all == 3 and all[best] < 0"#;
    assert_eq!(says(&world, process, scored).await, "true");
    // What was scored after is told as what a vector was made of: the same tokens, the same hash.
    let attested = r#"local s = ao.ai.score{ model = "DECODER:a8", prompt = "x", answer = "a" }.attest
        local e = ao.ai.embed{ model = "DECODER:a8", input = "x" }.attest
        return s.model == e.model and s.prompt == e.prompt and s.profile .. e.profile"#;
    assert_eq!(says(&world, process, attested).await, "din1-a8din1-a8");
    let whole = r#"local v = ao.ai.embed{ model = "ENCODER", input = { "a", "b" }, int8 = true }.vectors
        return #v .. " " .. #v[1] .. math.type(v[1][1])"#;
    assert_eq!(says(&world, process, whole).await, "2 32integer");
}

#[tokio::test]
async fn however_it_is_evaluated_the_state_is_one() {
    let mut world = world(on("cpu"));
    let process = spawn(&world, &[]);
    says(&world, process, MEMORY).await;
    let replies = tell(&world, process).await;
    let root = world.root(process).await;
    for (device, name) in [("scalar", "cpu scalar"), ("cpu", "cpu "), ("vulkan", "vulkan ")] {
        if device == "vulkan" && !has_vulkan() {
            continue;
        }
        world.config = on(device);
        world.restart(false).await;
        let service = shared(&world);
        assert_eq!(told(&world, process).await, replies, "{device}");
        assert_eq!(world.root(process).await, root, "{device}");
        let computed: Vec<String> = service.loaded().into_iter().map(|one| one.device).collect();
        assert_eq!(computed.len(), 2, "both models were asked: {computed:?}");
        assert!(
            computed.iter().all(|device| device.starts_with(name)),
            "{computed:?}"
        );
    }
    // From a checkpoint in the middle.
    let again = put(&world, process, &[("Action", "Tell")], "more");
    let outcome = world.outcome(process, again).await;
    let root = world.root(process).await;
    world.restart(true).await;
    assert_eq!(world.root(process).await, root);
    world.restart(false).await;
    assert_eq!(world.outcome(process, again).await, outcome);
    assert_eq!(world.root(process).await, root);
    assert_eq!(replies.len(), TEXTS.len());
}

/// What the first texts that a process was told had as replies.
async fn told(world: &World, process: ProcessId) -> Vec<Value> {
    let mut replies = vec![];
    for slot in 2..2 + TEXTS.len() as u64 {
        let id = world.scheduler.entry(process, slot).assignment.subject();
        let outcome = world.outcome(process, id).await;
        assert!(outcome.get("Error").is_none(), "{outcome}");
        replies.push(outcome["Messages"][0].clone());
    }
    replies
}

/// Has the unit ask a service that the test sees, too.
fn shared(world: &World) -> Service {
    let runtime = tokio::runtime::Handle::current();
    let models = cu::ai::WeaveModels::new(world.permanent.clone(), runtime, 1 << 30, None);
    let service = Service::open(world.config.inference.service.clone(), Arc::new(models));
    assert!(world.cu.infer_with(service.clone()), "nothing was asked before");
    service
}

/// Models that nobody gets before the gate is open.
struct Gate {
    models: cu::ai::WeaveModels,
    arrived: mpsc::Sender<()>,
    open: Mutex<mpsc::Receiver<()>>,
}

impl Models for Gate {
    fn bytes(&self, id: &str) -> Result<Blob, Refusal> {
        let _test_over = self.arrived.send(());
        // Open for good once the test lets its end go.
        let _open = self.open.lock().unwrap().recv();
        self.models.bytes(id)
    }
}

/// A world whose processes wait for models; when one arrived there, and what lets them all through once it is dropped.
fn gated(config: cu::Config) -> (World, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let world = world(config);
    let ((arrived, arrives), (open, opens)) = (mpsc::channel(), mpsc::channel());
    let runtime = tokio::runtime::Handle::current();
    let models = cu::ai::WeaveModels::new(world.permanent.clone(), runtime, 1 << 30, None);
    let gate = Gate {
        models,
        arrived,
        open: Mutex::new(opens),
    };
    let service = Service::open(world.config.inference.service.clone(), Arc::new(gate));
    assert!(world.cu.infer_with(service));
    (world, arrives, open)
}

const ASKS: &str =
    r#"return table.concat(ao.ai.generate{ model = "DECODER", prompt = "x", max_tokens = 5 }.tokens, ",")"#;

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_model_keeps_no_thread_and_who_may_not_is_evaluated_later() {
    let mut config = on("cpu");
    (config.threads, config.inference.waiting_max) = (1, 2);
    let (world, arrives, open) = gated(config);
    let processes: Vec<ProcessId> = (0..5)
        .map(|n| spawn(&world, &[("Name", &n.to_string())]))
        .collect();
    let ask = |process| put(&world, process, &[("Action", "Eval")], &with_ids(ASKS));
    let asks: Vec<ItemId> = processes[..4].iter().map(|process| ask(*process)).collect();
    let all = asks.iter().zip(&processes);
    let mut answers: Vec<_> = all
        .map(|(id, process)| Box::pin(world.cu.result(*process, *id)))
        .collect();
    // Four ask and two may wait: two are refused, not held.
    let mut refused = 0;
    while refused < 2 {
        let (answer, _, others) = futures_util::future::select_all(answers).await;
        let refusal = answer.unwrap_err();
        assert_eq!((refusal.kind, &*refusal.code), (Kind::Busy, "inference-busy"));
        (refused, answers) = (refused + 1, others);
    }
    arrives.recv().unwrap();
    // The only thread is there for whoever asks nothing.
    assert_eq!(says(&world, processes[4], "return 1 + 1").await, "2");
    drop(open);
    for answer in futures_util::future::join_all(answers).await {
        assert!(!answer.unwrap().outcome.is_error());
    }
    let mut said = vec![];
    for (process, id) in processes.iter().zip(&asks) {
        said.push(world.outcome(*process, *id).await["Output"]["data"].clone());
    }
    assert!(
        said[0].is_string() && said.iter().all(|one| *one == said[0]),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_that_waits_for_a_model_holds_up_no_other() {
    let mut config = on("cpu");
    config.reads_max = 1;
    let (world, arrives, open) = gated(config);
    let [waits, asks, reads] = [0, 1, 2].map(|n| spawn(&world, &[("Name", &n.to_string())]));
    for process in [asks, reads] {
        says(&world, process, "return 1").await;
    }
    let unit = &world;
    let run = |process, code: &str| {
        let body = serde_json::json!({"Owner": user().address().to_string(), "Tags": [{"name": "Action", "value": "Eval"}], "Data": with_ids(code)});
        async move { unit.dry_run(process, "", &body.to_string()).await }
    };
    let id = put(&world, waits, &[("Action", "Eval")], &with_ids(ASKS));
    let log = world.cu.result(waits, id);
    // One of a process that stands at a model, one that asks a model itself.
    let (of_waiting, asking) = (run(waits, "return 1"), run(asks, ASKS));
    let others = async {
        tokio::task::block_in_place(|| arrives.recv().unwrap());
        let (status, answer) = run(reads, "return 2 + 3").await;
        assert_eq!(
            (status, answer["Output"]["data"].as_str()),
            (200, Some("5")),
            "{answer}"
        );
        drop(open);
    };
    let (log, of_waiting, asking, ()) = tokio::join!(log, of_waiting, asking, others);
    assert!(!log.unwrap().outcome.is_error());
    assert_eq!((of_waiting.0, asking.0), (200, 200), "{asking:?}");
}

/// Whether the program can compute models on a Vulkan device of this machine; where there must be one, its absence fails.
fn has_vulkan() -> bool {
    let all = Device::all(1);
    let there = all.iter().any(|found| matches!(found.device, Device::Vulkan(_)));
    if !there {
        let must = std::env::var_os("WEFT_NEED_VULKAN").is_some();
        assert!(!must, "WEFT_NEED_VULKAN is set and there is no Vulkan device");
        eprintln!("SKIPPED: models are computed on no Vulkan device here");
    }
    there
}

#[tokio::test]
async fn sixty_four_processes_at_once_answer_as_one_at_a_time() {
    let mut world = world(on("cpu"));
    let mut processes = vec![];
    let mut sent = vec![];
    for number in 0..64 {
        let process = spawn(&world, &[("Name", &number.to_string())]);
        put(&world, process, &[("Action", "Eval")], &with_ids(MEMORY));
        for text in &TEXTS[..2] {
            sent.push((process, put(&world, process, &[("Action", "Tell")], text)));
        }
        processes.push(process);
    }
    let all = sent.iter().map(|(process, id)| world.outcome(*process, id));
    let at_once = futures_util::future::join_all(all).await;
    let mut roots = vec![];
    for process in &processes {
        roots.push(world.root(*process).await);
    }
    world.restart(false).await;
    for ((process, id), outcome) in sent.iter().zip(at_once) {
        assert_eq!(world.outcome(*process, id).await, outcome);
    }
    for (process, root) in processes.iter().zip(roots) {
        assert_eq!(world.root(*process).await, root);
    }
}

#[tokio::test]
async fn chance_is_of_process_message_call_and_seed() {
    let world = world(on("cpu"));
    let draw = r#"local function draw(seed) return table.concat(ao.ai.generate{ model = "DECODER", prompt = "x",
        max_tokens = 12, temperature = 5, seed = seed }.tokens, ",") end
        return draw() .. "\n" .. draw() .. "\n" .. draw(1)"#;
    let mut seen = std::collections::BTreeSet::new();
    for process in [spawn(&world, &[]), spawn(&world, &[])] {
        for _ in 0..2 {
            seen.extend(says(&world, process, draw).await.lines().map(str::to_owned));
        }
    }
    assert_eq!(seen.len(), 12, "each draw is another");
}

#[tokio::test]
async fn what_has_no_answer_anywhere_is_an_error_of_lua() {
    let world = world(on("cpu"));
    let process = spawn(
        &world,
        &[
            ("Inference-Model", &decoder().id().to_string()),
            ("Inference-Tokens", "20"),
        ],
    );
    let wrong = |options: &str| {
        format!(
            r#"Tried = (Tried or 0) + 1 local ok, why = pcall(ao.ai.generate, {{ model = "DECODER", {options} }}) return tostring(why)"#
        )
    };
    let cases = [
        (r#"prompt = "x", max_tokens = 21"#, "from 1 to 20"),
        (r#"prompt = "x", speed = 1"#, "`speed`"),
        (r#"prompt = "x", temperature = "hot""#, "`temperature`"),
        (
            r#"prompt = "x", temperature = 0.0001"#,
            "0 or a number from 0.001 to 100",
        ),
        (r#"prompt = "x", stop = "" "#, "1 to 256 bytes"),
        (
            r#"tokens = { 300 }"#,
            "token 300 is none of the model's: it has 300, from 0 (invalid)",
        ),
        (r#"tokens = {}"#, "at least one token"),
        (
            r#"messages = { { role = "x", content = "x" } }"#,
            "there is no role `x`",
        ),
        (r#"prompt = ("x"):rep(3000)"#, "room for 2048 tokens"),
        (r#"prompt = "x\xff""#, "UTF-8"),
    ];
    for (options, says_why) in cases {
        let said = says(&world, process, &wrong(options)).await;
        assert!(said.contains(says_why), "{options}: {said}");
    }
    assert_eq!(
        says(&world, process, "return Tried").await,
        cases.len().to_string()
    );
    let other = r#"return select(2, pcall(ao.ai.embed, { model = "ENCODER", input = "x" }))"#;
    assert!(says(&world, process, other).await.contains("Inference-Model"));
    let uncaught = eval(&world, process, r#"Lost = true return ao.ai.facts("no id")"#).await;
    assert!(uncaught["Error"].to_string().contains("`model`"), "{uncaught}");
    assert_eq!(says(&world, process, "return tostring(Lost)").await, "nil");
    // Bytes that are no model are none on every node.
    let rubbish = world
        .permanent
        .hold(item(forge::llama(&Shape::tiny(), "Q8_0")[..2000].to_vec()));
    let free = spawn(&world, &[]);
    let asked = format!(r#"return select(2, pcall(ao.ai.facts, "{rubbish}"))"#);
    let said = says(&world, free, &asked).await;
    assert!(said.contains("is no model"), "{said}");
    let wrong_kind = r#"return select(2, pcall(ao.ai.generate, { model = "ENCODER", prompt = "x" }))"#;
    let said = says(&world, free, wrong_kind).await;
    assert!(
        said.contains("gives vectors of texts, no answers (unsupported)"),
        "{said}"
    );
    let developer = r#"local function tokens(role) return table.concat(ao.ai.tokenize("DECODER", { { role = role, content = "a" } }), ",") end
        return tokens("developer") == tokens("system") and tokens("developer") ~= tokens("user")"#;
    assert_eq!(says(&world, free, developer).await, "true");
}

#[tokio::test]
async fn gas_alone_ends_what_costs_too_much() {
    let world = world(on("cpu"));
    let process = spawn(&world, &[("Inference-Limit", "100000000")]);
    let dear = r#"local ok, why = pcall(ao.ai.generate, { model = "DECODER", prompt = "x", max_tokens = 2000 }) return why"#;
    assert!(says(&world, process, dear).await.contains("out-of-gas"));
    let many = r#"Count = 0 while true do pcall(ao.ai.facts, "no id") Count = Count + 1 end"#;
    let outcome = eval(&world, process, many).await;
    let error = "out of gas for questions! Inference-Limit is the most that those of one message may cost";
    assert_eq!(outcome["Error"], error);
    assert_eq!(says(&world, process, "return tostring(Count)").await, "nil");
    let greedy = world
        .scheduler
        .spawn(cu::kernel_id(), &[("Inference-Limit", "999999999999999999")]);
    let refusal = world.cu.result(greedy, greedy.into()).await.unwrap_err();
    assert_eq!((refusal.kind, &*refusal.code), (Kind::Limit, "limit-exceeded"));
}

#[tokio::test]
async fn a_model_that_is_not_here_holds_its_message_and_nothing_else() {
    let world = world(on("cpu"));
    let absent = item(forge::model(&Shape::tiny(), "Q4_0", 5));
    let process = spawn(&world, &[]);
    says(&world, process, "Before = 1").await;
    let evaluated = world.cu.state(process, None).await.unwrap();
    let code = format!(r#"Asked = true return #ao.ai.tokenize("{}", "abc")"#, absent.id());
    let asks = put(&world, process, &[("Action", "Eval")], &code);
    let later = put(&world, process, &[("Action", "Eval")], "return Asked");
    for id in [asks, later, asks] {
        let refusal = world.cu.result(process, id).await.unwrap_err();
        assert_eq!(
            (refusal.kind, &*refusal.code),
            (Kind::Upstream, "model-not-found"),
            "{refusal}"
        );
        assert!(
            refusal.text.contains(&absent.id().to_string()) && refusal.text.contains("add it"),
            "{refusal}"
        );
    }
    assert_eq!(world.cu.live_count(), 1, "the process stays awake");
    let last = world.scheduler.entry(process, 1).assignment.subject();
    assert!(
        world.cu.result(process, last).await.is_ok(),
        "what came before stays"
    );
    world.permanent.hold(absent);
    assert_eq!(world.outcome(process, asks).await["Output"]["data"], "7");
    assert_eq!(world.outcome(process, later).await["Output"]["data"], "true");
    assert_ne!(world.root(process).await, evaluated.root);
}

#[tokio::test]
async fn a_node_that_answers_none_says_so_and_records_nothing() {
    let mut config = on("cpu");
    config.inference.on = false;
    let mut world = world(config);
    let process = spawn(&world, &[]);
    assert_eq!(says(&world, process, "return 1").await, "1");
    let asks = put(
        &world,
        process,
        &[("Action", "Eval")],
        &with_ids(r#"return ao.ai.facts("DECODER").layers"#),
    );
    let refusal = world.cu.result(process, asks).await.unwrap_err();
    assert_eq!(&*refusal.code, "inference-off");
    assert!(refusal.text.contains("cu.inference.on"), "{refusal}");
    world.config = on("cpu");
    world.restart(true).await;
    assert_eq!(world.outcome(process, asks).await["Output"]["data"], "2");
}

#[tokio::test]
async fn dry_runs_ask_too() {
    let world = world(on("cpu"));
    let process = spawn(&world, &[]);
    says(&world, process, MEMORY).await;
    let root = world.root(process).await;
    let body = r#"{"Owner":"me","From":"me","Data":"a cat","Tags":[{"name":"Action","value":"Tell"}]}"#;
    let (_, first) = world.dry_run(process, "", body).await;
    let (_, second) = world.dry_run(process, "", body).await;
    assert_eq!(
        first["Messages"][0]["Tags"], second["Messages"][0]["Tags"],
        "{first}"
    );
    assert_eq!(first["Messages"].as_array().unwrap().len(), 1, "{first}");
    assert_eq!(world.root(process).await, root);
}

#[tokio::test]
async fn a_session_and_the_llama_calls_go_on_where_they_were() {
    let world = world(on("cpu"));
    let process = spawn(&world, &[]);
    let whole = r#"return table.concat(ao.ai.generate{ model = "DECODER", prompt = "once", max_tokens = 8 }.tokens, ",")"#;
    let whole = says(&world, process, whole).await;
    says(
        &world,
        process,
        r#"S = ao.ai.session{ model = "DECODER", prompt = "once" } S:generate(3)"#,
    )
    .await;
    let parts = r#"S:generate(5) return table.concat(S.answer, ",")"#;
    assert_eq!(says(&world, process, parts).await, whole);
    let llama = r#"Llama = require("llama") Llama.load("/data/DECODER") Llama.setPrompt("once") Llama.saveState()
        local text = Llama.run(8) Llama.loadState()
        local again = "" for _ = 1, 8 do again = again .. Llama.next() end
        return text == again and #text > 0 and require(".Llama") == Llama and Llama.clearState() and not Llama.loadState()"#;
    assert_eq!(says(&world, process, llama).await, "true");
}

/// What is true of sessions on any model: each says what it is that failed.
const SESSIONS: &str = r#"
local ai, failed = ao.ai, {}
local function same(what, a, b)
  a, b = type(a) == "table" and table.concat(a, ",") or tostring(a), type(b) == "table" and table.concat(b, ",") or tostring(b)
  if a ~= b then table.insert(failed, what .. ": " .. a .. " / " .. b) end
end
local M = "DECODER"
-- What goes on is cut as one text.
same("added", ai.session{ model = M, prompt = "ab" }:add(" cd").tokens, ai.tokenize(M, "ab cd"))
same("continues", #ai.tokenize(M, "cd", true), 2)
-- The ways to begin.
local turns = { { role = "user", content = "hi" } }
local whole = ai.generate{ model = M, messages = turns, max_tokens = 8, receipt = true }
local talk = ai.session{ model = M, messages = turns }
same("turns", talk.tokens, whole.receipt.prompt)
same("turns' answer", select(2, talk:generate(8)).tokens, whole.tokens)
same("turns' end", talk.options.stop_tokens, { 299 })
local given = ai.session{ model = M, tokens = { 1, 100 } }
same("tokens", select(2, given:generate(5)).tokens, ai.generate{ model = M, tokens = { 1, 100 }, max_tokens = 5 }.tokens)
local function refuses(says, call, ...)
  local ok, why = pcall(call, ...)
  same(says, ok or not why:find(says, 1, true), false)
end
refuses("ai.session begins with one of prompt, messages and tokens", ai.session, { model = M, tokens = { 1 }, prompt = "a" })
-- A text that ends the answer is no part of it, and comes in parts as in one.
local free, stop = { text = "one two E\xc3\xa9 EN", tokens = {} }, "END"
free.text = free.text .. "D three"
for i = 1, #free.text do free.tokens[i] = 3 + free.text:byte(i) end
local tokens = ai.tokenize(M, "abc")
local first = free.text:find(stop, 1, true)
local generate, at = ai.generate, 0
ai.generate = function(options)
  local reply = { tokens = {}, finish = "length" }
  for i = 1, options.max_tokens do
    at = at + 1
    reply.tokens[i] = free.tokens[at]
  end
  return reply
end
local parts, text = ai.session{ model = M, prompt = "abc", stop = { stop, "never said" } }, ""
while not parts.ended and at < #free.tokens do text = text .. parts:generate(1) end
ai.generate = generate
same("stopped", text, free.text:sub(1, first - 1))
same("stopped text", parts:text(), ai.detokenize(M, tokens) .. free.text:sub(1, first - 1))
-- What the llama calls keep is all of it.
local llama = require("llama")
llama.load(M) llama.setPrompt("abc")
local halves = { "\xc3", "\xa9" }
ai.generate = function() return { tokens = { 3 + table.remove(halves, 1):byte() }, finish = #halves == 0 and "stop" or "length" } end
local shown = llama.next()
llama.saveState()
shown = shown .. llama.next()
llama.loadState()
halves = { "\xa9" }
local again = llama.next()
same("pending bytes", shown .. again, "éé")
llama.saveState() llama.loadState()
same("ended", llama.next(), "")
ai.generate = generate
llama.stop()
-- Nothing is neither likely nor unlikely.
refuses("ai.choose takes a list of answers, at least one", ai.choose, { model = M, prompt = "a" }, {})
refuses("ai.choose: answer 2 is empty", ai.choose, { model = M, prompt = "a" }, { "x", "" })
return table.concat(failed, "\n")
"#;

#[tokio::test]
async fn a_session_is_one_text_however_it_begins_goes_on_and_ends() {
    let world = world(on("cpu"));
    let process = spawn(&world, &[]);
    assert_eq!(says(&world, process, SESSIONS).await, "");
}

#[tokio::test]
async fn a_message_has_itself_answered_in_steps() {
    let world = world(on("cpu"));
    let process = spawn(&world, &[("Authority", &user().address().to_string())]);
    let source = include_str!("../../processes/infer/infer.lua");
    says(&world, process, source).await;
    says(&world, process, r#"Infer.Model, Infer.Step = "DECODER", 5"#).await;
    let options = r#"{"max_tokens":12,"temp":0,"stream":true}"#;
    let asks = [
        ("Action", "Infer"),
        ("X-Reference", "7"),
        ("X-Session", "s"),
        ("X-Options", options),
    ];
    let mut outcome = world
        .outcome(process, put(&world, process, &asks, "tell me"))
        .await;
    let mut chunks = String::new();
    let tag = |message: &Value, name: &str| {
        let tags = message["Tags"].as_array().unwrap();
        let found = tags.iter().find(|tag| tag["name"] == name);
        found.map(|tag| tag["value"].as_str().unwrap().to_owned())
    };
    let mut steps = 1;
    loop {
        let messages = outcome["Messages"].as_array().unwrap().clone();
        let of = |action: &str| {
            messages
                .iter()
                .find(|m| tag(m, "Action").as_deref() == Some(action))
                .cloned()
        };
        if let Some(chunk) = of("Infer-Chunk") {
            chunks += chunk["Data"].as_str().unwrap();
        }
        if let Some(answer) = of("Infer-Response") {
            assert_eq!(tag(&answer, "X-Reference").as_deref(), Some("7"));
            assert_eq!(tag(&answer, "X-Session").as_deref(), Some("s"));
            let data: Value = serde_json::from_str(answer["Data"].as_str().unwrap()).unwrap();
            let whole =
                r#"return ao.ai.generate{ model = "DECODER", prompt = "tell me", max_tokens = 12 }.text"#;
            assert_eq!(data["result"], says(&world, process, whole).await);
            assert_eq!(chunks, data["result"]);
            assert!(data["attestation"].as_str().unwrap().contains("din1-a16"));
            break;
        }
        let step = of("Infer-Step").unwrap_or_else(|| panic!("{outcome}"));
        assert_eq!(step["Target"], process.to_string());
        let job = tag(&step, "Job").unwrap();
        let own = [
            ("Action", "Infer-Step"),
            ("Job", &*job),
            ("From-Process", &process.to_string()),
        ];
        outcome = world.outcome(process, put(&world, process, &own, "")).await;
        steps += 1;
    }
    assert_eq!(steps, 3);
    let refused = put(&world, process, &[("Action", "Infer"), ("X-Options", "{")], "x");
    let refused = world.outcome(process, refused).await;
    assert!(tag(&refused["Messages"][0], "Code").is_some(), "{refused}");
}

/// A module of the field's convention that asks: by our own import, and by wasi-nn.
fn asking_module() -> bytes::Bytes {
    let question = with_ids(r#"{"do":"tokenize","model":"DECODER","text":"ab"}"#);
    let id = decoder().id().to_string();
    let escape = |text: &str| text.replace('"', "\\22");
    let head = r#"{"ok":true,"response":{"Output":{"asked":"#;
    let text = format!(
        r#"(module
        (import "weft" "ask" (func $ask (param i32 i32) (result i32)))
        (import "weft" "take" (func $take (param i32)))
        (import "wasi_ephemeral_nn" "load_by_name" (func $load (param i32 i32 i32) (result i32)))
        (import "wasi_ephemeral_nn" "init_execution_context" (func $init (param i32 i32) (result i32)))
        (import "wasi_ephemeral_nn" "set_input" (func $set (param i32 i32 i32) (result i32)))
        (import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
        (import "wasi_ephemeral_nn" "get_output" (func $get (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 4 300)
        (global $sp (mut i32) (i32.const 65536)) (global $at (mut i32) (i32.const 0))
        (data (i32.const 1024) "{q}") (data (i32.const 2048) "{id}") (data (i32.const 2200) "once")
        (data (i32.const 2300) "{{\22max_tokens\22:3}}") (data (i32.const 3000) "{h}") (data (i32.const 3200) ",\22whole\22:")
        (data (i32.const 3300) "}}}}}}\00")
        (func (export "stackSave") (result i32) (global.get $sp))
        (func (export "stackRestore") (param i32) (global.set $sp (local.get 0)))
        (func (export "stackAlloc") (param i32) (result i32)
          (global.set $sp (i32.sub (global.get $sp) (local.get 0))) (global.get $sp))
        (func $must (param i32) (if (local.get 0) (then unreachable)))
        (func $number (param i32 i32) (call $must (i32.ne (local.get 0) (local.get 1))))
        (func $add (param $from i32) (param $bytes i32)
          (memory.copy (global.get $at) (local.get $from) (local.get $bytes))
          (global.set $at (i32.add (global.get $at) (local.get $bytes))))
        (func (export "handle") (param i32 i32) (result i32) (local $bytes i32)
          (global.set $at (i32.const 131072))
          (call $add (i32.const 3000) (i32.const {hl}))
          (local.set $bytes (call $ask (i32.const 1024) (i32.const {ql})))
          (call $take (global.get $at))
          (global.set $at (i32.add (global.get $at) (local.get $bytes)))
          (call $add (i32.const 3200) (i32.const 9))
          (call $must (call $load (i32.const 2048) (i32.const 43) (i32.const 8)))
          (call $must (call $init (i32.load (i32.const 8)) (i32.const 12)))
          (call $number (call $get (i32.load (i32.const 12)) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 40)) (i32.const 1))
          (i32.store (i32.const 28) (i32.const 2200)) (i32.store (i32.const 32) (i32.const 4))
          (call $number (call $set (i32.load (i32.const 12)) (i32.const 1) (i32.const 16)) (i32.const 2))
          (call $must (call $set (i32.load (i32.const 12)) (i32.const 0) (i32.const 16)))
          (i32.store (i32.const 28) (i32.const 2300)) (i32.store (i32.const 32) (i32.const 16))
          (call $must (call $set (i32.load (i32.const 12)) (i32.const 1) (i32.const 16)))
          (call $must (call $compute (i32.load (i32.const 12))))
          (call $must (call $get (i32.load (i32.const 12)) (i32.const 1) (global.get $at) (i32.const 65536) (i32.const 40)))
          (global.set $at (i32.add (global.get $at) (i32.load (i32.const 40))))
          (call $add (i32.const 3300) (i32.const 4))
          (i32.const 131072)))"#,
        q = escape(&question),
        ql = question.len(),
        h = escape(head),
        hl = head.len(),
    );
    wat::parse_str(text).unwrap().into()
}

#[tokio::test]
async fn any_module_with_the_extension_asks_and_without_it_has_no_such_import() {
    let mut world = world(on("cpu"));
    let module = ModuleId([40; 32]);
    world
        .permanent
        .register(module, asking_module(), module_tags("wasm32-unknown-emscripten2"));
    let plain = world.scheduler.spawn(module, &[]);
    let outcome = world.outcome(plain, plain).await;
    assert_eq!(outcome["Error"], "import weft.ask is not provided", "{outcome}");
    let process = world.scheduler.spawn(module, &[("Extension", "Inference")]);
    let outcome = world.outcome(process, process).await;
    let output = &outcome["Output"];
    assert_eq!(
        output["asked"]["tokens"].as_array().map(Vec::len),
        Some(6),
        "{outcome}"
    );
    assert_eq!(
        output["whole"]["tokens"].as_array().map(Vec::len),
        Some(3),
        "{outcome}"
    );
    assert_eq!(output["whole"]["prompt_tokens"], 8);
    let root = world.root(process).await;
    world.restart(false).await;
    assert_eq!(world.root(process).await, root);
}

/// What the kernel of before answered and was, recorded with the build that shipped it.
#[tokio::test]
async fn a_process_of_the_kernel_of_before_runs_on_as_it_did() {
    let world = world(on("cpu"));
    let kernel = cu::shipped::KEPT[0].item();
    let process = world.scheduler.spawn(kernel.id().into(), &[("Name", "old")]);
    for code in [
        "Count = 41 return Count + 1",
        "return tostring({}) .. tostring(ao.ai)",
        "return collectgarbage('count')",
    ] {
        let said = says(&world, process, code).await;
        eprintln!("{said}");
    }
    let root: String = world
        .root(process)
        .await
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(root, include_str!("data/kernel-1.root").trim());
    assert_eq!(
        cu::runtime::Engine::epoch_of(cu::runtime::ModuleFormat::LuaFirst),
        include_str!("data/kernel-1.epoch").trim()
    );
}

/// Files of the folder are handed on as they were opened: nothing of a model is copied, whichever way it lies there.
#[tokio::test]
async fn files_of_the_folder_are_handed_on_where_they_lie() {
    static OPENED: Mutex<Vec<std::ops::Range<usize>>> = Mutex::new(vec![]);
    let (world, folder) = (world(on("cpu")), tempfile::tempdir().unwrap());
    let (signed, plain) = (decoder(), encoder());
    std::fs::write(
        folder.path().join(format!("{}.item", signed.id())),
        signed.bytes(),
    )
    .unwrap();
    std::fs::write(folder.path().join(format!("{}.gguf", plain.id())), plain.data()).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let models = cu::ai::WeaveModels::new(
        world.permanent.clone(),
        runtime,
        1 << 30,
        Some(folder.path().to_owned()),
    );
    let models = models.opened_by(|path| {
        let bytes = std::fs::read(path)?;
        let at = bytes.as_ptr() as usize;
        OPENED.lock().unwrap().push(at..at + bytes.len());
        Ok(Arc::new(bytes))
    });
    for item in [signed, plain] {
        let blob = models.bytes(&item.id().to_string()).unwrap();
        let bytes = (*blob).as_ref();
        assert!(*bytes == *item.data());
        let opened = OPENED.lock().unwrap().pop().unwrap();
        assert!(opened.contains(&(bytes.as_ptr() as usize)));
    }
}
