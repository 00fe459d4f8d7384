"""Logits of a Q8_0 model against the same weights computed in fp32: error.py FOLDER. FOLDER is that of models.py.

Prints the root mean square of the error over that of the logits, and how often the likeliest token is another: of our
profiles and of llama.cpp's own Q8_0 path, all against llama.cpp's F32 path on the same (unpacked) weights.
"""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from peer import Peer

LOGITS = Path(__file__).resolve().parents[3] / "target/release/examples/logits"
PROMPTS = [[3 + (seed * 7919 + i * (37 + 2 * seed)) % 16000 for i in range(64)] for seed in range(32)]


def theirs(path):
    peer = Peer(path, 2)
    rows = []
    for prompt in PROMPTS:
        peer.clear()
        peer.evaluate(prompt)
        rows.append(np.ctypeslib.as_array(peer.logits(), (16384,)) if not isinstance(peer.logits(), list) else np.array(peer.logits()))
        rows[-1] = rows[-1].astype(np.float64).copy()
    peer.close()
    return np.array(rows)


def ours(path, profile):
    text = "\n".join(json.dumps(prompt) for prompt in PROMPTS)
    told = subprocess.run([LOGITS, path, f"profile={profile}"], input=text, capture_output=True, check=True, text=True)
    return np.array([json.loads(line) for line in told.stdout.splitlines()])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    truth = theirs(folder / "random-F32.gguf")
    file = folder / "random-Q8_0.gguf"
    found = {"llama.cpp Q8_0": theirs(file)} | {f"ours {p}": ours(file, p) for p in ("a16", "a8")}
    print("| path | error / logits | another likeliest token | against llama.cpp Q8_0 |\n|---|---|---|---|")
    errors = {}
    for name, logits in found.items():
        errors[name] = np.sqrt(((logits - truth) ** 2).mean() / (truth**2).mean())
        other = (logits.argmax(1) != truth.argmax(1)).mean()
        print(f"| {name} | {errors[name]:.2e} | {other:.1%} | {errors[name] / errors['llama.cpp Q8_0']:.2f} |")
