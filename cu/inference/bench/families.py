"""Logits of every family and format beside llama.cpp: families.py FOLDER [FAMILY ...].

Writes small models of random weights to FOLDER and prints the error of our A16 logits over the logits, against
llama.cpp in fp32 on the same weights unpacked. Rounding is a few hundredths at most; another graph is about one. Prompts
are longer than the windows, so that positions, windows and caps all show.
"""
import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np

from peer import Peer

LOGITS = Path(__file__).resolve().parents[3] / "target/release/examples/logits"
FORMATS = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K".split()
VOCABULARY, LAYERS, WIDTH, INNER, LENGTH, LIMIT = 512, 7, 256, 512, 96, 0.04
HEADS = {"llama": (4, 2, 64), "qwen2": (4, 2, 64), "qwen3": (4, 2, 128), "gemma2": (4, 2, 128), "gemma3": (4, 1, 128)}
# What a family's file may say, each a model of its own.
CASES = {
    "llama": {
        "plain": {},
        "linear scaling": {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        "a factor for each frequency": {"rope_freqs": True, "rope.freq_base": 500000.0},
        "the embedding is the output": {"tied": True},
        "scaling without a type": {"rope.scaling.factor": 4.0},
    },
    "qwen2": {
        "plain": {"rope.freq_base": 1e6},
        "the embedding is the output": {"tied": True, "rope.freq_base": 1e6},
        "two biases of each key of 100": {"bias": 100.0, "rope.freq_base": 1e6},
        "two biases of each key of 400": {"bias": 400.0, "rope.freq_base": 1e6},
    },
    "qwen3": {"plain": {"rope.freq_base": 1e6}, "two gains of keys of 10": {"gain": 10.0, "rope.freq_base": 1e6}},
    "gemma2": {
        "plain": {"tied": True, "attention.sliding_window": 32, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        "low caps": {"tied": True, "attention.sliding_window": 32, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0},
        "caps and window unsaid": {"tied": True},
    },
    "gemma3": {
        "plain": {"tied": True, "attention.sliding_window": 32, "rope.freq_base": 1e6},
        "every fourth layer sees all": {
            "tied": True,
            "attention.sliding_window": 32,
            "attention.sliding_window_pattern": 4,
            "rope.freq_base": 1e6,
        },
        "no window": {"tied": True, "rope.freq_base": 1e6},
        "linear scaling": {
            "tied": True,
            "attention.sliding_window": 32,
            "rope.freq_base": 1e6,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
    },
}


def pack(values, kind, random):
    """Rows in a format, and what they are once unpacked."""
    kind = gguf.GGMLQuantizationType[kind]
    try:
        packed = gguf.quants.quantize(values, kind)
    except NotImplementedError:
        # No packer here: any bytes are codes; the scales are set to what such weights have.
        block, size = gguf.GGML_QUANT_SIZES[kind]
        packed = random.integers(0, 256, (values.shape[0], values.shape[1] // block, size), dtype=np.uint8)
        deviation, places = {"Q4_K": (275, {0: 1, 2: 7.5}), "Q5_K": (550, {0: 1, 2: 15.5}), "Q6_K": (1390, {208: 1})}[kind.name]
        scales = values.std() / deviation * random.uniform(0.5, 1.5, packed.shape[:2])
        for place, times in places.items():
            packed[:, :, place : place + 2] = (times * scales).astype("<f2")[:, :, None].view(np.uint8)
        packed = packed.reshape(values.shape[0], -1)
    return packed, gguf.quants.dequantize(packed, kind).astype(np.float32)


def write(folder, family, case, kind):
    """A model in a format, and the same in fp32."""
    random = np.random.default_rng(7)
    heads, kv, dim = HEADS[family]
    paths = [folder / f"{family}-{kind}.gguf", folder / f"{family}-{kind}-unpacked.gguf"]
    files = [gguf.GGUFWriter(path, family) for path in paths]
    entries = {
        "context_length": 2048,
        "embedding_length": WIDTH,
        "block_count": LAYERS,
        "feed_forward_length": INNER,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.key_length": dim,
        "attention.value_length": dim,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": dim,
    } | {key: value for key, value in case.items() if "." in key or "cap" in key}
    for w in files:
        w.add_vocab_size(VOCABULARY)
        for key, value in entries.items():
            add = {int: w.add_uint32, float: w.add_float32, str: w.add_string}[type(value)]
            add(f"{family}.{key}", value)
        w.add_tokenizer_model("llama")
        w.add_token_list([b"<unk>", b"<s>", b"</s>"] + [f"t{i}".encode() for i in range(VOCABULARY - 3)])
        w.add_token_scores([0.0] * VOCABULARY)
        w.add_token_types([2, 3, 3] + [1] * (VOCABULARY - 3))
        w.add_bos_token_id(1)
        w.add_eos_token_id(2)

    def matrix(name, rows, cols, size=0.8):
        values = (random.standard_normal((rows, cols)) * (size / np.sqrt(cols))).astype(np.float32)
        # Files that people share have several formats in one.
        own = FORMATS[sum(name.encode()) % len(FORMATS)] if kind == "mixed" else kind
        packed, unpacked = pack(values, own, random)
        files[0].add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType[own])
        files[1].add_tensor(name, unpacked)

    def vector(name, length, middle=1.0, size=0.2, few=None):
        values = (middle + size * random.standard_normal(length)).astype(np.float32)
        if few:
            # The same two numbers of every head are large.
            values[dim // 2 - 1 :: dim], values[dim - 1 :: dim] = few, -0.7 * few
        for w in files:
            w.add_tensor(name, values)

    matrix("token_embd.weight", VOCABULARY, WIDTH, 4.0)
    vector("output_norm.weight", WIDTH)
    if not case.get("tied"):
        matrix("output.weight", VOCABULARY, WIDTH)
    if case.get("rope_freqs"):
        for w in files:
            w.add_tensor("rope_freqs.weight", np.linspace(1, 8, dim // 2).astype(np.float32))
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        vector(name + "attn_norm.weight", WIDTH)
        vector(name + "ffn_norm.weight", WIDTH)
        for part, rows, size in (("attn_q", heads * dim, 1.0), ("attn_k", kv * dim, 1.0), ("attn_v", kv * dim, 0.8)):
            matrix(f"{name}{part}.weight", rows, WIDTH, size)
            if family == "qwen2":
                vector(f"{name}{part}.bias", rows, 0.0, 0.5, case.get("bias") if part == "attn_k" else None)
        matrix(name + "attn_output.weight", WIDTH, heads * dim)
        matrix(name + "ffn_gate.weight", INNER, WIDTH)
        matrix(name + "ffn_up.weight", INNER, WIDTH)
        matrix(name + "ffn_down.weight", WIDTH, INNER)
        if family in ("qwen3", "gemma3"):
            vector(name + "attn_q_norm.weight", dim)
            vector(name + "attn_k_norm.weight", dim, few=case.get("gain"))
        if family in ("gemma2", "gemma3"):
            vector(name + "post_attention_norm.weight", WIDTH)
            vector(name + "post_ffw_norm.weight", WIDTH)
    for w in files:
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
    return paths


def error(paths):
    prompts = [[3 + (seed * 7919 + i * (37 + 2 * seed)) % (VOCABULARY - 3) for i in range(LENGTH)] for seed in range(4)]
    text = "\n".join(json.dumps(prompt) for prompt in prompts)
    told = subprocess.run([LOGITS, paths[0], "profile=a16"], input=text, capture_output=True, text=True)
    if told.returncode:
        sys.exit(f"{paths[0]}: {told.stderr}")
    ours = np.array([json.loads(line) for line in told.stdout.splitlines()])
    peer, theirs = Peer(paths[1], 2, extra=False), []
    for prompt in prompts:
        peer.clear()
        peer.evaluate(prompt)
        theirs.append(np.array(peer.logits(), np.float64))
    peer.close()
    theirs = np.array(theirs)
    return np.sqrt(((ours - theirs) ** 2).mean() / (theirs**2).mean())


if __name__ == "__main__":
    folder, worst = Path(sys.argv[1]), 0.0
    folder.mkdir(parents=True, exist_ok=True)
    print("| family | model | format | error / logits |\n|---|---|---|---|")
    for family, cases in CASES.items():
        if sys.argv[2:] and family not in sys.argv[2:]:
            continue
        for number, (what, case) in enumerate(cases.items()):
            for kind in [*FORMATS, "mixed"] if number == 0 else ["Q8_0"]:
                paths = write(folder, family, case, kind)
                found = error(paths)
                worst = max(worst, found)
                print(f"| {family} | {what} | {kind} | {found:.2e}{' **another graph**' if found > LIMIT else ''} |")
                [path.unlink() for path in paths]
    sys.exit(int(worst > LIMIT))
