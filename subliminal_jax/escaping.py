"""Texts of strangers (names, templates, answers, endpoints) made harmless before they are shown."""

import re
from typing import TextIO

# Controls (C0, DEL, C1), line and paragraph separators, marks that change the direction of what
# follows them, and halves of surrogate pairs, which no stream can encode.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape_controls(text: str, keep: str = "") -> str:
    """`text` with every character that moves the cursor, starts a terminal sequence or turns the
    direction of writing as an escape such as \\x1b; those in `keep` stay."""

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        return character if character in keep else repr(character)[1:-1]

    return _UNSAFE.sub(escape, text)


def print_line(text: str, file: TextIO | None = None) -> None:
    """Print `text` as one line without controls, on stdout by default."""
    print(escape_controls(text), file=file)


def one_line(text: str, longest: int = 300) -> str:
    """`text` as one printable line: white space joined, controls escaped, cut after `longest`
    characters."""
    line = escape_controls(" ".join(text[: 10 * longest].split()))
    return line if len(line) <= longest else line[: longest - 3] + "..."
