//! Every error that a client can meet: its code, why it comes about, and what to do about it.
//!
//! `docs/errors.md` is this table as a page. The invariant: every code that a unit's refusal carries has a
//! line here; a test reads the sources and compares.

/// One error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Stable, lower case with dashes.
    pub code: &'static str,
    /// Why it comes about.
    pub why: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

const fn entry(code: &'static str, why: &'static str, remedy: &'static str) -> Entry {
    Entry { code, why, remedy }
}

/// The errors by what they are about.
pub const SECTIONS: [(&str, &[Entry]); 9] = [
    ("Lua", &LUA),
    ("Reaching a node", &REACHING),
    ("Names and ids", &NAMES),
    ("Messages and processes", &MESSAGES),
    ("Evaluation", &EVALUATION),
    ("Questions", &QUESTIONS),
    ("Uploading", &UPLOADING),
    ("Proofs and other nodes' logs", &PROOFS),
    ("The node itself", &NODE),
];

/// The entry of a code.
pub fn find(code: &str) -> Option<&'static Entry> {
    let all = SECTIONS.iter().flat_map(|(_, entries)| entries.iter());
    all.into_iter().find(|entry| entry.code == code)
}

const UPLOADING: [Entry; 10] = [
    entry(
        "no-upload-route",
        "the node was started without an upload route, so nothing of it leaves the machine",
        "start it with `weft node --upstream URL --upload-wallet FILE`",
    ),
    entry(
        "dry-run",
        "the node was started to tell what uploading would cost, not to do it",
        "`weft upload preview` tells it; start the node without --upload-dry-run to upload",
    ),
    entry(
        "upload-stopped",
        "the node's uploader has ended; nothing is lost, and nothing goes up",
        "see the node's log, then start the node again",
    ),
    entry(
        "counting",
        "a long log is counted in steps, and what was counted is kept",
        "ask again: it goes on where it stopped",
    ),
    entry(
        "turn-under-way",
        "the uploader waits for its upstreams and cannot answer meanwhile",
        "ask again; `weft status` without --process answers at once",
    ),
    entry(
        "too-few-peers",
        "the upstreams did not answer, or contradicted each other",
        "`weft status` shows the last error; name other upstreams with --upstream URL",
    ),
    entry(
        "withheld",
        "data was withheld while its carrier was under way",
        "nothing to do: it is bundled again without the data",
    ),
    entry(
        "invalid-transaction",
        "a transaction is taken only if its format is 2 and its owner signed exactly this",
        "sign it anew and post the JSON unchanged",
    ),
    entry(
        "chunk-refused",
        "a chunk is taken only with a proof that leads to a data root posted before",
        "post the transaction first; numbers in the JSON of a chunk are texts",
    ),
    entry(
        "data-missing",
        "the transaction was posted, but not all chunks of its data",
        "post the missing chunks; the transaction's header is at /tx/ID",
    ),
];

const PROOFS: [Entry; 20] = [
    entry(
        "no-gateway",
        "this reads the weave, and no gateway was named",
        "name one with --from URL, or a node that uploads with --node URL",
    ),
    entry(
        "not-on-the-weave",
        "the gateway knows no block whose data holds the item",
        "wait until `weft status` counts it as mined, or ask another gateway; --carrier ID names the transaction by hand; items of local processes never go up",
    ),
    entry(
        "gateway-lied",
        "what the gateway handed out does not hash to what was signed",
        "ask another gateway; nothing of this one's answer was used",
    ),
    entry(
        "proof-file",
        "the file cannot be read or written, or is longer than any proof",
        "check the path",
    ),
    entry(
        "proof-refused",
        "the file does not show what it says: the part named above does not hold",
        "take nothing from it; ask for another one, or make it anew with `weft prove`",
    ),
    entry(
        "proof-denied",
        "the gateway's chain has not what the proof claims of the block",
        "ask other gateways; a block can also have been given up by a fork, then prove the item anew",
    ),
    entry(
        "equivocation",
        "the scheduler signed two statements that contradict each other: it forked the log",
        "keep the fraud file and show it (`weft verify FILE`); trust neither branch",
    ),
    entry(
        "broken-log",
        "an assignment does not continue the log, and no honest scheduler writes such a one",
        "look at the assignment named above; the slots before it hold",
    ),
    entry(
        "log-superseded",
        "slots that were read here are not the log's any more: their scheduler lost them and gave them again",
        "follow the process anew, with another --data folder",
    ),
    entry(
        "no-log",
        "no gateway shows an assignment of the process by its scheduler",
        "check the id; name the account that signs the log with --scheduler, or other gateways with --from",
    ),
    entry(
        "no-scheduler",
        "the process item names no scheduler by its address",
        "name the account that signs its log with --scheduler ADDRESS",
    ),
    entry(
        "not-so",
        "a gateway's answer does not hash to what was signed, or contradicts it",
        "nothing of it was used; name other gateways with --from",
    ),
    entry(
        "no-chunks",
        "the network has a transaction, but not its data",
        "name other gateways with --from; whoever posted it may still seed it",
    ),
    entry(
        "checkpoint-unfit",
        "a checkpoint is not of this process, or not of a form that this node reads",
        "nothing to do: it is left out, and the log is replayed from an earlier one",
    ),
    entry(
        "checkpoint-withheld",
        "a checkpoint's data is not held here",
        "nothing to do: the log is replayed from an earlier one",
    ),
    entry(
        "checkpoint-bytes",
        "a checkpoint would be larger than one item may be",
        "raise `cu.permanent.item_bytes_max`, or replay without it",
    ),
    entry(
        "read-only",
        "a followed log is another scheduler's",
        "send the message to the process's own scheduler",
    ),
    entry(
        "rebuild-failed",
        "the log cannot be had whole from these gateways, is not what its scheduler signed, or the folder cannot be used",
        "do what the reason says; the same command again goes on where this one stopped",
    ),
    entry(
        "no-log-source",
        "a log is replayed from what a stopped node has on its disk, or from gateways",
        "add --data DIR or --from URL",
    ),
    entry(
        "nothing-to-verify",
        "neither a file nor a process was named",
        "name a proof file, or a process with --process ID --full",
    ),
];

const LUA: [Entry; 10] = [
    entry(
        "lua-syntax",
        "the text is no Lua 5.3; it was not signed and not sent",
        "mend the place under the caret and run it again",
    ),
    entry(
        "lua-incomplete",
        "the text ends before its last block, bracket or long text does; it was not sent",
        "complete it; at the prompt, go on typing on the next line",
    ),
    entry(
        "lua-runtime",
        "the process raised an error while it evaluated the message; its state is what it was before",
        "mend the line named above; `weft dry` runs a change without sending it",
    ),
    entry(
        "lua-memory",
        "the process asked for more memory than its module's limit",
        "keep less in globals, or spawn with a larger `Memory-Limit`",
    ),
    entry(
        "lua-gas",
        "the evaluation did more work than one message may",
        "split the work over several messages, or spawn with a larger `Compute-Limit`",
    ),
    entry(
        "lua-inference-gas",
        "the questions to models of one message cost more than they may",
        "ask for fewer tokens or over several messages, or spawn with a larger `Inference-Limit`",
    ),
    entry(
        "load-file",
        "a file that the bundle needs cannot be read",
        "check the path; modules are looked for beside the main file, `a.b` as a/b.lua or a/b/init.lua",
    ),
    entry(
        "load-cycle",
        "modules that require each other have no order in which they could run",
        "move what both need into a third module",
    ),
    entry(
        "load-size",
        "one message carries at most 8 MiB of Lua and 1,000 modules",
        "load the modules in several steps",
    ),
    entry(
        "no-code",
        "there was nothing to evaluate, and nobody to wait for",
        "give Lua with -e CODE, a FILE, or `-` for standard input",
    ),
];

const REACHING: [Entry; 7] = [
    entry(
        "unreachable",
        "nothing answered at that address: no node listens there, or something stands between",
        "start a node with `weft node --data DIR`, or name another with --node URL",
    ),
    entry(
        "not-weft",
        "another program answers there, or a node that speaks the legacynet routes only",
        "check the URL; for a legacynet give --mu-url, --cu-url and --gateway-url",
    ),
    entry(
        "role-missing",
        "that node runs only some of the units, and this needs one of the others",
        "ask a node that runs the role, or name its units with --mu-url, --cu-url, --gateway-url",
    ),
    entry(
        "units-missing",
        "a legacynet is reached through three units, and some were not named",
        "give --mu-url, --cu-url and --gateway-url together, or --node URL alone",
    ),
    entry(
        "invalid-url",
        "only http:// addresses can be spoken to",
        "write it as http://HOST:PORT",
    ),
    entry(
        "bad-answer",
        "the other side answered something that is not of the protocol",
        "check that the URL is a node's; its log may say more",
    ),
    entry(
        "timeout",
        "no answer came within the time that was set; the message may still be evaluated",
        "ask again with `weft result`, or give more time with --timeout SECONDS",
    ),
];

const NAMES: [Entry; 9] = [
    entry(
        "unknown-name",
        "names belong to the account that spawned the process, and this account has none of that name",
        "list yours with `weft ps`; spawn one with `weft spawn NAME`; another's is reached by id",
    ),
    entry(
        "unknown-id",
        "nothing is stored under that id",
        "check the id; a message is known by the id that `weft send` printed",
    ),
    entry(
        "unknown-process",
        "the scheduler has no log of that process",
        "check the id and the node; a process lives on the scheduler that its tag names",
    ),
    entry(
        "not-found",
        "the scheduler knows neither such a message nor such a process",
        "check the id and the node",
    ),
    entry(
        "no-process",
        "the item with that id is not a process",
        "give a process's id; `weft ps` lists yours",
    ),
    entry(
        "invalid-id",
        "an id is 43 characters of base64url",
        "copy it whole, without quotes",
    ),
    entry(
        "no-kernel",
        "the node does not say which module its shell processes run",
        "name a module with --module ID; `weft module add FILE` prints one",
    ),
    entry(
        "ambiguous-query",
        "two questions were asked in one request",
        "ask one of them",
    ),
    entry(
        "name-taken",
        "the account has a process of that name already, and a name that means two is no name",
        "open it with `weft shell NAME`, or choose another; --again spawns a second one all the same",
    ),
];

const MESSAGES: [Entry; 40] = [
    entry(
        "scheduling-suspended",
        "the node's data folder was rebuilt from what was published; its scheduler may have given slots that were not",
        "make sure that the scheduler runs nowhere else, then start the node once with `--resume-scheduling`; reading works meanwhile",
    ),
    entry(
        "other-key",
        "the process's log was signed by a key from which none leads to this node's scheduler",
        "start the node with that key, or let it name its successor with `weft keys succeed`",
    ),
    entry(
        "adopted-process",
        "the process names another scheduler, or a module that this node replaced; what it published would contradict others",
        "spawn a new process with this node's scheduler and `Storage=permanent`",
    ),
    entry(
        "is-local",
        "the item is on this machine alone: it belongs to a local process, or was brought to stay",
        "whoever has it makes it permanent by posting it to /tx/arweave; or assign it to a local process",
    ),
    entry(
        "message-exists",
        "the same signed item was scheduled before",
        "sign it anew: our own client gives each message an anchor of its own",
    ),
    entry(
        "deep-hash-exists",
        "the same signer sent the same content before, and the process refuses repeats",
        "change the anchor or a tag",
    ),
    entry(
        "process-exists",
        "the same process item was scheduled before",
        "use the process that is there, or sign a new item",
    ),
    entry(
        "invalid-item",
        "the bytes are no data item, or its signature does not belong to it",
        "sign the item again and send its bytes unchanged",
    ),
    entry(
        "item-too-large",
        "the messenger takes items up to a limit",
        "send less data, or upload it and send its id",
    ),
    entry("no-item", "the request had no body", "post a signed data item"),
    entry(
        "missing-type",
        "an item of ao says in a tag what it is",
        "add the tag `Type` with `Message` or `Process`",
    ),
    entry(
        "no-type",
        "an item of ao says in a tag what it is",
        "add the tag `Type` with `Message` or `Process`",
    ),
    entry(
        "invalid-type",
        "only messages and processes can be sent",
        "set the tag `Type` to `Message` or `Process`",
    ),
    entry(
        "unsupported-type",
        "only messages and processes can be scheduled",
        "set the tag `Type` to `Message` or `Process`",
    ),
    entry(
        "invalid-data-protocol",
        "items of other protocols are not for this node",
        "add the tag `Data-Protocol` with `ao`",
    ),
    entry(
        "no-data-protocol",
        "items of other protocols are not for this node",
        "add the tag `Data-Protocol` with `ao`",
    ),
    entry(
        "missing-target",
        "a message is for a process",
        "set the item's target to a process's id",
    ),
    entry(
        "no-target",
        "a message is for a process",
        "set the item's target to a process's id",
    ),
    entry(
        "wrong-target",
        "the item was signed for another process",
        "sign one for this process",
    ),
    entry(
        "incomplete-process",
        "a process names its module and its scheduler",
        "add the tags `Module` and `Scheduler`",
    ),
    entry(
        "other-scheduler",
        "the process names another scheduler than this node's",
        "set the tag `Scheduler` to the address that the node's ready line shows",
    ),
    entry(
        "invalid-storage",
        "storage is `local` (this machine only) or `permanent`",
        "set the tag `Storage` to one of them, or leave it out",
    ),
    entry(
        "invalid-on-boot",
        "a process boots from its own data or from an item",
        "set the tag `On-Boot` to `Data` or to an id",
    ),
    entry(
        "link-tag",
        "other nodes take names and values that end in `+link` as links to content",
        "choose another name or value",
    ),
    entry(
        "half-an-assignment",
        "an assignment names a process and an item",
        "give both `process-id` and `assign`",
    ),
    entry(
        "incomplete-assign",
        "an assignment names a process and an item",
        "give both `process-id` and `assign`",
    ),
    entry(
        "no-data",
        "the item's data was withheld, so a process cannot be given it",
        "assign it with `exclude=Data`",
    ),
    entry(
        "data-withheld",
        "the data was withheld on purpose; signature and tags remain",
        "ask who published it",
    ),
    entry(
        "invalid-exclude",
        "only some fields of an item can be kept from a process",
        "name Data, Tags, Signature or Anchor",
    ),
    entry(
        "invalid-height",
        "the height given is none of this chain",
        "ask the node for its height at /height",
    ),
    entry(
        "invalid-content-type",
        "the body is of a type that this route does not take",
        "send the data item as application/octet-stream",
    ),
    entry(
        "origin-total",
        "one message caused more messages than the node lets follow from one",
        "break the loop in the processes involved; `weft trace ID` shows it",
    ),
    entry(
        "reply",
        "the process that spawned another one cannot be told about it",
        "see whether it still exists; the spawned process does",
    ),
    entry(
        "not-your-monitor",
        "others started to monitor this process",
        "sign with the key that started it",
    ),
    entry(
        "too-many-monitors",
        "the messenger watches as many processes as it may",
        "stop another monitor, or try again later",
    ),
    entry(
        "no-tags-text",
        "a tag's name or value is written NAME=VALUE",
        "write it so, in quotes where your shell needs them",
    ),
    entry(
        "invalid-scheduler",
        "the tag `Scheduler` is no address",
        "set it to the address that the node's ready line shows",
    ),
    entry(
        "other-target",
        "the path names one process, the item another",
        "send the item to the process that it was signed for",
    ),
    entry(
        "no-http-signatures",
        "messages signed as HTTP headers are not taken here",
        "make the client sign ANS-104 data items",
    ),
    entry(
        "not-a-post",
        "items are pushed with POST",
        "use POST, with the signed item as the body",
    ),
];

const EVALUATION: [Entry; 28] = [
    entry(
        "no-module",
        "the process names a module that nothing is known about",
        "add it with `weft module add FILE`, or spawn with another --module",
    ),
    entry(
        "module-missing",
        "the weave holds nothing under the module's id",
        "add the bytes with `weft module add FILE --id ID`",
    ),
    entry(
        "module-format",
        "processes run on formats that this node knows",
        "use a module of one of the formats named above",
    ),
    entry(
        "module-encoding",
        "the module wants to be spoken to in a way that this node does not",
        "use a module whose encodings are JSON-1",
    ),
    entry(
        "module-extension",
        "the module or process asks for an extension that this node does not have",
        "remove the tag `Extension`, or use a node that has it",
    ),
    entry(
        "module-bytes",
        "the module is larger than this node reads",
        "raise `cu.module_bytes_max`, or use a smaller module",
    ),
    entry(
        "module-epoch",
        "the process was spawned under another engine, which could give other results",
        "evaluate it on a node of that engine, or set `cu.engine_epoch_strict = false`",
    ),
    entry(
        "module-refused",
        "the module is no WebAssembly or Lua that can run here",
        "see the reason above; build it with a current tool chain",
    ),
    entry(
        "model-not-found",
        "a message asks a model that this node cannot find: the process stands still there",
        "add it with `weft module add FILE --id ID`, or put it into `cu.inference.models`; then ask again",
    ),
    entry(
        "inference-off",
        "a message asks a model and this node answers none",
        "set `cu.inference.on = true`, or ask a node that does",
    ),
    entry(
        "inference-room",
        "a message asks a model for more memory or positions than this node gives",
        "raise `infer.service.memory_bytes_max`, `infer.service.positions_max` or `cu.inference.model_bytes_max`",
    ),
    entry(
        "inference-busy",
        "too many ask that model just now, or its device failed",
        "ask again; the message is evaluated then",
    ),
    entry(
        "limit-exceeded",
        "the process asks for more than this node gives",
        "spawn with a smaller limit, or raise the node's",
    ),
    entry(
        "limit-missing",
        "the process and its module do not say how much it may use",
        "spawn with the tag named above",
    ),
    entry(
        "limit-unreadable",
        "memory is a number with a unit, such as `1-gb`; gas and tokens are whole numbers, a model is an id",
        "spawn with the tag written so",
    ),
    entry(
        "evaluations-due",
        "the process has more messages waiting than one request may wait for; the work done is kept",
        "ask again: it goes on where it stopped",
    ),
    entry(
        "evaluations-waiting",
        "the node evaluates as much as it can",
        "try again in a moment",
    ),
    entry(
        "requests-waiting",
        "many requests wait for this one process",
        "try again in a moment",
    ),
    entry(
        "reads-waiting",
        "many dry runs wait already",
        "try again in a moment",
    ),
    entry(
        "owner-leaving",
        "the process was just being put to sleep",
        "try again",
    ),
    entry(
        "dry-run-bytes",
        "a dry run's message is read up to a limit",
        "send less data",
    ),
    entry(
        "invalid-dry-run",
        "a dry run takes a message as a JSON object",
        "see the route's description in spec/",
    ),
    entry(
        "replay-slots",
        "the state asked for lies further back than this node replays",
        "raise `cu.replay_slots_max`, or ask for a later slot",
    ),
    entry(
        "before-process",
        "the process was not there yet at that time",
        "ask for a later time",
    ),
    entry(
        "module-not-found",
        "the weave holds nothing under the module's id",
        "add the bytes with `weft module add FILE --id ID`",
    ),
    entry(
        "module-withheld",
        "the module's data was withheld",
        "ask who published it, or use another module",
    ),
    entry(
        "closing",
        "the node is being shut down",
        "ask again when it is back",
    ),
    entry(
        "module-used",
        "slot 0 says that the process runs another module than it names, in a way that cannot be read",
        "ask the scheduler's operator; the log may be damaged",
    ),
];

const QUESTIONS: [Entry; 21] = [
    entry(
        "missing-parameter",
        "the route needs a parameter that was not given",
        "add it to the query",
    ),
    entry(
        "invalid-parameter",
        "a parameter is not what the route expects",
        "write it as the message says",
    ),
    entry(
        "invalid-cursor",
        "the cursor is none of a list of this node",
        "begin again without one",
    ),
    entry(
        "no-route",
        "the node has no such route",
        "see the README for the routes of each unit",
    ),
    entry(
        "query-too-broad",
        "the conditions fit nearly everything, and the node will not look through all of it",
        "add a condition that few items meet",
    ),
    entry(
        "query-too-large",
        "the query is longer than the node reads",
        "ask in several steps",
    ),
    entry(
        "query-refused",
        "the gateway does not understand the query",
        "check that the URL is a gateway's",
    ),
    entry(
        "range-not-satisfiable",
        "the bytes asked for lie outside the data",
        "ask for a range within its length",
    ),
    entry(
        "invalid-manifest",
        "what is stored under that id is no path manifest, though its type says so",
        "`/raw/ID` serves it as it is; publish one of version 0.1.0 or 0.2.0",
    ),
    entry(
        "manifest-too-large",
        "the manifest is larger than the gateway resolves",
        "`/raw/ID` serves it as it is; split it",
    ),
    entry(
        "unknown-path",
        "the manifest has no such path and no fallback",
        "check the path; `/raw/ID` shows the manifest",
    ),
    entry(
        "unknown-block",
        "the chain has no such block",
        "ask for one within its height",
    ),
    entry(
        "too-large",
        "the item or batch is larger than the log takes",
        "send it in parts",
    ),
    entry(
        "bundler-busy",
        "the double's bundler holds as many items as it takes",
        "let it mine a block, then send again",
    ),
    entry(
        "feeds-open",
        "as many readers follow processes as the node allows",
        "close another one, or try again later",
    ),
    entry(
        "wrong-receipt",
        "the gateway confirmed another item than was sent",
        "do not trust that gateway",
    ),
    entry(
        "invalid-slot",
        "a slot is a whole number; a message's id stands for its slot",
        "write it so",
    ),
    entry(
        "no-such-slot",
        "the log is not that long",
        "ask for /PROCESS/slot/current first",
    ),
    entry(
        "no-such-key",
        "the route of the process has no such part",
        "use one of those named above",
    ),
    entry(
        "invalid-range",
        "the header `Range` is malformed",
        "write `bytes=0-99`",
    ),
    entry(
        "invalid-query",
        "the body is no GraphQL request",
        "send JSON with a text `query`",
    ),
];

const NODE: [Entry; 21] = [
    entry(
        "log-busy",
        "the log takes as much as the disk does",
        "try again in a moment",
    ),
    entry(
        "shutting-down",
        "the node is stopping",
        "try again when it is back",
    ),
    entry(
        "upstream",
        "another unit or gateway failed",
        "see the reason above; the node's log may say more",
    ),
    entry(
        "internal",
        "a fault of the node",
        "see the node's log, and report it with the lines around",
    ),
    entry(
        "no-record",
        "the log holds no such record",
        "check the id; rebuild the index by deleting `cache/` while the node is stopped",
    ),
    entry(
        "no-weave",
        "the node you asked keeps no items",
        "ask the gateway's node",
    ),
    entry(
        "no-meta",
        "the weave does not know when or as what it stored the item",
        "ask again; delete `cache/` while the node is stopped if it stays",
    ),
    entry(
        "id-taken",
        "the id stands for other bytes already",
        "nothing to do: an id means one thing for ever",
    ),
    entry(
        "not-operator",
        "what changes a node is answered only on its own machine",
        "run the command there",
    ),
    entry(
        "process-item-missing",
        "the scheduler's log lacks the process item itself",
        "the log was damaged; restore it from a copy",
    ),
    entry(
        "hash-chain",
        "the scheduler's log does not follow from itself",
        "stop, and compare the log with a copy: it was damaged or changed",
    ),
    entry(
        "log-gap",
        "the scheduler's log lacks a slot",
        "ask the scheduler's operator",
    ),
    entry(
        "log-incomplete",
        "the scheduler's log lacks a slot",
        "ask the scheduler's operator",
    ),
    entry(
        "no-latest",
        "the scheduler's log is empty where it cannot be",
        "ask the scheduler's operator",
    ),
    entry(
        "wrong-item",
        "the gateway handed out another item than was asked for",
        "do not trust that gateway",
    ),
    entry(
        "listen",
        "the address is taken or not this machine's",
        "leave out --listen to take a free port, or stop the other program",
    ),
    entry(
        "no-terminal",
        "the prompt needs a terminal to draw on",
        "pipe Lua into `weft`, or use `weft eval`",
    ),
    entry(
        "wallet",
        "the key file cannot be used",
        "name another with --wallet, or make one with `weft wallet new FILE`",
    ),
    entry(
        "folder-in-use",
        "a data folder belongs to one program at a time",
        "stop the node that uses it, or name another folder",
    ),
    entry(
        "file",
        "a file cannot be read or written",
        "check the path and its permissions",
    ),
    entry(
        "scheduler-busy",
        "the scheduler takes as much as the disk does",
        "try again in a moment",
    ),
];

/// The table as a page.
pub fn page() -> String {
    let mut page = String::from(
        "# Errors\n\nEvery error has a code. `weft explain CODE` prints its entry. \
         Standard output holds values only; errors go to standard error, and the exit status says which sort \
         it was: 1 Lua, 2 usage or transport, 124 time.\n",
    );
    for (title, entries) in SECTIONS {
        page.push_str(&format!(
            "\n## {title}\n\n| code | why | what to do |\n|---|---|---|\n"
        ));
        for entry in entries {
            page.push_str(&format!(
                "| `{}` | {} | {} |\n",
                entry.code, entry.why, entry.remedy
            ));
        }
    }
    page
}
