"""What a Keras model gives, and what its loss expects: followed through layers, models and helper functions of one file.

A model is followed from where it is used to the layer that it ends in: Sequential with its `add` calls, the functional form,
subclasses with a `call` method, functions that return a model. What is not known is None; nothing is run.

Source: Keras documentation of keras.layers, keras.losses and keras.applications.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from traindoctor.code.loaders import Function, classes, functions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

#: Names followed from one use to the layer or the model behind it.
DEPTH = 24

_KERAS = re.compile(r"(?:(?:tensorflow\.(?:compat\.v\d\.)?(?:python\.)?)?keras(?:\.src|\.api)?|tf_keras|keras_core)\.(.+)")
_TENSORFLOW = re.compile(r"tensorflow\.(?:compat\.v\d\.)?(.+)")
#: Layers with units (or filters) and an activation, and where `activation` stands by position.
WITH_UNITS = {
    "Dense": 1,
    "EinsumDense": -1,
    "Conv1D": -1,
    "Conv2D": -1,
    "Conv3D": -1,
    "Convolution2D": -1,
    "Conv2DTranspose": -1,
    "Conv3DTranspose": -1,
    "SeparableConv2D": -1,
}
#: Layers that give the values they are given, in some other shape or type.
SAME_VALUES = frozenset(
    {"Reshape", "Flatten", "Identity", "Permute", "RepeatVector", "Cropping2D", "ZeroPadding2D", "UpSampling2D"}
)
#: Functions that make probabilities of scores.
SQUASHES = {"softmax": "softmax", "sigmoid": "sigmoid"}


class Output(NamedTuple):
    """What a model ends in: `activation` of its last layer ("" for none), `units` where known, that layer's call in `script`."""

    activation: str
    units: int | None
    node: ast.expr
    script: Script


class Loss(NamedTuple):
    """A cross entropy: of classes ("categorical"), of class numbers ("sparse") or of yes and no ("binary").

    `from_logits`: None where it is not known. `node`: where it is chosen.
    """

    kind: Literal["categorical", "sparse", "binary"]
    from_logits: bool | None
    node: ast.expr
    flag: ast.expr | None = None


_LOSSES: dict[str, Literal["categorical", "sparse", "binary"]] = {
    "categoricalcrossentropy": "categorical",
    "categoricalfocalcrossentropy": "categorical",
    "sparsecategoricalcrossentropy": "sparse",
    "binarycrossentropy": "binary",
    "binaryfocalcrossentropy": "binary",
    "bce": "binary",
}


class KerasModels:
    """The models of one script."""

    def __init__(self, script: Script) -> None:
        self.script = script

    # -- names

    def name(self, node: ast.AST | None) -> str:
        """Return the name of something of Keras or TensorFlow less the package: "layers.Dense", "nn.softmax"; "" for others."""
        dotted = self.script.dotted(node)
        if not dotted:
            return ""
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id not in self.script.imports:
            made = self.script.origin(root)
            if made is not root and (prefix := self.script.dotted(made)):
                dotted = prefix + dotted[len(root.id) :]
            elif "keras" in self.script.imports.get("*", "") and isinstance(node, ast.Name) and not self.script.bound(node):
                dotted = f"keras.{node.id}"
        match = _KERAS.fullmatch(dotted) or _TENSORFLOW.fullmatch(dotted)
        return match.group(1) if match else ""

    def last(self, node: ast.AST | None) -> str:
        """Return the last part of the name of something of Keras or TensorFlow: "Dense"; "" for others."""
        return self.name(node).rpartition(".")[2]

    def values(self, node: ast.expr) -> list[ast.expr] | None:
        """Return the expressions that a name or `self.x` may stand for at its place; None where one of them is not known."""
        script = self.script
        if isinstance(node, ast.Attribute):
            known = script.bound(node)
            return [v for v in known if v is not None] if known and None not in known else None
        if not isinstance(node, ast.Name):
            return [node]
        definitions, outside = script.definitions.reaching(node.id, node)
        found: list[ast.expr] = []
        for definition in definitions:
            if definition.kind == "assign" and not definition.path and definition.value is not None:
                found.append(definition.value)
            elif definition.kind == "parameter":
                given = self.given(definition.node)
                if given is None:
                    return None
                found += given
            else:
                return None
        if outside:
            if definitions:
                return None
            return self._of_module(node)
        return found

    def _of_module(self, node: ast.Name) -> list[ast.expr] | None:
        """Return what a name of the module may stand for in a function: the last binding before it, and all after it."""
        functions_around = [n for n in self.script.above(node) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        known = self.script.bound(node)
        if not functions_around or not known or None in known:
            return None
        start = functions_around[-1].lineno
        values = sorted((v for v in known if v is not None), key=lambda v: v.lineno)
        before = [v for v in values if v.lineno < start]
        return before[-1:] + values[len(before) :]

    def given(self, parameter: ast.AST) -> list[ast.expr] | None:
        """Return what the calls in this file give a parameter of a function; None where one of them is not known, or none is."""
        function = self.script.function(parameter)
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or not isinstance(parameter, ast.arg):
            return None
        names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        method = isinstance(self.script.parents.get(function), ast.ClassDef)
        if parameter.arg not in names:
            return None
        place = names.index(parameter.arg) - method
        owner = self.script.parents.get(function)
        name = owner.name if function.name == "__init__" and isinstance(owner, ast.ClassDef) else function.name
        found = []
        for call in self.script.calls.get(name, ()):
            given = self.script.argument(call, parameter.arg, place)
            if given is not None:
                found.append(given)
            elif name != "compile":  # every model has a `compile`, those of Keras too
                return None
        return found or None

    # -- models

    def output(self, model: ast.expr) -> Output | None:
        """Return what the layer, or the model, that an expression stands for gives; None where it is not known."""
        return self._of_layer(model, DEPTH)

    def of_tensor(self, tensor: ast.expr) -> Output | None:
        """Return what made a tensor: the last layer that it went through; None where it is not known."""
        return self._of_tensor(tensor, DEPTH)

    def _agreed(self, values: list[ast.expr] | None, depth: int, *, tensor: bool) -> Output | None:
        found = [(self._of_tensor if tensor else self._of_layer)(value, depth - 1) for value in values or ()]
        first = found[0] if found else None
        if first is None or any(f is None or (f.activation, f.units) != (first.activation, first.units) for f in found):
            return None
        return first

    def _of_layer(self, node: ast.expr, depth: int) -> Output | None:
        if depth < 0:
            return None
        if isinstance(node, ast.Name | ast.Attribute):
            values = self.values(node)
            return self._agreed(values, depth, tensor=False)
        if not isinstance(node, ast.Call):
            return None
        name = self.last(node.func)
        if name in WITH_UNITS:
            activation = self._activation(self.script.argument(node, "activation", WITH_UNITS[name]))
            units = self.script.constant(self.script.argument(node, "filters" if "Conv" in name else "units", 0))
            if activation is None or self.script.open_ended(node) or name == "EinsumDense":
                return None
            return Output(activation, units if isinstance(units, int) else None, node, self.script)
        if name in ("Activation", "Softmax"):
            activation = "softmax" if name == "Softmax" else self._activation(self.script.argument(node, "activation", 0))
            return Output(activation, None, node, self.script) if activation else None
        if name == "TimeDistributed" and node.args:
            return self._of_layer(node.args[0], depth - 1)
        if name in ("clone_model", "multi_gpu_model") and node.args:
            return self._of_layer(node.args[0], depth - 1)
        if name == "Sequential":
            return self._of_sequential(node, depth)
        if name in ("Model", "Functional"):
            outputs = self.script.argument(node, "outputs", 1) or self.script.argument(node, "output")
            return self._of_tensor(outputs, depth - 1) if outputs is not None else None
        if ".applications." in f".{self.name(node.func)}" or self.name(node.func).startswith("applications."):
            return self._of_application(node)
        return self._of_own(node, depth)

    def _of_application(self, node: ast.Call) -> Output | None:
        top = self.script.argument(node, "include_top", 0)
        if top is not None and self.script.constant(top) is not True:
            return None
        given = self.script.argument(node, "classifier_activation")
        activation = "softmax" if given is None else self._activation(given)
        return Output(activation, None, node, self.script) if activation is not None else None

    def _of_own(self, node: ast.Call, depth: int) -> Output | None:
        """Return what a class with a `call` method, or a function that returns a model, of the project gives."""
        for other, owner in classes(self.script, node.func)[-1:]:
            there = self if other is self.script else KerasModels(other)
            call = next((f for f in owner.body if isinstance(f, ast.FunctionDef) and f.name == "call"), None)
            is_model = any(there.last(base) in ("Model", "Layer", "Sequential") for base in owner.bases)
            return there._agreed(there._returns(call), depth, tensor=True) if call is not None and is_model else None
        for other, function in functions(self.script, node.func):
            there = self if other is self.script else KerasModels(other)
            return there._agreed(there._returns(function), depth, tensor=False)
        return None

    def _returns(self, function: Function) -> list[ast.expr] | None:
        found = []
        for node in self.script.nodes.get(ast.Return, ()):
            if isinstance(node, ast.Return) and self.script.function(node) is function:
                if node.value is None:
                    return None
                found.append(node.value)
        return found

    def layers(self, model: ast.Call) -> list[ast.expr] | None:
        """Return the layers of a Sequential model in order, those of its `add` calls too; None where they are not known."""
        listed = self.script.argument(model, "layers", 0)
        found: list[ast.expr] = []
        if listed is not None:
            listed = self.script.origin(listed) if isinstance(listed, ast.Name) else listed  # type: ignore[assignment]
            if not isinstance(listed, ast.List | ast.Tuple):
                return None
            found += listed.elts
        statement = self.script.statement(model)
        if isinstance(statement, ast.Assign) and statement.value is model and len(statement.targets) == 1:
            target = statement.targets[0]
            for call in self.script.calls.get("add", ()):
                if not isinstance(call.func, ast.Attribute) or not self._is_model(call.func.value, target, model):
                    continue
                if self.script.parents.get(self.script.statement(call)) is not self.script.parents.get(statement):
                    return None
                found += call.args[:1]
            if any(
                self._is_model(c.func.value, target, model)
                for c in self.script.calls.get("pop", ())
                if isinstance(c.func, ast.Attribute)
            ):
                return None
        return None if any(isinstance(layer, ast.Starred) for layer in found) else found

    def _is_model(self, receiver: ast.expr, target: ast.expr, model: ast.Call) -> bool:
        if self.script.dotted(receiver) != self.script.dotted(target) or not self.script.dotted(target):
            return False
        return self.values(receiver) == [model]

    def _of_sequential(self, node: ast.Call, depth: int) -> Output | None:
        layers = self.layers(node)
        for layer in reversed(layers or ()):
            made = layer
            if isinstance(made, ast.Name) and (values := self.values(made)) is not None and len(values) == 1:
                made = values[0]
            if not self._keeps_values(made):
                return self._of_layer(made, depth - 1)
        return None

    def _keeps_values(self, layer: ast.expr) -> bool:
        if not isinstance(layer, ast.Call):
            return False
        name = self.last(layer.func)
        if name == "Activation":
            return self._activation(self.script.argument(layer, "activation", 0)) == ""
        return name in SAME_VALUES

    def _of_tensor(self, node: ast.expr, depth: int) -> Output | None:
        if depth < 0:
            return None
        if isinstance(node, ast.Name | ast.Attribute):
            return self._agreed(self.values(node), depth, tensor=True)
        if isinstance(node, ast.List | ast.Tuple) and len(node.elts) == 1:
            return self._of_tensor(node.elts[0], depth - 1)
        if not isinstance(node, ast.Call):
            return None
        if isinstance(node.func, ast.Call) and self._keeps_values(node.func) and node.args:
            return self._of_tensor(node.args[0], depth - 1)
        name = self.last(node.func)
        if name in SQUASHES and not self.name(node.func).startswith("layers."):
            return Output(SQUASHES[name], None, node, self.script)
        if name in ("reshape", "cast", "squeeze", "identity", "expand_dims") and node.args:
            return self._of_tensor(node.args[0], depth - 1)
        if name:
            return None
        if isinstance(node.func, ast.Call | ast.Name | ast.Attribute):
            values = self.values(node.func) if isinstance(node.func, ast.Name) else None
            if values is not None and len(values) == 1 and self._keeps_values(values[0]) and node.args:
                return self._of_tensor(node.args[0], depth - 1)
            if isinstance(node.func, ast.Name) and functions(self.script, node.func):
                return self._of_function(node, depth)
            return self._of_layer(node.func, depth - 1)
        return None

    def _of_function(self, node: ast.Call, depth: int) -> Output | None:
        for other, function in functions(self.script, node.func):
            if other is self.script:
                return self._agreed(self._returns(function), depth, tensor=True)
        return None

    def _activation(self, node: ast.expr | None) -> str | None:
        """Return an activation by its name, "" for none; None where it is not known."""
        if node is None:
            return ""
        value = self.script.constant(node)
        if value is None or isinstance(value, str):
            return "" if value in (None, "linear") else str(value).lower()
        made = self.script.origin(node)
        if isinstance(made, ast.Call):
            return self.last(made.func).lower() or None
        name = self.name(made)
        return (
            name.rpartition(".")[2].lower().replace("linear", "")
            if name.startswith(("nn.", "activations.", "math.", "sigmoid", "ops.", "layers."))
            else None
        )

    # -- losses

    def loss(self, node: ast.expr | None) -> Loss | None:
        """Return the cross entropy that an expression stands for: its name, its class, its function, or one made of it."""
        if node is None:
            return None
        if isinstance(node, ast.Name | ast.Attribute) and not self.name(node):
            return self._named_loss(node)
        if isinstance(node, ast.Constant):
            kind = _LOSSES.get(str(node.value).lower().replace("_", "")) if isinstance(node.value, str) else None
            return Loss(kind, False, node) if kind else None
        call = node if isinstance(node, ast.Call) else None
        kind = _LOSSES.get(self.last(call.func if call else node).lower().replace("_", ""))
        if kind is None or "metrics." in self.name(call.func if call else node):
            return None
        if call is None:
            return Loss(kind, False, node)
        if self.script.open_ended(call):
            return None
        focal = "ocal" in self.last(call.func)
        flag = self.script.argument(call, "from_logits", -1 if focal else 0)
        value = False if flag is None else self.script.constant(flag)
        return Loss(kind, value if isinstance(value, bool) else None, node, flag)

    def _named_loss(self, node: ast.expr) -> Loss | None:
        values = self.values(node)
        if values:
            found = [
                self.loss(value) for value in values if not isinstance(value, ast.Name) or value.id != getattr(node, "id", "")
            ]
            first = found[0] if found else None
            same = first is not None and all(f is not None and f[:2] == first[:2] for f in found)
            return first if same else None
        for other, function in functions(self.script, node):
            returned = self._returns(function) if other is self.script else None
            if returned and len(returned) == 1 and isinstance(returned[0], ast.Call):
                used = self.loss_of_call(returned[0])
                parameters = [a.arg for a in function.args.args]
                if used is not None and isinstance(used[1], ast.Name) and used[1].id in parameters[:2]:
                    return used[0]
        return None

    def loss_of_call(self, call: ast.Call) -> tuple[Loss, ast.expr] | None:
        """Return the cross entropy that a call works out, and the prediction it is given; None for any other call."""
        name = self.last(call.func)
        prediction = self.script.argument(call, "y_pred", 1) or self.script.argument(call, "output", 1)
        if name and _LOSSES.get(name.lower().replace("_", "")) and name[0].islower():
            kind = _LOSSES[name.lower().replace("_", "")]
            flag = self.script.argument(call, "from_logits", 2)
            value = False if flag is None else self.script.constant(flag)
            loss = Loss(kind, value if isinstance(value, bool) else None, call, flag)
            return (loss, prediction) if prediction is not None and not self.script.open_ended(call) else None
        if name in (
            "softmax_cross_entropy_with_logits",
            "sparse_softmax_cross_entropy_with_logits",
            "sigmoid_cross_entropy_with_logits",
        ):
            logits = self.script.argument(call, "logits", 1)
            kind = "binary" if name.startswith("sigmoid") else "sparse" if name.startswith("sparse") else "categorical"
            return (Loss(kind, True, call), logits) if logits is not None else None
        if name or prediction is None:
            return None
        made = call.func
        if isinstance(made, ast.Name | ast.Attribute):
            values = self.values(made)
            if values is None or len(values) != 1 or not isinstance(values[0], ast.Call):
                return None
            made = values[0]
        found = self.loss(made) if isinstance(made, ast.Call) else None
        return (found, prediction) if found is not None else None

    # -- compile and fit

    def compiled(self) -> Iterator[tuple[ast.Call, ast.expr]]:
        """Yield the `compile` calls of Keras models, each with the model as it is written."""
        for call in self.script.calls.get("compile", ()):
            func = call.func
            if not isinstance(func, ast.Attribute) or self.script.dotted(func) in ("re.compile", "torch.compile"):
                continue
            named = any(self.script.argument(call, name) is not None for name in ("optimizer", "loss", "metrics"))
            if named or len(call.args) >= 2:
                yield call, func.value

    def built(self, model: ast.expr) -> ast.Call | None:
        """Return the call that builds the model a name stands for, where there is one alone; of this file or of Keras."""
        found = self.all_built(model)
        return found[0] if found is not None and len(found) == 1 else None

    def all_built(self, model: ast.expr, depth: int = 6) -> list[ast.Call] | None:
        """Return the calls that build the models a name may stand for; None where one of them is not known."""
        if isinstance(model, ast.Call):
            return [model]
        values = self.values(model) if depth else None
        found = [self.all_built(value, depth - 1) if value is not model else None for value in values or ()]
        if not found or None in found:
            return None
        return list(dict.fromkeys(call for calls in found if calls is not None for call in calls))
