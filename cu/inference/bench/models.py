"""Writes a Llama of 100 million random weights as Q8_0, Q4_0, and Q8_0's weights as F32: models.py FOLDER."""
import sys
from pathlib import Path

import gguf
import numpy as np

WIDTH, INNER, LAYERS, HEADS, KV, VOCABULARY = 768, 2048, 12, 12, 4, 16384


def write(path, kind):
    """One file; F32 holds what the Q8_0 file's weights are once unpacked."""
    random = np.random.default_rng(0)
    quantised = getattr(gguf.GGMLQuantizationType, "Q8_0" if kind == "F32" else kind)
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("random")
    w.add_context_length(2048)
    w.add_embedding_length(WIDTH)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(INNER)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(WIDTH // HEADS)
    w.add_vocab_size(VOCABULARY)
    w.add_tokenizer_model("llama")
    w.add_token_list([b"<unk>", b"<s>", b"</s>"] + [f"t{i}".encode() for i in range(VOCABULARY - 3)])
    w.add_token_scores([0.0] * VOCABULARY)
    w.add_token_types([2, 3, 3] + [1] * (VOCABULARY - 3))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)

    def matrix(name, rows, cols):
        values = (random.standard_normal((rows, cols)) * (0.7 / np.sqrt(cols))).astype(np.float32)
        packed = gguf.quants.quantize(values, quantised)
        if kind == "F32":
            w.add_tensor(name, gguf.quants.dequantize(packed, quantised).astype(np.float32))
        else:
            w.add_tensor(name, packed, raw_dtype=quantised)

    def gain(name):
        w.add_tensor(name, np.ones(WIDTH, np.float32))

    matrix("token_embd.weight", VOCABULARY, WIDTH)
    gain("output_norm.weight")
    matrix("output.weight", VOCABULARY, WIDTH)
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        gain(name + "attn_norm.weight")
        gain(name + "ffn_norm.weight")
        matrix(name + "attn_q.weight", WIDTH, WIDTH)
        matrix(name + "attn_k.weight", WIDTH // HEADS * KV, WIDTH)
        matrix(name + "attn_v.weight", WIDTH // HEADS * KV, WIDTH)
        matrix(name + "attn_output.weight", WIDTH, WIDTH)
        matrix(name + "ffn_gate.weight", INNER, WIDTH)
        matrix(name + "ffn_up.weight", INNER, WIDTH)
        matrix(name + "ffn_down.weight", WIDTH, INNER)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("Q8_0", "Q4_0", "F32"):
        write(folder / f"random-{kind}.gguf", kind)
        print(folder / f"random-{kind}.gguf")
