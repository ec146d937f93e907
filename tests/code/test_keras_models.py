import ast

import pytest

from traindoctor.code.keras_models import KerasModels
from traindoctor.code.script import Script

HEAD = "import tensorflow as tf\nfrom tensorflow import keras\nfrom tensorflow.keras import layers\n"


def output(text, name="model"):
    """Return activation and units of what a model ends in, or None."""
    script = Script("train.py", f"{HEAD}{text}\nuse({name})\n")
    found = KerasModels(script).output(script.calls["use"][-1].args[0])
    return found and (found.activation, found.units)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model = keras.Sequential([layers.Dense(10)])", ("", 10)),
        ("model = keras.Sequential([layers.Dense(10, 'softmax')])", ("softmax", 10)),
        ("model = keras.Sequential(layers=[layers.Dense(1, activation=tf.nn.sigmoid)])", ("sigmoid", 1)),
        ("model = keras.Sequential([layers.Dense(3, activation=keras.activations.softmax)])", ("softmax", 3)),
        ("model = keras.Sequential([layers.Dense(3, activation='linear'), layers.Flatten()])", ("", 3)),
        ("model = keras.Sequential([layers.Dense(3), layers.Softmax()])", ("softmax", None)),
        ("model = keras.Sequential()\nmodel.add(layers.Dense(4))\nmodel.add(layers.Activation('softmax'))", ("softmax", None)),
        ("n = 4\nmodel = keras.models.Sequential()\nmodel.add(tf.keras.layers.Dense(n))", ("", 4)),
        ("x = layers.Dense(8, 'relu')(i)\nx = layers.Dense(2)(x)\nmodel = keras.Model(i, x)", ("", 2)),
        ("model = keras.Model(inputs=i, outputs=tf.nn.softmax(layers.Dense(2)(i)))", ("softmax", None)),
        ("model = keras.applications.ResNet50(weights=None)", ("softmax", None)),
        ("base = keras.Sequential([layers.Dense(5)])\nmodel = keras.Sequential([base])", ("", 5)),
        ("def make(n):\n    m = keras.Sequential([layers.Dense(1, 'sigmoid')])\n    return m\nmodel = make(3)", ("sigmoid", 1)),
        (
            "class Net(keras.Model):\n    def __init__(self):\n        self.out = layers.Dense(7)\n"
            "    def call(self, x):\n        return self.out(x)\nmodel = Net()",
            ("", 7),
        ),
        ("L = keras.layers\nmodel = keras.Sequential([L.Conv2D(2, 1, activation='softmax')])", ("softmax", 2)),
    ],
)
def test_what_a_model_ends_in(text, expected):
    assert output(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "model = build()",
        "model = keras.models.load_model('m.keras')",
        "model = keras.Sequential([layers.Dense(3), Mine()])",
        "model = keras.Sequential([*parts])",
        "model = keras.Sequential(parts())",
        "model = keras.Sequential([layers.Dense(3, activation=given)])",
        "model = keras.Sequential([layers.Dense(3, **given)])",
        "model = keras.Sequential()\nif a:\n    model.add(layers.Dense(3))",
        "model = keras.Sequential([layers.Dense(3)])\nmodel.pop()",
        "model = keras.Model(i, [layers.Dense(3)(i), layers.Dense(1)(i)])",
        "model = keras.applications.ResNet50(include_top=False)",
        "model = keras.Sequential([layers.Dense(3)])\nif a:\n    model = keras.Sequential([layers.Dense(3, 'softmax')])",
        "def make():\n    return make()\nmodel = make()",
        "x = layers.Dense(3)(i)\nmodel = keras.Model(i, x * 2)",
    ],
)
def test_what_is_not_known(text):
    assert output(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'binary_crossentropy'", ("binary", False)),
        ("keras.losses.SparseCategoricalCrossentropy(from_logits=True)", ("sparse", True)),
        ("keras.losses.CategoricalCrossentropy(True)", ("categorical", True)),
        ("tf.losses.BinaryCrossentropy()", ("binary", False)),
        ("keras.losses.categorical_crossentropy", ("categorical", False)),
        ("keras.losses.BinaryCrossentropy(from_logits=given)", ("binary", None)),
        ("loss", ("sparse", True)),
        ("own", ("sparse", True)),
    ],
)
def test_losses(text, expected):
    before = (
        "loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)\n"
        "def own(y, p):\n    return keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True)\n"
    )
    script = Script("train.py", f"{HEAD}{before}use({text})\n")
    found = KerasModels(script).loss(script.calls["use"][0].args[0])
    assert found is not None
    assert (found.kind, found.from_logits) == expected


@pytest.mark.parametrize(
    "text", ["'mse'", "keras.losses.Huber()", "mine", "keras.metrics.BinaryCrossentropy()", "lambda y, p: p"]
)
def test_what_is_no_cross_entropy(text):
    script = Script("train.py", f"{HEAD}use({text})\n")
    assert KerasModels(script).loss(script.calls["use"][0].args[0]) is None


def test_the_prediction_of_a_loss_is_followed_to_the_callers_of_its_function():
    text = (
        "net = keras.Sequential([layers.Dense(1)])\nbce = keras.losses.BinaryCrossentropy()\n"
        "def loss_of(y, p):\n    return bce(y, p)\nvalue = loss_of(labels, net(images))\n"
    )
    script = Script("train.py", HEAD + text)
    models = KerasModels(script)
    (found,) = [f for c in script.nodes[ast.Call] if (f := models.loss_of_call(c)) is not None]
    made = models.of_tensor(found[1])
    assert made is not None
    assert (made.activation, made.units) == ("", 1)
