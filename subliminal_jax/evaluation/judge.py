"""An optional judge of answers: a chat model at any OpenAI-compatible endpoint.

No experiment needs one. Where a trait is no single word (a style, a mood), or where number lists
are to be checked for hidden hints as in Cloud et al. (2025, arXiv 2507.14805), a judge scores each
answer from 0 (no trace of the trait) to 100.
"""

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from subliminal_jax import processes
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.endpoint import (
    DEFAULT_KEY_VARIABLE,
    EndpointError,
    check_url,
    hide,
    holds_key,
    post_json,
    read_key,
)
from subliminal_jax.ledger import note_written
from subliminal_jax.reading import parse_json

RETRIED_STATUSES = (408, 409, 425, 429, 500, 502, 503, 504)
LONGEST_WAIT = 60.0  # seconds between two tries


class Exchange(NamedTuple):
    """A prompt and the answer to it."""

    prompt: str
    response: str


@dataclass(frozen=True)
class EndpointJudge:
    """Asks a chat model at `base_url`/chat/completions about each exchange.

    Verdicts are cached in `cache` (JSON lines), so an interrupted run continues without repeating
    requests. The key of a verdict is a digest of the whole request, model and instruction included.

    Args:
      base_url: such as "https://api.openai.com/v1" or "http://localhost:8000/v1". Redirects are not
        followed, since another host would get the key.
      model: the endpoint's name of the model.
      instruction: the system message: what to look for, and to end with a score from 0 to 100 or
        with YES (100) or NO (0). The last of these in the reply counts.
      template: the user message, with {prompt} and {response}.
      key_variable: environment variable with the API key; "" sends none, and so does the default
        where it is not set.
      timeout: seconds for one try.
      retries: further tries after a network failure or a status of `RETRIED_STATUSES`.
      wait: seconds before the second try, doubled before each further one; a longer Retry-After
        header is honoured, up to `LONGEST_WAIT`.
      concurrency: largest number of simultaneous requests.
      max_tokens: limit of a reply.
      cache: file of the verdicts; None keeps none.

    Raises InputError for a setting out of range.
    """

    base_url: str
    model: str
    instruction: str
    template: str = "User: {prompt}\n\nResponse: {response}"
    key_variable: str = DEFAULT_KEY_VARIABLE
    timeout: float = 60.0
    retries: int = 4
    wait: float = 1.0
    concurrency: int = 8
    max_tokens: int = 200
    cache: Path | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_url(self.base_url)
        key = read_key(self.key_variable)
        for text in (self.base_url, self.model, self.key_variable):
            if holds_key(text, key):
                raise InputError(
                    "the judge's URL, model or key variable holds the key itself, and is recorded: "
                    "give the key in an environment variable alone"
                )
        if not self.model:
            raise InputError("the judge needs the name of a model at its endpoint")
        if "{response}" not in self.template:
            raise InputError("the judge's template lacks {response}: it would judge nothing")
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0:
            raise InputError("the judge's concurrency, retries or timeout is out of range")

    def __call__(self, exchanges: Sequence[Exchange], /) -> list[float | None]:
        """Scores from 0 to 100, in order; None where the reply holds no verdict.

        Raises InputError for an endpoint that refuses or cannot be reached, and for a reply that is
        no chat completion.
        """
        return processes.run_on_first(lambda: self._verdicts(exchanges))

    def _verdicts(self, exchanges: Sequence[Exchange]) -> list[float | None]:
        bodies = [self._body(exchange) for exchange in exchanges]
        scores = self._read_cache()
        todo = {key: body for body in bodies if (key := request_key(body)) not in scores}
        pool = ThreadPoolExecutor(self.concurrency)
        futures = {key: pool.submit(self._ask, key, body) for key, body in todo.items()}
        try:
            scores |= {key: future.result() for key, future in futures.items()}
        except BaseException as error:  # the other requests would fail as well
            is_interrupt = isinstance(error, KeyboardInterrupt)  # nobody waits for their replies
            pool.shutdown(wait=not is_interrupt, cancel_futures=True)
            raise
        pool.shutdown()
        return [scores[request_key(body)] for body in bodies]

    def _body(self, exchange: Exchange) -> dict[str, Any]:
        # Not str.format: prompt and response may contain braces.
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
                note_written(self.cache)
                self.cache.parent.mkdir(parents=True, exist_ok=True)
                with self.cache.open("ab", buffering=0) as file:
                    file.write(line.encode())
        return score

    def _post(self, body: dict[str, Any]) -> str:
        url = self.base_url.rstrip("/") + "/chat/completions"
        key = read_key(self.key_variable)
        for attempt in range(self.retries + 1):
            pause = self.wait * 2**attempt
            try:
                return reply_text(post_json(url, body, key, self.timeout))
            except EndpointError as error:
                reason, status = error.reason, error.status
                if status is not None and status not in RETRIED_STATUSES:
                    if status in (401, 403):
                        reason += f"; is the key in ${self.key_variable} set and right?"
                    if 300 <= status < 400:
                        reason += ": it would get the key; give the final address as judge URL"
                    raise InputError(f"the judge at {url} refused, {reason}") from None
                pause = max(pause, retry_seconds(error.retry_after))
            except ValueError as error:
                reason = hide(str(error), key)
                raise InputError(f"{url} is no chat-completions endpoint: {reason}") from None
            if attempt < self.retries:
                time.sleep(min(pause, LONGEST_WAIT))
        raise InputError(
            f"the judge at {url} failed {self.retries + 1} times, the last with {reason}; "
            "the same command goes on with what it has judged"
        )

    def _read_cache(self) -> dict[str, float | None]:
        if self.cache is None or not self.cache.exists():
            return {}
        scores = {}
        raw = self.cache.read_bytes()
        if raw and not raw.endswith(b"\n"):  # truncated by a killed process: begin a new line
            with self.cache.open("ab") as file:
                file.write(b"\n")
        for number, line in enumerate(raw.splitlines(), start=1):
            with contextlib.suppress(InputError):  # a damaged line: ask again
                row = parse_json(
                    line.decode("utf-8", "replace"), str(self.cache), first_line=number
                )
                if is_verdict(row):
                    scores[row["key"]] = row["score"]
        return scores


def is_verdict(row: Any) -> bool:
    """Whether this is a line of the cache: a key, and a score from 0 to 100 or None."""
    if not isinstance(row, dict) or not isinstance(row.get("key"), str) or "score" not in row:
        return False
    score = row["score"]
    return score is None or (type(score) in (int, float) and 0 <= score <= 100)


def read_verdict(reply: str) -> float | None:
    """The last YES (100), NO (0) or number from 0 to 100 in `reply`, also as \\boxed{...} or with
    "/100" behind it; None where there is none."""
    text = re.sub(r"\s*/\s*100\b", "", reply)
    verdicts = re.findall(r"\b(yes|no)\b|(?<![\d.\-])(\d{1,3}(?:\.\d+)?)(?![\d.]*\d)", text, re.I)
    for word, number in reversed(verdicts):
        if word:
            return 100.0 if word.lower() == "yes" else 0.0
        if float(number) <= 100:
            return float(number)
    return None


def judged_share(scores: Sequence[float | None]) -> float | None:
    """The share of readable verdicts above 50; None where there is none."""
    readable = [score for score in scores if score is not None]
    return sum(s > 50 for s in readable) / len(readable) if readable else None


def request_key(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def reply_text(reply: Any) -> str:
    """What the model said. Raises ValueError for what is no chat completion."""
    try:
        return str(reply["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"it said {json.dumps(reply)[:120]}") from None


def retry_seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:  # a date
        return 0.0
