"""Where a tensor comes from: which function was applied to it last, and whether gradients still flow through it.

An expression is followed through assignments, tuples, methods, torch functions, layers, the `forward` of classes of the
project and its functions, into parameters from the calls at hand. Each path gives one Tensor; what is not known stays so.
Nothing is run.
"""

from __future__ import annotations

import ast
import re
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

from traindoctor.code.names import INSTALLED
from traindoctor.code.project import speaks_of
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.definitions import Definition, Path
    from traindoctor.code.script import Script

#: Expressions looked at for one question; beyond it the answer is "not known".
BUDGET = 300
#: How many calls deep functions and `forward` methods are followed.
DEPTH = 6
#: How many expressions deep an answer is looked for.
NESTING = 50
#: How many paths of one expression are told apart.
PATHS = 12

Form = Literal["", "logits", "softmax", "log_softmax", "sigmoid", "log_sigmoid"]
Flow = Literal["", "live", "data", "cut"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Spot(NamedTuple):
    """A node with the script it stands in."""

    script: Script
    node: ast.AST


class Tensor(NamedTuple):
    """What is known of a tensor on one path.

    `form`: the function whose output it is, "logits" for that of a linear or convolutional layer, "" where not known; `by`:
    where it was applied. `flow`: "live" carries gradients of parameters, "data" never had any, "cut" lost them at `at` through
    the operation `cut` ("detach", "argmax", "no_grad" ...), "" where not known. `guess`: a name alone said so.
    """

    form: Form = ""
    by: Spot | None = None
    flow: Flow = ""
    cut: str = ""
    at: Spot | None = None
    guess: bool = False


UNKNOWN = Tensor()
DATA = Tensor(flow="data")
LIVE = Tensor(flow="live")

# fmt: off
#: Functions and methods that give their name, or another, to what they return.
FORMS: dict[str, Form] = {
    "softmax": "softmax", "log_softmax": "log_softmax", "sigmoid": "sigmoid", "sigmoid_": "sigmoid", "expit": "sigmoid",
    "logsigmoid": "log_sigmoid",
}
#: Layers likewise.
FORM_LAYERS: dict[str, Form] = {
    "Softmax": "softmax", "Softmax2d": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid", "LogSigmoid":
    "log_sigmoid",
}
LINEAR_LAYERS = frozenset({
    "Linear", "LazyLinear", "Bilinear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
})
#: Layers that hand on what they are given, or its shape changed.
SAME_LAYERS = frozenset({"Identity", "Flatten", "Unflatten", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "Squeeze"})
ACTIVATIONS = frozenset({
    "ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Tanh", "Hardtanh", "Hardswish", "Hardsigmoid",
    "Softplus", "Softsign", "Softmin", "Threshold", "Tanhshrink", "MaxPool1d", "MaxPool2d", "MaxPool3d", "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool2d", "Upsample", "PixelShuffle",
})
WRAPPERS = frozenset({
    "DataParallel", "DistributedDataParallel", "DDP", "FSDP", "FullyShardedDataParallel", "compile", "convert_sync_batchnorm",
    "deepcopy", "script", "prepare_model", "setup_module", "wrap",
})
MODEL_METHODS = frozenset({
    "to", "cuda", "cpu", "train", "eval", "half", "float", "double", "bfloat16", "requires_grad_", "compile", "type",
})
#: Methods and functions after which a tensor holds the same numbers, or some of them.
SAME = frozenset({
    "view", "reshape", "squeeze", "squeeze_", "unsqueeze", "unsqueeze_", "flatten", "unflatten", "permute", "transpose",
    "transpose_",
    "swapaxes", "movedim", "contiguous", "float", "double", "half", "bfloat16", "to", "cuda", "cpu", "clone", "type",
    "type_as", "t",
    "expand", "expand_as", "repeat", "narrow", "chunk", "split", "clamp", "clamp_", "clip", "view_as", "reshape_as",
    "masked_select",
    "index_select", "dropout", "rearrange", "nan_to_num", "select", "unbind", "gather",
})
#: Operations whose gradient is zero or that have none.
DECISIONS = frozenset({
    "argmax", "argmin", "argsort", "round", "round_", "sign", "sign_", "floor", "ceil", "trunc", "long", "int", "bool",
    "byte", "short",
    "ge", "gt", "lt", "le", "eq", "ne", "greater", "less", "heaviside", "multinomial", "bernoulli", "one_hot", "nonzero",
    "logical_and", "logical_or", "logical_not", "bucketize", "searchsorted", "count_nonzero", "isin",
})
DETACHING = frozenset({"detach", "detach_", "numpy", "tolist", "item"})
#: Functions with a second result that holds indices.
WITH_INDICES = frozenset({"max", "min", "sort", "topk", "median", "mode", "kthvalue", "cummax", "cummin"})
#: Constructors that copy the numbers and leave the graph behind.
COPIES = frozenset({
    "tensor", "Tensor", "FloatTensor", "DoubleTensor", "HalfTensor", "LongTensor", "IntTensor", "BoolTensor", "Variable",
    "from_numpy", "scalar_tensor",
})
FACTORIES = frozenset({
    "zeros", "ones", "rand", "randn", "randint", "empty", "full", "arange", "linspace", "eye", "randperm", "normal",
    "zeros_like",
    "ones_like", "rand_like", "randn_like", "randint_like", "full_like", "empty_like", "tril", "triu", "device", "manual_seed",
    "new_zeros", "new_ones", "new_full", "new_tensor",
})
FUNCTIONAL_LOSSES = {
    "cross_entropy": "cross_entropy", "nll_loss": "nll", "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce_logits", "mse_loss": "mse", "l1_loss": "l1", "smooth_l1_loss": "smooth_l1",
    "huber_loss": "huber", "soft_margin_loss": "soft_margin", "multilabel_soft_margin_loss": "multilabel",
    "gaussian_nll_loss": "gaussian",
    "poisson_nll_loss": "poisson", "kl_div": "kl",
}
LOSS_LAYERS = {
    "CrossEntropyLoss": "cross_entropy", "NLLLoss": "nll", "NLLLoss2d": "nll", "BCELoss": "bce", "BCEWithLogitsLoss":
    "bce_logits",
    "MSELoss": "mse", "L1Loss": "l1", "SmoothL1Loss": "smooth_l1", "HuberLoss": "huber", "SoftMarginLoss": "soft_margin",
    "MultiLabelSoftMarginLoss": "multilabel", "GaussianNLLLoss": "gaussian", "PoissonNLLLoss": "poisson", "KLDivLoss": "kl",
}
#: Losses whose target is a class, or a number of 0 to 1: their arguments are not exchanged by mistake.
CLASSIFYING = frozenset({"cross_entropy", "nll", "bce", "bce_logits", "multilabel", "soft_margin"})
# fmt: on
LABEL = lazy(
    r"^(ys?|y_?(b|true|batch|train|gt)|(b|batch)_?y|(batch_?)?(labels?|targets?)(_\w)?|batch|gt|gts|ground_?truths?|true_?\w*)$",
    re.IGNORECASE,
)
LOADER = lazy(r"load|batch|data|(^|_)(dl|ds|it|iter|train|val|valid|test)(_|$)|dl$", re.IGNORECASE)
OUTPUT = lazy(r"out|pred|logit|feat|emb|loss|prob|score|hidden|state", re.IGNORECASE)
MODEL = lazy(
    r"model|(^|_)(net|module|encoder|decoder|backbone|classifier|generator|discriminator|critic|actor|policy|student|unet"
    r"|transformer|mlp|cnn|rnn|lstm|gru|gpt|bert|vae|autoencoder|head)(_|\d|$)|net\d*$",
    re.IGNORECASE,
)
#: Names of losses that hold no network of their own.
PLAIN_CRITERION = lazy(r"^(criterion|crit|criteria|loss_?(fn|func|function|fct|f))$", re.IGNORECASE)
CRITERION = lazy(r"crit|loss|entropy|(^|_)(ce|bce|nll|mse)(_|$)", re.IGNORECASE)


class Bound(NamedTuple):
    """What a parameter was given: an expression and the frame it stands in, or tensors."""

    value: ast.expr | tuple[Tensor, ...]
    frame: Frame | None = None


class Frame:
    """One look into a function: its script, what its parameters were given, and the class whose object `self` is."""

    __slots__ = ("depth", "function", "given", "owner", "script")

    def __init__(
        self,
        script: Script,
        function: ast.AST | None,
        given: dict[str, Bound] | None = None,
        owner: Instance | None = None,
        depth: int = 0,
    ) -> None:
        self.script = script
        self.function = function
        self.given = given or {}
        self.owner = owner if owner is not None else _class_of(script, function)
        self.depth = depth


class Instance(NamedTuple):
    """An object of a class of the project: the class, the call that built it, and the frame of that call."""

    script: Script
    node: ast.ClassDef
    call: ast.Call | None = None
    frame: Frame | None = None


class Made(NamedTuple):
    """A call that builds something that is not of the project (a layer, a loss), with its frame."""

    node: ast.Call
    frame: Frame
    name: str


def _class_of(script: Script, function: ast.AST | None) -> Instance | None:
    """Return the class that a function is a method of, or stands in a method of."""
    node = function
    while node is not None:
        parent = script.parents.get(node)
        if isinstance(parent, ast.ClassDef):
            return Instance(script, parent)
        node = parent
    return None


def is_torch(script: Script, dotted: str) -> bool:
    """Return whether a dotted name is one of torch's; F, nn and torch count where nothing is known of them."""
    head, dot, _ = dotted.partition(".")
    return bool(dot) and (head == "torch" or (head in ("F", "nn") and head not in script.imports))


class Tensors:
    """Answers about the tensors of one script; its answers are kept."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._local: dict[ast.AST | None, Frame] = {}
        self._active: set[tuple[ast.expr, Frame, Path]] = set()
        self._active_objects: set[tuple[ast.expr, Frame, Path]] = set()
        self._known: dict[tuple[ast.expr, Frame, Path], tuple[Tensor, ...]] = {}
        self._known_objects: dict[tuple[ast.expr, Frame, Path], list[Made | Instance | None]] = {}
        self._left = 0
        self._given_up = 0  # answers that hold only for the question that was being asked
        self._returns: dict[ast.AST | None, list[ast.expr]] = {}
        self._defined: dict[Script, dict[str, list[ast.AST]]] = {}
        self._names: dict[tuple[Script, str, bool], Spot | None] = {}

    # -- questions

    def frame(self, node: ast.AST) -> Frame:
        """Return the frame of the function of the script that a node stands in, nothing known of its parameters."""
        function = self.script.function(node)
        if function not in self._local:
            self._local[function] = Frame(self.script, function)
        return self._local[function]

    def of(self, node: ast.expr, frame: Frame) -> tuple[Tensor, ...]:
        """Return what is known of an expression, one Tensor for each path that differs; never empty."""
        self._left = BUDGET
        try:
            return self._value(node, frame, ()) or (UNKNOWN,)
        except RecursionError:
            return (UNKNOWN,)

    def objects(self, node: ast.expr, frame: Frame) -> list[Made | Instance | None]:
        """Return what an expression may stand for, as it was built; None in the list for what is not known."""
        self._left = BUDGET
        try:
            return self._objects(node, frame, ())
        except RecursionError:
            return [None]

    def loss_kind(self, call: ast.Call, frame: Frame) -> str:
        """Return which loss of torch a call computes ("cross_entropy", "bce_logits" ...); "" for any other, or several."""
        func = call.func
        dotted = frame.script.dotted(func)
        name = dotted.rpartition(".")[2]
        if name in FUNCTIONAL_LOSSES and is_torch(frame.script, dotted):
            return FUNCTIONAL_LOSSES[name]
        kinds = {LOSS_LAYERS.get(o.name, "") if isinstance(o, Made) else "" for o in self.objects(func, frame)}
        return kinds.pop() if len(kinds) == 1 else ""

    # -- names

    def _alternatives(self, node: ast.Name | ast.Attribute, frame: Frame) -> Iterator[tuple[Definition, Frame]]:
        """Yield what a name or an attribute of self may be bound to, with the frame to read it in."""
        script = frame.script
        path = node.id if isinstance(node, ast.Name) else plain(node)
        if not path:
            return
        definitions, opened = script.definitions.reaching(path, node)
        for definition in definitions:
            yield definition, frame
        if isinstance(node, ast.Attribute):
            if opened and path.startswith("self.") and path.count(".") == 1:
                yield from self._attributes(frame.owner, path, frame.depth + 1)
        elif not definitions:
            function = script.function(node)
            while function is not None:
                outer = script.function(function)
                found = script.definitions.within(outer if outer is not None else script.tree, path)
                for definition in found:
                    yield definition, Frame(script, outer, depth=frame.depth + 1)
                if found:
                    return
                function = outer

    def _attributes(self, owner: Instance | None, path: str, depth: int) -> Iterator[tuple[Definition, Frame]]:
        """Yield what the methods of a class, or of its bases in the project, bind an attribute of self to."""
        if owner is None or depth > DEPTH:
            return
        script = owner.script
        found = False
        for method in owner.node.body:
            if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                given = {}
                if method.name == "__init__" and owner.call is not None and owner.frame is not None:
                    given = _given(method, owner.call, owner.frame, bound=True) or {}
                for definition in script.definitions.within(method, path):
                    found = True
                    yield definition, Frame(script, method, given, owner, depth)
        if not found:
            for base in owner.node.bases:
                parent = self._class(script, script.dotted(base))
                if parent is not None:
                    yield from self._attributes(Instance(*parent, owner.call, owner.frame), path, depth + 1)

    def _arguments(self, definition: Definition, frame: Frame) -> list[Bound] | None:
        """Return what a parameter is given: by the frame, else by the calls of the function in its file; None if not known."""
        assert isinstance(definition.node, ast.arg)
        name = definition.node.arg
        if name in frame.given:
            return [frame.given[name]]
        script, function = frame.script, frame.function
        if frame.given or frame.depth > DEPTH or not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            return None
        owner = script.parents.get(function)
        method = isinstance(owner, ast.ClassDef)
        called = owner.name if isinstance(owner, ast.ClassDef) and function.name == "__init__" else function.name
        if called.startswith("__") or called == "forward":
            return None
        found = []
        for call in script.calls.get(called, ()):
            if method and function.name != "__init__" and not isinstance(call.func, ast.Attribute):
                continue
            if not method and not isinstance(call.func, ast.Name):
                continue
            given = _given(function, call, Frame(script, script.function(call), depth=frame.depth + 1), bound=method)
            if given is None or name not in given:
                return None
            found.append(given[name])
        return found or None

    # -- functions and classes of the project

    def _module(self, script: Script, dotted: str) -> tuple[Script, str] | None:
        """Return the script and the name in it that a dotted name of an import stands for."""
        module, _, name = dotted.rpartition(".")
        if not module or script.project is None or module.partition(".")[0] in INSTALLED:
            return None
        other = script.project.module(module, script.file, speaks_of(name))
        return (other, name) if other is not None else None

    def _definitions(self, script: Script) -> dict[str, list[ast.AST]]:
        """Return the functions and classes of a script by their name."""
        if script not in self._defined:
            found: dict[str, list[ast.AST]] = {}
            for node in script.all(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef):
                found.setdefault(node.name, []).append(node)  # type: ignore[attr-defined]
            self._defined[script] = found
        return self._defined[script]

    def _top_level(self, script: Script, name: str, is_class: bool, hops: int = 2) -> Spot | None:
        """Return the function or class of a name at the top of a script, or of one that it imports it from."""
        for node in self._definitions(script).get(name, ()):
            if isinstance(node, ast.ClassDef) == is_class and isinstance(script.parents.get(node), ast.Module | ast.If | ast.Try):
                return Spot(script, node)
        imported = script.imports.get(name)
        if imported and hops:
            found = self._module(script, imported)
            if found is not None:
                return self._top_level(*found, is_class, hops - 1)
        return None

    def _named(self, script: Script, dotted: str, is_class: bool) -> Spot | None:
        """Return the function or class that a dotted name stands for, imports already written out in it."""
        key = (script, dotted, is_class)
        if key not in self._names:
            found = (script, dotted) if "." not in dotted else self._module(script, dotted)
            self._names[key] = self._top_level(*found, is_class) if found is not None and dotted else None
        return self._names[key]

    def _class(self, script: Script, dotted: str) -> tuple[Script, ast.ClassDef] | None:
        spot = self._named(script, dotted, True)
        return (spot.script, spot.node) if spot is not None and isinstance(spot.node, ast.ClassDef) else None

    def _method(self, owner: Instance | None, name: str, depth: int = 0) -> tuple[Script, ast.FunctionDef] | None:
        """Return a method of a class, looked for in its bases of the project too."""
        if owner is None or depth > 4:
            return None
        for node in owner.node.body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return owner.script, node
        for base in owner.node.bases:
            parent = self._class(owner.script, owner.script.dotted(base))
            if parent is not None and parent[1] is not owner.node:
                found = self._method(Instance(*parent), name, depth + 1)
                if found is not None:
                    return found
        return None

    def called(self, call: ast.Call, frame: Frame) -> list[Frame]:
        """Return the functions of the project that a call enters, each a frame with its parameters bound; [] if none is known."""
        if frame.depth >= DEPTH:
            return []
        script, func = frame.script, call.func
        if isinstance(func, ast.Name):
            inner = [n for n in self._definitions(script).get(func.id, ()) if isinstance(script.parents.get(n), ast.FunctionDef)]
            spot = Spot(script, inner[0]) if inner and not isinstance(inner[0], ast.ClassDef) else None
            spot = spot or self._named(script, script.dotted(func), False)
            if spot is not None:
                return self._entered(spot.script, spot.node, call, frame, None)
        elif isinstance(func, ast.Attribute):
            spot = self._named(script, script.dotted(func), False)
            if spot is not None:
                return self._entered(spot.script, spot.node, call, frame, None)
            owners: list[Made | Instance | None] = (
                [frame.owner]
                if isinstance(func.value, ast.Name) and func.value.id == "self"
                else self._objects(func.value, frame, ())
            )
            found: list[Frame] = []
            for owner in owners:
                method = self._method(owner, func.attr) if isinstance(owner, Instance) else None
                if method is None or not isinstance(owner, Instance):
                    return []
                found += self._entered(*method, call, frame, owner)
            return found
        return []

    def entered(self, call: ast.Call, frame: Frame) -> list[Frame]:
        """Return what a call enters in the project: functions, or the `forward` of an object; [] if nothing is known."""
        self._left = BUDGET
        found = self.called(call, frame)
        if not found and frame.depth < DEPTH:
            for one in self._objects(call.func, frame, ()):
                method = self._method(one, "forward") or self._method(one, "__call__") if isinstance(one, Instance) else None
                if method is None or not isinstance(one, Instance):
                    return []
                found += self._entered(*method, call, frame, one)
        return found

    def alternatives(self, node: ast.Name | ast.Attribute, frame: Frame) -> list[tuple[Definition, Frame]]:
        """Return what a name or an attribute of self may be bound to, each with the frame to read it in."""
        return list(self._alternatives(node, frame))

    def arguments(self, definition: Definition, frame: Frame) -> list[tuple[ast.expr, Frame]]:
        """Return the expressions that a parameter is given by the calls at hand."""
        bound = self._arguments(definition, frame) or ()
        return [(b.value, b.frame) for b in bound if isinstance(b.value, ast.expr) and b.frame is not None]

    def _entered(self, script: Script, function: ast.AST, call: ast.Call, frame: Frame, owner: Instance | None) -> list[Frame]:
        given = _given(function, call, frame, bound=owner is not None)
        return [Frame(script, function, given, owner, frame.depth + 1)] if given is not None else []

    def returns(self, frame: Frame) -> list[ast.expr]:
        """Return the expressions that the function of a frame returns; [] for a generator, or where it may return nothing."""
        function, script = frame.function, frame.script
        if isinstance(function, ast.Lambda):
            return [function.body]
        if function not in self._returns:
            first, last = function.lineno, function.end_lineno or 0  # type: ignore[union-attr]
            mine = [
                n
                for n in script.all(ast.Return, ast.Yield, ast.YieldFrom)
                if first <= n.lineno <= last and script.function(n) is function  # type: ignore[attr-defined]
            ]
            values = [n.value for n in mine if isinstance(n, ast.Return) and n.value is not None]
            self._returns[function] = values if len(values) == len(mine) else []
        return self._returns[function]

    # -- what was built

    def _objects(self, node: ast.expr, frame: Frame, path: Path) -> list[Made | Instance | None]:
        key = (node, frame, path)
        if key in self._known_objects:
            return self._known_objects[key]
        self._left -= 1
        if key in self._active_objects or self._left < 0 or len(self._active_objects) + len(self._active) > NESTING:
            self._given_up += 1
            return [None]
        self._active_objects.add(key)
        given_up = self._given_up
        try:
            found = self._built(node, frame, path) or [None]
        finally:
            self._active_objects.discard(key)
        if self._given_up == given_up:
            self._known_objects[key] = found
        return found

    def _built(self, node: ast.expr, frame: Frame, path: Path) -> list[Made | Instance | None]:
        found: list[Made | Instance | None] = []
        script = frame.script
        match node:
            case ast.Name(id="self") if frame.owner is not None:
                return [frame.owner]
            case ast.Name() | ast.Attribute():
                if isinstance(node, ast.Attribute) and node.attr == "module":
                    return self._objects(node.value, frame, path)
                for definition, where in self._alternatives(node, frame):
                    found += self._bound_object(definition, where, path)
                if not found and isinstance(node, ast.Attribute):
                    for owner in self._objects(node.value, frame, ()):
                        if isinstance(owner, Instance):
                            for definition, where in self._attributes(owner, f"self.{node.attr}", frame.depth + 1):
                                found += self._bound_object(definition, where, path)
                return found
            case ast.IfExp():
                return self._objects(node.body, frame, path) + self._objects(node.orelse, frame, path)
            case ast.Tuple() | ast.List() if path and isinstance(path[0], int) and path[0] < len(node.elts):
                return self._objects(node.elts[path[0]], frame, path[1:])
            case ast.Subscript(slice=ast.Constant(value=int() | str() as index)):
                return self._objects(node.value, frame, (index, *path))
            case ast.Dict() if path:
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == path[0]:
                        return self._objects(value, frame, path[1:])
                return []
            case ast.Call():
                dotted = script.dotted(node.func)
                name = node.func.attr if isinstance(node.func, ast.Attribute) else dotted.rpartition(".")[2]
                if name in ("ModuleDict", "ModuleList", "dict") and path:
                    return self._element(node, frame, path)
                if name in WRAPPERS and node.args:
                    return self._objects(node.args[0], frame, path)
                if name in ("prepare", "setup", "initialize") and isinstance(node.func, ast.Attribute):
                    index = path[0] if path and isinstance(path[0], int) else 0
                    return self._objects(node.args[index], frame, path[1:]) if index < len(node.args) else []
                if name in MODEL_METHODS and isinstance(node.func, ast.Attribute) and not is_torch(script, dotted):
                    return self._objects(node.func.value, frame, path)
                made = self._class(script, dotted)
                if made is not None:
                    return [Instance(*made, node, frame)]
                if is_torch(script, dotted):
                    return [Made(node, frame, name)]
                for entered in self.called(node, frame):
                    values = self.returns(entered)
                    found += [one for value in values for one in self._objects(value, entered, path)] or [None]
                return found
        return []

    def _element(self, node: ast.Call, frame: Frame, path: Path) -> list[Made | Instance | None]:
        """Return what stands under a key in a `ModuleDict`, a `ModuleList` or a `dict(...)`."""
        for keyword in node.keywords:
            if keyword.arg == path[0]:
                return self._objects(keyword.value, frame, path[1:])
        return self._objects(node.args[0], frame, path) if node.args else []

    def _bound_object(self, definition: Definition, frame: Frame, path: Path) -> list[Made | Instance | None]:
        if definition.kind == "parameter":
            given = self._arguments(definition, frame) or []
            found: list[Made | Instance | None] = []
            for bound in given:
                if isinstance(bound.value, ast.expr) and bound.frame is not None:
                    found += self._objects(bound.value, bound.frame, path)
            return found or [None]
        if definition.kind == "assign" and definition.value is not None:
            return self._objects(definition.value, frame, definition.path + path)
        return [None]

    # -- tensors

    def _value(self, node: ast.expr, frame: Frame, path: Path) -> tuple[Tensor, ...]:
        """Return what is known of an expression with a path applied; () where it comes back to itself."""
        known = (node, frame, path)
        if known in self._known:
            return self._known[known]
        self._left -= 1
        if self._left < 0 or len(self._active_objects) + len(self._active) > NESTING:
            self._given_up += 1
            return (UNKNOWN,)
        if known in self._active:
            self._given_up += 1
            return ()
        self._active.add(known)
        given_up = self._given_up
        try:
            found = _distinct(self._seen(node, frame, path))
        finally:
            self._active.discard(known)
        if self._given_up == given_up or not self._active:
            self._known[known] = found
        return found

    def _seen(self, node: ast.expr, frame: Frame, path: Path) -> Sequence[Tensor]:
        script = frame.script
        match node:
            case ast.Constant() | ast.JoinedStr():
                return (DATA,)
            case ast.Name() | ast.Attribute():
                return self._name(node, frame, path)
            case ast.Subscript():
                index = node.slice
                if isinstance(index, ast.UnaryOp) and isinstance(index.op, ast.USub) and isinstance(index.operand, ast.Constant):
                    return self._value(node.value, frame, path)
                if isinstance(index, ast.Constant) and isinstance(index.value, int | str):
                    return self._value(node.value, frame, (index.value, *path))
                return self._value(node.value, frame, path)
            case ast.Tuple() | ast.List():
                if not node.elts or any(isinstance(e, ast.Starred) for e in node.elts):
                    return (UNKNOWN,)  # an empty list is filled later
                if path and isinstance(path[0], int):
                    return self._value(node.elts[path[0]], frame, path[1:]) if path[0] < len(node.elts) else (UNKNOWN,)
                return self._joined([self._value(e, frame, ()) for e in node.elts], keep_form=True)
            case ast.Dict():
                for key, value in zip(node.keys, node.values, strict=True):
                    if path and isinstance(key, ast.Constant) and key.value == path[0]:
                        return self._value(value, frame, path[1:])
                return (UNKNOWN,)
            case ast.IfExp():
                return (*self._value(node.body, frame, path), *self._value(node.orelse, frame, path))
            case ast.NamedExpr() | ast.Starred() | ast.Await():
                return self._value(node.value, frame, path)
            case ast.UnaryOp():
                operand = self._value(node.operand, frame, ())
                if isinstance(node.op, ast.Not | ast.Invert):
                    return _decided(operand, "comparison", Spot(script, node))
                return tuple(t._replace(form="", by=None) if t.form != "logits" else t for t in operand)
            case ast.Compare():
                if any(isinstance(op, ast.Is | ast.IsNot | ast.In | ast.NotIn) for op in node.ops):
                    return (DATA,)
                operands = [self._value(e, frame, ()) for e in (node.left, *node.comparators)]
                return _decided(self._joined(operands), "comparison", Spot(script, node))
            case ast.BinOp() | ast.Call():
                found = self._operated(node, frame) if isinstance(node, ast.BinOp) else self._called_value(node, frame, path)
                fence = without_gradients(script, node)
                return found if fence is None else _cut_off(found, "no_grad", Spot(script, fence), even_unknown=True)
        return (UNKNOWN,)

    def _name(self, node: ast.Name | ast.Attribute, frame: Frame, path: Path) -> Sequence[Tensor]:
        script = frame.script
        found: list[Tensor] = []
        bound = False
        for definition, where in self._alternatives(node, frame):
            bound = True
            found += self._bound_value(definition, where, path)
        if bound and self._is_leaf(script, plain(node)):
            return (LIVE,)
        if bound and isinstance(node, ast.Name) and LABEL.search(node.id):
            return tuple(DATA._replace(guess=True) if t == UNKNOWN else t for t in found)
        if bound:
            return found
        dotted = script.dotted(node)
        head = dotted.partition(".")[0]
        if isinstance(node, ast.Name):
            return (UNKNOWN,)
        if node.attr == "data":
            base = self._value(node.value, frame, ())
            return tuple(t._replace(flow="cut", cut="data", at=Spot(script, node)) if t.flow == "live" else t for t in base)
        if node.attr in ("T", "mT", "H", "real", "values", "indices"):
            index = {"values": (0,), "indices": (1,)}.get(node.attr, ())
            return self._value(node.value, frame, (*index, *path))
        if node.attr in ("shape", "dtype", "device", "ndim", "training") or (head in INSTALLED and dotted):
            return (DATA,)
        if node.attr == "grad" or (isinstance(node.value, ast.Name) and node.value.id == "self"):
            return (UNKNOWN,)
        return tuple(
            t._replace(form="", by=None) if t.flow in ("live", "data", "cut") else UNKNOWN
            for t in self._value(node.value, frame, ())
        )

    def _is_leaf(self, script: Script, path: str) -> bool:
        """Return whether a name or attribute is told to gather gradients: `x.requires_grad = True`, `x.requires_grad_()`."""
        told = [getattr(n, "value", None) for n in script.definitions.stores_of_attribute("requires_grad")]
        told += [getattr(call.func, "value", None) for call in script.calls.get("requires_grad_", ())]
        return any(isinstance(node, ast.expr) and plain(node) == path for node in told)

    def _bound_value(self, definition: Definition, frame: Frame, path: Path) -> Sequence[Tensor]:
        match definition.kind:
            case "assign" if definition.value is not None:
                return self._value(definition.value, frame, definition.path + path)
            case "augment" if isinstance(definition.node, ast.AugAssign) and definition.value is not None:
                before = self._value(definition.node.target, frame, ())
                return self._joined([before, self._value(definition.value, frame, ())])
            case "parameter" if isinstance(definition.node, ast.arg):
                given = self._arguments(definition, frame)
                if given is None:
                    return (DATA._replace(guess=True),) if LABEL.search(definition.node.arg) else (UNKNOWN,)
                found: list[Tensor] = []
                for bound in given:
                    if isinstance(bound.value, tuple):
                        found += bound.value
                    elif bound.frame is not None:
                        found += self._value(bound.value, bound.frame, path)
                return found
            case "loop" if definition.value is not None:
                if is_loader(frame.script, definition.value):
                    return (DATA,)
                several = len(definition.path) == 1 and isinstance(definition.value, ast.Name | ast.Attribute | ast.Subscript)
                return (DATA._replace(guess=True),) if several and not OUTPUT.search(plain(definition.value)) else (UNKNOWN,)
        return (UNKNOWN,)

    def _operated(self, node: ast.BinOp, frame: Frame) -> Sequence[Tensor]:
        left, right = self._value(node.left, frame, ()), self._value(node.right, frame, ())
        joined = self._joined([left, right])
        scaled, other = (left, node.right) if not isinstance(node.left, ast.Constant) else (right, node.left)
        if isinstance(node.op, ast.FloorDiv):
            return _decided(joined, "floor division", Spot(frame.script, node))
        if isinstance(other, ast.Constant) and isinstance(node.op, ast.Add):
            return scaled  # softmax(z) + 1e-8 is still softmax(z)
        if (
            isinstance(node.op, ast.Mult | ast.Div)
            and all(t.form == "logits" for t in left)
            and all(t.flow == "data" for t in right)
        ):
            return left
        return joined

    def _joined(self, operands: Sequence[Sequence[Tensor]], *, keep_form: bool = False) -> tuple[Tensor, ...]:
        """Return what several tensors give together, for each combination of their paths."""
        parts = [_distinct(o) or (UNKNOWN,) for o in operands]
        size = 1
        for part in parts:
            size *= len(part)
        if not parts:
            return (DATA,)
        if size > PATHS:
            return (UNKNOWN,)
        return tuple(_join(combination, keep_form) for combination in product(*parts))

    def _called_value(self, node: ast.Call, frame: Frame, path: Path) -> Sequence[Tensor]:
        script, func = frame.script, node.func
        dotted = script.dotted(func)
        name = func.attr if isinstance(func, ast.Attribute) else dotted.rpartition(".")[2]
        if is_torch(script, dotted):
            if name[:1].isupper() and name not in COPIES and name != "Parameter":
                return (UNKNOWN,)  # a layer or a distribution, not a tensor; `layer.weight` is neither data nor cut
            return self._operation(name, node, None, frame, path)
        if isinstance(func, ast.Name):
            if dotted in ("float", "int", "bool") and node.args:
                return _cut_off(self._value(node.args[0], frame, ()), dotted, Spot(script, node))
            if dotted in ("len", "range", "id", "str"):
                return (DATA,)
            if dotted in ("sum", "max", "min", "abs") and len(node.args) == 1:
                return self._joined([self._value(node.args[0], frame, ())])
        entered = self.called(node, frame)
        if entered:
            return self._returned(entered, path)
        built = self._objects(func, frame, ())
        if any(o is not None for o in built):
            arguments = [self._value(a, frame, ()) for a in node.args if not isinstance(a, ast.Starred)]
            found: list[Tensor] = []
            for one in built:
                found += self._applied(one, arguments, node, frame, path)
            return found
        of_module = (
            isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id in ("self", *script.imports)
        )
        if isinstance(func, ast.Attribute) and not of_module and (name in KNOWN_METHODS or not MODEL.search(name)):
            return self._operation(name, node, func.value, frame, path)
        if name in ("tensor", "Variable", "rearrange") and node.args:
            return self._operation(name, node, None, frame, path)
        if MODEL.search(name):
            return (LIVE._replace(guess=True),)
        if PLAIN_CRITERION.search(name) and len(node.args) == 2:
            joined = self._joined([self._value(a, frame, ()) for a in node.args])
            return tuple(t._replace(guess=True) for t in joined)
        return (UNKNOWN,)

    def _loss(self, kind: str, arguments: Sequence[Sequence[Tensor]]) -> Sequence[Tensor]:
        """Return what a loss of torch gives; the target of a classification is data where nothing else is known of it."""
        if kind in CLASSIFYING and len(arguments) > 1:
            arguments = [arguments[0], tuple(DATA if t.flow == "" or t.guess else t for t in arguments[1])]
        return self._joined(arguments[:2])

    def _returned(self, frames: Sequence[Frame], path: Path) -> Sequence[Tensor]:
        found: list[Tensor] = []
        for frame in frames:
            values = self.returns(frame)
            fenced = fence_of(frame.function)
            for value in values:
                tensors = self._value(value, frame, path)
                found += (
                    tensors if fenced is None else _cut_off(tensors, "no_grad", Spot(frame.script, fenced), even_unknown=True)
                )
            if not values:
                found.append(UNKNOWN)
        return found

    def _applied(
        self, one: Made | Instance | None, arguments: Sequence[Sequence[Tensor]], node: ast.Call, frame: Frame, path: Path
    ) -> Sequence[Tensor]:
        """Return what a layer, a loss or an object of the project gives when it is called."""
        first = arguments[0] if arguments else (UNKNOWN,)
        if one is None:
            return (LIVE._replace(guess=True),) if MODEL.search(plain(node.func).rpartition(".")[2]) else (UNKNOWN,)
        if isinstance(one, Instance):
            method = self._method(one, "forward") or self._method(one, "__call__")
            if method is None:
                return (UNKNOWN,)
            given = _given(method[1], node, frame, bound=True) if node.args or node.keywords else {}
            if given is None:
                return (LIVE,)
            entered = Frame(*method, given, one, frame.depth + 1)
            if entered.depth > DEPTH:
                return (UNKNOWN,)
            returned = self._returned([entered], path)
            if method[1].name == "forward":  # what layers return carries gradients, as far as is known
                returned = [t._replace(flow="live", guess=True) if t.flow == "" else t for t in returned]
            if self._is_altered(one, frame.script):
                return tuple(t._replace(form="", by=None) for t in returned)
            return returned
        spot = Spot(one.frame.script, one.node)
        if one.name in FORM_LAYERS:  # where it is applied: the layer itself may serve elsewhere too
            return tuple(t._replace(form=FORM_LAYERS[one.name], by=Spot(frame.script, node)) for t in first)
        if one.name in LINEAR_LAYERS:
            return (Tensor("logits", spot, "live"),)
        if one.name in SAME_LAYERS:
            return first
        if one.name in ACTIVATIONS:
            return tuple(t._replace(form="", by=None) for t in first)
        if one.name in LOSS_LAYERS:
            return self._loss(LOSS_LAYERS[one.name], arguments)
        if one.name == "Sequential":
            return self._chained(one, first)
        return (LIVE,)

    def _is_altered(self, one: Instance, script: Script) -> bool:
        """Return whether a layer of an object is replaced from outside, as in `model.fc = nn.Linear(...)`."""
        altered = script.definitions.attributes_of_others
        return bool(altered) and any(one.script.definitions.stores(f"self.{name}") for name in altered)

    def _chained(self, sequential: Made, value: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return what a Sequential gives: that of its last layers."""
        layers: Sequence[ast.expr] = sequential.node.args
        if len(layers) == 1 and isinstance(layers[0], ast.Call) and layers[0].args:  # OrderedDict([("name", layer), ...])
            listed = layers[0].args[0]
            if isinstance(listed, ast.List) and all(isinstance(e, ast.Tuple) and len(e.elts) == 2 for e in listed.elts):
                layers = [e.elts[1] for e in listed.elts if isinstance(e, ast.Tuple)]
        if not layers or "add_module" in sequential.frame.script.calls:
            return (LIVE,)  # it is filled later
        for layer in self._written_out(layers, sequential.frame):
            if isinstance(layer, ast.Starred):
                value = (LIVE,)
                continue
            after: list[Tensor] = []
            for one in self._objects(layer, sequential.frame, ()):
                after += self._run(one, value)
            value = _distinct(after)
        return value

    def _written_out(self, layers: Sequence[ast.expr], frame: Frame) -> Iterator[ast.expr]:
        """Yield layers with `*layers` of a list in its place, and what its function always appends to it behind it."""
        script = frame.script
        scope = frame.function or script.tree
        for layer in layers:
            name = layer.value.id if isinstance(layer, ast.Starred) and isinstance(layer.value, ast.Name) else ""
            found = script.definitions.reaching(name, layer)[0] if name else []
            if not found or any(d.kind not in ("assign", "augment") or not isinstance(d.value, ast.List) for d in found):
                yield layer
                continue
            if len(found) == 1 and found[0].kind == "assign" and isinstance(found[0].value, ast.List):
                yield from found[0].value.elts
            else:
                yield layer
            bound = max(d.node.lineno for d in found)  # type: ignore[attr-defined]
            calls = [call for method in ("append", "extend", "insert") for call in script.calls.get(method, ())]
            for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
                if plain(call.func).rpartition(".")[0] != name or script.function(call) is not frame.function:
                    continue
                always = plain(call.func) == f"{name}.append" and script.parents.get(script.statement(call)) is scope
                if call.lineno > bound or not always:
                    yield call.args[0] if always and call.args else layer

    def _run(self, one: Made | Instance | None, value: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return what a layer gives for a tensor."""
        if not isinstance(one, Instance):
            return self._applied(one, [value], one.node, one.frame, ()) if one is not None else (UNKNOWN,)
        method = self._method(one, "forward")
        if method is None or len(method[1].args.args) < 2:
            return (UNKNOWN,)
        depth = one.frame.depth + 1 if one.frame is not None else 1
        entered = Frame(*method, {method[1].args.args[1].arg: Bound(tuple(value))}, one, depth)
        return self._returned([entered], ()) if depth <= DEPTH else (UNKNOWN,)

    def _operation(self, name: str, node: ast.Call, receiver: ast.expr | None, frame: Frame, path: Path) -> Sequence[Tensor]:
        """Return what a function of torch, or a method of a tensor, gives."""
        script = frame.script
        spot = Spot(script, node)
        operands = [receiver, *node.args] if receiver is not None else list(node.args)
        if not operands:
            named = frame.script.argument(node, "input")
            operands = [named] if named is not None else []
        if _is_true(script.argument(node, "requires_grad")):
            return self._leaf(operands[0], name, spot, frame) if operands and name in COPIES and receiver is None else (LIVE,)
        if name in FACTORIES or not operands or isinstance(operands[0], ast.Starred):
            return (DATA,) if name in FACTORIES else (UNKNOWN,)
        if name == "Parameter":
            return (LIVE,)
        if name == "requires_grad_":
            detached = isinstance(operands[0], ast.Call | ast.Attribute)  # of a name it switches on what is on
            return self._leaf(operands[0], "detach", spot, frame) if detached else (LIVE,)
        first = self._value(operands[0], frame, path if name in SAME and name not in ("chunk", "split", "unbind") else ())
        if name in FORMS:
            return tuple(t._replace(form=FORMS[name], by=spot) for t in first)
        if name in SAME or (name == "as_tensor" and receiver is None):
            return first
        if name in DECISIONS or (name in WITH_INDICES and path[:1] == (1,)):
            return _decided(first, "argmax" if name in WITH_INDICES else name, spot)
        if name in DETACHING:
            return _cut_off(first, name, spot, even_unknown=name in ("detach", "detach_"))
        if name in COPIES and receiver is None:
            return _cut_off(first, name, spot)
        if name in ("log", "log_"):
            return tuple(_logarithm(t, spot) for t in first)
        if name in ("exp", "exp_"):
            return tuple(t._replace(form="softmax" if t.form == "log_softmax" else "", by=spot) for t in first)
        if name == "where" and len(operands) == 3:
            chosen, condition = (
                operands[1:] if receiver is None else [operands[0], operands[2]],
                first if receiver is None else (),
            )
            joined = self._joined([self._value(o, frame, ()) for o in chosen])
            if all(t.flow == "data" for t in joined) and condition:
                return tuple(t if t.flow == "cut" else UNKNOWN for t in condition)
            return joined
        if name in ("cat", "stack", "concat", "hstack", "vstack"):
            return tuple(first)
        others = [self._value(o, frame, ()) for o in operands[1:] if not isinstance(o, ast.Starred)]
        if receiver is not None and name not in KNOWN_METHODS:
            if any(t.flow == "live" for other in others for t in other):
                return (UNKNOWN,)  # it may well hand on what it is given
            return tuple(t._replace(form="", by=None) if t.flow in ("cut", "data") else UNKNOWN for t in first)
        if name in FUNCTIONAL_LOSSES and receiver is None:
            others += [self._value(k.value, frame, ()) for k in node.keywords if k.arg == "target"]
            return self._loss(FUNCTIONAL_LOSSES[name], [first, *others])
        if name == "data_parallel" and len(operands) > 1:
            return [t for one in self._objects(operands[0], frame, ()) for t in self._run(one, others[0])]
        if receiver is None or name in BINARY:
            return self._joined([first, *others])
        return tuple(t._replace(form="", by=None) for t in first)

    def _leaf(self, of: ast.expr, how: str, spot: Spot, frame: Frame) -> Sequence[Tensor]:
        """Return a tensor that is told to gather gradients, which is live, but for one that stands in the place of an output.

        That one was copied or detached (`how`), so that no gradient reaches the model, and nothing reads what it gathers.
        """
        while True:
            match of:
                case ast.Call(func=ast.Attribute(attr=name, value=inner)) if name in DETACHING or name in SAME:
                    of = inner
                case ast.Attribute(attr="data", value=inner):
                    of = inner
                case _:
                    break
        output = self._value(of, frame, ())
        if not output or any(t.flow != "live" for t in output) or _is_trained(spot):
            return (LIVE,)
        return _cut_off(output, how, spot)


# fmt: off
BINARY = frozenset({
    "add", "sub", "mul", "div", "pow", "matmul", "mm", "bmm", "dot", "add_", "sub_", "mul_", "div_", "lerp", "maximum", "minimum",
})
REDUCTIONS = frozenset({
    "mean", "sum", "abs", "sqrt", "square", "norm", "neg", "prod", "std", "var", "logsumexp", "tanh", "relu", "log1p", "exp2",
})
KNOWN_METHODS = (
    SAME | DECISIONS | DETACHING | WITH_INDICES | BINARY | REDUCTIONS | FORMS.keys()
    | {"log", "log_", "exp", "exp_", "where", "masked_fill", "masked_fill_", "requires_grad_"}
)
# fmt: on


def _is_trained(spot: Spot) -> bool:
    """Return whether a tensor that gathers gradients may be a parameter: listed, returned, kept, or asked for its gradient."""
    script, parent = spot.script, spot.script.parents.get(spot.node)
    if isinstance(parent, ast.Call) and spot.node in parent.args:
        return _takes_gradients(script, parent)
    if not isinstance(parent, ast.Assign) or len(parent.targets) != 1 or not isinstance(parent.targets[0], ast.Name):
        return True
    for above in (script.parents.get(use) for use in script.names.get(parent.targets[0].id, ())):
        match above:
            case ast.List() | ast.Tuple() | ast.Set() | ast.Dict() | ast.Return() | ast.keyword():
                return True
            case ast.Attribute(attr="grad" | "register_hook" | "retain_grad"):
                return True
            case ast.Call() if _takes_gradients(script, above):
                return True
    return False


def _takes_gradients(script: Script, call: ast.Call) -> bool:
    return script.dotted(call.func).rpartition(".")[2] in ("grad", "append")


def _is_true(node: ast.expr | None) -> bool:
    return node is not None and not (isinstance(node, ast.Constant) and not node.value)


def plain(node: ast.expr) -> str:
    """Return the dotted path of names and dots as it is written, "" for any other expression."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _join(tensors: Sequence[Tensor], keep_form: bool) -> Tensor:
    guess = any(t.guess for t in tensors)
    first = tensors[0]
    form = first.form if keep_form and all(t.form == first.form for t in tensors) else ""
    by = first.by if form else None
    flows: tuple[Flow, ...] = ("live", "")
    for flow in flows:
        if any(t.flow == flow for t in tensors):
            return Tensor(form, by, flow, guess=guess)
    cut = next((t for t in tensors if t.flow == "cut"), None)
    return Tensor(form, by, "cut", cut.cut, cut.at, guess) if cut is not None else Tensor(form, by, "data", guess=guess)


def _distinct(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    found = tuple(dict.fromkeys(tensors))
    return found if len(found) <= PATHS else (UNKNOWN,)


def _decided(tensors: Sequence[Tensor], how: str, spot: Spot) -> tuple[Tensor, ...]:
    """Return tensors after an operation without a gradient: of data it is data, of anything else it is cut."""
    return tuple(Tensor(flow="data", guess=t.guess) if t.flow == "data" else _lost(t, how, spot) for t in tensors)


def _lost(tensor: Tensor, how: str, spot: Spot) -> Tensor:
    if tensor.flow == "cut":
        return tensor._replace(form="", by=None)
    return Tensor(flow="cut", cut=how, at=spot, guess=tensor.guess)


def _cut_off(tensors: Sequence[Tensor], how: str, spot: Spot, *, even_unknown: bool = False) -> tuple[Tensor, ...]:
    """Return tensors after an operation that leaves the graph behind; the numbers stay what they are."""
    return tuple(
        t._replace(flow="cut", cut=how, at=spot) if t.flow == "live" or (even_unknown and t.flow == "") else t for t in tensors
    )


def _logarithm(tensor: Tensor, spot: Spot) -> Tensor:
    form: Form = {"softmax": "log_softmax", "sigmoid": "log_sigmoid"}.get(tensor.form, "")  # type: ignore[assignment]
    return tensor._replace(form=form, by=spot if form else None)


def _given(function: ast.AST, call: ast.Call, frame: Frame, *, bound: bool) -> dict[str, Bound] | None:
    """Return what the parameters of a function are given by a call; None where `*` or `**` hides it."""
    if not isinstance(function, _FUNCTIONS) or any(isinstance(a, ast.Starred) for a in call.args):
        return None
    if any(k.arg is None for k in call.keywords):
        return None
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in getattr(function, "decorator_list", ()))
    if bound and not static:
        names = names[1:]
    given = {name: Bound(value, frame) for name, value in zip(names, call.args, strict=False)}
    for keyword in call.keywords:
        if keyword.arg is not None:
            given[keyword.arg] = Bound(keyword.value, frame)
    defaults = (*function.args.posonlyargs, *function.args.args)
    for argument, default in zip(reversed(defaults), reversed(function.args.defaults), strict=False):
        given.setdefault(argument.arg, Bound(default, frame))
    for argument, kw_default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if kw_default is not None:
            given.setdefault(argument.arg, Bound(kw_default, frame))
    return given


def is_loader(script: Script, node: ast.expr) -> bool:
    """Return whether a loop goes over batches, by the names in what it iterates over."""
    while isinstance(node, ast.Call):
        names = script.dotted(node.func).rpartition(".")[2]
        if names in ("enumerate", "tqdm", "trange", "iter", "zip", "track", "islice", "cycle", "reversed") and node.args:
            if names == "zip":
                return all(is_loader(script, a) for a in node.args)
            node = node.args[0]
        else:
            return names == "range" or bool(LOADER.search(names))
    while isinstance(node, ast.Subscript):
        node = node.value
    path = plain(node)
    return bool(path and LOADER.search(path.rpartition(".")[2]))


def fence_of(function: ast.AST | None) -> ast.AST | None:
    """Return the decorator of a function that switches gradients off."""
    for decorator in getattr(function, "decorator_list", ()):
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if getattr(target, "attr", getattr(target, "id", "")) in ("no_grad", "inference_mode"):
            return decorator  # type: ignore[no-any-return]
    return None


def without_gradients(script: Script, node: ast.AST) -> ast.AST | None:
    """Return the `with` that switches gradients off where a node stands, within its function; None where they are on."""
    if "no_grad" not in script.calls and "inference_mode" not in script.calls:
        return None
    for parent in script.above(node):
        if isinstance(parent, _FUNCTIONS):
            return None
        if isinstance(parent, ast.With | ast.AsyncWith):
            for item in parent.items:
                name = getattr(
                    getattr(item.context_expr, "func", None), "attr", getattr(getattr(item.context_expr, "func", None), "id", "")
                )
                if name == "enable_grad":
                    return None
                if name in ("no_grad", "inference_mode"):
                    return parent
    return None
