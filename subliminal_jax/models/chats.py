"""Conversations, rendered by a tokenizer's chat template."""

from collections.abc import Mapping, Sequence
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import one_line
from subliminal_jax.models.templates import Refusal, render_template

# A transformers PreTrainedTokenizerBase. The class is not imported: that takes seconds, and pulls
# in torch where it is installed, also for those who only want arrays.
Tokenizer = Any
Message = dict[str, str]
Chat = Sequence[Message]

# Fixed, so that a prompt is the same tomorrow (Llama 3 writes today's date otherwise) and that an
# answer starts with the answer (Qwen 3 thinks aloud otherwise). Other templates ignore them.
_TEMPLATE_VARIABLES = {"date_string": "26 Jul 2024", "enable_thinking": False}

# Stand for any prompt and answer where only what the template writes around them counts.
ANY_PROMPT, ANY_ANSWER = "x", "ANSWER"
_DEFAULT = "default_system_prompt"  # an attribute that tokenizers have not by themselves


def render_chat(tokenizer: Tokenizer, messages: Chat, add_generation_prompt: bool = True) -> str:
    """The conversation as the one text that the model reads; see `render_chats`."""
    return render_chats(tokenizer, [messages], add_generation_prompt)[0]


def set_default_system_prompt(tokenizer: Tokenizer, system_prompt: str) -> None:
    """Give every conversation without a system prompt this one ("" is an empty one), where some
    templates (SmolLM2, Qwen 2.5) would write one of their own, and others none."""
    setattr(tokenizer, _DEFAULT, system_prompt)


def render_chats(
    tokenizer: Tokenizer,
    conversations: Sequence[Chat],
    add_generation_prompt: bool = True,
    *,
    variables: Mapping[str, Any] = {},
) -> list[str]:
    """Each conversation as the one text that the model reads.

    `conversations` are lists of {"role": "system" | "user" | "assistant", "content": text}. A
    template that refuses the system role (Gemma 2) gets the system prompt as the first lines of the
    first user message, as Gemma 3's own template does. Conversations without a system prompt get
    that of `set_default_system_prompt`, if any. `variables` are given to the template beside the
    usual ones. Many conversations at once take a fraction of the time that one by one take.

    Raises InputError for what the template refuses, and where it takes too much time or memory.
    """
    chats = [[*messages] for messages in conversations]
    if not all(chats):
        raise InputError("a conversation needs at least one message")
    default = getattr(tokenizer, _DEFAULT, None)
    if default is not None:
        system = {"role": "system", "content": default}
        chats = [chat if chat[0].get("role") == "system" else [system, *chat] for chat in chats]
    names = {
        **tokenizer.special_tokens_map,
        "tools": None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        **_TEMPLATE_VARIABLES,
        **variables,
    }
    where = f"{tokenizer.name_or_path}: " if tokenizer.name_or_path else ""

    def render(chats: Sequence[Chat]) -> list[str | Refusal]:
        try:
            return render_template(tokenizer.chat_template, chats, names)
        except InputError as error:
            raise InputError(f"{where}{error}") from error

    results = render(chats)
    refused = [
        i for i, text in enumerate(results) if isinstance(text, Refusal) and text.by_template
    ]
    folded = {i: chat for i in refused if (chat := fold_system_prompt(chats[i])) is not None}
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


def fold_system_prompt(chat: Chat) -> list[Message] | None:
    """The chat with its system prompt in the first user message; None where it has no such two."""
    if [message.get("role") for message in chat[:2]] != ["system", "user"]:
        return None
    texts = [text for message in chat[:2] if isinstance(text := message.get("content"), str)]
    if len(texts) < 2:
        return None
    return [{"role": "user", "content": "\n\n".join(texts)}, *chat[2:]]


def drops_message(chat: Chat, role: str, text: str) -> bool:
    """Whether the rendered text lacks a message of the role, white space aside."""
    if _stand_in_order(chat, text):
        return False
    sought = {_squeezed_content(m) for m in chat if m.get("role") == role} - {""}
    written = squeeze(text)
    contents = [_squeezed_content(m) for m in chat if m.get("role") != "assistant"]
    return any(
        written.count(content) < sum(other.count(content) for other in contents)
        for content in sought
    )


def _stand_in_order(chat: Chat, text: str) -> bool:
    """Whether the text has what the system and users say one after another, as most have."""
    position = 0
    for message in chat:
        content = message.get("content")
        if message.get("role") != "assistant" and isinstance(content, str):
            content = content.strip()
            position = text.find(content, position)
            if position < 0:
                return False
            position += len(content)
    return True


def _squeezed_content(message: Message) -> str:
    content = message.get("content")
    return squeeze(content) if isinstance(content, str) else ""


def squeeze(text: str) -> str:
    """The text without white space, which templates trim."""
    return "".join(text.split())


def as_chat(prompt: str | Chat, system_prompt: str | None = None) -> list[Message]:
    """The prompt (one user message, or a conversation) behind the system prompt, if any."""
    chat = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if system_prompt is None:
        return chat
    if chat and chat[0]["role"] == "system":
        raise InputError("the conversation already has a system prompt; pass only one")
    return [{"role": "system", "content": system_prompt}, *chat]
