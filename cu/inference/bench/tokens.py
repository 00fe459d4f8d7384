"""Tokens of every kind of vocabulary beside others: tokens.py FOLDER [differences to show [tokenizer.json]].

Trains vocabularies on this project's files, writes them as GGUF to FOLDER and compares what texts become with
llama.cpp, and with the library that trained them; those of a `tokenizer.json` with the library that reads such files. Texts are the files' lines and random mixtures of scripts, blanks,
digits, signs and what the vocabulary defines. The library is the measure: where llama.cpp differs from it too, so may we.
"""
import ctypes
import io
import json
import random
import subprocess
import sys
from pathlib import Path

import gguf

try:
    import sentencepiece
    import tokenizers
except ImportError as error:
    sys.exit(f"SKIPPED: no tokenizer libraries here ({error})")

from peer import lib

ROOT = Path(__file__).resolve().parents[3]
TOKENS = ROOT / "target/release/examples/tokens"
DEFINED = ["\n\n", "  ", "    ", "<tool>", "</tool>", "[PAD]"]
CONTROL = ["<|im_start|>", "<|im_end|>"]
WORDS = ["don't", "I'LL", "naïve", "Straße", "東京", "สวัสดี", "مرحبا", "Привет", "🙂", "👩‍👩‍👧", "e\u0301", "½", "٣٤", "12345", "3.14", "x_y", "a—b", "…", "\u00a0", "\t"]
CUTS = {
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def texts():
    files = [path for kind in ("md", "rs", "lua", "py") for path in sorted(ROOT.glob(f"**/*.{kind}")) if "target" not in path.parts]
    lines = [line for path in files for line in path.read_text().splitlines()]
    draw, mixed = random.Random(5), []
    for _ in range(4000):
        parts = []
        for _ in range(draw.randint(1, 12)):
            parts.append(draw.choice([
                draw.choice(WORDS),
                draw.choice(DEFINED),
                draw.choice(CONTROL),
                " " * draw.randint(1, 9),
                "\n" * draw.randint(1, 4),
                draw.choice(["\r\n", " \n", "\n "]),
                "".join(chr(draw.randint(33, 126)) for _ in range(draw.randint(1, 6))),
                draw.choice(draw.choice(lines).split() or ["a"]),
                chr(draw.choice([draw.randint(0xA1, 0x2FFF), draw.randint(0x1F300, 0x1FAFF)])),
            ]))
        mixed.append("".join(parts))
    return lines, draw.sample(lines, 10000) + mixed


def write(path, model, pieces, kinds, more):
    w = gguf.GGUFWriter(path, "llama")
    for key in ("context_length", "embedding_length", "feed_forward_length"):
        w.add_uint32(f"llama.{key}", 32)
    for key in ("block_count", "attention.head_count", "attention.head_count_kv"):
        w.add_uint32(f"llama.{key}", 1)
    w.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    w.add_tokenizer_model(model)
    w.add_token_list([piece.encode() for piece in pieces])
    w.add_token_types(kinds)
    w.add_bool("tokenizer.ggml.add_bos_token", False)
    more(w)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def pieces_with_scores(folder, lines, prefix):
    """A vocabulary as Llama 2 (with a blank before texts) or Gemma has it, and its maker's way to encode."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=8000, model_type="bpe", byte_fallback=True,
        user_defined_symbols=[text.replace(" ", "▁") for text in DEFINED], control_symbols=CONTROL, add_dummy_prefix=prefix, remove_extra_whitespaces=False,
        normalization_rule_name="identity", split_digits=True, allow_whitespace_only_pieces=True,
        bos_id=1, eos_id=2, unk_id=0, minloglevel=2,
    )
    maker = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    pieces, kinds, scores = [], [], []
    for i in range(maker.get_piece_size()):
        piece = maker.id_to_piece(i)
        kind = 2 if maker.is_unknown(i) else 3 if maker.is_control(i) else 6 if maker.is_byte(i) else 4 if piece.replace("▁", " ") in DEFINED else 1
        # What llama.cpp's conversion does to what a maker defined.
        pieces.append(piece.replace("▁", " ") if kind == 4 else piece)
        kinds.append(kind)
        scores.append(maker.get_score(i))
    path = folder / f"pieces-{prefix}.gguf"

    def more(w):
        w.add_token_scores(scores)
        w.add_bool("tokenizer.ggml.add_space_prefix", prefix)
        w.add_bos_token_id(1)
        w.add_eos_token_id(2)

    write(path, "llama", pieces, kinds, more)
    return path, lambda text: maker.encode(text)


def byte_pairs(folder, lines, pre):
    cut = tokenizers.pre_tokenizers
    maker = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=pre == "llama-bpe"))
    maker.pre_tokenizer = cut.Sequence([cut.Split(tokenizers.Regex(CUTS[pre]), "isolated"), cut.ByteLevel(add_prefix_space=False, use_regex=False)])
    maker.train_from_iterator(lines, tokenizers.trainers.BpeTrainer(vocab_size=30000, initial_alphabet=cut.ByteLevel.alphabet(), show_progress=False))
    if pre == "qwen2":
        maker.normalizer = tokenizers.normalizers.NFC()
    maker.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in DEFINED])
    maker.add_special_tokens([tokenizers.AddedToken(text, normalized=False) for text in CONTROL])
    whole = json.loads(maker.to_str())
    if pre == "gpt-2":
        # Numbers need not follow the order of merges.
        numbers = list(whole["model"]["vocab"].values())
        random.Random(3).shuffle(numbers)
        whole["model"]["vocab"] = dict(zip(whole["model"]["vocab"], numbers))
        maker = tokenizers.Tokenizer.from_str(json.dumps(whole))
    size = maker.get_vocab_size()
    pieces = [maker.id_to_token(i) for i in range(size)]
    kinds = [3 if piece in CONTROL else 4 if piece in DEFINED else 1 for piece in pieces]
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in whole["model"]["merges"]]
    path = folder / f"pairs-{pre}.gguf"

    def more(w):
        w.add_tokenizer_pre(pre)
        w.add_token_merges(merges)
        w.add_bos_token_id(size - 2)
        w.add_eos_token_id(size - 1)

    write(path, "gpt2", pieces, kinds, more)
    maker.encode_special_tokens = True
    return path, lambda text: maker.encode(text, add_special_tokens=False).ids


def whole(path):
    maker = tokenizers.Tokenizer.from_file(path)
    maker.no_truncation()
    maker.no_padding()
    maker.encode_special_tokens = True
    return Path(path), lambda text: maker.encode(text).ids


def theirs(path, texts):
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(str(path).encode(), params)
    vocabulary, out = lib.llama_model_get_vocab(model), []
    for text in texts:
        raw = text.encode()
        room = (lib.llama_token * (2 * len(raw) + 8))()
        count = lib.llama_tokenize(vocabulary, raw, len(raw), room, len(room), False, False)
        out.append(list(room[:count]))
    lib.llama_model_free(model)
    return out


def ours(path, texts):
    told = subprocess.run([TOKENS, path], input="\n".join(json.dumps(text) for text in texts), capture_output=True, text=True)
    if told.returncode:
        sys.exit(f"{path}: {told.stderr}")
    return [json.loads(line) for line in told.stdout.splitlines()]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    lines, cases = texts()
    kinds = [("pieces, Llama 2", lambda: pieces_with_scores(folder, lines, True)), ("pieces, Gemma", lambda: pieces_with_scores(folder, lines, False))]
    kinds += [(f"byte pairs, {pre}", lambda pre=pre: byte_pairs(folder, lines, pre)) for pre in CUTS]
    print("| vocabulary | texts | ours other than its maker's | llama.cpp other than its maker's |\n|---|---|---|---|")
    if len(sys.argv) > 3:
        kinds.append(("tokenizer.json", lambda: whole(sys.argv[3])))
    for name, make in kinds:
        path, maker = make()
        truth, we = [maker(text) for text in cases], ours(path, cases)
        they = theirs(path, cases) if path.suffix == ".gguf" else []
        wrong = [i for i, text in enumerate(cases) if we[i] != truth[i]]
        print(f"| {name} | {len(cases)} | {len(wrong)} | {sum(a != b for a, b in zip(they, truth))} |")
        for i in wrong[: int(sys.argv[2]) if len(sys.argv) > 2 else 0]:
            print("   ", repr(cases[i]), "\n      maker", truth[i], "\n      ours ", we[i], file=sys.stderr)
