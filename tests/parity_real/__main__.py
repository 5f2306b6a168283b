"""python -m tests.parity_real --llama-python PYTHON [--models smollm2-135m-instruct gemma-3-270m]

Token ids against llama.cpp's tokenizer, by kind of text: for both real models, and for every way of
splitting with GPT-2's vocabulary. Logits against transformers' own reader of GGUF files, and
against transformers on the folder that `convert` writes. Exits with 1 where a token differs, or a
logit by more than 2e-4 of the largest one.

Texts that spell special tokens are encoded as transformers does: control tokens and user-defined
ones are found wherever their spelling stands, and llama.cpp is told to do the same. A byte that a
byte-level vocabulary lacks (SmolLM2 has none for the planes 4 to 12 of Unicode, where no character
is) is left out by both; `tokenizers` then merges across the gap, llama.cpp does not. Texts with one
are counted apart, as "bytes without a token", and may differ.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from subliminal_jax.cli import main as run_command
from subliminal_jax.data.shared_data import VARIABLE, find_shared
from subliminal_jax.gguf_files import read_gguf_header
from subliminal_jax.models.forward import forward
from subliminal_jax.models.gguf_tokenizer import SPLITS, build_gguf_tokenizer
from subliminal_jax.models.hub import Model, load_model
from subliminal_jax.models.packaged import PACKAGED_MODELS, find_packaged_model
from tests.gguf_models import BYTES, random_params, write_gguf_model
from tests.models.families import LLAMA
from tests.parity_real.texts import collect_texts

TOLERANCE = 2e-4  # of the largest logit
TOKENS = 640  # more than Gemma's window
LACKING = "bytes without a token"
WORKER = Path(__file__).with_name("llama_worker.py")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.parity_real", description=__doc__)
    parser.add_argument("--llama-python", required=True, help="a Python with llama-cpp-python")
    parser.add_argument("--models", nargs="*", default=list(PACKAGED_MODELS))
    parser.add_argument("--texts", type=int, default=1500, help="of each kind")
    parser.add_argument("--only", choices=("tokens", "logits"))
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "logits":
            files = {name: find_packaged_model(name) for name in options.models}
            files |= write_splits(Path(folder))
            failed |= compare_tokens(files, options.llama_python, options.texts, Path(folder))
        if options.only != "tokens":
            failed |= compare_logits(options.models, Path(folder))
    sys.exit(failed)


def write_splits(folder: Path) -> dict[str, Path]:
    """GPT-2's vocabulary in one GGUF file for each way of splitting texts."""
    places = [find_shared("tokenizers", "gpt2", name) for name in ("vocab.json", "merges.txt")]
    if None in places:
        raise SystemExit(f"set {VARIABLE} to the folder with the shared data")
    vocabulary, merges = (place.read_text(encoding="utf-8") for place in places if place)
    ids = json.loads(vocabulary)
    tokenizer: dict[str, Any] = {
        "model": "gpt2",
        "tokens": sorted(ids, key=ids.__getitem__),
        "token_type": [3 if token == "<|endoftext|>" else 1 for token in sorted(ids, key=ids.get)],
        "merges": [line for line in merges.splitlines()[1:] if line],
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|endoftext|>"],
    }
    files, cfg, params = {}, replace(LLAMA, vocab=len(ids)), random_params(LLAMA)
    for pre in sorted({(SPLITS[pre], pre in ("llama-bpe",)): pre for pre in SPLITS}.values()):
        files[f"gpt2, split as {pre}"] = path = folder / f"{pre}.gguf"
        write_gguf_model(path, cfg, params, {**tokenizer, "pre": pre})
    return files


def compare_tokens(files: dict[str, Path], python: str, count: int, folder: Path) -> bool:
    """Print how many texts have other tokens than llama.cpp's; returns whether any has."""
    texts = collect_texts(count)
    flat = [(kind, text) for kind, row in texts.items() for text in row]
    (folder / "texts.json").write_text(json.dumps([text for _, text in flat]), encoding="utf-8")
    failed = False
    for name, path in files.items():
        out = folder / "ids.json"
        command = [python, str(WORKER), str(path), str(folder / "texts.json"), str(out)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        theirs = json.loads(out.read_bytes())
        tokenizer = build_gguf_tokenizer(read_gguf_header(path))
        ours = tokenizer([text for _, text in flat], add_special_tokens=False)["input_ids"]
        lacking = _bytes_without_a_token(tokenizer)
        total, differ = dict.fromkeys([*texts, LACKING], 0), dict.fromkeys([*texts, LACKING], 0)
        for (kind, text), a, b in zip(flat, ours, theirs, strict=True):
            row = LACKING if lacking & set(text.encode()) else kind
            total[row] += 1
            differ[row] += a != b
            if a != b and row != LACKING:
                print(f"  {name}: {text!r:.80}: {a[:12]} and {b[:12]}")
        print(f"\n{name}: {len(flat)} texts, {sum(map(len, ours))} tokens")
        print(f"  {'texts':<24}{'number':>8}{'other tokens':>14}")
        for kind, number in total.items():
            print(f"  {kind:<24}{number:>8}{differ[kind]:>14}", flush=True)
        failed |= any(differ[kind] for kind in texts)
    return failed


def _bytes_without_a_token(tokenizer: Any) -> set[int]:
    """The bytes that a byte-level vocabulary lacks; none for other kinds."""
    if "ByteLevel" not in str(tokenizer.backend_tokenizer.decoder):
        return set()
    order = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order += [byte for byte in range(256) if byte not in order]
    vocabulary = tokenizer.get_vocab()
    return {byte for byte, token in zip(order, BYTES, strict=True) if token not in vocabulary}


def compare_logits(names: list[str], folder: Path) -> bool:
    """Print the largest differences of logits; returns whether one is too large."""
    print(f"\n{'model':<24}{'against transformers on':<26}{'largest logit':>14}{'difference':>12}")
    failed = False
    for name in names:
        model = load_model(name, dtype="float32")
        tokens = _tokens(model)
        ours = np.asarray(forward(model.params, tokens, model.cfg)[0][0])
        for what, path, options in (
            ("the GGUF file", model.folder.parent, {"gguf_file": model.folder.name}),
            ("the converted folder", folder / name, {}),
        ):
            if not options:
                with contextlib.redirect_stdout(io.StringIO()):
                    run_command(["convert", name, str(path)])
            theirs = _reference(path, options, tokens)
            largest = float(np.abs(theirs).max())
            error = float(np.abs(ours - theirs).max()) / largest
            print(f"{name:<24}{what:<26}{largest:>14.2f}{error:>12.1e}", flush=True)
            failed |= not error < TOLERANCE
    return failed


def _tokens(model: Model) -> np.ndarray:
    """A conversation, then prose, code, and other scripts."""
    texts = [text for row in collect_texts(10).values() for text in row]
    rest = model.tokenizer("\n".join(texts), add_special_tokens=False)["input_ids"]
    ids = [*model.encode("Name three animals.")[0].tolist(), *rest][:TOKENS]
    return np.asarray([ids], np.int32)


def _reference(path: Path, options: dict[str, str], tokens: np.ndarray) -> np.ndarray:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager", local_files_only=True, **options
    )
    with torch.no_grad():
        return model.eval()(torch.from_numpy(tokens).long()).logits[0].numpy()


if __name__ == "__main__":
    main()
