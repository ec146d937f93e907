"""Every construction of an optimizer in a script, with its settings as far as they are known without running it.

A setting that is written as a number, or as a name bound once to one, is sure. The default of an option of argparse, of a
parameter or of a class of settings is not: whoever starts the run may set another.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.script import UNKNOWN
from traindoctor.optim.signatures import CANONICAL, CONSTRUCTORS, Signature, signature

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.mistake import Location, Severity

_MAPPINGS = frozenset({"dict", "OrderedDict", "EasyDict", "edict", "SimpleNamespace", "Namespace", "AttrDict", "DotMap"})


class Given(NamedTuple):
    """A setting that a script gives an optimizer.

    `node`: where its value is written. `sure`: whether no caller and no command line can set another. `in_group`: whether
    it is one parameter group's, which PyTorch does not check.
    """

    value: object
    node: ast.expr
    sure: bool = True
    in_group: bool = False

    @property
    def number(self) -> float | None:
        """The value as a number; None for a bool and what is no number."""
        return float(self.value) if isinstance(self.value, int | float) and not isinstance(self.value, bool) else None

    def severity(self, wanted: Severity) -> Severity:
        """Return how much a finding weighs that rests on this value: one step less where it is only a default."""
        return wanted if self.sure else "warning" if wanted == "error" else "info"


class Construction:
    """One call that builds an optimizer.

    `node`: the call. `arguments`: by name in the one vocabulary ("lr", "betas", "beta1"). `keywords`: the names of its
    keyword arguments as written. `groups`: the arguments of each parameter group that is written as a dict. `parameters`:
    what holds the parameters, None where the constructor takes none. `is_open`: whether more is given through `*` or `**`.
    """

    __slots__ = ("arguments", "groups", "is_open", "keywords", "node", "parameters", "script", "signature")

    def __init__(self, script: Script, node: ast.Call, made: Signature, args: list[ast.expr], *, partial: bool = False) -> None:
        self.script = script
        self.node = node
        self.signature = made
        self.arguments: dict[str, ast.expr] = {}
        self.keywords: list[ast.keyword] = []
        self.is_open = partial
        self.parameters: ast.expr | None = None
        names = ("params", *made.positional) if made.takes_parameters else made.positional
        for name, argument in zip(names, args, strict=False):
            if isinstance(argument, ast.Starred):
                self.is_open = True
                break
            self.arguments[CANONICAL.get(name, name)] = argument
        for keyword in node.keywords:
            self._take(keyword)
        self.parameters = self.arguments.pop("params", None) if made.takes_parameters else None
        self.groups = _groups(script, self.parameters) if self.parameters is not None else []

    def _take(self, keyword: ast.keyword) -> None:
        if keyword.arg is not None:
            self.keywords.append(keyword)
            self.arguments[CANONICAL.get(keyword.arg, keyword.arg)] = keyword.value
            return
        inner = _mapping(self.script.origin(keyword.value))
        if inner is None:
            self.is_open = True
        for name, value in (inner or {}).items():
            self.arguments.setdefault(CANONICAL.get(name, name), value)

    @property
    def name(self) -> str:
        """The optimizer in the one vocabulary ("adamw")."""
        return self.signature.name

    @property
    def shown(self) -> str:
        """The optimizer as the library spells it ("AdamW")."""
        return self.signature.shown

    def given(self, setting: str) -> Given | None:
        """Return what the constructor itself is given for a setting ("lr", "beta2"); None when nothing, or nothing known."""
        return _setting(self.script, self.arguments, setting)

    def everywhere(self, setting: str) -> Iterator[Given]:
        """Yield what the constructor and each of its parameter groups are given for a setting, as far as known."""
        if (own := self.given(setting)) is not None:
            yield own
        for group in self.groups:
            if (one := _setting(self.script, group, setting)) is not None:
                yield one._replace(in_group=True)

    def value(self, setting: str) -> float | None:
        """Return the number that stands for a setting, given or by default; None when it is not known."""
        given = self.given(setting)
        if given is not None:
            return given.number
        if setting in self.arguments or self.is_open or (setting in ("beta1", "beta2") and "betas" in self.arguments):
            return None
        default = self.signature.default(setting)
        return float(default) if isinstance(default, int | float) and not isinstance(default, bool) else None

    def related(self, given: Given) -> tuple[tuple[Location, str], ...]:
        """Return the place of the construction where the value is written elsewhere."""
        if any(node is self.node for node in self.script.above(given.node)):
            return ()
        return ((self.script.place(self.node), f"{self.shown} is built with it"),)

    @property
    def models(self) -> frozenset[str]:
        """The names of the models whose `parameters()` it is given ("model", "self.net"); empty where none is seen."""
        return models_in(self.script, self.parameters) if self.parameters is not None else frozenset()

    @property
    def trains_a_model(self) -> bool:
        """Whether the parameters are seen to be those of a model, not a tensor's (an image, a latent code)."""
        return self.signature.framework == "keras" or bool(self.models)


def constructions(script: Script) -> list[Construction]:
    """Return the constructions of known optimizers in a script, in the order of the text."""
    found = []
    for call in _candidates(script):
        function, args = call.func, call.args
        partial = script.dotted(function).rpartition(".")[2] == "partial"
        if partial:
            if not args:
                continue
            function, args = args[0], []
        made = signature(path_of(script, function))
        if made is not None:
            found.append(Construction(script, call, made, args, partial=partial))
    return sorted(found, key=lambda one: (one.node.lineno, one.node.col_offset))


def path_of(script: Script, function: ast.expr) -> str:
    """Return the full name of what is called, a name that is bound once to it followed; "" when it is not known."""
    path = script.dotted(function)
    if "." not in path:
        origin = script.origin(function)
        if origin is not function:
            return script.dotted(origin)
        if path in CONSTRUCTORS and not script.bound(function) and _star(script):
            return f"torch.optim.{path}"
    return path


def _star(script: Script) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "torch.optim" and any(alias.name == "*" for alias in node.names)
        for node in script.nodes.get(ast.ImportFrom, ())
    )


def _candidates(script: Script) -> Iterator[ast.Call]:
    """Yield the calls of a name that may be a constructor: its own, one it is imported as, one it is bound to."""
    names = set(CONSTRUCTORS)
    names |= {name for name, path in script.imports.items() if path.rpartition(".")[2] in CONSTRUCTORS}
    for node in script.nodes.get(ast.Assign, ()):
        assert isinstance(node, ast.Assign)
        if isinstance(node.value, ast.Attribute | ast.Name):
            last = node.value.attr if isinstance(node.value, ast.Attribute) else node.value.id
            if last in names:
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for name in (names | {"partial"}) & script.calls.keys():
        yield from script.calls[name]


def _setting(script: Script, arguments: dict[str, ast.expr], setting: str) -> Given | None:
    """Return what some arguments say of a setting; beta1 and beta2 are also taken from a pair."""
    if setting in arguments:
        return given(script, arguments[setting])
    if setting in ("beta1", "beta2") and "betas" in arguments:
        return _of_pair(script, arguments["betas"], int(setting == "beta2"))
    return None


def _of_pair(script: Script, node: ast.expr, index: int) -> Given | None:
    origin = script.origin(node)
    if isinstance(origin, ast.Tuple | ast.List) and len(origin.elts) == 2:
        one = given(script, origin.elts[index])
        return one._replace(sure=one.sure and _is_sure(node)) if one is not None else None
    both = given(script, node)
    if both is None or not isinstance(both.value, tuple) or len(both.value) != 2:
        return None
    element = both.node.elts[index] if isinstance(both.node, ast.Tuple | ast.List) else both.node
    return Given(both.value[index], element, both.sure)


def given(script: Script, node: ast.expr, depth: int = 3) -> Given | None:
    """Return the value of an expression, with the place where it is written; None when it is not known."""
    value = script.constant(node)
    if value is not UNKNOWN:
        origin = script.origin(node)
        assert isinstance(origin, ast.expr)
        return Given(value, origin, _is_sure(node))
    passed = _passed(script, node)
    if passed is not None:
        return given(script, passed, depth - 1) if depth else None
    default = _default(script, node)
    if default is None:
        return None
    value = script.constant(default)
    return None if value is UNKNOWN else Given(value, default, sure=False)


def _is_sure(node: ast.expr) -> bool:
    """Whether what an expression stands for cannot be set from elsewhere: an attribute of anything but `self` can."""
    return not isinstance(node, ast.Attribute) or (isinstance(node.value, ast.Name) and node.value.id == "self")


def _default(script: Script, node: ast.expr) -> ast.expr | None:
    """Return what stands for an expression that is left alone: of a parameter, an option, a class of settings, a dict."""
    for _ in range(3):
        if isinstance(node, ast.Name):
            parameter = _of_parameter(script, node)
            if parameter is not None:
                return parameter
        origin = script.origin(node)
        if origin is node or not isinstance(origin, ast.expr):
            break
        node = origin
    match node:
        case ast.Attribute(value=base, attr=name):
            return _of_option(script, name) if _is_arguments(script, base) else _of_class(script, base, name)
        case ast.Subscript(value=base, slice=ast.Constant(value=str() as name)):
            inner = _mapping(script.origin(base))
            return inner.get(name) if inner is not None else None
    return None


def _of_parameter(script: Script, node: ast.Name) -> ast.expr | None:
    function = script.function(node)
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or script.bound(node) != [None]:
        return None
    arguments = function.args
    placed = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [*[None] * (len(placed) - len(arguments.defaults)), *arguments.defaults]
    pairs = [*zip(placed, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return next((default for argument, default in pairs if argument.arg == node.id), None)


def _passed(script: Script, node: ast.expr) -> ast.expr | None:
    """Return what the one call of a function of the file gives for the parameter that a name stands for."""
    function = script.function(node)
    if not isinstance(node, ast.Name) or not isinstance(function, ast.FunctionDef) or script.bound(node) != [None]:
        return None
    parent = script.parents[function]
    name = parent.name if isinstance(parent, ast.ClassDef) and function.name == "__init__" else function.name
    calls = script.calls.get(name, [])
    if len(calls) != 1 or script.open_ended(calls[0]):
        return None
    placed = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    if isinstance(parent, ast.ClassDef) and placed:
        placed = placed[1:]
    return script.argument(calls[0], node.id, placed.index(node.id) if node.id in placed else -1)


def _is_arguments(script: Script, base: ast.expr) -> bool:
    """Whether an expression stands for the parsed command line."""
    origin = script.origin(base)
    if isinstance(origin, ast.Call):
        return script.dotted(origin.func).rpartition(".")[2] in ("parse_args", "parse_known_args", "get_args", "get_parser")
    name = script.dotted(base).rpartition(".")[2]
    return name in ("args", "opt", "opts", "flags", "FLAGS", "options", "hparams", "hyp", "cfg", "config", "params")


def _of_option(script: Script, name: str) -> ast.expr | None:
    """Return the default of the one option of argparse that is kept under a name."""
    found = []
    for call in (*script.calls.get("add_argument", ()), *script.calls.get("add_option", ())):
        flags = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        dest = script.constant(script.argument(call, "dest"))
        names = {dest} if isinstance(dest, str) else {flag.lstrip("-").replace("-", "_") for flag in flags}
        if name in names:
            found.append(script.argument(call, "default"))
    return found[0] if len(found) == 1 else None


def _of_class(script: Script, base: ast.expr, name: str) -> ast.expr | None:
    """Return what a class of the file, or an instance of it, has for an attribute that nothing else sets."""
    origin = script.origin(base)
    called = origin.func if isinstance(origin, ast.Call) else origin
    if isinstance(origin, ast.Call) and any(k.arg == name for k in origin.keywords):
        return next(k.value for k in origin.keywords if k.arg == name)
    if not isinstance(called, ast.Name):
        return None
    if called.id in _MAPPINGS:
        return None
    for node in script.nodes.get(ast.ClassDef, ()):
        if isinstance(node, ast.ClassDef) and node.name == called.id:
            values = []
            for statement in node.body:
                match statement:
                    case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                        values.append(value)
                    case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                        values.append(value)
            return values[0] if len(values) == 1 else None
    return None


def _mapping(node: ast.AST) -> dict[str, ast.expr] | None:
    """Return the keys and values of a dict that is written out; None for any other expression."""
    if isinstance(node, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        found = {key: value for key, value in zip(keys, node.values, strict=True) if isinstance(key, str)}
        return found if len(found) == len(keys) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {k.arg: k.value for k in node.keywords if k.arg} if all(k.arg for k in node.keywords) else None
    return None


def _groups(script: Script, parameters: ast.expr) -> list[dict[str, ast.expr]]:
    """Return the settings of each parameter group that is written as a dict, without its parameters."""
    origin = script.origin(parameters)
    elements = origin.elts if isinstance(origin, ast.List | ast.Tuple) else [origin]
    found = []
    for element in elements:
        inner = _mapping(element) if isinstance(element, ast.Dict | ast.Call) else None
        if inner is not None and "params" in inner:
            found.append({CANONICAL.get(key, key): value for key, value in inner.items() if key != "params"})
    return found


def models_in(script: Script, node: ast.expr, depth: int = 3) -> frozenset[str]:
    """Return the names of the models that an expression asks for their parameters, names in it followed."""
    found: set[str] = set()
    pending: list[ast.AST] = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and "param" in one.func.attr:
            found.add(script.dotted(one.func.value) or "?")
            continue
        if isinstance(one, ast.Name) and depth and len(bound := script.bound(one)) <= 8:
            for value in bound:
                if value is not None:
                    found |= models_in(script, value, depth - 1)
        pending += ast.iter_child_nodes(one)
    return frozenset(found)


def half_precision(script: Script, model: str, node: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that surely put the parameters of a model into float16, in the function that a node stands in.

    A call under a condition that the node does not share says nothing, nor does one where the model is cast back.
    """
    if any(script.dotted(call.func) == f"{model}.float" for call in script.calls.get("float", ())):
        return
    if any(script.dotted(call.func) == f"{model}.to" and "float32" in script.source(call) for call in script.calls.get("to", ())):
        return
    for name in ("half", "to", "from_pretrained"):
        for call in script.calls.get(name, ()):
            if name == "to" and not any(_is_half(script, a) for a in (*call.args, *(k.value for k in call.keywords))):
                continue
            if name == "from_pretrained" and not any(
                k.arg in ("dtype", "torch_dtype") and _is_half(script, k.value) for k in call.keywords
            ):
                continue
            if script.function(call) is script.function(node) and _is_of(script, call, model) and _is_beside(script, call, node):
                yield call


def _is_half(script: Script, node: ast.expr) -> bool:
    return script.dotted(node) in ("torch.float16", "torch.half") or (isinstance(node, ast.Constant) and node.value == "float16")


def _is_of(script: Script, call: ast.Call, model: str) -> bool:
    """Whether a call is one on a model, or in a chain of calls that makes it: `model.half()`, `model = Net().half().cuda()`."""
    if isinstance(call.func, ast.Attribute) and script.dotted(call.func.value) == model:
        return True
    node: ast.AST = call
    for parent in script.above(call):
        if isinstance(parent, ast.Assign):
            return parent.value is node and any(script.dotted(target) == model for target in parent.targets)
        if not (isinstance(parent, ast.Attribute) or (isinstance(parent, ast.Call) and parent.func is node)):
            return False
        node = parent
    return False


def _is_beside(script: Script, call: ast.AST, node: ast.AST) -> bool:
    """Whether every condition that a call stands under is one that a node stands under too."""
    around = set(script.above(node))
    return all(parent in around for parent in script.above(call) if isinstance(parent, ast.If | ast.Try | ast.IfExp | ast.BoolOp))
