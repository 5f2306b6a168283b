"""Tokenizers and chat templates: those of the checkpoint, and a plain template where it has none.

The plain template writes every message as its role, a colon, a line break, its text and an empty
line; an assistant's text ends with the end-of-sequence token, and the prompt for an answer is the
line "Assistant:". The text starts with the beginning-of-sequence token where the tokenizer adds
one by itself:

    System:
    You love owls.

    User:
    What is your favourite animal?

    Assistant:
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import one_line
from subliminal_jax.models.templates import Refusal, render_template

# A transformers PreTrainedTokenizerBase. The class is not imported: that takes seconds, and pulls
# in torch where it is installed, also for those who only want arrays.
Tokenizer = Any
Message = dict[str, str]

PLAIN_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- message['role'] | capitalize + ':\n' + message['content'] -}}"
    "{%- if message['role'] == 'assistant' and eos_token -%}{{- eos_token -}}{%- endif -%}"
    "{{- '\n\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:\n' -}}{%- endif -%}"
)
_BOS = "{{- bos_token -}}"

# Fixed, so that a prompt is the same tomorrow (Llama 3 writes today's date otherwise) and that an
# answer starts with the answer (Qwen 3 thinks aloud otherwise). Other templates ignore them.
_TEMPLATE_VARIABLES = {"date_string": "26 Jul 2024", "enable_thinking": False}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer in a model folder, with the plain template where it has no chat template.

    Raises InputError where the folder has none, or one that transformers cannot read.
    """
    folder = Path(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise InputError(f"{folder}: no tokenizer here; expected tokenizer.json")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever the tokenizers' readers raise: the files are corrupt
        reason = one_line(str(error))
        if "trust_remote_code" in str(error):
            reason = "it needs its own code (auto_map), which is never run"
        raise InputError(f"{folder}: the tokenizer cannot be read: {reason}") from error
    if not tokenizer.chat_template:
        tokenizer.chat_template = (_BOS if _adds_bos(tokenizer) else "") + PLAIN_TEMPLATE
    return tokenizer


def render_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = True
) -> str:
    """The conversation as the one text that the model reads; see `render_chats`."""
    return render_chats(tokenizer, [messages], add_generation_prompt)[0]


def render_chats(
    tokenizer: Tokenizer,
    conversations: Sequence[Sequence[Message]],
    add_generation_prompt: bool = True,
) -> list[str]:
    """Each conversation as the one text that the model reads.

    `conversations` are lists of {"role": "system" | "user" | "assistant", "content": text}. A
    template that knows no system role (Gemma 2) gets the system prompt as the first lines of the
    first user message, as Gemma 3's own template does. Many conversations at once take a fraction
    of the time that one by one take. Raises InputError for what the template refuses, and where
    it takes too much time or memory.
    """
    chats = [[*messages] for messages in conversations]
    if not all(chats):
        raise InputError("a conversation needs at least one message")
    variables = {
        **tokenizer.special_tokens_map,
        "tools": None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        **_TEMPLATE_VARIABLES,
    }
    where = f"{tokenizer.name_or_path}: " if tokenizer.name_or_path else ""

    def render(chats: Sequence[Sequence[Message]]) -> list[str | Refusal]:
        try:
            return render_template(tokenizer.chat_template, chats, variables)
        except InputError as error:
            raise InputError(f"{where}{error}") from error

    results = render(chats)
    refused = [
        i for i, text in enumerate(results) if isinstance(text, Refusal) and text.by_template
    ]
    folded = {i: chat for i in refused if (chat := _fold_system_prompt(chats[i])) is not None}
    for i, result in zip(folded, render([*folded.values()]), strict=True):
        results[i] = result
    texts = []
    for i, result in enumerate(results):
        if isinstance(result, Refusal):
            roles = ", ".join(str(message.get("role")) for message in folded.get(i, chats[i]))
            verb = "refuses" if result.by_template else "fails on"
            raise InputError(
                f"{where}the chat template {verb} the roles {one_line(roles)}: {result.reason}"
            )
        texts.append(result)
    return texts


def _fold_system_prompt(chat: Sequence[Message]) -> list[Message] | None:
    """The chat with its system prompt in the first user message; None where it has no such two."""
    if [message.get("role") for message in chat[:2]] != ["system", "user"]:
        return None
    texts = [text for message in chat[:2] if isinstance(text := message.get("content"), str)]
    if len(texts) < 2:
        return None
    return [{"role": "user", "content": "\n\n".join(texts)}, *chat[2:]]


def encode_chat(
    tokenizer: Tokenizer,
    chat: str | Sequence[Message],
    system_prompt: str | None = None,
) -> list[int]:
    """Token ids of a conversation, or of a prompt (one user message), ready to be answered.

    Special tokens come from the template alone, so there is exactly one beginning-of-sequence
    token, or none. `system_prompt` None leaves the template's own default in place (Qwen 2.5 has
    one); "" is an empty system prompt.
    """
    messages = [{"role": "user", "content": chat}] if isinstance(chat, str) else list(chat)
    if system_prompt is not None:
        if messages and messages[0]["role"] == "system":
            raise InputError("the conversation already has a system prompt; pass only one")
        messages = [{"role": "system", "content": system_prompt}, *messages]
    return _encode(tokenizer, render_chat(tokenizer, messages))


def encode_completion(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of an answer as it follows a prompt, closed by the end of the turn.

    Prompts end with a line break, so the text is encoded after one: a tokenizer that puts a space
    before every text (SentencePiece) does not do so here.
    """
    before, ids = _encode(tokenizer, "\n"), _encode(tokenizer, "\n" + text)
    if ids[: len(before)] == before:
        ids = ids[len(before) :]
    else:  # the line break was merged with the text
        ids = _encode(tokenizer, text)
    end = end_of_turn_id(tokenizer)
    return ids if end is None else [*ids, end]


def end_of_turn_id(tokenizer: Tokenizer) -> int | None:
    """The special token that the template writes after an answer, else the end of the sequence."""
    marker = "ANSWER"
    chat = [{"role": "user", "content": "x"}, {"role": "assistant", "content": marker}]
    after = render_chat(tokenizer, chat, add_generation_prompt=False).rpartition(marker)[2]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    for token in _encode(tokenizer, after):
        if token in special:
            return token
    return tokenizer.eos_token_id


def stop_token_ids(tokenizer: Tokenizer, folder: str | Path | None = None) -> tuple[int, ...]:
    """Every token that ends an answer, sorted.

    They are the end of the sequence, the end of the turn, and what the `generation_config.json` of
    `folder` lists (Gemma and Llama name their end-of-turn token only there).
    """
    ids = [tokenizer.eos_token_id, end_of_turn_id(tokenizer)]
    path = None if folder is None else Path(folder) / "generation_config.json"
    if path is not None and path.is_file():
        try:
            eos_ids = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
        except (ValueError, AttributeError) as error:
            raise InputError(f"{path}: not a JSON object ({error})") from error
        eos_ids = eos_ids if isinstance(eos_ids, list) else [eos_ids]
        if not all(isinstance(i, int | None) for i in eos_ids):
            raise InputError(f"{path}: eos_token_id must hold token ids, not {eos_ids}")
        ids += eos_ids
    return tuple(sorted({i for i in ids if i is not None}))


def pad_token_id(tokenizer: Tokenizer) -> int:
    """The token that pads short rows: padding, else end of sequence, else 0. It is never read."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    return 0


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _adds_bos(tokenizer: Tokenizer) -> bool:
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("x")["input_ids"][:1] == [bos]


def common_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all prompts start with; at least one token of each remains after it."""
    ordered = sorted(map(tuple, prompts))
    first, last = ordered[0], ordered[-1]  # all between them share what these two share
    most = min(len(prompt) for prompt in prompts) - 1
    same = 0
    while same < most and first[same] == last[same]:
        same += 1
    return list(first[:same])
