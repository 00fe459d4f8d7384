"""Writes blocks.bin: random blocks of every format, with the numbers PyPI gguf 0.19 reads from them."""
import struct
import gguf
import numpy as np

rng = np.random.default_rng(7)
T = gguf.GGMLQuantizationType
HALVES = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
with open("blocks.bin", "wb") as out:
    for kind in [T.F32, T.F16, T.BF16, *HALVES]:
        if kind in HALVES:
            numbers, size = gguf.GGML_QUANT_SIZES[kind]
            blocks = rng.integers(0, 256, (512 // numbers, size), dtype=np.uint8)
            if kind == T.Q8_0:
                blocks[blocks == 128] = 127
            for at in HALVES[kind]:
                scale = rng.uniform(-0.1, 0.1, (len(blocks), 1)).astype(np.float16)
                blocks[:, at : at + 2] = scale.view(np.uint8)
            data = blocks.tobytes()
            truth = gguf.quants.dequantize(blocks.reshape(-1), kind).astype(np.float32).reshape(-1)
        else:
            values = rng.standard_normal(512).astype(np.float32)
            data = gguf.quants.quantize(values, kind).tobytes()
            truth = gguf.quants.dequantize(np.frombuffer(data, np.uint8) if kind == T.BF16 else values, kind) if kind != T.F16 else values.astype(np.float16).astype(np.float32)
            truth = np.asarray(truth, dtype=np.float32).reshape(-1)
        assert truth.size == 512, kind
        out.write(struct.pack("<II", kind, len(data)) + data + truth.tobytes())
