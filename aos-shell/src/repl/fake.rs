//! A process without a node, for tests: native Lua behind the same trait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use mlua::{Lua, MultiValue};
use spec::contract::{Answer, Evaluated, Tick};
use spec::{ItemId, Outcome, ProcessId, Tags};

use super::link::{Feed, Link};
use crate::lua::Chunk;
use crate::render::Style;
use crate::session::Listed;

/// Evaluates in a native Lua; dry runs are not undone.
pub(crate) struct Fake {
    jobs: Mutex<mpsc::Sender<Job>>,
    /// How many chunks were sent.
    pub(crate) sent: AtomicUsize,
    results: Mutex<Vec<Evaluated>>,
}

/// A chunk, and where its outcome goes.
type Job = (Chunk, mpsc::Sender<Arc<Outcome>>);

const SETUP: &str = "
    Printed = {}
    function print(...) local t = {...} for i = 1, #t do t[i] = tostring(t[i]) end Printed[#Printed + 1] = table.concat(t, ' ') end
    Inbox = {}; Name = 'fake'; Owner = string.rep('o', 43)
    ao = { id = string.rep('i', 43), send = function(message) end, env = { Process = { Tags = {} } } }
    Handlers = { add = function(name, pattern, handle) table.insert(Handlers.list, { name = name, pattern = pattern, handle = handle }) end,
        remove = function(name) end, list = { { name = '_eval', pattern = 'Eval' }, { name = 'ping', pattern = { Action = 'Ping' } } } }
    package = { loaded = { ['.process'] = {}, json = { encode = function(v) return tostring(v) end } } }
";

impl Fake {
    pub(crate) fn new() -> Arc<Fake> {
        let (jobs, work) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            let lua = Lua::new();
            lua.load(SETUP).exec().expect("the set-up runs");
            for (chunk, answer) in work {
                // Nobody waits any more: nothing to tell.
                let _ = answer.send(evaluate(&lua, &chunk));
            }
        });
        Arc::new(Fake {
            jobs: Mutex::new(jobs),
            sent: AtomicUsize::new(0),
            results: Mutex::default(),
        })
    }

    fn evaluate(&self, chunk: &Chunk) -> Arc<Outcome> {
        let (answer, outcome) = mpsc::channel();
        let jobs = self.jobs.lock().expect("no test panics in here");
        jobs.send((chunk.clone(), answer))
            .expect("the thread lives as long as this");
        outcome.recv().expect("every job is answered")
    }
}

fn evaluate(lua: &Lua, chunk: &Chunk) -> Arc<Outcome> {
    let source = match chunk.is_expression() {
        true => format!("return {}", chunk.source()),
        false => chunk.source().to_owned(),
    };
    let values = lua
        .load(source)
        .set_name("=[string \"aos\"]")
        .eval::<MultiValue>();
    let printed = lua.load("local t = table.concat(Printed, '\\n') Printed = {} return t");
    let printed: String = printed.eval().expect("texts");
    let text = |value: &mlua::Value| value.to_string().unwrap_or_default();
    match values {
        Ok(values) => {
            let all = values.iter().map(text).collect::<Vec<_>>().join("\t");
            let data = [printed, all]
                .into_iter()
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join("\n");
            let output = serde_json::json!({ "data": data, "prompt": PROMPT });
            let json = serde_json::json!({ "Output": output }).to_string();
            Arc::new(serde_json::from_str(&json).expect("an outcome"))
        }
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or("");
            Arc::new(Outcome::failed(first.trim_start_matches("runtime error: ")))
        }
    }
}

const PROMPT: &str =
    "\u{1b}[32mfake\u{1b}[90m@\u{1b}[34maos-2.0.6\u{1b}[90m[Inbox:\u{1b}[31m0\u{1b}[90m]\u{1b}[0m> ";

fn evaluated(slot: u64, message: ItemId, outcome: Arc<Outcome>) -> Evaluated {
    Evaluated {
        slot,
        tick: Tick::default(),
        cron: None,
        message: Some(message),
        outcome,
    }
}

fn id(number: usize) -> ItemId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    ItemId(bytes)
}

#[async_trait]
impl Link for Fake {
    fn process(&self) -> ProcessId {
        ProcessId([7; 32])
    }
    fn name(&self) -> String {
        "fake".into()
    }
    fn about(&self) -> Vec<(&'static str, String)> {
        vec![("process", self.process().to_string())]
    }
    async fn send(&self, chunk: &Chunk) -> Answer<ItemId> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let outcome = self.evaluate(chunk);
        let mut results = self.results.lock().expect("no test panics in here");
        results.push(evaluated(number as u64, id(number), outcome));
        Ok(id(number))
    }
    async fn result(&self, message: ItemId) -> Answer<Evaluated> {
        let found = {
            let results = self.results.lock().expect("no test panics in here");
            results
                .iter()
                .find(|result| result.message == Some(message))
                .cloned()
        };
        let found = found.expect("sent before");
        if super::show::text(&found.outcome).contains("SLOW") {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        Ok(found)
    }
    async fn dry(&self, chunk: &Chunk) -> Answer<Arc<Outcome>> {
        Ok(self.evaluate(chunk))
    }
    async fn progress(&self, _: ItemId) -> Answer<(u64, u64)> {
        Ok((3, 9))
    }
    fn live(&self) -> Feed {
        let every = std::env::var("FAKE_EVERY_MS").ok().and_then(|ms| ms.parse().ok());
        let every = every.unwrap_or(3_600_000);
        let events = futures_util::stream::unfold(0_usize, move |number| async move {
            tokio::time::sleep(Duration::from_millis(every)).await;
            let json = format!("{{\"Output\":{{\"print\":true,\"data\":\"tick {number}\"}}}}");
            let outcome = Arc::new(serde_json::from_str(&json).expect("an outcome"));
            Some((
                Ok(evaluated(number as u64, id(1_000_000 + number), outcome)),
                number + 1,
            ))
        });
        events.boxed()
    }
    async fn tags(&self, _: ItemId) -> Answer<Tags> {
        Ok(Tags::new())
    }
    async fn monitor(&self, _: bool) -> Answer<()> {
        Ok(())
    }
    async fn processes(&self) -> Answer<Vec<Listed>> {
        Ok(Vec::new())
    }
    async fn trace(&self, _: ItemId, _: Style) -> Answer<String> {
        Ok("a tree".into())
    }
}

/// A sitting to be looked at: run this test's binary in a terminal with `--ignored --nocapture`.
#[test]
#[ignore = "needs a person at a terminal"]
fn sitting() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let options = super::Options {
        folder: std::env::var_os("FAKE_FOLDER").map(Into::into),
        history: None,
        style: Style { colors: true },
        blueprints: vec![("token".into(), "Token = 1".into())],
        load: Vec::new(),
    };
    let fake = Fake::new();
    runtime
        .block_on(super::sit(fake, options))
        .expect("the terminal works");
}
