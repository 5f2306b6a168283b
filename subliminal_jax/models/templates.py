"""Chat templates are programs of strangers: they are rendered in a process with limits.

A template comes with a model's files and may loop for ever, fill the memory, or try to leave
Jinja's sandbox. One process a session (`template_worker.py`, some 0.1 s to start) renders them; the
operating system ends it when a template takes too much time or memory, and the next call starts
another. It opens no file. What it renders is what transformers' `apply_chat_template` does, but for
`strftime_now`, which always gives the same day.
"""

import atexit
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import one_line

WORKER = Path(__file__).with_name("template_worker.py")
LONGEST_TEMPLATE = 2**20  # characters; the longest of public models have some 30,000
_CHUNK = 256  # conversations sent at once
# What Python needs to start in unusual installations; nothing else of the environment is handed on.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_REASONING = ("reasoning_content", "thinking", "reasoning")  # names that transformers takes for one
_NO_PROCESS = "chat templates are rendered in a process of their own, and none can be started"


@dataclass(frozen=True)
class Limits:
    """What one call may take: a fixed allowance, and some more for what it is to render.

    Args:
      cpu_seconds: of processor time.
      cpu_seconds_each: more, for each conversation and each million characters of them.
      seconds: of waiting for a reply, where no processor time is used.
      memory: bytes of address space. macOS sets no such limit.
      characters: that are written.
      characters_each: more, for each conversation; and 16 times what the conversations hold.
    """

    cpu_seconds: float = 2.0
    cpu_seconds_each: float = 0.005
    seconds: float = 60.0
    memory: int = 2**30
    characters: int = 2**25
    characters_each: int = 10_000


@dataclass(frozen=True)
class Refusal:
    """Why a template did not render a conversation, in one line.

    `by_template`: an error of the template language (`raise_exception`, an undefined name, the
    sandbox), not one of Python's such as a TypeError.
    """

    reason: str
    by_template: bool


class TemplateRenderer:
    """Renders chat templates in a process of its own, which starts at the first call.

    Threads take turns. The process ends with this one, also when this one is killed.
    """

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._source: str | None = None  # of the template that the process had last
        self._is_busy = False  # with a request whose replies are not all read
        self._lines: deque[bytes] = deque()  # read, but not yet used

    def render(
        self,
        template: object,
        conversations: Sequence[Sequence[Any]],
        variables: Mapping[str, Any],
    ) -> list[str | Refusal]:
        """The text of each conversation, or why the template gives none.

        Args:
          template: the Jinja source.
          conversations: lists of messages; values of None are left out, as transformers does.
          variables: further names for the template, such as "bos_token".

        Raises InputError for a template that is no text, too long or does not compile; for one that
        takes more than the limits; for messages that are no JSON; and where no process can be
        started.
        """
        if not isinstance(template, str):
            raise InputError(f"a chat template must be text, not {type(template).__name__}")
        if len(template) > LONGEST_TEMPLATE:
            raise InputError(
                f"the chat template has {len(template):,} characters, more than "
                f"{LONGEST_TEMPLATE:,}: is it one?"
            )
        rendered: list[str | Refusal] = []
        seconds, characters = self.limits.cpu_seconds, self.limits.characters
        with self._lock:
            try:
                for start in range(0, len(conversations), _CHUNK):
                    chats = [_plain_chat(chat) for chat in conversations[start : start + _CHUNK]]
                    content = _write_json({"conversations": chats, "variables": {**variables}})
                    seconds += self.limits.cpu_seconds_each * (len(chats) + len(content) / 1e6)
                    characters += self.limits.characters_each * len(chats) + 16 * len(content)
                    limits = {"cpu_seconds": seconds, "characters": characters}
                    replies, taken = self._ask(template, {**limits}, content, len(chats))
                    rendered += replies
                    seconds -= taken["cpu_seconds"]
                    characters -= taken["characters"]
            finally:
                if self._is_busy:  # nobody will read what it still replies
                    self._stop()
        return rendered

    def close(self) -> None:
        """End the process; a later call starts another."""
        with self._lock:
            self._stop()

    def forget(self) -> None:
        """In a forked child: leave the process to the parent."""
        process, self._process = self._process, None
        self._lock = threading.Lock()  # a thread that was not forked may hold the old one
        self._is_busy = False
        if process is not None:
            process.returncode = 0  # it is no child of this process: there is nothing to wait for
            _close_pipes(process)

    def _ask(
        self, template: str, limits: dict[str, Any], content: str, count: int
    ) -> tuple[list[str | Refusal], dict[str, Any]]:
        """The texts of `count` conversations, and what they took."""
        process = self._running()
        if template != self._source:
            limits["source"] = self._source = template
        self._is_busy = True
        self._send(process, f"{json.dumps(limits)[:-1]},{content[1:]}")
        replies: list[str | Refusal] = []
        for _ in range(count):
            reply = self._receive(process, limits)
            if "broken" in reply:
                self._receive(process, limits)
                self._is_busy = False
                raise InputError(f"the chat template does not compile: {one_line(reply['broken'])}")
            if "text" in reply:
                replies.append(reply["text"])
            else:
                reason = one_line(reply["refused" if "refused" in reply else "error"])
                replies.append(Refusal(reason, by_template="refused" in reply))
        taken = self._receive(process, limits)
        self._is_busy = False
        return replies, taken

    def _running(self) -> "subprocess.Popen[bytes]":
        """The process, started where there is none (any more)."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        self._lines.clear()
        self._source = None
        try:
            process = self._process = subprocess.Popen(
                [sys.executable or "python3", "-I", "-S", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,  # a forked child would flush what is in a buffer
                env={"TZ": "UTC", **{n: os.environ[n] for n in _ENVIRONMENT if n in os.environ}},
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{_NO_PROCESS}: {one_line(str(error))}") from error
        self._is_busy = True
        specs = [importlib.util.find_spec(name) for name in ("jinja2", "markupsafe")]
        packages = [Path(spec.origin).resolve().parent for spec in specs if spec and spec.origin]
        paths = sorted({str(package.parent) for package in packages})
        settings = {"paths": paths, "memory": self.limits.memory, "seconds": self.limits.seconds}
        self._send(process, json.dumps(settings))
        try:
            reply = self._receive(process, {})
        except InputError as error:
            raise InputError(f"{_NO_PROCESS} ({error})") from error
        if "ready" not in reply:
            raise InputError(f"{_NO_PROCESS}: {one_line(str(reply.get('failed')))}")
        self._is_busy = False
        return process

    def _send(self, process: "subprocess.Popen[bytes]", line: str) -> None:
        assert process.stdin is not None
        data = memoryview(line.encode("utf-8", "surrogatepass") + b"\n")
        try:
            while data:
                data = data[process.stdin.write(data) :]
        except OSError:  # it has ended; `_receive` says why
            pass

    def _receive(
        self, process: "subprocess.Popen[bytes]", limits: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The next reply. Raises InputError where a limit ended the process, and says which."""
        line = self._read_line(process)
        reply = json.loads(line.decode("utf-8", "surrogatepass")) if line else {}
        if reply and "exceeded" not in reply:
            return reply
        status = process.wait()
        if reply.get("exceeded") == "memory":
            amount = f"{self.limits.memory // 2**20:,} MiB of memory"
        elif reply.get("exceeded") == "characters":
            amount = f"{limits['characters']:,} characters"
        elif status == -signal.SIGXCPU:
            amount = f"{limits['cpu_seconds']:.1f} s of processor time: does it end?"
        elif status == -signal.SIGALRM:
            amount = f"{self.limits.seconds:g} s"
        else:
            raise InputError(f"the process that renders chat templates ended with status {status}")
        raise InputError(f"the chat template takes more than {amount}")

    def _read_line(self, process: "subprocess.Popen[bytes]") -> bytes:
        """The next line, empty where the process ended before its end."""
        assert process.stdout is not None
        parts: list[bytes] = []
        while not self._lines:
            part = os.read(process.stdout.fileno(), 2**20)
            if not part:
                return b""
            parts.append(part)
            if part.endswith(b"\n"):  # the process flushes after every line
                self._lines.extend(b"".join(parts).splitlines())
        return self._lines.popleft()

    def _stop(self) -> None:
        process, self._process = self._process, None
        self._is_busy = False
        if process is not None:
            process.kill()
            process.wait()
            _close_pipes(process)


_RENDERER = TemplateRenderer()
atexit.register(_RENDERER.close)
os.register_at_fork(after_in_child=_RENDERER.forget)


def render_template(
    template: object,
    conversations: Sequence[Sequence[Any]],
    variables: Mapping[str, Any],
) -> list[str | Refusal]:
    """`TemplateRenderer.render` by the one renderer of this Python process."""
    return _RENDERER.render(template, conversations, variables)


def _close_pipes(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def _plain_chat(chat: Sequence[Any]) -> list[dict[str, Any]]:
    """The messages as transformers hands them to a template: without values of None, and with an
    answer's reasoning under each of its names."""
    messages = []
    for message in chat:
        if not isinstance(message, Mapping):
            kind = type(message).__name__
            raise InputError(f"a message must be an object with a role and a text, not a {kind}")
        plain = {key: value for key, value in message.items() if value is not None}
        names = [name for name in _REASONING if name in plain]
        if names:
            reasoning = plain[names[0]]
            plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
        messages.append(plain)
    return messages


def _write_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        reason = one_line(str(error))
        raise InputError(f"a conversation must hold texts or other JSON: {reason}") from error
