"""The documentation site: `make docs` builds it into build/docs with Sphinx, warnings as errors."""

import re
from importlib import metadata

from sphinx.application import Sphinx

from jaxcnn.config import Config
from jaxcnn.settings import Declaration, declarations, in_words

project = "jaxcnn"
author = "The jaxcnn authors"
copyright = "2026, The jaxcnn authors. Apache-2.0"
release = version = metadata.version("jaxcnn")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]

# Markdown and notebooks. The outputs of the notebooks are stored with them, and tests/test_notebooks.py runs them.
myst_enable_extensions = ["attrs_block", "colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "off"

# The reference from docstrings: Google style, Markdown's `code` for names.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False

smartquotes = False  # would turn -- into a dash, in options too
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_title = f"jaxcnn {release}"
copybutton_exclude = ".linenos, .gp, .go"


def settings_table() -> str:
    """Returns one table per section of a config: each setting with its type, its default and its meaning."""
    sections: dict[str, list[Declaration]] = {}
    for setting in declarations(Config).values():
        sections.setdefault(setting.name.rpartition(".")[0], []).append(setting)
    return "\n\n".join(_section(name, settings) for name, settings in sections.items()) + "\n"


def _section(name: str, settings: list[Declaration]) -> str:
    rows = [f"| `{s.name}` | {_cell(in_words(s.hint))} | `{s.default!r}` | {_cell(s.about.meaning)} |" for s in settings]
    return "\n".join([f"## {name or 'Run'}", "", "| setting | type | default | meaning |", "|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    return re.sub(r"([|*<>\[\]$])", r"\\\1", text)


def add_settings(app: Sphinx, page: str, source: list[str]) -> None:
    """Adds the tables to the page reference/settings."""
    if page == "reference/settings":
        source[0] += settings_table()


def to_restructured_text(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Converts a docstring, which is plain text with Markdown's `code`: marks indented code, escapes other markup."""
    converted: list[str] = []
    previous, in_code = "", False
    for line in lines:
        if line.startswith("    ") and not previous.strip() and not in_code:
            converted += ["::", ""]
            in_code = True
        elif line.strip() and not line.startswith("    "):
            in_code = False
        converted.append(line if in_code else _escaped(line))
        previous = line
    lines[:] = converted


def _escaped(line: str) -> str:
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([*|]|_\b)", r"\\\1", part) for part in parts)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_settings)
    app.connect("env-get-outdated", lambda *arguments: ["reference/settings"])
    app.connect("autodoc-process-docstring", to_restructured_text, priority=100)
