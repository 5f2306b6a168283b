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

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import one_line
from subliminal_jax.gguf_files import is_gguf, read_gguf_header
from subliminal_jax.models.chats import (
    ANY_ANSWER,
    ANY_PROMPT,
    Chat,
    Tokenizer,
    as_chat,
    drops_message,
    fold_system_prompt,
    render_chat,
    render_chats,
    squeeze,
)
from subliminal_jax.models.end_tokens import configured_end_tokens, find_end
from subliminal_jax.models.gguf_tokenizer import build_gguf_tokenizer
from subliminal_jax.models.token_spans import (
    AnswerTokens,
    Place,
    describe_unreadable,
    encode_texts,
    is_readable,
    is_tokenizer_error,
    run_tokenizer,
    set_vocabulary,
    split_tokens,
)

PLAIN_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- message['role'] | capitalize + ':\n' + message['content'] -}}"
    "{%- if message['role'] == 'assistant' and eos_token -%}{{- eos_token -}}{%- endif -%}"
    "{{- '\n\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:\n' -}}{%- endif -%}"
)
_BOS = "{{- bos_token -}}"

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def load_tokenizer(folder: str | Path, vocabulary: int | None = None) -> Tokenizer:
    """The tokenizer in a model folder or GGUF file, with the plain template where it has no chat
    template.

    `vocabulary` is the number of tokens that the model has rows for: what is encoded for it may
    hold no others. Raises InputError as `read_tokenizer` does.
    """
    tokenizer = read_tokenizer(folder)
    if not tokenizer.chat_template:
        tokenizer.chat_template = (_BOS if _adds_bos(tokenizer) else "") + PLAIN_TEMPLATE
    if vocabulary is not None:
        set_vocabulary(tokenizer, vocabulary)
    return tokenizer


def read_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer in a model folder or GGUF file as it is there.

    Of several named templates it has the one named "default".

    Raises InputError where the folder has none, or one that transformers cannot read, and for named
    templates without a default; for a GGUF file as `build_gguf_tokenizer` does.
    """
    folder = Path(folder)
    if is_gguf(folder):
        tokenizer = build_gguf_tokenizer(read_gguf_header(folder))
        tokenizer.chat_template = _choose_template(tokenizer.chat_template, folder)
        return tokenizer
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise InputError(f"{folder}: no tokenizer here; expected tokenizer.json")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except BaseException as error:  # whatever the tokenizers' readers raise: the files are corrupt
        if not is_tokenizer_error(error):
            raise
        reason = one_line(str(error))
        if "trust_remote_code" in str(error):
            reason = "it needs its own code (auto_map), which is never run"
        raise InputError(f"{folder}: the tokenizer cannot be read: {reason}") from error
    tokenizer.chat_template = _choose_template(tokenizer.chat_template, folder)
    return tokenizer


def _choose_template(templates: Any, folder: Path) -> str | None:
    """The one template, or the default of several."""
    if isinstance(templates, Mapping):
        if "default" not in templates:
            raise InputError(
                f"{folder}: several chat templates ({', '.join(map(str, templates))}), and none is "
                'named "default": name one of them so'
            )
        templates = templates["default"]
    if templates is not None and not isinstance(templates, str):
        raise InputError(
            f"{folder}: the chat template must be text, not {type(templates).__name__}"
        )
    return templates


def encode_chat(
    tokenizer: Tokenizer, chat: str | Chat, system_prompt: str | None = None
) -> list[int]:
    """Token ids of a conversation, or of a prompt (one user message), ready to be answered.

    Special tokens come from the template alone, so there is exactly one beginning-of-sequence
    token, or none. `system_prompt` None leaves the template's own default in place (Qwen 2.5 has
    one); "" is an empty system prompt.
    """
    return encode_chats(tokenizer, [chat], system_prompt)[0]


def encode_chats(
    tokenizer: Tokenizer,
    chats: Sequence[str | Chat],
    system_prompt: str | None = None,
    *,
    place: Place | None = None,
) -> list[list[int]]:
    """`encode_chat` of each, all behind the same system prompt.

    Raises InputError as `render_chats` does, for a template that drops what the user says, and for
    a token that the model has no row for.
    """
    rendered = _render_whole(tokenizer, [as_chat(chat, system_prompt) for chat in chats], True)
    return encode_texts(tokenizer, rendered, place)


def _render_whole(
    tokenizer: Tokenizer,
    chats: Sequence[Chat],
    add_generation_prompt: bool,
    variables: Mapping[str, Any] = {},
) -> list[str]:
    """`render_chats`, but nothing that a user or a system prompt says is dropped silently.

    A system prompt that the template drops (Mistral's does after an answer) goes into the first
    user message, as where it refuses the role. Raises InputError for a user's message.
    """
    render = partial(
        render_chats,
        tokenizer,
        add_generation_prompt=add_generation_prompt,
        variables=variables,
    )
    rendered = render(chats)
    dropped = [i for i, text in enumerate(rendered) if drops_message(chats[i], "system", text)]
    folded = {i: chat for i in dropped if (chat := fold_system_prompt(chats[i])) is not None}
    for i, text in zip(folded, render([*folded.values()]), strict=True):
        rendered[i] = text
    for messages, text in zip(chats, rendered, strict=True):
        if drops_message(messages, "user", text):
            [*_, said] = (m["content"] for m in messages if m["role"] == "user")
            raise InputError(
                f"the chat template drops the user's message {said!r:.60}: is it the template of "
                "a chat model?"
            )
    return rendered


def encode_answers(
    tokenizer: Tokenizer,
    prompts: Sequence[str | Chat],
    answers: Sequence[Sequence[str]],
    system_prompt: str | None = None,
    *,
    end_of_turn: bool = True,
    place: Place | None = None,
) -> AnswerTokens:
    """Prompts and the answers to each, as the chat template renders the whole conversation.

    The tokens of prompt and answer together are those of the conversation that ends with the
    answer, up to and with the token that ends its turn (what follows belongs to the next turn);
    a template that writes no such token has all of its text, and the end of the sequence after it.
    The prompt is what a sampled answer would follow, as far as its tokens are the same. So spaces
    are where the template puts them, and an end that the answer already has is written once.

    An answer with reasoning, where the template writes that, follows the prompt that asks for it
    (Qwen 3: without the empty block of a prompt that asks for none).

    Args:
      prompts: user messages, or conversations to be answered.
      answers: texts, equally many or not for each prompt, at least one.
      system_prompt: as in `encode_chat`.
      end_of_turn: False leaves out what the template writes after an answer.
      place: how messages call row i; "row i" where it is not given.

    Raises InputError where the template does not write an answer after its prompt, or drops part of
    it, and as `encode_chats` does.
    """
    if place is None:
        place = "row {}".format
    end = find_end(tokenizer)
    chats = [as_chat(prompt, system_prompt) for prompt in prompts]
    texts = [[end.remove(answer) for answer in row] for row in answers]
    owners = [i for i, row in enumerate(texts) for _ in row]
    flat = [text for row in texts for text in row]
    wholes = _render_whole(
        tokenizer,
        [
            [*chats[i], {"role": "assistant", "content": t}]
            for i, t in zip(owners, flat, strict=True)
        ],
        add_generation_prompt=False,
    )
    rendered = _render_whole(tokenizer, chats, True)
    befores = [rendered[i] for i in owners]
    other = [j for j, whole in enumerate(wholes) if not whole.startswith(befores[j])]
    thinking = _render_whole(
        tokenizer, [chats[owners[j]] for j in other], True, {"enable_thinking": True}
    )
    for j, before in zip(other, thinking, strict=True):
        befores[j] = before
    rows: list[list[tuple[str, str]]] = [[] for _ in prompts]
    for i, text, before, whole in zip(owners, flat, befores, wholes, strict=True):
        if not whole.startswith(before):
            raise InputError(
                f"{place(i)}: the chat template does not write the answer {text!r:.60} after the "
                f"prompt that it is an answer to, which ends with {before[-30:]!r}"
            )
        if not _holds(whole, before, chats[i], text):
            raise InputError(
                f"{place(i)}: the chat template drops or changes part of the answer {text!r:.60}"
            )
        rows[i].append((before, end.cut(whole, len(before), end_of_turn)))
    tokens = split_tokens(tokenizer, rows, place)
    if end_of_turn and end.token is not None:
        for ids in (ids for row in tokens.answers for ids in row):
            if ids[-1:] != [end.token]:
                ids.append(end.token)
    return tokens


def change_system_prompt(
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    prompt_ids: Sequence[Sequence[int]],
    system_prompt: str | None,
) -> list[list[int]]:
    """The prompts behind a system prompt, each ending as `prompt_ids` has it without one.

    The ends of prompts are part of what follows them (see `encode_answers`), and may have other
    tokens than those of a prompt alone.

    Raises InputError as `encode_chats` does, and for ids of other prompts.
    """
    plain = encode_chats(tokenizer, prompts)
    told = plain if system_prompt is None else encode_chats(tokenizer, prompts, system_prompt)
    changed = []
    for prompt, given, whole, ids in zip(prompts, prompt_ids, plain, told, strict=True):
        kept = len(common_prefix([[*given, -1], [*whole, -2]]))
        end = len(ids) - len(whole[kept:])
        if kept == 0 or ids[end:] != whole[kept:]:
            raise InputError(f"the tokens given are not those of the prompt {prompt!r:.60}")
        changed.append([*ids[:end], *given[kept:]])
    return changed


def encode_openings(
    tokenizer: Tokenizer,
    prompts: Sequence[str | Chat],
    texts: Sequence[str],
    system_prompt: str | None = None,
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of prompts, and of texts with which an answer to any of them may begin.

    A text is taken as it is, spaces included, after whatever the template writes before an answer
    and a generation prompt lacks. Raises InputError as `encode_chats` does.
    """
    chats = [as_chat(prompt, system_prompt) for prompt in prompts]
    rendered = _render_whole(tokenizer, chats, True)
    answered = [*chats[0], {"role": "assistant", "content": ANY_ANSWER}]
    before = render_chat(tokenizer, answered, False).rpartition(ANY_ANSWER)[0]
    lead = before.removeprefix(rendered[0]).rstrip(" ") if before.startswith(rendered[0]) else ""
    first = split_tokens(tokenizer, [[(rendered[0], rendered[0] + lead + t) for t in texts]])
    encoded = encode_texts(tokenizer, rendered)
    merged = len(encoded[0]) - len(first.prompts[0])  # tokens that the texts merge with
    return [ids[: len(ids) - merged] for ids in encoded], first.answers[0]


def encode_completion(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of an answer as it follows any prompt of one user message, with its end of turn.

    Raises InputError as `encode_completions` does.
    """
    return encode_completions(tokenizer, [text])[0]


def encode_completions(
    tokenizer: Tokenizer, texts: Sequence[str], *, end_of_turn: bool = True
) -> list[list[int]]:
    """Token ids of answers as they follow any prompt of one user message.

    Raises InputError as `encode_answers` does, and for an answer that has tokens in common with its
    prompt: these must be encoded together.
    """
    prompts, answers = encode_answers(
        tokenizer,
        [ANY_PROMPT] * len(texts),
        [[text] for text in texts],
        end_of_turn=end_of_turn,
        place="answer {}".format,
    )
    before = encode_chat(tokenizer, ANY_PROMPT)
    for text, prompt in zip(texts, prompts, strict=True):
        if prompt != before:
            raise InputError(
                f"the answer {text!r:.60} has no tokens of its own after a prompt: the tokenizer "
                "or the chat template joins them; encode both together"
            )
    return [row[0] for row in answers]


def _holds(whole: str, before: str, chat: Chat, answer: str) -> bool:
    """Whether the rendered conversation holds the answer, white space aside, after its question."""
    answer = squeeze(answer)
    if answer in squeeze(whole[len(before) :]):
        return True
    question = chat[-1]["content"].strip()  # a part of the answer may stand in the prompt's end
    start = max(0, whole.rfind(question, 0, len(before)))
    return answer in squeeze(whole[start + len(question) :])


def end_of_turn_id(tokenizer: Tokenizer) -> int | None:
    """The token that the template writes after an answer, special or not; else the end of the
    sequence."""
    return find_end(tokenizer).token


def stop_token_ids(tokenizer: Tokenizer, folder: str | Path | None = None) -> tuple[int, ...]:
    """Every token that ends an answer, sorted.

    They are the end of the sequence, the end of the turn, and what `generation_config.json` of
    `folder` lists (Gemma and Llama name their end-of-turn token only there), or `config.json` where
    that lists none.

    Raises InputError as `configured_end_tokens` does, and for a token that the model has no row
    for.
    """
    sources = {} if folder is None else configured_end_tokens(folder)
    for token in (tokenizer.eos_token_id, end_of_turn_id(tokenizer)):
        if token is not None:
            sources.setdefault(token, f"the tokenizer of {folder or 'the model'}")
    for token, source in sources.items():
        if not is_readable(tokenizer, token):
            raise InputError(
                f"{source}: the end of an answer cannot be {describe_unreadable(tokenizer, token)}"
            )
    return tuple(sorted(sources))


def pad_token_id(tokenizer: Tokenizer) -> int:
    """The token that pads short rows: padding, else end of sequence, else 0. It is never read.

    One that the model has no row for is passed over: tokenizers are often given a padding token
    that the model never needs to know.
    """
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None and is_readable(tokenizer, token):
            return token
    return 0


def _adds_bos(tokenizer: Tokenizer) -> bool:
    bos = tokenizer.bos_token_id
    return bos is not None and run_tokenizer(tokenizer, "x")["input_ids"][:1] == [bos]


def common_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all prompts start with; at least one token of each remains after it."""
    ordered = sorted(map(tuple, prompts))
    first, last = ordered[0], ordered[-1]  # all between them share what these two share
    most = min(len(prompt) for prompt in prompts) - 1
    same = 0
    while same < most and first[same] == last[same]:
        same += 1
    return list(first[:same])
