"""Token ids by llama.cpp, for `tests.parity_real`; run by a Python that has llama-cpp-python.

    python llama_worker.py FILE.gguf TEXTS.json IDS.json

Needs nothing of the project. Special tokens in texts are read as such, none is added.
"""

import json
import sys

from llama_cpp import Llama


def main(model: str, texts: str, out: str) -> None:
    llama = Llama(model_path=model, vocab_only=True, verbose=False)
    with open(texts, encoding="utf-8") as file:
        rows = json.load(file)
    ids = [llama.tokenize(text.encode(), add_bos=False, special=True) for text in rows]
    with open(out, "w", encoding="utf-8") as file:
        json.dump(ids, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
