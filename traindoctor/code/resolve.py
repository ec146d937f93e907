"""What the names of a script stand for beyond it: functions and classes of other files of its project, methods of bases."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from typing import TYPE_CHECKING

from traindoctor.code.names import INSTALLED
from traindoctor.code.values import Class, Env, Function, Module, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from traindoctor.code.script import Script


class Names:
    """Looks names up: in what a function sees, then in what its file imports from the project."""

    def __init__(self, script: Script) -> None:
        self.scripts = [script]
        self._modules: dict[Script, Env] = {}
        self._imported: dict[tuple[Script, str, bool], Value] = {}
        self._of_a_class = False  # whether the base of a class is looked for, which matters whatever its file says

    def find(self, name: str, env: Env) -> Value:
        """Return what a name stands for where it is used."""
        found, value = env.find(name)
        return value if found else self.imported(name, env.script)

    def resolve(self, node: ast.expr, env: Env) -> Value:
        """Return what names and dots stand for, as far as they are modules, functions and classes."""
        if isinstance(node, ast.Name):
            return self.find(node.id, env)
        if isinstance(node, ast.Attribute):
            owner = self.resolve(node.value, env)
            return self.member(owner, node.attr) if isinstance(owner, Module) else None
        return None

    def imported(self, name: str, script: Script) -> Value:
        """Return what a file of the project gives under a name that a script imports; None for all else."""
        if script.project is None:
            return None
        key = (script, name, self._of_a_class)
        if key not in self._imported:
            self._imported[key] = None  # files may import each other
            full = script.imports.get(name)
            self._imported[key] = self._named(full, script) if full is not None else self._by_star(name, script)
        return self._imported[key]

    def member(self, module: Module, name: str) -> Value:
        """Return what a module of the project holds under a name."""
        script = self._script(module.name, module.importer, name)
        value = self._of(script, name) if script is not None else None
        return value if value is not None else self._module(f"{module.name}.{name}", module.importer)

    def module(self, script: Script) -> Env:
        """Return the names that the functions and classes of a file go by in it."""
        if script not in self._modules:
            if script not in self.scripts:
                self.scripts.append(script)
            env = self._modules[script] = Env(script)
            for node in _definitions(script.tree.body):
                env.names[node.name] = Class(node, script, env) if isinstance(node, ast.ClassDef) else Function(node, script, env)
        return self._modules[script]

    def bases(self, of: Class) -> Iterator[Class | tuple[Class, ast.expr]]:
        """Yield a class and its bases in the project, nearest first; of any other base the class that has it, and its name."""
        pending, seen = [of], set()
        while pending:
            current = pending.pop(0)
            if current.node in seen:
                continue
            seen.add(current.node)
            yield current
            for base in current.node.bases:
                before, self._of_a_class = self._of_a_class, True
                value = self.resolve(base, current.env)
                self._of_a_class = before
                if isinstance(value, Class):
                    pending.append(value)
                else:
                    yield current, base

    def method(self, of: Class, name: str, *, after: Class | None = None) -> tuple[Class, FunctionDef] | None:
        """Return a method of a class or of its bases, with the class that has it; `after`: of the bases of that class alone."""
        waiting = after is not None
        for base in self.bases(of):
            if isinstance(base, tuple):
                continue
            if not waiting:
                node = base.script.facts.methods.get((base.node, name))
                if node is not None:
                    return base, node
            elif after is not None and base.node is after.node:
                waiting = False
        return None

    def foreign_bases(self, of: Class) -> list[ast.expr]:
        """Return the bases of a class, and of its bases, that are in no file of the project."""
        return [base[1] for base in self.bases(of) if isinstance(base, tuple)]

    def _named(self, full: str, script: Script) -> Value:
        """Return what `full` is: a member of a module, or a module."""
        dots = full[: len(full) - len(full.lstrip("."))]
        *above, last = full[len(dots) :].split(".")
        parent = self._script(dots + ".".join(above), script, last) if above or dots else None
        value = self._of(parent, last) if parent is not None else None
        return value if value is not None else self._module(full, script)

    def _module(self, full: str, script: Script) -> Module | None:
        if self._script(full, script) is not None:
            return Module(full, script)
        for node in script.nodes.get(ast.Import, ()):  # a folder of modules without an __init__.py
            assert isinstance(node, ast.Import)
            if any(alias.name.startswith(f"{full}.") and self._script(alias.name, script) for alias in node.names):
                return Module(full, script)
        return None

    def _by_star(self, name: str, script: Script) -> Value:
        for node in script.nodes.get(ast.ImportFrom, ()):
            assert isinstance(node, ast.ImportFrom)
            if node.names[0].name == "*":
                source = self._script("." * node.level + (node.module or ""), script)
                value = self._of(source, name) if source is not None else None
                if value is not None:
                    return value
        return None

    def _of(self, script: Script, name: str) -> Value:
        value = self.module(script).names.get(name)
        return value if value is not None else self.imported(name, script)

    def _script(self, name: str, importer: Script, member: str = "") -> Script | None:
        """Return a file of the project that is worth following; `member`: for the sake of which it is asked for."""
        top = name.partition(".")[0]
        if importer.project is None or top in INSTALLED or top in sys.stdlib_module_names or len(self.scripts) > _FILES:
            return None
        if self._of_a_class:
            return importer.project.module(name, importer.file)
        return importer.project.module(name, importer.file, _hands_on(member) if member else _trains)


FunctionDef = ast.FunctionDef | ast.AsyncFunctionDef
#: Files that are followed from one script.
_FILES = 16
#: What a file has to say for the walk to look into it: that it trains, or builds what trains.
# fmt: off
_TRAINS = (
    ".backward(", "zero_grad(", ".step(", ".optim.", " optim.", ".optim ", " optim ", "Optimizer(", "clip_grad", "GradScaler(",
    ".eval()", ".train(", ".set_epoch(", ".no_grad(", " no_grad(",
)
# fmt: on
#: Or that it hands on a name that another file has.
_HANDS_ON = r"(?m)^ *from [\w.]+ import (?:[^(\n]*|\([^)]*)(?:\b{}\b|\*)"


def _trains(text: str) -> bool:
    """Return whether a file trains by its words, or builds what trains."""
    return any(word in text for word in _TRAINS)


@cache
def _hands_on(member: str) -> Callable[[str], bool]:
    """Return what tells of a file whether it trains, or hands on a name; the same function for the same name."""
    return lambda text: (
        _trains(text) or ((member in text or "*" in text) and re.search(_HANDS_ON.format(member), text) is not None)
    )


def _definitions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield the functions and classes of a module, those under a condition too."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions(node.body)
            yield from _definitions(node.orelse)
