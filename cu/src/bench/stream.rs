//! What is measured: the same signed log for every evaluator, made before the clock starts.
//! Not here: the clock.

use bytes::Bytes;
use spec::assignment::Chain;
use spec::contract::{Content, LogEntry, Tick};
use spec::{DataItem, Draft, ItemId, ItemParts, ModuleId, ProcessId, Signer, Tag, Tags};

use crate::message::{self, Encoding};
use crate::runtime::Error;

/// A kind of messages.
pub struct Workload {
    /// What a report calls it.
    pub name: &'static str,
    /// Code that is evaluated first.
    pub setup: &'static [&'static str],
    /// Tags and data of each message.
    pub tags: &'static [(&'static str, &'static str)],
    /// Data of each message.
    pub data: &'static str,
    /// Messages per second that the Lua engine must reach.
    pub bar: f64,
}

/// Balances as texts, sums in big integers, two notices for each transfer.
const TOKEN: &str = r#"
local bint = require('.bint')(256)
Balances = { [Owner] = tostring(bint(10000) * bint('1000000000000')) }
Handlers.add('transfer', Handlers.utils.hasMatchingTag('Action', 'Transfer'), function(m)
  assert(type(m.Recipient) == 'string', 'Recipient is required')
  assert(type(m.Quantity) == 'string', 'Quantity is required')
  local quantity, held = bint(m.Quantity), bint(Balances[m.From] or '0')
  assert(bint.__lt(0, quantity), 'Quantity must be greater than 0')
  if not bint.__le(quantity, held) then
    ao.send({ Target = m.From, Action = 'Transfer-Error', ['Message-Id'] = m.Id, Error = 'Insufficient Balance!' })
    return
  end
  Balances[m.From] = tostring(held - quantity)
  Balances[m.Recipient] = tostring(bint(Balances[m.Recipient] or '0') + quantity)
  ao.send({ Target = m.From, Action = 'Debit-Notice', Recipient = m.Recipient, Quantity = tostring(quantity),
    Data = 'You transferred ' .. m.Quantity .. ' to ' .. m.Recipient })
  ao.send({ Target = m.Recipient, Action = 'Credit-Notice', Sender = m.From, Quantity = tostring(quantity),
    Data = 'You received ' .. m.Quantity .. ' from ' .. m.From })
end)
"#;

/// The workloads, and what the Lua engine must do of each in a second.
pub const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "Eval \"1 + 1\"",
        setup: &[],
        tags: &[("Action", "Eval")],
        data: "1 + 1",
        bar: 18_000.0,
    },
    Workload {
        name: "counter",
        setup: &[
            "Count = 0; Handlers.add('count', Handlers.utils.hasMatchingTag('Action', 'Count'), function(m) Count = Count + 1 end)",
        ],
        tags: &[("Action", "Count")],
        data: "",
        bar: 20_000.0,
    },
    Workload {
        name: "token transfer",
        setup: &[TOKEN],
        tags: &[
            ("Action", "Transfer"),
            ("Recipient", "RRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRR"),
            ("Quantity", "1000"),
        ],
        data: "",
        bar: 6_000.0,
    },
];

/// A process's log.
pub struct Stream {
    process: DataItem,
    module: ModuleId,
    signer: Signer,
    scheduler: Signer,
    chain: Chain,
    /// The entries made so far.
    pub entries: Vec<LogEntry>,
}

fn host(e: impl std::fmt::Display) -> Error {
    Error::Host(e.to_string())
}

fn tags(list: &[(&str, &str)]) -> Tags {
    let protocol = [("Data-Protocol", "ao"), ("Variant", "ao.TN.1")];
    let all = protocol.iter().chain(list);
    all.map(|(name, value)| Tag::new(*name, *value)).collect()
}

impl Stream {
    /// A log with its first entry, the process.
    pub fn of(name: &str) -> Result<Stream, Error> {
        let (signer, scheduler) = (Signer::ed25519(&[7; 32]), Signer::ed25519(&[9; 32]));
        let module = ModuleId([5; 32]);
        let own = [
            ("Type", "Process"),
            ("Module", &module.to_string()),
            ("Scheduler", &scheduler.address().to_string()),
            ("Name", name),
        ];
        let process = item(&signer, None, tags(&own), " ")?;
        let mut stream = Stream {
            chain: Chain::first(ProcessId::from(process.id())),
            process: process.clone(),
            module,
            signer,
            scheduler,
            entries: Vec::new(),
        };
        stream.assign(process, None)?;
        Ok(stream)
    }

    /// A log whose process is ready for a workload.
    pub fn for_workload(workload: &Workload) -> Result<Stream, Error> {
        let mut stream = Stream::of("bench")?;
        for code in workload.setup {
            stream.send(&[("Action", "Eval")], code)?;
        }
        Ok(stream)
    }

    /// Adds a message from the process's owner.
    pub fn send(&mut self, own: &[(&str, &str)], data: &str) -> Result<(), Error> {
        let slot = self.entries.len().to_string();
        let mut own = own.to_vec();
        own.extend([("Type", "Message"), ("Reference", &slot)]);
        let message = item(&self.signer, Some(self.process.id().0), tags(&own), data)?;
        let id = message.id();
        self.assign(message, Some(id))
    }

    fn assign(&mut self, message: DataItem, id: Option<ItemId>) -> Result<(), Error> {
        let slot = self.entries.len() as u64;
        let draft = Draft {
            process: self.process.id().into(),
            slot,
            chain: self.chain,
            tick: Tick {
                timestamp_ms: 1_700_000_000_000 + slot,
                block_height: 1_500_000,
            },
            message: id,
            exclude: vec![],
            notes: vec![],
            anchor: [0; 32],
        };
        let assignment = draft.sign(&self.scheduler).map_err(host)?;
        self.chain = self.chain.next(assignment.item.id());
        self.entries.push(LogEntry {
            assignment,
            content: Content::Item(message),
        });
        Ok(())
    }

    /// The environment of the process.
    pub fn env(&self, encoding: Encoding) -> Vec<u8> {
        message::env(&self.process, self.module, "O", &[], encoding)
    }

    /// An entry's message as JSON text.
    pub fn json(&self, entry: &LogEntry) -> Result<String, Error> {
        let text = message::scheduled(entry, None, Encoding::Json).map_err(host)?;
        String::from_utf8(text).map_err(host)
    }
}

fn item(signer: &Signer, target: Option<[u8; 32]>, tags: Tags, data: &str) -> Result<DataItem, Error> {
    let parts = ItemParts {
        target,
        anchor: None,
        tags,
        data: Bytes::copy_from_slice(data.as_bytes()),
    };
    DataItem::sign(&parts, signer).map_err(host)
}
