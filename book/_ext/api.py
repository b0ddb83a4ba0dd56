"""The API page, made from the docstrings of the package."""

import ast
import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import learnit_utils

MACHINERY = [
    "recipe",
    "registry",
    "run",
    "protocol",
    "seeds",
    "scores",
    "content",
    "store",
    "exchange",
    "flops",
    "memory",
]


def rooms() -> dict[str, list[str]]:
    """Title of a section -> the public modules of a room; the order is that of reading."""
    shelf = [
        "fields",
        "metrics",
        "tasks",
        "inner",
        "outer",
        "train",
        "evaluate",
        "baselines",
        "ntk",
    ]
    experiments = modules("experiments")
    signals = [name for name in modules("signals") if name != "signals.base"]
    return {
        "The mathematics": shelf,
        "Forward models": ["forward", *modules("forward")],
        "Signals": ["signals", "signals.base", *signals],
        "Experiments": ["experiments", *(f"experiments.{name}" for name in MACHINERY)],
        "What the chapters measure": [
            name for name in experiments if name.partition(".")[2] not in MACHINERY
        ],
        "Book": modules("book"),
        "Figures": ["book.plots", *modules("book.plots")],
        "What ships": ["shipped"],
    }


def modules(room: str) -> list[str]:
    """The public modules of a room, by name."""
    found = pkgutil.iter_modules(import_module(f"{learnit_utils.__name__}.{room}").__path__)
    return [f"{room}.{m.name}" for m in found if not m.name.startswith("_") and not m.ispkg]


def page() -> str:
    """Markdown: a section per room, a folded list of definitions per module."""
    parts = []
    for title, names in rooms().items():
        parts.append(f"## {title}")
        parts += [_module(name) for name in names]
    return "\n\n".join(parts)


def _module(name: str) -> str:
    module = import_module(f"{learnit_utils.__name__}.{name}")
    tree = ast.parse(Path(module.__file__).read_text("utf8"))
    summary, _, more = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
    parts = [f"### `{name}`", _text(summary)]
    if more:
        parts.append(_text(more))
    entries = [_entry(module, node) for node in tree.body if _public(node)]
    if entries:
        body = "\n\n".join(entries)
        names = ", ".join(f"`{node.name}`" for node in tree.body if _public(node))
        fence = "~" * 5  # after one of backticks no title may hold any
        parts.append(f"{fence}{{dropdown}} {names}\n{body}\n{fence}")
    return "\n\n".join(parts)


def _public(node: ast.AST) -> bool:
    kinds = ast.FunctionDef | ast.ClassDef
    return isinstance(node, kinds) and not node.name.startswith("_")


def _text(text: str) -> str:
    """Prose of a docstring as Markdown: doctests and indented lines as they are."""
    blocks = []
    for block in text.split("\n\n"):
        if block.startswith((">>>", " ")):
            blocks.append(f"```text\n{block}\n```")
        else:
            blocks.append(re.sub(r"([*_<>|\\])(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"\\\1", block))
    return "\n\n".join(blocks)


def _method(node: ast.FunctionDef) -> str:
    """A public method in one line: its call and the summary of its docstring."""
    arguments = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
    summary = inspect.cleandoc(ast.get_docstring(node) or "").partition("\n\n")[0]
    return f"- `.{node.name}({arguments})`: {_text(summary)}"


def _entry(module, node: ast.AST) -> str:
    doc = inspect.cleandoc(ast.get_docstring(node) or "")
    if isinstance(node, ast.FunctionDef):
        signature = f"{node.name}({ast.unparse(node.args)})"
        signature += f" -> {ast.unparse(node.returns)}" if node.returns else ""
    else:
        bases = ", ".join(ast.unparse(b) for b in node.bases)
        signature = f"class {node.name}({bases})" if bases else f"class {node.name}"
        lines = Path(module.__file__).read_text("utf8").splitlines()
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        signature += "".join("\n" + lines[f.lineno - 1] for f in fields)
    summary, _, more = doc.partition("\n\n")
    parts = [f"```python\n{signature}\n```", _text(summary)]
    if more:
        parts.append(f"```text\n{more}\n```")
    if isinstance(node, ast.ClassDef):
        parts += [_method(n) for n in node.body if isinstance(n, ast.FunctionDef) and _public(n)]
    return "\n\n".join(parts)
