"""Who may import whom: the arrows of the layers, read from the import statements of every module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted([*(ROOT / "traindoctor").rglob("*.py"), *(ROOT / "rules").rglob("*.py")])

BASE = {"mistake", "model", "errors", "diff", "patterns"}
MEASURED = {*BASE, "signals", "optim"}
SECOND = {*MEASURED, "rule", "readers", "configs", "code", "replay", "registry"}
#: Layer -> the layers it may import beside itself. The top, "", is the package's name and version.
MAY_IMPORT = {
    "": set(),
    "mistake": set(),
    "diff": {"patterns"},
    "patterns": set(),
    "beside": {*SECOND, "check"},
    "fixing": {*SECOND, "beside"},
    "model": {"errors", "mistake", "code"},  # the events of a training loop
    "errors": set(),
    "settings": BASE,
    "signals": {*MEASURED, "configs"},
    "optim": MEASURED,
    "rule": {*MEASURED, "code", "configs"},
    "check": {*SECOND, "", "settings"},
    "testing": {*SECOND, "check", "differential", "pipeline"},
    "registry": {*BASE, "rule"},
    "checkpoints": {*MEASURED, "readers", "configs"},
    "readers": {*MEASURED, "configs"},  # a run is read with the config beside its log
    "configs": {*BASE, "optim"},
    "code": {*BASE, "optim"},
    "replay": MEASURED,
    "differential": SECOND,
    "demos": {*BASE, "signals", "optim", "code", "replay", "pipeline", "report"},
    "api": {*SECOND, "settings", "pipeline", "report"},
    "pipeline": {*SECOND, "", "check", "beside", "checkpoints", "differential", "across", "symptoms"},
    "across": SECOND,
    "symptoms": {*MEASURED, "rule"},
    "compare": SECOND,
    "report": {*SECOND, "", "check", "differential"},
    "cli": {*SECOND, "", "fixing", "beside", "check", "settings", "differential", "pipeline", "compare", "report", "demos"},
    "__main__": {"cli"},
}
#: Layer -> what it may import inside a function: the methods of a report render it.
MAY_IMPORT_LATE = {"model": {"report"}}
#: What a rule pack may import beside what a layer of rules may.
PACKS_MAY_IMPORT = {
    "traindoctor.checkpoints",
    "traindoctor.mistake",
    "traindoctor.model",
    "traindoctor.patterns",
    "traindoctor.rule",
    "traindoctor.optim",
    "traindoctor.signals",
    "traindoctor.code",
    "traindoctor.configs",
}
#: Third-party module -> the layers, or the one file, that may import it.
THIRD_PARTY = {
    "tensorboard": {"readers"},
    "pandas": {"readers", "traindoctor/report/frame.py"},
    "jinja2": {"report"},
    "click": {"cli"},
    "rich": {"cli", "report"},
    "torch": {"traindoctor/replay/torch.py"},
    "scipy.sparse": {"traindoctor/replay/critical_point.py"},
}


def is_type_checking(test):
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imports(tree, package):
    """Yield (module, line, is late) for each import that runs; `from a import b` gives `a.b`, which may be a module.

    One inside a function is late.
    """
    pending = [(tree, False)]
    while pending:
        node, late = pending.pop()
        if isinstance(node, ast.If) and is_type_checking(node.test):
            pending += [(child, late) for child in node.orelse]
            continue
        late = late or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno, late
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = (
                ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
                if node.level
                else node.module
            )
            for name in node.names:
                yield f"{base}.{name.name}", node.lineno, late
        pending += [(child, late) for child in ast.iter_child_nodes(node)]


def layer_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else ""


def broken_arrows(path, source):
    """Return what a module imports and may not, as "line N: a -> b"."""
    relative = path.relative_to(ROOT)
    parts = list(relative.with_suffix("").parts)
    is_pack = parts[0] == "rules"
    package = ".".join(parts[1:-1] if is_pack else parts[:-1])
    layer = "rule pack" if is_pack else layer_of(".".join(parts)) if parts[-1] != "__init__" or len(parts) > 2 else ""
    broken = []
    for module, line, late in imports(ast.parse(source), package):
        top = module.split(".")[0]
        if top == "traindoctor_rules":
            allowed = False if not is_pack else module == "traindoctor_rules"
        elif top == "traindoctor" and is_pack:
            allowed = any(module == m or module.startswith(f"{m}.") for m in PACKS_MAY_IMPORT)
        elif top == "traindoctor":
            target = layer_of(module)
            allowed = target == layer or target in MAY_IMPORT[layer] or (late and target in MAY_IMPORT_LATE.get(layer, ()))
        else:
            places = [THIRD_PARTY[name] for name in THIRD_PARTY if module == name or module.startswith(f"{name}.")]
            allowed = all(layer in place or relative.as_posix() in place for place in places)
        if not allowed:
            broken.append(f"line {line}: {layer or 'traindoctor'} -> {module}")
    return broken


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_arrow_points_the_wrong_way(path):
    assert broken_arrows(path, path.read_text(encoding="utf-8")) == []


def test_every_layer_is_known():
    layers = {
        p.stem if p.is_file() else p.name
        for p in (ROOT / "traindoctor").iterdir()
        if p.suffix == ".py" or (p.is_dir() and any(p.glob("*.py")))
    }
    assert layers - {"__init__"} <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("traindoctor/model.py", "import traindoctor.report.html"),
        ("traindoctor/signals/robust.py", "from traindoctor.rule import Cause"),
        ("traindoctor/signals/robust.py", "from ..rule import Cause"),
        ("traindoctor/code/loops.py", "def f():\n    from traindoctor.pipeline import diagnose"),
        ("traindoctor/report/html.py", "from traindoctor.cli import main"),
        ("traindoctor/pipeline.py", "import traindoctor_rules"),
        ("traindoctor/registry.py", "from traindoctor_rules.beta_of_one import CAUSE"),
        ("traindoctor/replay/cure.py", "import torch.nn"),
        ("traindoctor/readers/torch.py", "import torch"),
        ("traindoctor/replay/cure.py", "from scipy.sparse.linalg import eigsh"),
        ("traindoctor/report/html.py", "import pandas as pd"),
        ("traindoctor/cli/rules.py", "from jinja2 import Environment"),
        ("traindoctor/pipeline.py", "import click"),
        ("traindoctor/pipeline.py", "from rich.console import Console"),
        ("traindoctor/__init__.py", "from traindoctor.model import Run"),
        ("rules/traindoctor_rules/a.py", "from traindoctor_rules.b import CAUSE"),
        ("rules/traindoctor_rules/a.py", "from .b import CAUSE"),
        ("rules/traindoctor_rules/a.py", "from traindoctor.readers.discover import read_runs"),
        ("rules/traindoctor_rules/a.py", "import torch"),
    ],
)
def test_a_wrong_arrow_is_seen(place, source):
    assert len(broken_arrows(ROOT / place, source)) == 1


@pytest.mark.parametrize(
    ("place", "source"),
    [
        (
            "traindoctor/rule.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from traindoctor.report.html import render_html",
        ),
        ("rules/traindoctor_rules/a.py", "from traindoctor.code.order import clears_correctly"),
        ("traindoctor/model.py", "class Report:\n    def save(self):\n        from traindoctor.report.html import render_html"),
        ("traindoctor/pipeline.py", "from traindoctor import __version__"),
        ("traindoctor/readers/csvlog.py", "import pandas"),
        ("traindoctor/report/text.py", "from rich.text import Text"),
        ("traindoctor/replay/cure.py", "from . import closed_loop"),
        ("traindoctor/replay/torch.py", "from torch.optim import Adam"),
        ("traindoctor/replay/critical_point.py", "from scipy.sparse.linalg import eigsh"),
    ],
)
def test_a_right_arrow_is_left_alone(place, source):
    assert broken_arrows(ROOT / place, source) == []
