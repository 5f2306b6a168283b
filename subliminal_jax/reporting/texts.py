"""Texts of users and models as each medium shows them: one function a medium.

A name may hold what a medium takes for a command: rich's [markup], terminal escapes, matplotlib's
$mathematics$, marks that turn the direction of writing, glyphs that no font has. HTML is escaped by
the page's templates, which pass everything through `page_text`.
"""

import functools
import hashlib
import re
import unicodedata

from rich.text import Text

from subliminal_jax.escaping import escape_controls

LONGEST_LABEL = 40  # characters; longer labels would leave no room for the picture


def terminal_text(text: str, style: str = "") -> Text:
    """For rich: without markup, emoji codes and terminal escapes; line breaks stay."""
    return Text(escape_controls(text, keep="\n"), style=style)


def page_text(text: str) -> str:
    """For HTML, which escapes the rest: without controls other than white space."""
    return escape_controls(text, keep="\n\t")


def picture_text(text: str, longest: int = LONGEST_LABEL) -> str:
    """For a label of a picture: as it is written, without mathematics, on one line, at most
    `longest` characters (the middle is left out), and with escapes such as \\u732b for what the
    font does not have."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    known = _glyphs()
    text = "".join(
        c if ord(c) in known else c.encode("ascii", "backslashreplace").decode()
        for c in escape_controls(text[: 2 * longest] + text[2 * longest :][-longest:])
    )
    if len(text) > longest:
        text = f"{text[: longest - 13]}\N{HORIZONTAL ELLIPSIS}{text[-12:]}"
    return text.replace("$", r"\$")


def markdown_text(text: str) -> str:
    """For a paragraph, a heading or a cell of Markdown: without emphasis, code, links and HTML."""
    text = re.sub(r"([\\`*|~]|(?<=\])\(|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", page_text(text))
    text = re.sub(r"&(?=[#\w])", "&amp;", text)
    return re.sub(r"<(?=[^\s\d])", "&lt;", " ".join(text.split()))


def markdown_code(text: str) -> str:
    """For Markdown, as code in a line."""
    text = " ".join(page_text(text).split())
    if not text:
        return ""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence}{text}{fence}" if len(fence) == 1 else f"{fence} {text} {fence}"


def file_name(name: str) -> str:
    """The name of a file in a folder: `name` where that is one of letters, digits, dots and dashes,
    else a like one with a digest, so that different names stay different."""
    if re.fullmatch(r"\w[\w.-]{0,99}", name, re.ASCII):
        return name
    words = re.sub(r"[^\w-]+", "-", name, flags=re.ASCII).strip("-")[:80]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{words}-{digest}" if words else digest


@functools.cache
def _glyphs() -> frozenset[int]:
    """The code points that the font of pictures has."""
    # Here: tables, which need no pictures, would wait half a second for it.
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
