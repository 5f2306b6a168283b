"""One self-contained HTML page a run: what was asked, what came out, in tables and pictures."""

import base64
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from subliminal_jax.files import atomic_path, plain_json, write_text
from subliminal_jax.reporting.tables import Table, html_table

DPI = 160


@dataclass(frozen=True)
class Text:
    """Paragraphs, divided by empty lines, under an optional title."""

    body: str
    title: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure with one sentence of what it shows; `name` is that of its PNG, without the end."""

    name: str
    title: str
    sentence: str
    figure: Figure


Block = Text | Picture | Table


def write_page(
    folder: str | Path,
    *,
    title: str,
    summary: str,
    command: str,
    config: Mapping[str, Any],
    blocks: Sequence[Block],
) -> Path:
    """Write report.html and a PNG for each picture into `folder`; return the page's path.

    The page holds its pictures and its style: it can be mailed as one file, and needs neither
    JavaScript nor a network.

    Args:
      summary: what came out, in a few sentences, for someone who reads nothing else.
      command: how to get this page again.
      config: the run's configuration, shown folded up at the end.
    """
    folder = Path(folder)
    parts = [_block(block, folder) for block in blocks]
    page = _PAGE.format(
        title=html.escape(title),
        style=_STYLE,
        summary=_paragraphs(summary),
        blocks="\n".join(parts),
        command=html.escape(command),
        config=html.escape(json.dumps(plain_json(dict(config)), indent=2, ensure_ascii=False)),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()


def _block(block: Block, folder: Path) -> str:
    heading = f"<h2>{html.escape(block.title)}</h2>" if block.title else ""
    if isinstance(block, Text):
        inner = _paragraphs(block.body)
    elif isinstance(block, Table):
        inner = html_table(block)
    else:
        image = png(block.figure)
        with atomic_path(folder / f"{block.name}.png") as temporary:
            temporary.write_bytes(image)
        width, height = (round(inches * DPI) for inches in block.figure.get_size_inches())
        source = base64.b64encode(image).decode("ascii")
        inner = (
            f"<figure>\n<p>{html.escape(block.sentence)}</p>\n"
            f'<img src="data:image/png;base64,{source}" alt="{html.escape(block.sentence)}" '
            f'width="{width}" height="{height}">\n</figure>'
        )
    return f"<section>\n{heading}\n{inner}\n</section>"


def _paragraphs(text: str) -> str:
    paragraphs = (part.strip() for part in re.split(r"\n\s*\n", text))
    return "\n".join(f"<p>{html.escape(part)}</p>" for part in paragraphs if part)


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body {
  margin: 0; background: #fff; color: #1c1f23;
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 54rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; letter-spacing: -0.01em; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.75rem 0 0.5rem; }
p { max-width: 44rem; margin: 0 0 0.8rem; }
.summary { border-left: 3px solid #0072b2; padding-left: 1rem; margin-bottom: 1rem; }
.note { color: #5b636d; font-size: 0.88rem; }
figure { margin: 0; }
img { display: block; width: 100%; max-width: 50rem; height: auto; }
.table { overflow-x: auto; margin: 0.5rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.8rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
th.text, td.text { text-align: left; }
thead th { border-bottom: 1.5px solid #1c1f23; font-weight: 600; vertical-align: bottom; }
tbody tr + tr td { border-top: 1px solid #e4e7eb; }
code, pre { font: 0.85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: #f5f6f8; padding: 0.8rem 1rem; border-radius: 6px; overflow-x: auto; }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; font-weight: 600; }
details { margin-top: 2.75rem; }
@media (max-width: 40rem) {
  body { font-size: 16px; }
  main { padding-top: 1.5rem; }
  h1 { font-size: 1.5rem; }
}
@media print { details { display: none; } section { break-inside: avoid; } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<div class="summary">
{summary}
</div>
{blocks}
<section>
<h2>Get this page again</h2>
<pre class="command">{command}</pre>
<p class="note">The numbers behind every table and picture are in results.json beside this page,
each logged step is a line of metrics.jsonl, and each picture is also a PNG of its own.</p>
</section>
<details>
<summary>Configuration</summary>
<pre>{config}</pre>
</details>
</main>
</body>
</html>
"""
