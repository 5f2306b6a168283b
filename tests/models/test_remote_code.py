"""Code that comes with a model's files is never run, and nobody is asked whether to."""

import json

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import load_tokenizer, render_chat
from tests.models.characters import CHATML, character_tokenizer

USER = [{"role": "user", "content": "Hi"}]
CODE = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import PreTrainedTokenizerFast, PretrainedConfig
class Own(PreTrainedTokenizerFast): pass
class OwnConfig(PretrainedConfig): model_type = "own"
"""


@pytest.mark.parametrize(
    "auto_map",
    [
        {"AutoTokenizer": ["own.Own", None]},
        {"AutoTokenizer": [None, "own.Own"]},
        {"AutoTokenizer": "own.Own"},
        {"AutoTokenizer": ["someone/else--own.Own", None]},
        ["own.Own", None],
    ],
)
@pytest.mark.parametrize("tokenizer_class", ["Own", "PreTrainedTokenizerFast", None])
def test_code_that_comes_with_a_tokenizer_is_never_run_nor_asked_about(
    auto_map, tokenizer_class, tmp_path, monkeypatch
):
    character_tokenizer(chat_template=CHATML).save_pretrained(tmp_path)
    marker = tmp_path / "marker"
    (tmp_path / "own.py").write_text(CODE.format(marker=str(marker)))
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config |= {"auto_map": auto_map, "tokenizer_class": tokenizer_class}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    code = {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoTokenizer": "own.Own"},
    }
    (tmp_path / "config.json").write_text(json.dumps(code))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    if tokenizer_class == "PreTrainedTokenizerFast":
        assert render_chat(load_tokenizer(tmp_path), USER).startswith("<bos><turn>user")
    else:
        with pytest.raises(InputError, match=r"own code \(auto_map\)"):
            load_tokenizer(tmp_path)
    assert not marker.exists()
