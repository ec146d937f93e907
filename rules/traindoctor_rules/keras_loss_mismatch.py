"""The cross entropy takes the output of the Keras model for something else than it is.

## What it looks like
With scores taken for probabilities: a loss that is huge or NaN, or that stays where it began. With probabilities taken for
scores: a loss that falls slowly and never comes near 0, as a second softmax of values between 0 and 1 is almost flat. With a
softmax over one unit: an output of exactly 1 whatever the input, and a constant accuracy.
## Why it happens
A Keras loss is told by `from_logits` whether it gets scores (the layer has no activation) or probabilities (softmax, sigmoid);
False is the default, and what a loss named by a string has. Nothing checks that this fits the last layer. Labels likewise:
`categorical_crossentropy` wants one-hot rows, `sparse_categorical_crossentropy` wants class numbers.
## When it is wrong
A layer of one's own that makes probabilities of what the last known layer gives. tf.keras 2 looks behind a softmax in a graph
and warns; Keras 3 does not.
## What repairs it
No activation in the last layer and `from_logits=True` (numerically the better one), or softmax or sigmoid and
`from_logits=False`.
## References
Keras documentation, keras.losses.CategoricalCrossentropy: "from_logits: Whether y_pred is expected to be a logits tensor. By
default, we assume that y_pred encodes a probability distribution".
Keras documentation, Probabilistic losses: "We expect labels to be provided in a one_hot representation. If you want to provide
labels as integers, please use SparseCategoricalCrossentropy loss".
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.keras_models import WITH_UNITS, KerasModels
from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.keras_models import Loss, Output
    from traindoctor.code.script import Script
    from traindoctor.mistake import Severity

CAUSE = Cause(
    code="TD607",
    name="keras-loss-mismatch",
    summary="the cross entropy takes the output of the Keras model for something else than it is",
    explanation=__doc__,
    severity="error",
)

#: Activations whose values are neither probabilities nor free scores. keras.activations.
_BOUNDED = frozenset({"relu", "elu", "selu", "tanh", "gelu", "swish", "leaky_relu", "softplus", "relu6", "exponential"})
_INTEGER_SETS = frozenset({"mnist", "fashion_mnist", "cifar10", "cifar100", "reuters", "imdb"})
_ONE_HOT = frozenset({"to_categorical", "one_hot", "get_dummies", "label_binarize"})
#: Methods of arrays and data sets that leave the labels what they are.
_SAME_LABELS = frozenset(
    {
        "astype",
        "flatten",
        "ravel",
        "squeeze",
        "reshape",
        "copy",
        "cache",
        "prefetch",
        "shuffle",
        "take",
        "skip",
        "repeat",
        "batch",
        "unbatch",
    }
)


@CAUSE.in_script("keras|tensorflow", "softmax|Softmax")
def one_unit(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the layers of one unit whose softmax is 1 whatever the input."""
    models = KerasModels(script)
    for name in WITH_UNITS:
        for call in script.calls.get(name, ()):
            if not models.name(call.func) or script.argument(call, "data_format") is not None:
                continue
            made = models.output(call)
            if made is not None and made.activation == "softmax" and made.units == 1:
                given = script.argument(call, "activation", WITH_UNITS[name])
                assert given is not None
                edit = (script.replaced(given, '"sigmoid"'),) if isinstance(given, ast.Constant) else ()
                yield Mistake(
                    script.place(call),
                    f"{name} has one unit and a softmax. A softmax over one value is 1 whatever the input, so "
                    "nothing can be learnt behind it.",
                    "Use a sigmoid for one unit, or as many units as there are classes.",
                    repair=Repair("Use a sigmoid", edit) if edit else None,
                )


@CAUSE.in_script("keras|tensorflow", "rossentropy|cross_entropy_with_logits|bce", "compile")
def compiled(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the losses of `compile` that do not fit the last layer of the model, or the labels that it is fitted to."""
    models = KerasModels(script)
    for call, model in models.compiled():
        given = script.argument(call, "loss", 1)
        loss = models.loss(given)
        if loss is None:
            continue
        made = models.output(model)
        if made is not None:
            yield from _mismatch(script, loss, made)
        if loss.kind != "binary":
            yield from _labels(script, models, call, model, loss)


@CAUSE.in_script("keras|tensorflow", "rossentropy|cross_entropy_with_logits")
def called(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the losses that are worked out by hand of predictions that they do not fit."""
    models = KerasModels(script)
    for node in script.nodes.get(ast.Call, ()):
        assert isinstance(node, ast.Call)
        if len(node.args) + len(node.keywords) < 2:
            continue
        found = models.loss_of_call(node)
        made = models.of_tensor(found[1]) if found is not None else None
        if found is not None and made is not None:
            yield from _mismatch(script, found[0], made)


def _mismatch(script: Script, loss: Loss, made: Output) -> Iterator[Mistake]:
    where = script.place(loss.node)
    what = _named(script, loss)
    layer = f"the layer in line {made.node.lineno}" + ("" if made.script is script else f" of {made.script.file}")
    related = ((made.script.place(made.node), "the last layer"),)
    if made.units == 1 and loss.kind != "binary" and made.activation != "softmax":
        yield Mistake(
            where,
            f"{what} is for several classes, and the model ends in one unit ({layer}). A softmax over one value is "
            "1, so the loss does not "
            "depend on the input.",
            "Use a binary cross entropy for one unit, or as many units as there are classes.",
            related=related,
        )
    elif (
        made.activation in ("softmax", "sigmoid")
        and loss.from_logits is True
        and not (made.units == 1 and made.activation == "softmax")
    ):
        yield Mistake(
            where,
            f"{what} expects scores, and the model ends in a {made.activation} ({layer}). It is applied twice, "
            "which leaves hardly "
            "any gradient.",
            f"Remove the {made.activation} from the model, or say from_logits=False.",
            repair=_flipped(script, loss, "False"),
            related=related,
        )
    elif made.activation == "" and loss.from_logits is False:
        yield Mistake(
            where,
            f"{what} expects probabilities, and the model ends in scores: {layer} has no activation. Scores outside "
            "of 0 and 1 are "
            "clipped, and their gradient is lost.",
            "Say from_logits=True, or give the last layer a softmax (several classes) or a sigmoid (one unit).",
            repair=_flipped(script, loss, "True"),
            related=related,
        )
    elif made.activation in _BOUNDED and loss.from_logits is not None:
        severity: Severity = "warning" if loss.from_logits else "error"
        meant = "scores of any sign" if loss.from_logits else "probabilities"
        yield Mistake(
            where,
            f"{what} expects {meant}, and the model ends in {made.activation} ({layer}). Its values are neither.",
            "Remove the activation of the last layer and say from_logits=True.",
            severity=severity,
            related=related,
        )


def _named(script: Script, loss: Loss) -> str:
    node = loss.node
    func = node.func if isinstance(node, ast.Call) else node
    text = str(node.value) if isinstance(node, ast.Constant) else script.source(func).rpartition(".")[2]
    return f"{text} with from_logits={loss.from_logits}" if loss.flag is not None else text


def _flipped(script: Script, loss: Loss, value: str) -> Repair | None:
    """Return the change of `from_logits`, where it is written, or there is a call to write it in."""
    title = f"Say from_logits={value}"
    if loss.flag is not None:
        return Repair(title, (script.replaced(loss.flag, value),)) if isinstance(loss.flag, ast.Constant) else None
    if isinstance(loss.node, ast.Call) and value == "True":
        at = script.span(loss.node)[1] - 1
        given = loss.node.args or loss.node.keywords
        if script.text[at] == ")" and not script.text[:at].rstrip().endswith(","):
            return Repair(title, (Edit(at, at, f"{', ' if given else ''}from_logits=True"),))
    return None


def _labels(script: Script, models: KerasModels, call: ast.Call, model: ast.expr, loss: Loss) -> Iterator[Mistake]:
    """Yield the labels that a model is fitted to, and that are not what its loss expects."""
    built = models.built(model)
    for fit in script.calls.get("fit", ()):
        if not isinstance(fit.func, ast.Attribute) or script.dotted(fit.func.value) != script.dotted(model):
            continue
        if built is not models.built(fit.func.value) or script.function(fit) is not script.function(call):
            continue
        if not _is_the_last(script, call, fit):
            continue
        given = script.argument(fit, "y", 1) or script.argument(fit, "x", 0)
        kind = _kind_of_labels(script, models, given) if given is not None else ""
        if given is not None and kind == "integer" and loss.kind == "categorical":
            yield Mistake(
                script.place(loss.node),
                f"{_named(script, loss)} expects one-hot labels, and {script.source(given)} in line {fit.lineno} "
                "holds class numbers.",
                "Use the sparse categorical cross entropy, or make the labels one-hot with to_categorical.",
                repair=_sparse(script, loss),
                related=((script.place(given), "class numbers"),),
            )
            return
        if given is not None and kind == "one-hot" and loss.kind == "sparse":
            yield Mistake(
                script.place(loss.node),
                f"{_named(script, loss)} expects class numbers, and {script.source(given)} in line {fit.lineno} "
                "holds one-hot labels.",
                "Use the categorical cross entropy, or leave the labels class numbers.",
                related=((script.place(given), "one-hot labels"),),
            )
            return


def _is_the_last(script: Script, call: ast.Call, fit: ast.Call) -> bool:
    """Return whether a `compile` stands before a `fit`, and no other of the same model between the two."""
    assert isinstance(call.func, ast.Attribute)
    model = script.dotted(call.func.value)
    others = (c for c in script.calls.get("compile", ()) if script.dotted(c.func) == f"{model}.compile" and c is not call)
    return call.lineno < fit.lineno and not any(call.lineno < other.lineno < fit.lineno for other in others)


def _sparse(script: Script, loss: Loss) -> Repair | None:
    if isinstance(loss.node, ast.Constant):
        quote = script.source(loss.node)[0]
        return Repair("Use the sparse one", (script.replaced(loss.node, f"{quote}sparse_categorical_crossentropy{quote}"),))
    return None


def _kind_of_labels(script: Script, models: KerasModels, node: ast.expr, depth: int = 8) -> str:
    """Return "integer" or "one-hot" for labels, or a data set with labels, that are surely so; "" for others."""
    if depth < 0:
        return ""
    if isinstance(node, ast.Name):
        definitions, outside = script.definitions.reaching(node.id, node)
        if outside or len(definitions) != 1 or definitions[0].kind != "assign" or definitions[0].value is None:
            return ""
        value, path = definitions[0].value, definitions[0].path
        if path:
            owner = value.func.value if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) else None
            loads = isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "load_data"
            return "integer" if loads and path[-1] == 1 and len(path) == 2 and models.last(owner) in _INTEGER_SETS else ""
        return _kind_of_labels(script, models, value, depth - 1)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        return _kind_of_labels(script, models, node.value, depth - 1)
    if not isinstance(node, ast.Call):
        return ""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
    if name in _ONE_HOT:
        return "one-hot"
    if name == "image_dataset_from_directory":
        mode = script.argument(node, "label_mode", 2)
        return {"int": "integer", "categorical": "one-hot"}.get("int" if mode is None else str(script.constant(mode)), "")
    if name == "flow_from_directory":
        mode = script.argument(node, "class_mode", 3)
        return {"sparse": "integer", "categorical": "one-hot"}.get(
            "categorical" if mode is None else str(script.constant(mode)), ""
        )
    if name in _SAME_LABELS and isinstance(node.func, ast.Attribute):
        return _kind_of_labels(script, models, node.func.value, depth - 1)
    if name == "randint" and script.dotted(node.func).startswith("numpy.random"):
        size = script.constant(script.argument(node, "size", 2))
        return "integer" if isinstance(size, int) or (isinstance(size, tuple) and size[1:] in ((), (1,))) else ""
    return ""


_TF = """import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers
"""

CAUSE.valid_code = (
    Sample(
        "compiled again with another loss than the fit above had",
        """
from tensorflow import keras
from tensorflow.keras.utils import to_categorical
y = to_categorical(labels)
model = keras.Sequential([keras.layers.Dense(46, activation="softmax")])
model.compile(optimizer="rmsprop", loss="categorical_crossentropy")
model.fit(x, y)
model.compile(optimizer="rmsprop", loss="sparse_categorical_crossentropy")
""",
    ),
    Sample(
        "scores and from_logits",
        f"""{_TF}
model = keras.Sequential([layers.Dense(64, activation="relu"), layers.Dense(10)])
model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
""",
    ),
    Sample(
        "softmax and the default",
        f"""{_TF}
model = tf.keras.models.Sequential()
model.add(layers.Dense(64, activation="relu"))
model.add(layers.Dense(10, activation=tf.nn.softmax))
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
""",
    ),
    Sample(
        "sigmoid of one unit",
        f"""{_TF}
inputs = keras.Input(shape=(28,))
x = layers.Dense(64, activation="relu")(inputs)
outputs = layers.Dense(1, "sigmoid")(x)
model = keras.Model(inputs, outputs)
model.compile(loss="binary_crossentropy", optimizer="rmsprop")
""",
    ),
    Sample(
        "activation of its own, in float32",
        f"""{_TF}
x = layers.Dense(10)(inputs)
outputs = layers.Activation("softmax", dtype="float32")(x)
model = keras.Model(inputs=inputs, outputs=outputs)
model.compile(loss="categorical_crossentropy", optimizer="adam")
""",
    ),
    Sample(
        "regression",
        f"""{_TF}
model = keras.Sequential([layers.Dense(64, activation="relu"), layers.Dense(1)])
model.compile(loss="mse", optimizer="adam")
""",
    ),
    Sample(
        "softmax for use alone",
        f"""{_TF}
model = keras.Sequential([layers.Dense(10)])
model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
probabilities = keras.Sequential([model, layers.Softmax()])
print(probabilities.predict(x))
""",
    ),
    Sample(
        "a layer of one's own at the end",
        f"""{_TF}from mylib import Calibrated
model = keras.Sequential([layers.Dense(10), Calibrated()])
model.compile("adam", "categorical_crossentropy")
""",
    ),
    Sample(
        "either, by the number of classes",
        f"""{_TF}
if n_classes == 2:
    activation, units = "sigmoid", 1
else:
    activation, units = "softmax", n_classes
outputs = layers.Dense(units, activation=activation)(inputs)
model = keras.Model(inputs, outputs)
model.compile("adam", loss="binary_crossentropy")
""",
    ),
    Sample(
        "features of a model without its top",
        f"""{_TF}
base = keras.applications.ResNet50(include_top=False, pooling="avg")
model = keras.Sequential([base, layers.Dense(10, activation="softmax")])
model.compile("adam", "categorical_crossentropy")
""",
    ),
    Sample(
        "two models that take the same name",
        f"""{_TF}
model = keras.Sequential()
model.add(layers.Dense(10))
model.compile("adam", loss=keras.losses.CategoricalCrossentropy(from_logits=True))
model = keras.Sequential()
model.add(layers.Dense(10, activation="softmax"))
model.compile("adam", loss=keras.losses.CategoricalCrossentropy())
""",
    ),
    Sample(
        "attention",
        f"""{_TF}
scores = layers.Dense(1)(states)
weights = layers.Softmax(axis=1)(scores)
loss = keras.losses.BinaryCrossentropy(from_logits=True)
logits = layers.Dense(1)(weights * states)
value = loss(labels, logits)
accuracy = tf.nn.sigmoid(logits)
""",
    ),
    Sample(
        "subclass and a loop of one's own",
        f"""{_TF}
class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(64, activation="relu")
        self.head = layers.Dense(10)

    def call(self, x):
        return self.head(self.hidden(x))

model = Net()
criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = criterion(y, logits)
""",
    ),
    Sample(
        "labels made one-hot",
        f"""{_TF}
(x_train, y_train), _ = keras.datasets.mnist.load_data()
y_train = keras.utils.to_categorical(y_train, 10)
model = keras.Sequential([layers.Dense(10, activation="softmax")])
model.compile("adam", "categorical_crossentropy")
model.fit(x_train, y_train)
""",
    ),
    Sample(
        "class numbers",
        f"""{_TF}
(x_train, y_train), _ = keras.datasets.mnist.load_data()
model = keras.Sequential([layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(x_train / 255.0, y_train)
""",
    ),
    Sample(
        "labels from elsewhere",
        f"""{_TF}
x_train, y_train = load(path)
model = keras.Sequential([layers.Dense(10, activation="softmax")])
model.compile("adam", "categorical_crossentropy")
model.fit(x_train, y_train)
""",
    ),
    Sample(
        "of other libraries",
        """import re
import torch
import tensorflow
pattern = re.compile("binary_crossentropy", re.I)
model = torch.compile(net, "max-autotune")
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "softmax and from_logits",
        f"""{_TF}
model = keras.Sequential([layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax")])
model.compile("adam", loss=keras.losses.CategoricalCrossentropy(from_logits=True))  # <-
""",
        fixed=f"""{_TF}
model = keras.Sequential([layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax")])
model.compile("adam", loss=keras.losses.CategoricalCrossentropy(from_logits=False))  # <-
""",
    ),
    Sample(
        "scores and the default",
        f"""{_TF}
model = tf.keras.Sequential()
model.add(tf.keras.layers.Dense(64, activation="relu"))
model.add(tf.keras.layers.Dense(10))
model.compile(
    optimizer=tf.keras.optimizers.Adam(1e-3),
    loss=tf.keras.losses.SparseCategoricalCrossentropy(),  # <-
)
""",
        fixed=f"""{_TF}
model = tf.keras.Sequential()
model.add(tf.keras.layers.Dense(64, activation="relu"))
model.add(tf.keras.layers.Dense(10))
model.compile(
    optimizer=tf.keras.optimizers.Adam(1e-3),
    loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),  # <-
)
""",
    ),
    Sample(
        "scores and a name",
        """from keras.models import Model
from keras.layers import Input, Dense
inputs = Input((28,))
x = Dense(64, activation="relu")(inputs)
x = Dense(1)(x)
model = Model(inputs=inputs, outputs=x)
model.compile(loss="binary_crossentropy", optimizer="adam")  # <-
""",
    ),
    Sample(
        "softmax of one unit",
        f"""{_TF}
model = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(1, activation="softmax")])  # <-
model.compile("adam", "binary_crossentropy")
""",
        fixed=f"""{_TF}
model = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(1, activation="sigmoid")])  # <-
model.compile("adam", "binary_crossentropy")
""",
    ),
    Sample("softmax of one unit, by position", f"{_TF}outputs = layers.Dense(1, tf.nn.softmax)(x)  # <-\n"),
    Sample(
        "several classes in one unit",
        f"""{_TF}
model = keras.Sequential([layers.Dense(1, activation="sigmoid")])
model.compile("adam", "categorical_crossentropy")  # <-
""",
    ),
    Sample(
        "activation as a layer",
        f"""{_TF}
model = keras.Sequential([layers.Dense(10), layers.Activation("softmax")])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)  # <-
model.compile("adam", loss)
""",
    ),
    Sample(
        "softmax layer in the functional form",
        f"""{_TF}
x = layers.Dense(10)(inputs)
outputs = layers.Softmax()(x)
model = tf.keras.Model(inputs, outputs)
model.compile(loss=tf.keras.losses.SparseCategoricalCrossentropy(True), optimizer="sgd")  # <-
""",
    ),
    Sample(
        "function that returns the model",
        f"""{_TF}
def make_model(n_classes):
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(32, 3, activation="relu")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(n_classes, activation="softmax")(x))

def main():
    model = make_model(10)
    model.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))  # <-
    model.fit(data)
""",
    ),
    Sample(
        "subclass",
        f"""{_TF}
class Net(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(64, activation="relu")
        self.head = layers.Dense(10, activation="softmax")

    def call(self, x, training=False):
        x = self.hidden(x)
        return self.head(x)

model = Net()
criterion = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)  # <-

@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = criterion(y, predictions)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
""",
    ),
    Sample(
        "network beside the script",
        "from net import Net\nimport tensorflow as tf\nmodel = Net()\nmodel.compile('adam', "
        "tf.keras.losses.BinaryCrossentropy(from_logits=True))  # <-\n",
        others={
            "net.py": "from tensorflow.keras import Model, layers\nclass Net(Model):\n    def __init__(self):\n    "
            "    super().__init__()\n"
            "        self.out = layers.Dense(1, activation='sigmoid')\n    def call(self, x):\n        return self.out(x)\n"
        },
    ),
    Sample(
        "losses of a GAN",
        f"""{_TF}
def make_discriminator():
    model = tf.keras.Sequential()
    model.add(layers.Flatten())
    model.add(layers.Dense(1, activation="sigmoid"))
    return model

cross_entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True)  # <-
discriminator = make_discriminator()

def discriminator_loss(real_output, fake_output):
    return cross_entropy(tf.ones_like(real_output), real_output) + cross_entropy(tf.zeros_like(fake_output), fake_output)

def train_step(images, noise):
    with tf.GradientTape() as tape:
        real_output = discriminator(images, training=True)
        fake_output = discriminator(generator(noise), training=True)
        loss = discriminator_loss(real_output, fake_output)
    gradients = tape.gradient(loss, discriminator.trainable_variables)
""",
    ),
    Sample(
        "function of TensorFlow",
        f"""{_TF}
model = keras.Sequential([layers.Dense(10, activation="softmax")])
logits = model(images)
loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)  # <-
""",
    ),
    Sample(
        "loss of a function",
        f"""{_TF}
def loss(labels, logits):
    return keras.losses.sparse_categorical_crossentropy(labels, logits)  # <-

model = keras.Sequential([layers.GRU(512, return_sequences=True), layers.Dense(vocabulary)])
model.compile(optimizer="adam", loss=loss)
""",
    ),
    Sample(
        "head of a model with weights",
        f"""{_TF}
model = keras.applications.MobileNetV2(weights=None, classes=10)
model.compile("adam", loss=keras.losses.CategoricalCrossentropy(from_logits=True))  # <-
""",
    ),
    Sample(
        "relu",
        f"""{_TF}
model = keras.Sequential([layers.Dense(64, activation="relu"), layers.Dense(10, activation="relu")])
model.compile("adam", "categorical_crossentropy")  # <-
""",
    ),
    Sample(
        "class numbers where rows are expected",
        f"""{_TF}
(x_train, y_train), (x_test, y_test) = tf.keras.datasets.mnist.load_data()
model = keras.Sequential([layers.Dense(10, activation="softmax")])
model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])  # <-
model.fit(x_train / 255.0, y_train, epochs=5)
""",
        fixed=f"""{_TF}
(x_train, y_train), (x_test, y_test) = tf.keras.datasets.mnist.load_data()
model = keras.Sequential([layers.Dense(10, activation="softmax")])
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])  # <-
model.fit(x_train / 255.0, y_train, epochs=5)
""",
    ),
    Sample(
        "rows where class numbers are expected",
        f"""{_TF}
y_train = keras.utils.to_categorical(labels, 10)
model = keras.Sequential([layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")  # <-
model.fit(x_train, y_train)
""",
    ),
    Sample(
        "pictures of a folder",
        f"""{_TF}
train = keras.utils.image_dataset_from_directory("data", image_size=(180, 180), batch_size=32)
model = keras.Sequential([layers.Flatten(), layers.Dense(5, activation="softmax")])
model.compile("adam", loss=keras.losses.CategoricalCrossentropy())  # <-
model.fit(train.cache().prefetch(1), epochs=3)
""",
    ),
)
