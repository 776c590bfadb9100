"""Building blocks of the pages. A page is a single, self-contained HTML file that loads nothing from the network."""

import io
import math
import warnings
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from jaxcnn.files import write_text
from jaxcnn.report import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The content security policy makes the browser enforce that nothing is loaded from elsewhere.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --ground: #fff; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --panel: #f6f8fa;
  --wrong: #c02020; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ground: #14181d; --ink: #e2e7ec; --soft: #9aa5b1; --line: #313840; --panel: #1c2229;
    --wrong: #ff8a7a; }}
}}
body {{ max-width: 70rem; margin: 2rem auto 4rem; padding: 0 1.5rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }}
h1 {{ font-size: 1.6rem; margin: 0; }}
h2 {{ font-size: 1.15rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }}
p {{ margin: .4rem 0; color: var(--soft); }}
pre, .scroll {{ overflow: auto; background: var(--panel); border-radius: 6px; }}
pre {{ padding: .7rem 1rem; font-size: 13px; white-space: pre-wrap; overflow-wrap: anywhere; }}
.scroll {{ max-height: 52rem; padding: 0 1rem .3rem; width: fit-content; max-width: calc(100% - 2rem); }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0; }}
.figures div {{ background: var(--panel); border-radius: 6px; padding: .6rem .9rem; }}
.figures dt {{ color: var(--soft); font-size: 13px; }}
.figures dd {{ margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; }}
table {{ border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }}
th {{ position: sticky; top: 0; background: var(--panel); text-align: left; color: var(--soft); font-weight: 600; }}
th, td {{ padding: .28rem 1.6rem .28rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }}
th:last-child, td:last-child {{ padding-right: 0; }}
tr:last-child td {{ border-bottom: 0; }}
td {{ overflow-wrap: anywhere; min-width: 5rem; }}
td:first-child {{ overflow-wrap: break-word; }}
td:first-child, td.number {{ min-width: 0; }}
.number {{ text-align: right; white-space: nowrap; }}
figure {{ margin: 1rem 0; overflow-x: auto; }}
.wrong {{ color: var(--wrong); font-weight: 600; }}
img {{ display: block; }}
.sheet th, .sheet td {{ padding-right: .5rem; }}
.sheet td:first-child {{ min-width: 5.5rem; overflow-wrap: anywhere; }}
.sheet .scroll {{ max-height: none; }}
.settings td:last-child {{ min-width: 15rem; }}
.argument {{ display: inline-block; max-width: 100%; word-break: break-all; }}
.pixels {{ image-rendering: pixelated; }}
svg {{ display: block; max-width: 100%; height: auto; }}
svg text {{ font-family: system-ui, sans-serif !important; }}
/* On a phone, figures scroll sideways instead of shrinking until their text is too small to read. */
@media (max-width: 48rem) {{
  body {{ margin-top: 1rem; padding: 0 1rem; }}
  svg {{ max-width: 48rem; }}
  th, td {{ padding-right: 1rem; }}
  td:first-child {{ max-width: 12rem; }}
}}
</style>
</head>
<body>
{body}
</body>
</html>
"""


class Html(str):
    """Text that is already HTML and therefore is not escaped."""


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Writes the page to `path` atomically. `sections` are HTML; `title` is plain text."""
    write_text(path, PAGE.format(title=escape(title), body="\n".join(sections)))


def section(title: str, *parts: str) -> str:
    """Returns a section with a heading and its content; `title` and `parts` are HTML."""
    return f"<section>\n<h2>{title}</h2>\n{''.join(parts)}\n</section>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """Returns an HTML table whose last `numbers` columns are right-aligned. Texts are escaped unless they are `Html`."""
    first_number = len(header) - numbers

    def row(cells: Sequence[str], tag: str) -> str:
        texts = [cell if isinstance(cell, Html) else escape(cell) for cell in cells]
        classes = [" class=number" if column >= first_number else "" for column in range(len(cells))]
        written = "".join(f"<{tag}{class_}>{text}</{tag}>" for class_, text in zip(classes, texts, strict=True))
        return f"<tr>{written}</tr>\n"

    body = "".join(row(cells, "td") for cells in rows)
    return f'<div class="scroll"><table>\n<thead>{row(header, "th")}</thead>\n<tbody>{body}</tbody></table></div>'


def svg(figure: "Figure", name: str) -> str:
    """Returns the figure as inline SVG in the colors and fonts of the page. `name` makes its ids unique within the page."""
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # matplotlib mismeasures letters that its own font lacks, but the browser draws them correctly.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, dpi=150, metadata=no_metadata)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(figures.INK, "currentColor")  # without the XML prolog and DTD
    return f"<figure>{text}</figure>"


def command_line(command: str) -> str:
    """Returns a shell command as HTML that wraps between its arguments."""
    return " ".join(f'<span class="argument">{escape(argument)}</span>' for argument in command.split(" "))


def counted(number: int, singular: str, plural: str = "") -> str:
    """Returns a number with its noun, such as 1 image or 2 images."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def percent(share: float) -> str:
    """Returns 0.1234 as 12.34%."""
    return f"{share:.2%}"


def duration(seconds: float) -> str:
    """Returns a duration for readers, such as 12.3 s, 5 min 2 s, or 1 h 6 min."""
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
