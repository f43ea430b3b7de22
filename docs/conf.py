"""How the pages are built: `make docs`. Markdown everywhere, also in docstrings; nothing is fetched while building."""

import re

import pinnflow  # noqa: F401  (fails here, and clearly, if the package is not installed)

project = "pinnflow"
author = "The pinnflow developers"
project_copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "pinnflow"
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of data classes are described once, by their class
default_role = "code"  # docstrings put code in single backticks


def from_markdown(app, what, name, obj, options, lines):
    """Rewrites the Markdown of a docstring that reStructuredText reads differently: maths and fenced code."""
    text = "\n".join(lines)
    parts = re.split(r"(```.*?```|\$\$.*?\$\$|\$[^$\n]+\$|`[^`\n]*`)", text, flags=re.S)
    parts[::2] = [words.replace("|", "\\|") for words in parts[::2]]  # |h| is no substitution
    text = "".join(parts)
    text = re.sub(r"^( *)```(\w*)\n(.*?)^ *```$", _code, text, flags=re.M | re.S)
    text = re.sub(r"^( *)\$\$(.+?)\$\$", _display, text, flags=re.M | re.S)
    text = re.sub(r"(?<![\\$\w])\$([^$\n]+?)\$(?!\d)", r":math:`\1`", text)
    lines[:] = text.split("\n")


def _code(match):
    indent, language, body = match.groups()
    shifted = "\n".join("    " + line if line.strip() else "" for line in body.split("\n"))
    return f"{indent}.. code-block:: {language or 'text'}\n\n{shifted}\n"


def _display(match):
    indent, formula = match.groups()
    return f"\n{indent}.. math::\n\n{indent}    {' '.join(formula.split())}\n"


def setup(app):
    """Registers the rewriting before napoleon reads the sections."""
    app.connect("autodoc-process-docstring", from_markdown, priority=100)
