//! `wasi_ephemeral_nn`: graphs are models by name, a context has a prompt and options as inputs, text and facts as
//! outputs. Questions put another way: see `oracle`.
//!
//! | index | input | output |
//! |---|---|---|
//! | 0 | the prompt, UTF-8 | the text; vectors as JSON where the options say `"embedding": true` |
//! | 1 | options as JSON: the fields of a question | the whole answer as JSON |
//!
//! Not here: models. Invariant: graphs and contexts live as long as one message, so nothing of them is state.

use super::oracle::{ask, asking, read};
use super::text::Guest;
use super::{Host, Reply};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use wasmtime::Caller;

/// Graphs, and contexts, of one message.
const HANDLES_MAX: usize = 64;

/// The calls that there are; loading a graph from bytes is none: a model is known by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Load,
    LoadByName,
    LoadByNameWithConfig,
    InitExecutionContext,
    SetInput,
    Compute,
    GetOutput,
}

impl Call {
    pub fn find(name: &str) -> Option<Call> {
        Some(match name {
            "load" => Call::Load,
            "load_by_name" => Call::LoadByName,
            "load_by_name_with_config" => Call::LoadByNameWithConfig,
            "init_execution_context" => Call::InitExecutionContext,
            "set_input" => Call::SetInput,
            "compute" => Call::Compute,
            "get_output" => Call::GetOutput,
            _ => return None,
        })
    }
}

/// Errors as wasi-nn numbers them.
#[derive(Clone, Copy, Debug)]
enum Errno {
    InvalidArgument = 1,
    InvalidEncoding = 2,
    RuntimeError = 5,
    UnsupportedOperation = 6,
    TooLarge = 7,
}

enum Failure {
    Number(Errno),
    Trap(wasmtime::Error),
}

impl From<Errno> for Failure {
    fn from(number: Errno) -> Failure {
        Failure::Number(number)
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Failure {
        Failure::Trap(error)
    }
}

/// What a message has loaded.
#[derive(Default)]
pub struct Nn {
    /// Models, with the options that they were loaded with.
    graphs: Vec<Graph>,
    contexts: Vec<Context>,
}

#[derive(Clone)]
struct Graph {
    model: String,
    options: Map<String, Value>,
}

struct Context {
    graph: Graph,
    inputs: [Option<Vec<u8>>; 2],
    outputs: Option<[Vec<u8>; 2]>,
}

/// Answers a call with an error number, 0 for none.
pub fn answer(call: Call, caller: &mut Caller<'_, Host>, words: &[u64]) -> wasmtime::Result<Reply> {
    let w = |i: usize| words.get(i).copied().unwrap_or(0);
    let done = match call {
        Call::Load => Err(Errno::UnsupportedOperation.into()),
        Call::LoadByName => load(caller, (w(0), w(1)), None, w(2)),
        Call::LoadByNameWithConfig => load(caller, (w(0), w(1)), Some((w(2), w(3))), w(4)),
        Call::InitExecutionContext => context(caller, w(0), w(1)),
        Call::SetInput => set_input(caller, w(0), w(1), w(2)),
        Call::Compute => compute(caller, w(0)),
        Call::GetOutput => get_output(caller, [w(0), w(1), w(2), w(3), w(4)]),
    };
    match done {
        Ok(()) => Ok(Reply::Int(0)),
        Err(Failure::Number(number)) => Ok(Reply::Int(number as u64)),
        Err(Failure::Trap(error)) => Err(error),
    }
}

type Done = Result<(), Failure>;

fn options(bytes: &[u8]) -> Result<Map<String, Value>, Failure> {
    serde_json::from_slice(bytes).map_err(|_| Errno::InvalidEncoding.into())
}

fn load(caller: &mut Caller<'_, Host>, name: (u64, u64), config: Option<(u64, u64)>, handle: u64) -> Done {
    let model = String::from_utf8(read(caller, name.0, name.1)?).map_err(|_| Errno::InvalidEncoding)?;
    let options = match config {
        Some((at, bytes)) => options(&read(caller, at, bytes)?)?,
        None => Map::new(),
    };
    let graphs = &mut asking(caller).nn.graphs;
    if graphs.len() >= HANDLES_MAX {
        return Err(Errno::TooLarge.into());
    }
    graphs.push(Graph { model, options });
    let number = graphs.len() as u32 - 1;
    Ok(Guest(caller).put_u32(handle, number)?)
}

fn context(caller: &mut Caller<'_, Host>, graph: u64, handle: u64) -> Done {
    let nn = &mut asking(caller).nn;
    let graph = nn
        .graphs
        .get(graph as usize)
        .ok_or(Errno::InvalidArgument)?
        .clone();
    if nn.contexts.len() >= HANDLES_MAX {
        return Err(Errno::TooLarge.into());
    }
    nn.contexts.push(Context {
        graph,
        inputs: [None, None],
        outputs: None,
    });
    let number = nn.contexts.len() as u32 - 1;
    Ok(Guest(caller).put_u32(handle, number)?)
}

fn of<'a>(caller: &'a mut Caller<'_, Host>, number: u64) -> Result<&'a mut Context, Failure> {
    let context = asking(caller).nn.contexts.get_mut(number as usize);
    context.ok_or_else(|| Errno::InvalidArgument.into())
}

/// A tensor is dimensions (address, count), type (a byte), data (address, bytes), each at its natural place.
fn set_input(caller: &mut Caller<'_, Host>, context: u64, index: u64, tensor: u64) -> Done {
    let guest = Guest(caller);
    let width = guest.pointer_bytes();
    let at = guest.pointer(tensor.wrapping_add(3 * width))?;
    let bytes = guest.pointer(tensor.wrapping_add(4 * width))?;
    let data = read(caller, at, bytes)?;
    // Here and not when it is computed: the caller learns which input it was.
    match index {
        0 => std::str::from_utf8(&data)
            .map(|_| ())
            .map_err(|_| Errno::InvalidEncoding)?,
        1 => options(&data).map(|_| ())?,
        _ => return Err(Errno::InvalidArgument.into()),
    }
    let inputs = &mut of(caller, context)?.inputs;
    *inputs.get_mut(index as usize).ok_or(Errno::InvalidArgument)? = Some(data);
    Ok(())
}

/// The question that a context's inputs are, and whether it wants vectors.
fn question(context: &Context) -> Result<(Value, bool), Failure> {
    let mut fields = context.graph.options.clone();
    if let Some(more) = &context.inputs[1] {
        fields.extend(options(more)?);
    }
    let prompt = context.inputs[0].clone().ok_or(Errno::InvalidArgument)?;
    let prompt = String::from_utf8(prompt).map_err(|_| Errno::InvalidEncoding)?;
    let embeds = fields.remove("embedding") == Some(Value::Bool(true));
    let (does, place) = if embeds {
        ("embed", "input")
    } else {
        ("generate", "prompt")
    };
    fields.insert("do".into(), does.into());
    fields.insert("model".into(), context.graph.model.clone().into());
    fields.insert(place.into(), prompt.into());
    Ok((Value::Object(fields), embeds))
}

fn compute(caller: &mut Caller<'_, Host>, number: u64) -> Done {
    let (question, embeds) = question(of(caller, number)?)?;
    let reply = ask(caller, question.to_string().as_bytes())?;
    let (first, is_ok) = {
        let whole: Whole<'_> = serde_json::from_slice(&reply).map_err(|_| Errno::RuntimeError)?;
        (whole.first(embeds), whole.ok)
    };
    of(caller, number)?.outputs = Some([first.into_bytes(), reply]);
    match is_ok {
        true => Ok(()),
        false => Err(Errno::RuntimeError.into()),
    }
}

/// What of an answer the first output shows.
#[derive(serde::Deserialize)]
struct Whole<'a> {
    ok: bool,
    text: Option<String>,
    /// As they are written: a number that is read and written again may be another.
    #[serde(borrow)]
    vectors: Option<Vec<&'a RawValue>>,
}

impl Whole<'_> {
    fn first(&self, embeds: bool) -> String {
        let vector = self.vectors.as_ref().and_then(|vectors| vectors.first());
        match (embeds, vector) {
            (true, Some(vector)) => {
                let numbers = vector.get().split(',').count();
                format!(r#"{{"n_embedding":{numbers},"embedding":{}}}"#, vector.get())
            }
            _ => self.text.clone().unwrap_or_default(),
        }
    }
}

/// (context, index, address, room, address of the length). Where the room is too small only the length is told.
fn get_output(caller: &mut Caller<'_, Host>, words: [u64; 5]) -> Done {
    let [context, index, at, room, length_at] = words;
    // Nothing was computed: an empty output would be taken for an answer.
    let outputs = of(caller, context)?.outputs.as_ref();
    let output = outputs.and_then(|outputs| outputs.get(index as usize));
    let output = output.ok_or(Errno::InvalidArgument)?.clone();
    let mut guest = Guest(caller);
    guest.put_u32(length_at, output.len() as u32)?;
    if output.len() as u64 > room {
        return Err(Errno::TooLarge.into());
    }
    Ok(guest.write(at, &output)?)
}
