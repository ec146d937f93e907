"""A Keras model is fitted without being compiled, or is changed after it was.

## What it looks like
"You must call `compile()` before calling `fit()`" at the first call; or layers that were to be frozen still train, and those
that were to be trained stay as they are.
## Why it happens
`compile` gives the model its loss and its optimizer, and `fit` needs both. Which layers are trained is settled when the model
is compiled: a change of `trainable` after it is not taken into account until the model is compiled again.
## When it is wrong
The discriminator of a GAN, whose `trainable` is turned off after its own `compile` so that only the combined model has it
frozen: it is trained by `train_on_batch`, of which this rule says nothing.
## What repairs it
`compile` before `fit`, and again after each change of `trainable`.
## References
Keras documentation, Transfer learning and fine-tuning: "Calling compile() on a model is meant to 'freeze' the behavior of that
model. [...] if you change any trainable value, make sure to call compile() again on your model for your changes to be taken
into account".
Keras documentation, Model training APIs: compile, fit.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.keras_models import KerasModels
from traindoctor.code.loaders import classes, functions, within
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

CAUSE = Cause(
    code="TD609",
    name="compile-order",
    summary="a Keras model is fitted without being compiled, or changed after it was",
    explanation=__doc__,
    severity="error",
)

#: What a model can be given to without being compiled there.
_LEAVES_ALONE = frozenset(
    {"print", "len", "type", "isinstance", "plot_model", "display", "Sequential", "Model", "clone_model", "id", "str"}
)
_BRANCHES = (ast.If, ast.IfExp, ast.Try, ast.ExceptHandler, ast.For, ast.AsyncFor, ast.While, ast.Match)


class _Change(NamedTuple):
    """An assignment to `trainable`: of which model or layer, by its name, and to what (None: not known)."""

    node: ast.Assign
    owner: str
    value: object


@CAUSE.in_script("keras|tensorflow", ".fit(")
def fitted(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the calls of `fit` on a model that nothing has compiled."""
    models = KerasModels(script)
    for fit in script.calls.get("fit", ()):
        if not isinstance(fit.func, ast.Attribute):
            continue
        receiver = fit.func.value
        name = script.dotted(receiver)
        built = models.all_built(receiver)
        if not name or built is None or not all(_is_uncompiled(models, made) for made in built):
            continue
        compiles = [c for c in script.calls.get("compile", ()) if _is_of(script, models, c, name, built)]
        if not compiles:
            if not _goes_elsewhere(script, receiver, fit):
                yield Mistake(
                    script.place(fit),
                    f"{name} is fitted and never compiled. It has no loss and no optimizer, and fit raises an error.",
                    f"Call {name}.compile(optimizer=..., loss=...) before.",
                    related=((script.place(built[0]), "built here"),),
                )
        elif all(_follows(script, compile_, fit) for compile_ in compiles) and not _goes_elsewhere(script, receiver, fit):
            yield Mistake(
                script.place(fit),
                f"{name} is fitted before it is compiled, in line {compiles[0].lineno}. At this point it has no "
                "loss and no optimizer, and "
                "fit raises an error.",
                f"Move {name}.compile(...) above.",
                related=((script.place(compiles[0]), "compiled here"),),
            )


@CAUSE.in_script("keras|tensorflow", ".fit(", "trainable", "compile(")
def changed(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the changes of `trainable` between the last `compile` of a model and a `fit` of it."""
    models = KerasModels(script)
    changes = list(_changes(script))
    compiles = [c for c in script.calls.get("compile", ()) if isinstance(c.func, ast.Attribute)]
    told: set[ast.AST] = set()
    for fit in script.calls.get("fit", ()):
        if not isinstance(fit.func, ast.Attribute) or not (name := script.dotted(fit.func.value)):
            continue
        here = [c for c in compiles if script.function(c) is script.function(fit) and c.lineno < fit.lineno]
        mine = [c for c in here if script.dotted(c.func.value) == name]  # type: ignore[attr-defined]
        if not mine or any(isinstance(above, _BRANCHES) for above in _between(script, mine[-1], fit)):
            continue
        last = mine[-1]
        if models.built(last.func.value) is not models.built(fit.func.value):  # type: ignore[attr-defined]
            continue
        for change in changes:
            after = last.lineno < change.node.lineno < fit.lineno and script.function(change.node) is script.function(fit)
            if not after or change.node in told or any(c.lineno > change.node.lineno for c in here):
                continue
            if (
                not _is_part(script, models, change, name, fit)
                or not _differs(script, changes, change)
                or not _surely(script, change, fit)
            ):
                continue
            told.add(change.node)
            before = any(
                f.lineno > last.lineno and f.lineno < change.node.lineno and script.dotted(getattr(f.func, "value", None)) == name
                for f in script.calls.get("fit", ())
            )
            yield Mistake(
                script.place(change.node),
                f"{script.source(change.node.targets[0])} is set after {name} was compiled, in line {last.lineno}, "
                f"and {name} is fitted "
                f"in line {fit.lineno} without being compiled again. "
                + ("fit goes on with the layers of before." if before else "Keras does not promise that fit heeds the change."),
                f"Call {name}.compile(...) again after it, or set it before.",
                severity="error" if before else "warning",
                related=((script.place(last), "compiled here"),),
            )


def _is_uncompiled(models: KerasModels, built: ast.Call) -> bool:
    """Return whether a call surely gives a Keras model that is not compiled yet."""
    name = models.name(built.func)
    if name:
        return name.rpartition(".")[2] in ("Sequential", "Model", "clone_model") or name.startswith("applications.")
    script = models.script
    for other, owner in classes(script, built.func):
        there = KerasModels(other)
        is_model = any(there.last(base) in ("Model", "Sequential") for base in owner.bases)
        own = [f for f in owner.body if isinstance(f, ast.FunctionDef) and f.name in ("fit", "compile", "train")]
        return is_model and not own and not any(within(c, owner) for c in other.calls.get("compile", ()))
    for other, function in functions(script, built.func):
        there = KerasModels(other)
        if any(within(c, function) for c in other.calls.get("compile", ())):
            return False
        returns = [r for r in other.nodes.get(ast.Return, ()) if isinstance(r, ast.Return) and other.function(r) is function]
        made = [there.built(r.value) if r.value is not None else None for r in returns]
        return bool(made) and all(m is not None and there.name(m.func) != "" and _is_uncompiled(there, m) for m in made)
    return False


def _is_of(script: Script, models: KerasModels, call: ast.Call, name: str, built: list[ast.Call]) -> bool:
    """Return whether a `compile` may be that of a model: of its name, or of another name of it."""
    if not isinstance(call.func, ast.Attribute):
        return False
    owners = models.all_built(call.func.value)
    if owners is not None:
        return any(owner in built for owner in owners)
    mine = script.dotted(call.func.value)
    return mine == name or mine.rpartition(".")[2] == name.rpartition(".")[2] or not mine or isinstance(call.func.value, ast.Name)


def _goes_elsewhere(script: Script, receiver: ast.expr, fit: ast.Call) -> bool:
    """Return whether a model is handed to something before it is fitted that may compile it."""
    name = script.dotted(receiver)
    for call in script.nodes.get(ast.Call, ()):
        assert isinstance(call, ast.Call)
        if call.lineno > fit.lineno or call is fit:
            continue
        given = [*call.args, *(k.value for k in call.keywords)]
        if any(script.dotted(a) == name for a in given) and script.function(call) is script.function(fit):
            called = (
                call.func.attr
                if isinstance(call.func, ast.Attribute)
                else call.func.id
                if isinstance(call.func, ast.Name)
                else ""
            )
            if called not in _LEAVES_ALONE:
                return True
    return any(
        isinstance(n, ast.Subscript | ast.Attribute) and script.dotted(n) == f"{name}.compiled" for n in script.all(ast.Attribute)
    )


def _follows(script: Script, later: ast.Call, earlier: ast.Call) -> bool:
    """Return whether a call stands after another on the one way through their function, with no loop around both."""
    if script.function(later) is not script.function(earlier) or later.lineno <= earlier.lineno:
        return False
    return not script.loops(earlier) and not any(isinstance(above, _BRANCHES) for above in _between(script, earlier, later))


def _between(script: Script, one: ast.AST, other: ast.AST) -> Iterator[ast.AST]:
    """Yield what encloses one of two nodes and not the other."""
    around, around_other = list(script.above(one)), list(script.above(other))
    yield from (n for n in around if n not in around_other)
    yield from (n for n in around_other if n not in around)


def _changes(script: Script) -> Iterator[_Change]:
    for node in script.nodes.get(ast.Assign, ()):
        assert isinstance(node, ast.Assign)
        target = node.targets[0]
        if len(node.targets) != 1 or not isinstance(target, ast.Attribute) or target.attr != "trainable":
            continue
        owner = _root(script, target.value)
        for loop in script.loops(node):
            if isinstance(loop, ast.For) and isinstance(loop.target, ast.Name) and loop.target.id == owner:
                owner = _root(script, loop.iter)
        value = script.constant(node.value)
        yield _Change(node, owner, value if isinstance(value, bool) else None)


def _root(script: Script, node: ast.expr) -> str:
    """Return the model that layers are taken of: `model.layers[:-1]`, `model.get_layer("x")` -> "model"."""
    while True:
        match node:
            case ast.Subscript(value=inner) | ast.Call(func=ast.Attribute(value=inner, attr="get_layer")):
                node = inner
            case ast.Attribute(value=inner, attr="layers"):
                node = inner
            case _:
                return script.dotted(node)


def _is_part(script: Script, models: KerasModels, change: _Change, name: str, fit: ast.Call) -> bool:
    """Return whether what is changed is the model that is fitted, or stands in what builds it."""
    if change.owner == name:
        return True
    assert isinstance(fit.func, ast.Attribute)
    built = models.built(fit.func.value)
    if built is None or not change.owner:
        return False
    parts = [built, *(c for c in script.calls.get("add", ()) if script.dotted(getattr(c.func, "value", None)) == name)]
    if any(script.dotted(n) == change.owner for part in parts for n in ast.walk(part)):
        return True
    scope = script.function(built)
    called = (c for c in script.nodes.get(ast.Call, ()) if isinstance(c, ast.Call) and script.dotted(c.func) == change.owner)
    functional = models.last(built.func) == "Model"
    return functional and any(script.function(c) is scope and c.lineno <= built.lineno for c in called)


def _differs(script: Script, changes: list[_Change], change: _Change) -> bool:
    """Return whether a change of `trainable` is one: layers are trainable at first, and what was last set stays."""
    if change.value is None:
        return True
    earlier = [c for c in changes if c.node.lineno < change.node.lineno and c.owner == change.owner]
    return (earlier[-1].value if earlier else True) is not change.value


def _surely(script: Script, change: _Change, fit: ast.Call) -> bool:
    """Return whether the change is made on the way to the fit: it stands under no condition but a loop over layers."""
    between = [n for n in script.above(change.node) if n not in set(script.above(fit))]
    return not any(isinstance(n, (ast.If, ast.Try, ast.While, ast.Match)) for n in between)


_HEAD = """import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers
"""
_BASE = f"""{_HEAD}
base = keras.applications.MobileNetV2(include_top=False, weights="imagenet", pooling="avg")
"""
_MODEL = 'model = keras.Sequential([layers.Dense(64, activation="relu"), layers.Dense(10)])\n'
_COMPILE = 'model.compile(optimizer="adam", loss="mse")\n'

CAUSE.valid_code = (
    Sample("compiled, then fitted", f"{_HEAD}{_MODEL}{_COMPILE}model.fit(x, y)\n"),
    Sample(
        "compiled by the function that makes it",
        f"""{_HEAD}
def make():
    model = keras.Sequential([layers.Dense(1)])
    model.compile("adam", "mse")
    return model

model = make()
model.fit(x, y)
""",
    ),
    Sample("compiled by a helper", f"{_HEAD}{_MODEL}prepare(model)\nmodel.fit(x, y)\n"),
    Sample("loaded", f"{_HEAD}model = keras.models.load_model('model.keras')\nmodel.fit(x, y)\n"),
    Sample(
        "of scikit-learn",
        f"{_HEAD}from sklearn.linear_model import LinearRegression\nmodel = LinearRegression()\nmodel.fit(x, y)\n",
    ),
    Sample("of an unknown library", f"{_HEAD}model = build()\nmodel.fit(x, y)\nscaler.fit(x)\n"),
    Sample(
        "a subclass that compiles itself",
        f"""{_HEAD}
class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.compile("adam", "mse")

net = Net()
net.fit(x, y)
""",
    ),
    Sample(
        "within a strategy",
        f"""{_HEAD}
with strategy.scope():
    model = keras.Sequential([layers.Dense(1)])
    model.compile("adam", "mse")
model.fit(x, y)
""",
    ),
    Sample(
        "in a class",
        f"""{_HEAD}
class Trainer:
    def __init__(self):
        self.model = keras.Sequential([layers.Dense(1)])
        self.prepare()

    def run(self):
        self.model.fit(x, y)

    def prepare(self):
        self.model.compile("adam", "mse")
""",
    ),
    Sample(
        "transfer learning",
        f"""{_BASE}
base.trainable = False
model = keras.Sequential([base, layers.Dense(5)])
model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(data)
base.trainable = True
for layer in base.layers[:100]:
    layer.trainable = False
model.compile(keras.optimizers.Adam(1e-5), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(data)
""",
    ),
    Sample(
        "GAN of two models",
        f"""{_HEAD}
discriminator = keras.Sequential([layers.Dense(1, activation="sigmoid")])
discriminator.compile("adam", "binary_crossentropy")
discriminator.trainable = False
combined = keras.Model(z, discriminator(generator(z)))
combined.compile("adam", "binary_crossentropy")
for epoch in range(1000):
    discriminator.train_on_batch(real, ones)
    combined.train_on_batch(noise, ones)
""",
    ),
    Sample(
        "GAN whose combined model is fitted",
        f"""{_HEAD}
discriminator = keras.Sequential([layers.Dense(1, activation="sigmoid")])
discriminator.compile("adam", "binary_crossentropy")
discriminator.trainable = False
combined = keras.Sequential([generator, discriminator])
combined.compile("adam", "binary_crossentropy")
discriminator.fit(x, y)
combined.fit(noise, ones)
""",
    ),
    Sample("set to what it is", f"{_HEAD}{_MODEL}{_COMPILE}model.trainable = True\nmodel.fit(x, y)\n"),
    Sample("of another model", f"{_BASE}{_MODEL}{_COMPILE}base.trainable = False\nmodel.fit(base.predict(x), y)\n"),
    Sample(
        "compiled again in each round",
        f"""{_HEAD}{_MODEL}
for lr in (1e-3, 1e-4):
    model.compile(keras.optimizers.Adam(lr), "mse")
    model.fit(x, y)
model.trainable = False
""",
    ),
)
CAUSE.invalid_code = (
    Sample("never compiled", f"{_HEAD}{_MODEL}history = model.fit(x, y, epochs=5)  # <-\n"),
    Sample("compiled after", f"{_HEAD}{_MODEL}model.fit(x, y)  # <-\n{_COMPILE}"),
    Sample(
        "functional form in a function",
        f"""{_HEAD}
def train(x, y):
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(1)(inputs))
    model.summary()
    model.fit(x, y)  # <-
    return model
""",
    ),
    Sample(
        "made by a function",
        f"""{_HEAD}
def make():
    model = tf.keras.models.Sequential()
    model.add(layers.Dense(1))
    return model

net = make()
net.fit(x, y)  # <-
""",
    ),
    Sample(
        "subclass",
        f"""{_HEAD}
class Net(tf.keras.Model):
    def call(self, x):
        return self.out(x)

net = Net()
net.build((None, 8))
net.fit(x, y)  # <-
""",
    ),
    Sample("frozen after", f"{_HEAD}{_MODEL}{_COMPILE}model.trainable = False  # <-\nmodel.fit(x, y)\n"),
    Sample(
        "layers frozen after",
        f"{_HEAD}{_MODEL}{_COMPILE}for layer in model.layers[:-1]:\n    layer.trainable = False  # <-\nmodel.fit(x, y)\n",
    ),
    Sample(
        "base thawed after it was fitted",
        f"""{_BASE}
base.trainable = False
inputs = keras.Input((160, 160, 3))
model = keras.Model(inputs, layers.Dense(5)(base(inputs, training=False)))
model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(data, epochs=5)
base.trainable = True  # <-
model.fit(data, epochs=5)
""",
    ),
)
