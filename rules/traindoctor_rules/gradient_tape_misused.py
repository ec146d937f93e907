"""The gradients of a GradientTape are those of nothing, are paired with the wrong variables, or are never applied.

## What it looks like
"No gradients provided for any variable", "not enough values to unpack" or a shape error at the first step, or, where the
gradients are thrown away, a loss that stays where it began.
## Why it happens
The tape records what is computed while its `with` block is open, and nothing else: a loss that is made after it, or of
predictions that were made before it, has no gradient (None). The tape lets go of what it holds at the first `gradient`.
`apply_gradients` takes pairs of gradient and variable in this order, and it alone changes the weights.
## When it is wrong
Gradients that are computed to be looked at: then something reads them, and this rule is silent.
## What repairs it
Forward pass and loss inside the block, one `gradient` call for one tape (or `persistent=True`), and
`optimizer.apply_gradients(zip(gradients, variables))`.
## References
TensorFlow guide, Introduction to gradients and automatic differentiation: "TensorFlow 'records' relevant operations executed
inside the context of a tf.GradientTape onto a 'tape'"; "by default, the resources held by a GradientTape are released as soon
as the GradientTape.gradient method is called".
Keras documentation, Optimizer.apply_gradients: "grads_and_vars: List of (gradient, variable) pairs".
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.keras_models import KerasModels
from traindoctor.code.loaders import functions, within
from traindoctor.mistake import Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

CAUSE = Cause(
    code="TD608",
    name="gradient-tape-misused",
    summary="the gradients of a tape are those of nothing, misplaced, or never applied",
    explanation=__doc__,
    severity="error",
)

_VARIABLES = ("trainable_variables", "trainable_weights")
#: Methods that make gradients of gradients.
_PASSES = ("get_unscaled_gradients", "clip_by_global_norm", "clip_by_norm")
#: Calls of a block that work on their arguments alone.
_PURE = (
    "nn.",
    "math.",
    "losses.",
    "reduce_",
    "ones_like",
    "zeros_like",
    "cast",
    "squeeze",
    "reshape",
    "one_hot",
    "square",
    "abs",
)


class _Tape(NamedTuple):
    """A call of `gradient`, and the `with` block whose tape it asks."""

    call: ast.Call
    block: ast.With | ast.AsyncWith
    made: ast.Call
    name: str


@CAUSE.in_script("GradientTape", "gradient(")
def recorded(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the gradients of what was not recorded, and those that a tape is asked for a second time."""
    models = KerasModels(script)
    tapes = list(_tapes(script))
    for tape in tapes:
        yield from _outside(script, models, tape)
        yield from _forward_before(script, models, tape)
    yield from _asked_twice(script, tapes)


@CAUSE.in_script("GradientTape", "gradient(")
def applied(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the gradients that nothing reads, and those that are paired with the wrong variables."""
    models = KerasModels(script)
    for tape in _tapes(script):
        sources = script.argument(tape.call, "sources", 1)
        if sources is not None and _are_variables(models, sources) and _is_thrown_away(script, models, tape.call):
            yield Mistake(
                script.place(tape.call),
                f"The gradients of {script.source(sources)} are computed and never applied. The weights stay as they are.",
                f"Call optimizer.apply_gradients(zip(gradients, {script.source(sources)})).",
            )
    for call in script.calls.get("apply_gradients", ()):
        yield from _pairs(script, models, call)


def _tapes(script: Script) -> Iterator[_Tape]:
    for call in script.calls.get("gradient", ()):
        func = call.func
        if not isinstance(func, ast.Attribute) or not isinstance(func.value, ast.Name) or not call.args:
            continue
        definitions, outside = script.definitions.reaching(func.value.id, call)
        if outside or len(definitions) != 1 or not isinstance(definitions[0].node, ast.withitem):
            continue
        item = definitions[0].node
        block, made = script.parents.get(item), item.context_expr
        if isinstance(block, ast.With | ast.AsyncWith) and isinstance(made, ast.Call) and _last(made.func) == "GradientTape":
            yield _Tape(call, block, made, func.value.id)


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _outside(script: Script, models: KerasModels, tape: _Tape) -> Iterator[Mistake]:
    """Yield a target that is computed outside of the block of its tape."""
    target = tape.call.args[0]
    if isinstance(target, ast.Call) and not within(tape.call, tape.block) and _computes(models, target):
        yield _not_recorded(script, tape, script.source(target), target)
        return
    for name in target.elts if isinstance(target, ast.List | ast.Tuple) else [target]:
        if not isinstance(name, ast.Name):
            continue
        definitions, outside = script.definitions.reaching(name.id, tape.call)
        made = [d for d in definitions if d.kind in ("assign", "augment")]
        if outside or not made or len(made) != len(definitions) or any(within(d.node, tape.block) for d in made):
            continue
        if not all(d.kind == "augment" or _computes(models, d.value) for d in made):
            continue
        inside = any(within(n, tape.block) for n in script.definitions.stores(name.id))
        if inside and made[0].kind != "augment" and not any(_is_past(d.node, tape.block) for d in made):
            continue
        yield _not_recorded(script, tape, name.id, made[-1].node)


def _not_recorded(script: Script, tape: _Tape, what: str, made: ast.AST) -> Mistake:
    return Mistake(
        script.place(tape.call),
        f"{what} is computed outside of the block of {tape.name}, in line {made.lineno}. The tape does not record it, and "  # type: ignore[attr-defined]
        "all its gradients are None.",
        f"Compute {what} inside of `with tf.GradientTape() as {tape.name}:`.",
        related=((script.place(made), "computed here"),),
    )


def _is_past(node: ast.AST, block: ast.AST) -> bool:
    return bool(node.lineno > block.end_lineno)  # type: ignore[attr-defined]


def _computes(models: KerasModels, value: ast.expr | None) -> bool:
    """Return whether an expression works out a new tensor, and does not only take one that is there: `outputs["loss"]`."""
    if isinstance(value, ast.BinOp | ast.UnaryOp):
        return True
    if not isinstance(value, ast.Call):
        return False
    name = models.last(value.func)
    if name:
        return name not in ("identity", "get_static_value")
    called = _last(value.func).lower()
    if called.startswith(("get", "pop")) or not value.args:
        return False
    own = isinstance(value.func, ast.Name) and (len(value.args) > 1 or bool(functions(models.script, value.func)))
    return own or "loss" in called or _is_loss(models, value)


def _is_loss(models: KerasModels, call: ast.Call) -> bool:
    """Return whether a call runs a loss of Keras that was built before: `loss_fn = keras.losses.MeanSquaredError()`."""
    return any(models.name(made.func).startswith("losses.") for made in models.all_built(call.func) or ())


def _watched(script: Script, tape: _Tape) -> bool:
    return any(within(call, tape.block) and _last(call.func) == "watch" for call in script.calls.get("watch", ()))


def _forward_before(script: Script, models: KerasModels, tape: _Tape) -> Iterator[Mistake]:
    """Yield a block that computes its loss of predictions that the model made before it."""
    sources = script.argument(tape.call, "sources", 1)
    if not isinstance(sources, ast.Attribute) or sources.attr not in _VARIABLES or _watched(script, tape):
        return
    model = script.dotted(sources.value)
    first = tape.block.body[0]
    reads = [n for n in script.all(ast.Name) if within(n, tape.block) and n.lineno >= first.lineno]  # type: ignore[attr-defined]
    for call in script.nodes.get(ast.Call, ()):
        if not within(call, tape.block) or call is tape.made or within(call, tape.made):
            continue
        assert isinstance(call, ast.Call)
        name = models.name(call.func)
        if not name.startswith(_PURE) and models.loss_of_call(call) is None and not _is_loss(models, call):
            return
    if not model or any(script.dotted(n) == model for n in script.all(ast.Name, ast.Attribute) if within(n, tape.block)):
        return
    for read in reads:
        assert isinstance(read, ast.Name)
        definitions, outside = script.definitions.reaching(read.id, read)
        values = [d.value for d in definitions if not within(d.node, tape.block)]
        if outside or len(values) != 1 or not isinstance(values[0], ast.Call):
            continue
        if script.dotted(values[0].func) == model:
            yield Mistake(
                script.place(values[0]),
                f"The forward pass that makes {read.id} stands before the block of {tape.name}. The tape does not "
                "record it, and the "
                f"gradients of {script.source(sources)} are None.",
                f"Call {model} inside of `with tf.GradientTape() as {tape.name}:`.",
                related=((script.place(tape.call), "the gradients"),),
            )
            return


def _asked_twice(script: Script, tapes: list[_Tape]) -> Iterator[Mistake]:
    """Yield the second call of `gradient` for a tape that keeps nothing after the first."""
    seen: dict[ast.AST, _Tape] = {}
    for tape in tapes:
        persistent = script.argument(tape.made, "persistent", 0)
        if (persistent is not None and script.constant(persistent) is not False) or script.open_ended(tape.made):
            continue
        owner = script.parents.get(tape.block)
        inside = [above for above in script.above(tape.call) if above is not tape.block]
        between = inside[: inside.index(owner)] if owner in inside else inside
        if any(isinstance(above, ast.If | ast.Try | ast.IfExp | ast.Match) for above in between):
            continue
        if tape.made in seen:
            yield Mistake(
                script.place(tape.call),
                f"{tape.name} is asked for gradients a second time. A tape that is not persistent lets go of what "
                "it holds at the first "
                "time, and this raises RuntimeError.",
                "Ask for all gradients in one call, use one tape for each, or pass persistent=True.",
                related=((script.place(seen[tape.made].call), "the first time"),),
            )
        seen.setdefault(tape.made, tape)


def _are_variables(models: KerasModels, node: ast.expr, depth: int = 4) -> bool:
    """Return whether an expression surely stands for the variables of a model, or of several."""
    if isinstance(node, ast.Attribute) and node.attr in _VARIABLES:
        return True
    if depth and isinstance(node, ast.BinOp):
        return _are_variables(models, node.left, depth - 1) and _are_variables(models, node.right, depth - 1)
    if depth and isinstance(node, ast.Name):
        values = models.values(node)
        return bool(values) and all(_are_variables(models, value, depth - 1) for value in values or ())
    return False


def _are_gradients(models: KerasModels, node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        values = models.values(node)
        return bool(values) and all(isinstance(v, ast.Call) and _last(v.func) in ("gradient", "gradients") for v in values or ())
    return isinstance(node, ast.Call) and _last(node.func) == "gradient"


def _is_thrown_away(script: Script, models: KerasModels, call: ast.expr, depth: int = 3) -> bool:
    """Return whether nothing reads the gradients, or only what makes gradients of them that nothing reads."""
    node, place = call, -1
    parent = script.parents.get(node)
    if isinstance(parent, ast.Tuple):
        node, place, parent = parent, parent.elts.index(call), script.parents.get(parent)
    if isinstance(parent, ast.Expr):
        return place < 0
    if isinstance(parent, ast.Return) and depth:
        function = script.function(parent)
        callers = script.calls.get(function.name, ()) if isinstance(function, ast.FunctionDef) else ()
        return bool(callers) and all(_is_ignored(script, models, caller, place, depth - 1) for caller in callers)
    if isinstance(call, ast.Call) and models.last(call.func) == "clip_by_global_norm":
        place = 0  # of the clipped gradients and their norm
    return node is call and _is_ignored(script, models, node, place, depth)


def _is_ignored(script: Script, models: KerasModels, value: ast.expr, place: int, depth: int) -> bool:
    """Return whether the name that a value, or its element at a place, is bound to is read by nothing that uses gradients."""
    statement = script.parents.get(value)
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return False
    target = statement.targets[0]
    if place >= 0:
        if not isinstance(target, ast.Tuple) or place >= len(target.elts):
            return False
        target = target.elts[place]
    if not isinstance(target, ast.Name) or "locals()" in script.text:
        return False
    if any(target.id in node.names for node in script.all(ast.Global, ast.Nonlocal)):  # type: ignore[attr-defined]
        return False
    scope = script.function(statement)
    for node in script.all(ast.Name):
        assert isinstance(node, ast.Name)
        if node.id != target.id or not isinstance(node.ctx, ast.Load) or not (scope is None or within(node, scope)):
            continue
        definitions, outside = script.definitions.reaching(node.id, node)
        if not outside and all(d.node is not statement for d in definitions):
            continue
        made = script.parents.get(node)
        again = (
            depth and isinstance(made, ast.Call) and (models.last(made.func).startswith("clip_") or _last(made.func) in _PASSES)
        )
        if not again or not _is_thrown_away(script, models, made, depth - 1):  # type: ignore[arg-type]
            return False
    return True


def _pairs(script: Script, models: KerasModels, call: ast.Call) -> Iterator[Mistake]:
    given = script.argument(call, "grads_and_vars", 0)
    while isinstance(given, ast.Call) and _last(given.func) in ("list", "tuple") and given.args:
        given = given.args[0]
    if not isinstance(given, ast.Call) or _last(given.func) != "zip" or len(given.args) != 2:
        return
    first, second = given.args
    turned = _are_variables(models, first) and not _are_variables(models, second)
    if turned or (
        _are_gradients(models, second) and not _are_gradients(models, first) and isinstance(first, ast.List | ast.Attribute)
    ):
        swap = (script.replaced(first, script.source(second)), script.replaced(second, script.source(first)))
        yield Mistake(
            script.place(given),
            f"zip({script.source(first)}, {script.source(second)}) pairs variables with gradients. apply_gradients "
            "takes each gradient "
            "first and its variable second.",
            f"Write zip({script.source(second)}, {script.source(first)}).",
            repair=Repair("Put the gradients first", swap, safe=_are_gradients(models, second)),
        )
    elif (
        isinstance(first, ast.Name)
        and _are_gradients(models, first)
        and isinstance(second, ast.Attribute)
        and second.attr in _VARIABLES
    ):
        yield from _of_another(script, models, first, second)


def _of_another(script: Script, models: KerasModels, gradients: ast.Name, variables: ast.Attribute) -> Iterator[Mistake]:
    """Yield gradients of one model that are applied to the variables of another."""
    for value in models.values(gradients) or ():
        sources = script.argument(value, "sources", 1) if isinstance(value, ast.Call) else None
        if not isinstance(sources, ast.Attribute) or sources.attr not in _VARIABLES:
            continue
        mine, other = script.dotted(sources.value), script.dotted(variables.value)
        if not mine or not other or mine == other or mine.count(".") != other.count("."):
            continue
        if models.values(sources.value) is not None and models.values(sources.value) == models.values(variables.value):
            continue
        yield Mistake(
            script.place(variables),
            f"{gradients.id} are the gradients of {mine}, and they are applied to the variables of {other}. Each "
            f"variable of {other} moves "
            "along the gradient of something else, or the shapes do not fit.",
            f"Apply them to {mine}.{sources.attr}.",
            related=((script.place(sources), "the gradients are of these"),),
        )


_HEAD = """import tensorflow as tf
from tensorflow import keras
criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
"""

CAUSE.valid_code = (
    Sample(
        "as it should be",
        f"""{_HEAD}
@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = criterion(y, predictions)
        loss += sum(model.losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "gradients asked for inside of the block",
        f"""{_HEAD}
with tf.GradientTape() as tape:
    loss = criterion(y, model(x))
    gradients = tape.gradient(loss, model.trainable_weights)
optimizer.apply_gradients(zip(gradients, model.trainable_weights))
""",
    ),
    Sample(
        "two tapes of a GAN",
        f"""{_HEAD}
with tf.GradientTape() as gen_tape, tf.GradientTape() as disc_tape:
    fake = generator(noise, training=True)
    gen_loss, disc_loss = losses(discriminator(fake), discriminator(real))
gen_gradients = gen_tape.gradient(gen_loss, generator.trainable_variables)
disc_gradients = disc_tape.gradient(disc_loss, discriminator.trainable_variables)
gen_optimizer.apply_gradients(zip(gen_gradients, generator.trainable_variables))
disc_optimizer.apply_gradients(zip(disc_gradients, discriminator.trainable_variables))
""",
    ),
    Sample(
        "a tape that is kept",
        f"""{_HEAD}
with tf.GradientTape(persistent=True) as tape:
    a, b = one(x), other(x)
opt.apply_gradients(zip(tape.gradient(a, one.trainable_variables), one.trainable_variables))
opt.apply_gradients(zip(tape.gradient(b, other.trainable_variables), other.trainable_variables))
""",
    ),
    Sample(
        "either of two losses",
        f"""{_HEAD}
with tf.GradientTape() as tape:
    loss = criterion(y, model(x))
if scaled:
    gradients = tape.gradient(loss, model.trainable_variables)
else:
    gradients = tape.gradient(loss, model.trainable_variables)
optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "gradients to look at",
        f"""{_HEAD}
with tf.GradientTape() as tape:
    tape.watch(image)
    score = model(image)[0, label]
saliency = tf.abs(tape.gradient(score, image))
with tf.GradientTape() as tape:
    loss = criterion(y, model(x))
gradients = tape.gradient(loss, model.trainable_variables)
print(tf.linalg.global_norm(gradients))
""",
    ),
    Sample(
        "gradients returned, and applied by the caller",
        f"""{_HEAD}
def gradients_of(x, y):
    with tf.GradientTape() as tape:
        loss = criterion(y, model(x))
    return loss, tape.gradient(loss, model.trainable_variables)

loss, gradients = gradients_of(x, y)
optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "clipped, with a scale",
        f"""{_HEAD}
with tf.GradientTape() as tape:
    loss = criterion(y, model(x))
    scaled = optimizer.get_scaled_loss(loss)
gradients = optimizer.get_unscaled_gradients(tape.gradient(scaled, model.trainable_variables))
gradients, _ = tf.clip_by_global_norm(gradients, 1.0)
optimizer.apply_gradients((g, v) for g, v in zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "a loss that begins before the block",
        f"""{_HEAD}
loss = 0.0
with tf.GradientTape() as tape:
    for x, y in batches:
        loss += criterion(y, model(x))
gradients = tape.gradient(loss, model.trainable_variables)
optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "a loss that is taken out of what the block computed",
        f"""{_HEAD}
with tf.GradientTape() as tape:
    outputs = model(x, labels=y)
loss = outputs["loss"]
gradients = tape.gradient(loss, model.trainable_variables)
optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "targets of another network before the block",
        f"""{_HEAD}
targets = rewards + gamma * tf.reduce_max(target_model(next_states), axis=1)
with tf.GradientTape() as tape:
    q = model(states)
    loss = tf.reduce_mean(tf.square(targets - tf.reduce_sum(q * masks, axis=1)))
gradients = tape.gradient(loss, model.trainable_variables)
optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "a helper that runs the model",
        f"""{_HEAD}
predictions = model(x)
with tf.GradientTape() as tape:
    loss = total_loss(predictions)
gradients = tape.gradient(loss, model.trainable_variables)
optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "variables under another name",
        f"""{_HEAD}
net = model
with tf.GradientTape() as tape:
    loss = criterion(y, model(x))
gradients = tape.gradient(loss, model.trainable_variables)
weights = model.trainable_variables
optimizer.apply_gradients(zip(gradients, weights))
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "forward pass before the tape, any loss",
        """import tensorflow as tf
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
distance = tf.keras.losses.MeanSquaredError()
optimizer = tf.keras.optimizers.Adam()
def step(x, y):
    predictions = model(x, training=True)  # <-
    with tf.GradientTape() as tape:
        loss = distance(y, predictions)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "loss outside of the tape, by a function handed in",
        """import tensorflow as tf
def step(model, optimizer, x, y, distance):
    with tf.GradientTape() as tape:
        predictions = model(x)
    loss = distance(y, predictions)
    gradients = tape.gradient(loss, model.trainable_variables)  # <-
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "loss after the block",
        f"""{_HEAD}
@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
    loss = criterion(y, predictions)
    gradients = tape.gradient(loss, model.trainable_variables)  # <-
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "penalty added after the block",
        f"""{_HEAD}
with tf.GradientTape() as tape:
    loss = criterion(y, model(x))
loss += tf.add_n(model.losses)
gradients = tape.gradient(loss, model.trainable_variables)  # <-
optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "loss worked out in the call",
        f"""{_HEAD}
with tf.GradientTape() as tape:
    predictions = model(x)
gradients = tape.gradient(criterion(y, predictions), model.trainable_variables)  # <-
optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "forward pass before the block",
        f"""{_HEAD}
for x, y in data:
    predictions = model(x, training=True)  # <-
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(criterion(y, predictions))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "never applied",
        f"""{_HEAD}
class Net(keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compiled_loss(y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)  # <-
        return {{"loss": loss}}
""",
    ),
    Sample(
        "clipped and never applied",
        f"""{_HEAD}
def step(x, y):
    with tf.GradientTape() as tape:
        loss = criterion(y, model(x))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, variables)  # <-
    gradients, norm = tf.clip_by_global_norm(gradients, 1.0)
    return loss, norm
""",
    ),
    Sample(
        "returned and never applied",
        f"""{_HEAD}
def gradients_of(x, y):
    with tf.GradientTape() as tape:
        loss = criterion(y, model(x))
    return loss, tape.gradient(loss, model.trainable_variables)  # <-

for x, y in data:
    loss, gradients = gradients_of(x, y)
    print(loss)
""",
    ),
    Sample(
        "pairs the wrong way round",
        f"""{_HEAD}
with tf.GradientTape() as tape:
    loss = criterion(y, model(x))
gradients = tape.gradient(loss, model.trainable_variables)
optimizer.apply_gradients(zip(model.trainable_variables, gradients))  # <-
""",
        fixed=f"""{_HEAD}
with tf.GradientTape() as tape:
    loss = criterion(y, model(x))
gradients = tape.gradient(loss, model.trainable_variables)
optimizer.apply_gradients(zip(gradients, model.trainable_variables))  # <-
""",
    ),
    Sample(
        "pairs of a list, the wrong way round",
        f"""{_HEAD}
with tf.GradientTape() as tape:
    loss = tf.reduce_mean(tf.square(w * x + b - y))
gradients = tape.gradient(loss, [w, b])
optimizer.apply_gradients(list(zip([w, b], gradients)))  # <-
""",
    ),
    Sample(
        "asked twice",
        f"""{_HEAD}
with tf.GradientTape() as tape:
    fake = generator(noise)
    gen_loss, disc_loss = losses(discriminator(fake), discriminator(real))
gen_gradients = tape.gradient(gen_loss, generator.trainable_variables)
disc_gradients = tape.gradient(disc_loss, discriminator.trainable_variables)  # <-
gen_optimizer.apply_gradients(zip(gen_gradients, generator.trainable_variables))
disc_optimizer.apply_gradients(zip(disc_gradients, discriminator.trainable_variables))
""",
    ),
    Sample(
        "applied to the other network",
        f"""{_HEAD}
with tf.GradientTape() as tape:
    loss = criterion(y, discriminator(x))
gradients = tape.gradient(loss, discriminator.trainable_variables)
optimizer.apply_gradients(zip(gradients, generator.trainable_variables))  # <-
""",
    ),
)
