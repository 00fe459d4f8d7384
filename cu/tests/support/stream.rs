//! A seeded stream of messages such as aos processes get: the same stream for every evaluator that is compared.
//! Not here: what the answers should be.
#![allow(dead_code, reason = "each test file uses its own part")]

use crate::support::{self, AUTHORITY, OWNER, PROCESS, STRANGER, boot_message, message};
use serde_json::{Value, json};

/// One message, and whether its outcome is an error that takes its effect back.
pub struct Item {
    pub message: Value,
    pub fails: bool,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u64) as usize]
    }
}

/// What every stream starts with: handlers of all kinds.
const SETUP: [&str; 8] = [
    "Count = 0; Log = {}; Kept = {}",
    "Handlers.add('ping', Handlers.utils.hasMatchingTag('Action','Ping'), function(m) Count = Count + 1; m.reply({Action='Pong', N=Count, Data='pong'}) end)",
    "Handlers.add('store', {Action='Store'}, function(m) Kept[m.Key or '?'] = m.Data; print('kept ' .. #m.Data) end)",
    "Handlers.add('bad', {Action='Bad'}, function(m) local t = nil; return t.field end)",
    "Handlers.add('worse', {Action='Worse'}, function(m) error({code = 7}) end)",
    "Handlers.add('many', {Action='Many'}, function(m) for i = 1, tonumber(m.N or 3) do Send({Target = ao.id, Action='Item', Index = tostring(i), Data = string.rep('d', i)}) end end)",
    "Handlers.add('ask', {Action='Ask'}, function(m) local r = Send({Target = m.From, Action='Question'}).receive(); Count = Count + 100; print('answered ' .. (r.Data or '')) end)",
    "Handlers.add('sum', {Action='Sum'}, function(m) local s = 0; for w in m.Data:gmatch('%d+') do s = s + tonumber(w) end; m.reply({Data = tostring(s), Total = s}) end)",
];

/// Evals that succeed. None prints a NaN: its sign is the processor's in the reference, and fixed in ours.
const GOOD: [&str; 35] = [
    "1 + 1",
    "return {Count, #Inbox}",
    "print('hi') return {a = 1, b = {2, 3}, c = 'x'}",
    "return tostring({}) .. tostring(print) .. tostring(function() end)",
    "local t = {}; for i = 1, 40 do t['k' .. i] = i end; local s = ''; for k in pairs(t) do s = s .. k end; return s",
    "local t = {}; for i = 1, 20 do t[{}] = i end; local s = ''; for _, v in pairs(t) do s = s .. v .. ' ' end; return s",
    "return {math.random(1, 1000000), math.random()}",
    "return {os.time(), os.date('!%Y-%m-%d', 86400 * 365)}",
    "return collectgarbage('count')",
    "return string.format('%q %5.2f %x %s', 'a\\nb', 3.14159, 255, true)",
    "return require('json').encode({1, 2, {a = 'b', n = 1.5}})",
    "return require('json').decode('{\"a\":[1,2,{\"b\":null}],\"c\":\"\\\\u00e9\"}').c",
    "Send({Target = 'T', Action = 'Hi', Tags = {X = '1', Y = '2'}, Data = 'd'})",
    "Send({Target = ao.id, Data = {a = 1, list = {1, 2, 3}}})",
    "Spawn(ao._module, {Name = 'kid', Data = 'print(1)', Tags = {Authority = ao.authorities[1]}})",
    "Assign({Processes = {'A', 'B'}, Message = 'M'})",
    "Assign({Processes = {'A'}, Message = 'M', BaseLayer = true, Exclude = {'Data'}})",
    "local b = require('.bint')(256); return tostring(b('123456789012345678901234567890') * b(987654321))",
    "local c = require('.crypto').digest; return c.sha2_512('abc').asHex()",
    "local c = require('.crypto'); return c.digest.sha2_256(c.utils.stream.fromString('abc')).asHex()",
    "table.insert(Log, string.rep('x', 100)); return #Log",
    "local s = 0; for i = 1, 20000 do s = s + i % 7 end; return s",
    "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end; return fib(15)",
    "return {pcall(error, {1, 2})}",
    "return select(2, pcall(function() local x = nil; return x.y end))",
    "local function f() return (pcall(f)) end; return f()",
    "return {pcall(string.rep, 'x', -1), ('abc'):byte(1, -1)}",
    "local co = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end); return co() + co() * co()",
    "return utf8.char(233, 8364, 128512) .. utf8.len('h\\u{e9}llo')",
    "local t = {5, 2, 8, 1}; table.sort(t, function(a, b) return a > b end); return table.concat(t, ',')",
    "return {10 // 3, 10 % 3, 2 ^ 0.5, 7 / 2, 1 << 62, 0x7fffffffffffffff + 1, 1/0, -1/0}",
    "return string.rep('abc', 2000)",
    "Kept = {}; collectgarbage(); return 'cleared'",
    "return Handlers.list[#Handlers.list].name .. #Handlers.list",
    "return {tostring(1e15), 1e100, 2^53, 123456789.123, -0.0, 1e-7}",
];

/// Evals whose outcome has `Error`.
const FAILING: [&str; 8] = [
    "Big = string.rep('x', 1500 * 1024 * 1024)",
    "error('boom')",
    "x = = 1",
    "Count = 999; local t = nil; return t.x",
    "Kept = nil; error({code = 1})",
    "return nil, 'second value'",
    "local function f() return 1 + f() end return f()",
    "return string.rep('x', 10) .. nil",
];

const TEXTS: [&str; 6] = [
    "plain",
    "quotes \" and \\ and /",
    "caf\u{e9} \u{1f600} \u{2028}",
    "tab\tline\nend",
    "",
    "\u{1}\u{7f} control",
];

/// `count` messages after the boot message and the set-up.
pub fn stream(seed: u64, name: &str, count: usize) -> Vec<Item> {
    let mut random = Random(seed | 1);
    let mut items = vec![Item {
        message: boot_message(name),
        fails: false,
    }];
    for code in SETUP {
        let slot = items.len() as u64;
        items.push(Item {
            message: support::eval(slot, code),
            fails: false,
        });
    }
    while items.len() < count {
        let slot = items.len() as u64;
        items.push(next(&mut random, slot));
    }
    items
}

fn next(random: &mut Random, slot: u64) -> Item {
    let good = |message| Item {
        message,
        fails: false,
    };
    match random.below(20) {
        0..=7 => good(support::eval(slot, random.pick(&GOOD))),
        8 => Item {
            message: support::eval(slot, random.pick(&FAILING)),
            fails: true,
        },
        9 => Item {
            message: message(slot, STRANGER, &[("Action", random.pick(&["Bad", "Worse"]))], ""),
            fails: true,
        },
        10 | 11 => good(ping(random, slot)),
        12 => good(stored(random, slot)),
        13 => good(big(random, slot)),
        14 => good(message(
            slot,
            STRANGER,
            &[("Action", "Many"), ("N", random.pick(&["1", "5", "20"]))],
            "",
        )),
        15 => good(conversation(random, slot)),
        16 => good(message(
            slot,
            STRANGER,
            &[("Action", "Unknown"), ("Odd \"Name\"", "v\u{e9}")],
            random.pick(&TEXTS),
        )),
        17 => good(foreign(random, slot)),
        18 => good(message(
            slot,
            OWNER,
            &[("Action", "Sum"), ("Content-Type", "text/plain")],
            "1 22 333 x 4444",
        )),
        _ => good(cron(slot)),
    }
}

fn ping(random: &mut Random, slot: u64) -> Value {
    let reference = random.below(1000).to_string();
    let mut m = message(
        slot,
        STRANGER,
        &[("Action", "Ping"), ("Reference", &reference)],
        random.pick(&TEXTS),
    );
    if random.below(3) == 0 {
        // From another process, pushed by its authority.
        m["Owner"] = json!(AUTHORITY);
        m["Forwarded-By"] = json!(AUTHORITY);
    }
    m
}

fn stored(random: &mut Random, slot: u64) -> Value {
    let key = format!("key{}", random.below(10));
    message(
        slot,
        STRANGER,
        &[("Action", "Store"), ("Key", &key)],
        random.pick(&TEXTS),
    )
}

fn big(random: &mut Random, slot: u64) -> Value {
    let length = [2_000, 20_000, 100_000][random.below(3) as usize];
    let data: String = (0..length)
        .map(|_| char::from(b' ' + random.below(90) as u8))
        .collect();
    message(slot, STRANGER, &[("Action", "Store"), ("Key", "big")], &data)
}

/// A question, or an answer to an earlier one.
fn conversation(random: &mut Random, slot: u64) -> Value {
    if random.below(2) == 0 {
        return message(slot, STRANGER, &[("Action", "Ask")], "");
    }
    let reference = random.below(40).to_string();
    message(slot, STRANGER, &[("X-Reference", &reference)], "the answer")
}

/// Untrusted messages and assignments of things that were sent to somebody else.
fn foreign(random: &mut Random, slot: u64) -> Value {
    let mut m = message(slot, STRANGER, &[("Action", "Ping")], "x");
    if random.below(2) == 0 {
        m["Owner"] = json!("ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ");
    } else {
        m["Target"] = json!("QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ");
    }
    m
}

fn cron(slot: u64) -> Value {
    json!({
        "Owner": OWNER, "From": OWNER, "Target": PROCESS, "Tags": [{"name": "Action", "value": "Cron"}],
        "Timestamp": 1_700_000_000_000u64 + slot, "Block-Height": 1_500_000, "Cron": true,
    })
}
