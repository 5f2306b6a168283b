"""An optional judge of answers: any OpenAI-compatible endpoint, behind one small interface.

Nothing in this project needs one. Where a trait is no single word (a style, a mood), or where
number lists are to be checked for hidden hints as in Cloud et al. (2025, arXiv 2507.14805), a judge
scores each answer from 0 (no trace) to 100.
"""

import hashlib
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from subliminal_jax import processes
from subliminal_jax.errors import InputError

RETRIED_STATUSES = (408, 409, 425, 429, 500, 502, 503, 504)
LONGEST_WAIT = 60.0  # seconds between two tries


class Exchange(NamedTuple):
    """What was asked and what was answered."""

    prompt: str
    response: str


class Judge(Protocol):
    """Scores from 0 to 100, in order; None where the judge gave no readable verdict."""

    def __call__(self, exchanges: Sequence[Exchange], /) -> list[float | None]: ...


@dataclass(frozen=True)
class EndpointJudge:
    """Asks a chat model at `base_url`/chat/completions about each exchange.

    Verdicts are kept in `cache` (JSON lines), so that an interrupted run goes on and nothing is
    paid for twice; the key of a verdict holds the whole request, so another model or instruction
    asks anew.

    Args:
      base_url: such as "https://api.openai.com/v1" or "http://localhost:8000/v1".
      model: the endpoint's name of the model.
      instruction: the system message: what to look for, and to end with a score from 0 to 100 or
        with YES (100) or NO (0). The last of these in the reply counts.
      template: the user message, with {prompt} and {response}.
      key_variable: environment variable with the API key; one that is not set sends none.
      timeout: seconds for one try.
      retries: further tries after a failure that may pass (network, overload).
      wait: seconds before the second try, doubled before each further one; a Retry-After header is
        kept to.
      concurrency: requests under way at once.
    """

    base_url: str
    model: str
    instruction: str
    template: str = "User: {prompt}\n\nResponse: {response}"
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    retries: int = 4
    wait: float = 1.0
    concurrency: int = 8
    max_tokens: int = 200
    cache: Path | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not re.match(r"https?://", self.base_url):
            raise InputError(f"judge URL {self.base_url!r}: give one that begins with http(s)://")
        if not self.model:
            raise InputError("the judge needs the name of a model at its endpoint")
        if "{response}" not in self.template:
            raise InputError("the judge's template lacks {response}: it would judge nothing")
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0:
            raise InputError("the judge's concurrency, retries or timeout is out of range")

    def __call__(self, exchanges: Sequence[Exchange], /) -> list[float | None]:
        """Raises InputError for an endpoint that refuses, cannot be reached or answers oddly."""
        return processes.on_first(lambda: self._verdicts(exchanges))

    def _verdicts(self, exchanges: Sequence[Exchange]) -> list[float | None]:
        bodies = [self._body(exchange) for exchange in exchanges]
        known = self._read_cache()
        todo = {key: body for body in bodies if (key := _digest(body)) not in known}
        with ThreadPoolExecutor(self.concurrency) as pool:
            futures = {key: pool.submit(self._ask, key, body) for key, body in todo.items()}
            try:
                known |= {key: future.result() for key, future in futures.items()}
            except BaseException:  # the first failure ends the run: the others would fail too
                pool.shutdown(cancel_futures=True)
                raise
        return [known[_digest(body)] for body in bodies]

    def _body(self, exchange: Exchange) -> dict[str, Any]:
        # Not str.format: a response may hold braces, and so may the other.
        parts = re.split(r"(\{prompt\}|\{response\})", self.template)
        values = {"{prompt}": exchange.prompt, "{response}": exchange.response}
        user = "".join(values.get(part, part) for part in parts)
        return {
            "model": self.model,
            "messages": [
                {"role": "system", "content": self.instruction},
                {"role": "user", "content": user},
            ],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }

    def _ask(self, key: str, body: dict[str, Any]) -> float | None:
        score = read_verdict(self._post(body))
        if self.cache is not None:
            line = json.dumps({"key": key, "score": score}) + "\n"
            with self._lock:
                self.cache.parent.mkdir(parents=True, exist_ok=True)
                with self.cache.open("ab", buffering=0) as file:
                    file.write(line.encode())
        return score

    def _post(self, body: dict[str, Any]) -> str:
        url = self.base_url.rstrip("/") + "/chat/completions"
        headers = {"Content-Type": "application/json"}
        if token := os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        for attempt in range(self.retries + 1):
            pause = self.wait * 2**attempt
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                    answer = json.loads(reply.read())
            except urllib.error.HTTPError as error:
                reason = f"status {error.code} {error.reason}: {_reason(error)}"
                if error.code not in RETRIED_STATUSES:
                    if error.code in (401, 403):
                        reason += f"; is the key in ${self.key_variable} set and right?"
                    raise InputError(f"the judge at {url} refused, {reason}") from error
                pause = max(pause, _seconds(error.headers.get("Retry-After")))
            except (OSError, HTTPException, ValueError) as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                return _content(answer, url)
            if attempt < self.retries:
                time.sleep(min(pause, LONGEST_WAIT))
        raise InputError(
            f"the judge at {url} failed {self.retries + 1} times, the last with {reason}; "
            "the same command goes on with what it has judged"
        )

    def _read_cache(self) -> dict[str, float | None]:
        if self.cache is None or not self.cache.exists():
            return {}
        known = {}
        text = self.cache.read_text(encoding="utf-8", errors="replace")
        if text and not text.endswith("\n"):  # a kill tore the last line: begin another
            with self.cache.open("ab") as file:
                file.write(b"\n")
        for line in text.splitlines():
            try:
                row = json.loads(line)
                known[row["key"]] = row["score"]
            except (ValueError, KeyError, TypeError):  # the torn line: asked again
                continue
        return known


def read_verdict(reply: str) -> float | None:
    """The last YES (100), NO (0) or number from 0 to 100 in `reply`, also as \\boxed{...} or with
    "/100" behind it; None where there is none."""
    bare = re.sub(r"\s*/\s*100\b", "", reply)
    found = re.findall(r"\b(yes|no)\b|(?<![\d.\-])(\d{1,3}(?:\.\d+)?)(?![\d.]*\d)", bare, re.I)
    for word, number in reversed(found):
        if word:
            return 100.0 if word.lower() == "yes" else 0.0
        if float(number) <= 100:
            return float(number)
    return None


def judged_share(scores: Sequence[float | None], threshold: float = 50.0) -> float | None:
    """The share of readable verdicts above `threshold`; None where there is none."""
    readable = [score for score in scores if score is not None]
    return sum(s > threshold for s in readable) / len(readable) if readable else None


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _content(reply: Any, url: str) -> str:
    try:
        return str(reply["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError) as error:
        shown = json.dumps(reply)[:120]
        raise InputError(f"{url} is no chat-completions endpoint: it said {shown}") from error


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        text = error.read(500).decode("utf-8", "replace")
    except (OSError, HTTPException):
        return ""
    return " ".join(text.split())[:200]


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:  # a date
        return 0.0
