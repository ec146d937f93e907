import pytest

from traindoctor.code.script import Script
from traindoctor.code.settings import changed, optimizer_settings

HEAD = "import torch\nfrom torch import nn, optim\nmodel = nn.Linear(2, 1)\n"


def settings(body):
    return optimizer_settings(Script("train.py", HEAD + body))


def change(body, **values):
    after = changed(Script("train.py", HEAD + body), {f"optimizer.{field}": value for field, value in values.items()})
    return None if after is None else after.removeprefix(HEAD)


def test_a_pair_of_betas_changes_those_that_differ():
    body = "opt = optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.9))\n"
    assert change(body, betas=[0.9, 0.99]) == body.replace("(0.9, 0.9)", "(0.9, 0.99)")
    assert change("opt = optim.Adam(model.parameters())\n", betas=(0.5, 0.9)) == (
        "opt = optim.Adam(model.parameters(), betas=(0.5, 0.9))\n"
    )
    assert change("opt = optim.Adam(model.parameters())\n", betas=(0.9, 0.99)) == (
        "opt = optim.Adam(model.parameters(), betas=(0.9, 0.99))\n"
    )
    assert change(body, betas=[0.9, 0.9]) is None


TRAINER = "args = TrainingArguments(\n    output_dir='out',\n    learning_rate=RATE,  # peak\n)\n"


def test_the_arguments_of_a_trainer_are_changed():
    body = f"RATE = 5e-5\n{TRAINER}"
    assert change(body, lr=1e-5) == body.replace("RATE = 5e-5", "RATE = 1e-5")
    assert change(body, eps=1e-6) == body.replace("learning_rate=RATE,", "learning_rate=RATE, adam_epsilon=1e-6,")
    assert change(body, betas=(0.9, 0.98)) == body.replace("RATE,", "RATE, adam_beta1=0.9, adam_beta2=0.98,")


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (TRAINER, {"lr": 1e-5}),  # nothing binds RATE
        (TRAINER.replace("RATE", "args.lr"), {"lr": 1e-5}),
        (f"RATE = 5e-5\n{TRAINER}{TRAINER}", {"lr": 1e-5}),
        (f"RATE = 5e-5\n{TRAINER}", {"amsgrad": True}),
        ("args = TrainingArguments(**config)\n", {"lr": 1e-5}),
        ("RATE = 5e-5\nargs = TrainingArguments('out', learning_rate=RATE, adam_epsilon=RATE)\n", {"lr": 1e-5}),
    ],
)
def test_a_trainer_that_is_not_surely_changed_is_left(body, values):
    assert change(body, **values) is None


def test_what_is_written_out_has_its_place():
    found = settings("opt = optim.Adam(model.parameters(), 3e-4, betas=(0.9, 0.95))\n")
    assert {setting: written.value for setting, written in found.values.items()} == {
        "optimizer.name": "adam",
        "optimizer.lr": 3e-4,
        "optimizer.beta1": 0.9,
        "optimizer.beta2": 0.95,
    }
    place = found.values["optimizer.lr"].place
    assert (place.line, place.column, place.end_column) == (4, 38, 42)
    assert found.left_open == ()
    assert found.framework == "torch"


def test_a_name_bound_once_is_followed_to_its_number():
    found = settings("LR = 1e-3\nopt = optim.SGD(model.parameters(), lr=LR, momentum=0.9)\n")
    assert found.values["optimizer.lr"].value == 1e-3
    assert found.values["optimizer.lr"].place.line == 4


@pytest.mark.parametrize("lr", ["args.lr", "cfg['lr']", "get_lr()"])
def test_what_somebody_else_sets_is_left_open(lr):
    found = settings(f"opt = optim.Adam(model.parameters(), lr={lr})\n")
    assert "optimizer.lr" not in found.values
    assert found.left_open == ("optimizer.lr",)


def test_arguments_of_a_star_leave_all_else_open():
    found = settings("opt = optim.Adam(model.parameters(), lr=1e-3, **kw)\n")
    assert found.values["optimizer.lr"].value == 1e-3
    assert "optimizer.eps" in found.left_open


@pytest.mark.parametrize("body", ["", "a = optim.Adam(model.parameters())\nb = optim.SGD(model.parameters(), lr=0.1)\n"])
def test_none_or_several_optimizers_say_nothing(body):
    assert settings(body) is None
    assert change(body, eps=0.1) is None


def test_a_number_is_replaced_where_it_stands():
    body = "LR = 1e-3  # tuned\nopt = optim.SGD(model.parameters(), lr=LR)\n"
    assert change(body, lr=5e-5) == "LR = 5e-5  # tuned\nopt = optim.SGD(model.parameters(), lr=LR)\n"


def test_a_missing_argument_is_added_to_the_call():
    body = "opt = optim.Adam(\n    model.parameters(),\n    lr=1e-3,\n)\n"
    assert change(body, eps=0.1) == "opt = optim.Adam(\n    model.parameters(),\n    lr=1e-3, eps=0.1,\n)\n"
    assert (
        change("opt = optim.Adam(model.parameters())\n", amsgrad=True) == "opt = optim.Adam(model.parameters(), amsgrad=True)\n"
    )


def test_one_beta_is_added_with_the_other():
    assert change("opt = optim.AdamW(model.parameters())\n", beta2=0.95) == (
        "opt = optim.AdamW(model.parameters(), betas=(0.9, 0.95))\n"
    )
    assert change("opt = optim.AdamW(model.parameters(), betas=(0.8, 0.999))\n", beta2=0.95) == (
        "opt = optim.AdamW(model.parameters(), betas=(0.8, 0.95))\n"
    )


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ("opt = optim.Adam(model.parameters(), lr=args.lr)\n", {"lr": 1e-4}),
        ("opt = optim.Adam(model.parameters(), **kw)\n", {"eps": 0.1}),
        ("opt = optim.SGD(model.parameters(), lr=0.1)\n", {"eps": 0.1}),
        ("LR = 0.1\nopt = optim.SGD(model.parameters(), lr=LR, weight_decay=LR)\n", {"lr": 0.01}),
        ("opt = optim.Adam(model.parameters())\n", {"name": "sgd"}),
    ],
)
def test_what_is_not_surely_right_is_not_changed(body, values):
    assert change(body, **values) is None


def test_keras_spells_it_its_own_way():
    script = Script("train.py", "import keras\nopt = keras.optimizers.Adam(learning_rate=0.01)\n")
    assert optimizer_settings(script).framework == "keras"
    assert changed(script, {"optimizer.eps": 0.1}).endswith("Adam(learning_rate=0.01, epsilon=0.1)\n")
