"""Tokens per second beside llama.cpp: llama.py FOLDER [rounds=7]. FOLDER is that of models.py.

Both run in turns; a round's rate is the best of three, its ratio ours over theirs, and the medians are printed.
With one thread times are the thread's own, with two the clock's.
"""
import json
import statistics
import subprocess
import sys
from pathlib import Path

from peer import Peer

SPEED = Path(__file__).resolve().parents[3] / "target/release/examples/speed"


def ours(path, threads, profile):
    words = [SPEED, path, f"threads={threads}", f"profile={profile}", "what=prefill,decode", "rounds=3"]
    told = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
    return told["tokens_per_s"], told["device"]


def theirs(path, threads, extra):
    peer = Peer(path, threads, extra)
    rounds = [peer.round() for _ in range(3)]
    peer.close()
    return {part: max(one[part] for one in rounds) for part in ("prefill", "decode")}


def compare(path, threads, rounds):
    mine, other, device = {"a16": [], "a8": []}, {False: [], True: []}, ""
    for _ in range(rounds):
        for extra in other:
            other[extra].append(theirs(path, threads, extra))
        for profile in mine:
            rates, device = ours(path, threads, profile)
            mine[profile].append(rates)
    for part, bar in (("prefill", 1.0), ("decode", 1.1)):
        middle = lambda rows: statistics.median(row[part] for row in rows)
        best = max(other, key=lambda extra: middle(other[extra]))
        for profile, rows in mine.items():
            ratio = statistics.median(a[part] / b[part] for a, b in zip(rows, other[best]))
            packed = "repacked weights" if best else "plain weights"
            print(f"| {path.stem} | {threads} | {part} | {profile} | {middle(rows):.0f} | {middle(other[best]):.0f} ({packed}) "
                  f"| **{ratio:.2f}** | {'yes' if ratio >= bar else 'NO'} (>= {bar}) |", flush=True)
    return device


if __name__ == "__main__":
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7
    print("| model | threads | part | profile | ours, tokens/s | llama.cpp, tokens/s | ratio | bar |\n|---|---|---|---|---|---|---|---|")
    for threads in (1, 2):
        for kind in ("Q8_0", "Q4_0"):
            device = compare(folder / f"random-{kind}.gguf", threads, rounds)
    print(f"\nours: {device}")
