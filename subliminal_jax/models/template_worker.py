"""The process that renders chat templates for `templates.py`, under limits of the operating system.

It is started by its path, not imported: `python -I -S template_worker.py`. It reads requests and
writes replies as lines of JSON, imports jinja2 and the standard library alone, and ends when its
input does. Its Jinja environment is that of transformers
(`transformers.utils.chat_template_utils._compile_jinja_template`), but for the date: a prompt must
be the same tomorrow.
"""

import functools
import importlib
import json
import math
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

TODAY = datetime(2024, 7, 26)


# Modules that jinja2 and str.encode import when they are first used: later no file can be opened.
_ENCODINGS = "ascii cp1252 idna latin_1 punycode raw_unicode_escape unicode_escape utf_8_sig"
_ENCODINGS += " utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le"
_USED_LATER = ["jinja2.constants", "jinja2.debug", "html", "pprint", "textwrap", "unicodedata"]
_USED_LATER += [f"encodings.{name}" for name in _ENCODINGS.split()]


class Overlong(Exception):
    """The rendered texts are longer than the limit."""


def main() -> None:
    """Serve requests until the input ends.

    The first line of the input holds {"paths": folders to import jinja2 from, "memory": bytes of
    address space, "seconds": of waiting}. Every request is answered by the replies of `answer`, one
    for each conversation, and by {"cpu_seconds", "characters"}: what it took.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends us
    for name in (signal.SIGALRM, signal.SIGXCPU):
        signal.signal(name, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM, signal.SIGXCPU))
    settings = json.loads(sys.stdin.buffer.readline())
    signal.setitimer(signal.ITIMER_REAL, settings["seconds"])
    try:
        sys.path += settings["paths"]
        for module in _USED_LATER:
            importlib.import_module(module)
        compile_template("{{ x }}").render()
        if sys.platform != "darwin":  # which takes no such limit
            set_limit(resource.RLIMIT_AS, settings["memory"])
        set_limit(resource.RLIMIT_CORE, 0)
        set_limit(resource.RLIMIT_FSIZE, 0)  # no file is written
        set_limit(resource.RLIMIT_NOFILE, 3)  # nor opened
    except BaseException as error:
        write({"failed": f"{type(error).__name__}: {error}"})
        return
    write({"ready": True})
    source = ""
    for line in iter(sys.stdin.buffer.readline, b""):
        signal.setitimer(signal.ITIMER_REAL, settings["seconds"])
        request = json.loads(line.decode("utf-8", "surrogatepass"))
        source = request.get("source", source)  # else that of the request before
        started = time.process_time()
        set_limit(resource.RLIMIT_CPU, math.ceil(started + request["cpu_seconds"]), hard=False)
        characters = 0
        try:
            for reply in answer(source, request, request["characters"]):
                characters += len(reply.get("text", ""))
                write(reply)
            write({"cpu_seconds": time.process_time() - started, "characters": characters})
        except (MemoryError, Overlong) as error:
            write({"exceeded": "characters" if isinstance(error, Overlong) else "memory"})
            return
        signal.setitimer(signal.ITIMER_REAL, 0)


def set_limit(kind: int, limit: int, hard: bool = True) -> None:
    """Lower a limit of this process, and with `hard` for good."""
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(kind, (limit, limit if hard else most))


def answer(source: str, request: dict[str, Any], longest: int) -> Iterator[dict[str, Any]]:
    """Yield a reply for each conversation of a request, or a single one for a broken template.

    Replies are {"text": ...}, {"refused": ...} for an error that the template language raised,
    {"error": ...} for one of Python's, and {"broken": ...} for a template that does not compile.

    Args:
      source: the template.
      request: {"conversations": lists of messages, "variables": further names}.
      longest: number of characters of all texts. More raise Overlong.
    """
    from jinja2.exceptions import TemplateError

    try:
        template = compile_template(source)
    except MemoryError:
        raise
    except Exception as error:
        line = getattr(error, "lineno", None)
        yield {"broken": (f"line {line}: " if line else "") + describe(error)}
        return
    draws = "random" in source or "lipsum" in source
    for messages in request["conversations"]:
        if draws:
            random.seed(0)
        try:
            text = render(template, {"messages": messages, **request["variables"]}, longest)
            text.encode()  # half a surrogate pair is no text
        except (MemoryError, Overlong):
            raise
        except TemplateError as error:
            yield {"refused": describe(error)}
        except Exception as error:
            yield {"error": describe(error)}
        else:
            longest -= len(text)
            yield {"text": text}


def render(template: Any, variables: dict[str, Any], longest: int) -> str:
    """The text that `template` writes; raises Overlong beyond `longest` characters."""
    pieces, length = [], 0
    for piece in template.generate(variables):
        pieces.append(piece)
        length += len(piece)
        if length > longest:
            raise Overlong
    return "".join(pieces)


@functools.lru_cache(8)
def compile_template(source: str) -> Any:
    """The template in an environment like that of transformers."""
    import jinja2
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """{% generation %} ... {% endgeneration %}, which marks an assistant's text."""

        tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_write")
            return nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _write(self, caller: Any) -> str:
            return caller()

    class DictType:
        """`dict` without its attributes."""

        def __call__(self, *args: Any, **kwargs: Any) -> dict:
            return dict(*args, **kwargs)

        def fromkeys(self, *args: Any, **kwargs: Any) -> dict:
            return dict.fromkeys(*args, **kwargs)

    class Namespace(jinja2.utils.Namespace):
        """`namespace` without names that begin with an underscore."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            self, args = args[0], args[1:]
            values = dict(*args, **kwargs)
            for name in values:
                check_name(name)
            jinja2.utils.Namespace.__init__(self, values)

        def __setitem__(self, name: Any, value: Any) -> None:
            check_name(name)
            jinja2.utils.Namespace.__setitem__(self, name, value)

    def check_name(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace must not have the attribute {name!r}")

    def raise_exception(message: Any) -> None:
        raise TemplateError(message)

    def to_json(
        x: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            x,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = TODAY.strftime
    environment.globals["dict"] = DictType()
    environment.globals["namespace"] = Namespace
    return environment.from_string(source)


def describe(error: BaseException) -> str:
    """The error's text, behind its kind unless the template language raised it."""
    from jinja2.exceptions import TemplateError

    text = str(error)[:2000]
    if isinstance(error, TemplateError) and text:
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def write(reply: dict[str, Any]) -> None:
    """One line of JSON."""
    line = json.dumps(reply, ensure_ascii=False) + "\n"
    sys.stdout.buffer.write(line.encode("utf-8", "surrogatepass"))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
