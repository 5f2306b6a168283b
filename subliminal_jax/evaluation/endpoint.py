"""Requests to an HTTP endpoint with a secret key, which only that endpoint gets to see.

No redirect is followed: urllib would hand the key on to whatever host the endpoint names. The key
comes from an environment variable, never from a URL or a flag, which a run records. What an
endpoint says is shown without what looks like the key.
"""

import base64
import json
import os
import re
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import one_line

DEFAULT_KEY_VARIABLE = "OPENAI_API_KEY"
LONGEST_REPLY = 2**24  # bytes
_SHORTEST_PIECE = 6  # characters of a secret that are hidden wherever they stand together


@dataclass
class EndpointError(Exception):
    """A request that got no JSON for an answer.

    `reason` is one line without the key. `status` is None where there was no HTTP answer.
    `retry_after` is what that header holds.
    """

    reason: str
    status: int | None = None
    retry_after: str | None = None


def check_url(url: str) -> None:
    """Raise InputError for a URL that is none of http or https, or that may hold a secret.

    A URL that may hold one is not repeated in the message.
    """
    if re.search(r"[@?#]|[^!-~]", url):
        raise InputError(
            "the judge URL must be scheme, host and path alone, without @, ?, # or spaces (it is "
            "recorded): a key belongs in an environment variable, which --judge-key names"
        )
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets of an IPv6 address, a port that is no number
        is_valid = False
    if not is_valid:
        raise InputError(f"judge URL {url!r}: give one that begins with http(s):// and a host")


def read_key(variable: str) -> str | None:
    """The key in an environment variable; None for "", and for a default one that is not set.

    Raises InputError for what is no name of a variable, for another variable that is not set, and
    for a key that no HTTP header can hold. The message repeats none of them: someone may have given
    the key instead of the name.
    """
    if not variable:
        return None
    if variable != DEFAULT_KEY_VARIABLE and variable not in os.environ:
        raise InputError(
            "--judge-key names no environment variable that is set: give the name of one that "
            'holds the key, or "" to send none'
        )
    key = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise InputError(
            f"the key in ${variable} has characters that no HTTP header may hold, such as a line "
            "break: set it again"
        )
    return key or None


def holds_key(text: str, key: str | None) -> bool:
    """Whether `text` holds the key, as it is or in URL encoding. Keys as short as "EMPTY", which
    local servers take, are no secrets."""
    return key is not None and len(key) >= 8 and (key in text or quote(key, safe="") in text)


def post_json(url: str, body: Any, key: str | None, timeout: float) -> Any:
    """The JSON with which the endpoint answers a POST of `body`.

    Args:
      key: sent as a bearer token; None sends none.
      timeout: seconds of waiting for the endpoint.

    Raises EndpointError for a status that is no success (a redirect is none), for what is no JSON,
    and where the endpoint cannot be reached.
    """
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with _make_opener().open(request, timeout=timeout) as reply:
            content = reply.read(LONGEST_REPLY + 1)
        if len(content) > LONGEST_REPLY:
            raise EndpointError(f"a reply of more than {LONGEST_REPLY:,} bytes")
        return json.loads(content)
    except HTTPError as error:
        with error:
            reason = f"status {error.code} {error.reason}: {_describe(error)}"
        retry_after = error.headers.get("Retry-After") if error.headers else None
        raise EndpointError(hide(reason, key), error.code, retry_after) from None
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        raise EndpointError(hide(f"{type(error).__name__}: {error}", key)) from None


def hide(text: str, key: str | None) -> str:
    """`text` as one line with *** for every piece of the key, and of the proxies' passwords.

    Whole or in part (an endpoint may cut or mask the key), in any case, in URL encoding, in base64.
    """
    secrets = {form for secret in _secrets(key) for form in _encodings(secret)}
    pieces = {
        secret[start : start + _SHORTEST_PIECE].lower()
        for secret in secrets
        for start in range(max(len(secret) - _SHORTEST_PIECE, 0) + 1)
    }
    text = one_line(text, 10_000)
    lowered, hidden = text.lower(), bytearray(len(text))
    for piece in pieces if len(lowered) == len(text) else ():
        start = lowered.find(piece)
        while start >= 0:
            hidden[start : start + len(piece)] = b"\1" * len(piece)
            start = lowered.find(piece, start + 1)
    shown = "".join("\0" if hides else c for c, hides in zip(text, hidden, strict=True))
    return one_line(re.sub("\0+", "***", shown))


def _make_opener() -> urllib.request.OpenerDirector:
    """Opens http and https, through the environment's proxies; a redirect is an error."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _describe(error: HTTPError) -> str:
    """Where a redirect leads, else what the endpoint says."""
    location = error.headers.get("Location") if error.headers else None
    if 300 <= error.code < 400 and location:
        host = location.partition("//")[2].partition("/")[0].rpartition("@")[2]
        return f"a redirect to {host.partition('?')[0] or 'another path'}, which is not followed"
    try:
        return error.read(2000).decode("utf-8", "replace")
    except (OSError, HTTPException):
        return ""


def _secrets(key: str | None) -> Iterable[str]:
    """The key, and the user's part of each proxy's address."""
    if key:
        yield key
    for proxy in urllib.request.getproxies().values():
        user = proxy.rpartition("//")[2].rpartition("@")[0]
        if user:
            yield user
            yield from filter(None, (user.partition(":")[2], unquote(user.partition(":")[2])))


def _encodings(secret: str) -> Iterable[str]:
    """The secret as an endpoint may repeat it."""
    yield secret
    yield quote(secret, safe="")
    for text in (secret, f"Bearer {secret}"):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(text.encode()).decode().rstrip("=")
    yield secret.encode().hex()
