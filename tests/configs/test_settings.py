# ruff: noqa: E501 -- a case of a table is one line
from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from traindoctor.configs import load_settings, with_defaults
from traindoctor.configs.documents import ParseError, is_text_in_yaml_1_1, parse, plain_scalar
from traindoctor.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

DIALECTS = {
    "flat": (
        "config.yaml",
        "seed: 3\noptimizer: adam\nlr: 3e-4\nbeta1: 0.9\nbeta2: 0.95\neps: 1e-08\nbatch_size: 64\nepochs: 30\n",
        {"seed": 3, "optimizer.name": "adam", "optimizer.lr": 3e-4, "optimizer.beta2": 0.95, "optimizer.eps": 1e-8, "epochs": 30},
    ),
    "nested": (
        "config.yaml",
        "optimizer:\n  name: sgd\n  lr: 0.05\n  momentum: 0.9\nscheduler:\n  name: cosine\ntrain:\n  batch_size: 64\nmodel:\n  name: cnn\n  eps: 1e-5\n",
        {"optimizer.name": "sgd", "optimizer.lr": 0.05, "optimizer.momentum": 0.9, "schedule.name": "cosine", "batch_size": 64},
    ),
    "hydra": (
        "config.yaml",
        "optim:\n  _target_: torch.optim.Adam\n  lr: ${lr}\n  betas: [0.9, 0.98]\nlr: 0.005\ntrainer:\n  max_steps: 400\n  precision: 16-mixed\n",
        {
            "optimizer.name": "torch.optim.Adam",
            "optimizer.betas": (0.9, 0.98),
            "optimizer.beta2": 0.98,
            "steps": 400,
            "precision": "16-mixed",
        },
    ),
    "huggingface": (
        "args.json",
        '{"optim": "adamw_torch", "learning_rate": 5e-5, "adam_epsilon": 1e-8, "fp16": true, "max_steps": -1,\n"max_grad_norm": 1.0, '
        '"lr_scheduler_type": "linear", "per_device_train_batch_size": 8, "num_train_epochs": 3.0}',
        {
            "optimizer.name": "adamw_torch",
            "precision": "16-mixed",
            "gradient.clip_norm": 1.0,
            "schedule.name": "linear",
            "epochs": 3,
        },
    ),
    "deepspeed": (
        "ds_config.json",
        '{"optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "betas": [0.8, 0.99], "eps": "auto"}}, "fp16": {"enabled": true},\n'
        '"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 100}}, "gradient_clipping": 0.5}',
        {
            "optimizer.name": "AdamW",
            "optimizer.lr": 1e-3,
            "optimizer.beta1": 0.8,
            "schedule.name": "WarmupLR",
            "schedule.warmup_steps": 100,
        },
    ),
    "lightning": (
        "config.yaml",
        "seed_everything: 7\noptimizer:\n  class_path: torch.optim.SGD\n  init_args:\n    lr: 0.1\ntrainer:\n  gradient_clip_val: 1.0\n  precision: 16\n",
        {"seed": 7, "optimizer.name": "torch.optim.SGD", "optimizer.lr": 0.1, "gradient.clip_norm": 1.0, "precision": "16-mixed"},
    ),
    "keras": (
        "config.json",
        '{"optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 1.0, "epsilon": 1e-07}}}',
        {"optimizer.name": "Adam", "optimizer.beta2": 1.0, "optimizer.eps": 1e-7, "framework": "keras"},
    ),
    "torchtitan": (
        "train.toml",
        '[optimizer]\nname = "AdamW"\nlr = 8e-4\n\n[lr_scheduler]\nwarmup_steps = 200\n\n[training]\nsteps = 1000\nmax_norm = 1.0\n',
        {"optimizer.name": "AdamW", "optimizer.lr": 8e-4, "schedule.warmup_steps": 200, "steps": 1000, "gradient.clip_norm": 1.0},
    ),
    "detectron2": (
        "config.yaml",
        "SOLVER:\n  BASE_LR: 0.02\n  MOMENTUM: 0.9\n  MAX_ITER: 90000\n  WARMUP_ITERS: 1000\n  IMS_PER_BATCH: 16\n",
        {"optimizer.lr": 0.02, "optimizer.momentum": 0.9, "steps": 90000, "schedule.warmup_steps": 1000, "batch_size": 16},
    ),
    "fairseq": (
        "config.yaml",
        "optimization:\n  lr: [0.0005]\n  clip_norm: 0.0\noptimizer:\n  _name: adam\n  adam_betas: '(0.9, 0.98)'\n",
        {"optimizer.name": "adam", "optimizer.lr": 0.0005, "optimizer.betas": (0.9, 0.98), "gradient.clip_norm": 0.0},
    ),
    "wandb": (
        "config.yaml",
        "lr:\n  desc: null\n  value: 0.01\noptimizer:\n  value: adam\n",
        {"optimizer.lr": 0.01, "optimizer.name": "adam"},
    ),
    "algoperf": (
        "hparams.json",
        '{"learning_rate": 0.001, "one_minus_beta1": 0.25}',
        {"optimizer.lr": 0.001, "optimizer.beta1": 0.75},
    ),
    "python tags": (
        "hparams.yaml",
        "model: !!python/object:net.Net\n  lr: 5\nfn: !!python/name:os.system ''\nbetas: !!python/tuple [0.9, 0.99]\nlr: !mine 0.1\n",
        {"optimizer.betas": (0.9, 0.99), "optimizer.lr": 0.1},
    ),
    "ordered dict": (
        "config.yml",
        "!!python/object/apply:collections.OrderedDict\n- - - batch_size\n    - 256\n  - - learning_rate\n    - 0.001\n",
        {"batch_size": 256, "optimizer.lr": 0.001},
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects(tmp_path: Path, dialect: str) -> None:
    name, text, expected = DIALECTS[dialect]
    (tmp_path / name).write_text(text)
    settings, damages = load_settings([tmp_path / name], tmp_path)
    assert {damage.kind for damage in damages} <= {"number-as-text"}
    read = {key: setting.value for key, setting in settings.items()}
    assert {key: read.get(key) for key in expected} == expected


def read(tmp_path: Path, text: str, name: str = "config.yaml") -> dict[str, object]:
    (tmp_path / name).write_text(text)
    settings, _ = load_settings([tmp_path / name], tmp_path)
    return {key: setting.value for key, setting in settings.items()}


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("c.yaml", "# top\nseed: 1\noptimizer:\n  # a comment\n  lr: 0.1\n", 5),
        ("c.yaml", "# top\r\nseed: 1\r\nlr: 0.1\r\n", 3),
        ("c.json", '{\n  "seed": 1,\n  "lr": 0.1\n}\n', 3),
        ("c.toml", "# top\n[optimizer]\n\nlr = 0.1\n", 4),
    ],
)
def test_the_origin_is_file_and_line_of_the_key(tmp_path: Path, name: str, text: str, line: int) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_bytes(text.encode())
    settings, _ = load_settings([tmp_path / "run" / name], tmp_path)
    assert settings["optimizer.lr"].origin == f"run/{name}:{line}"


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("precision: float16", "float16"),
        ("dtype: torch.bfloat16", "bfloat16"),
        ("half: true", "float16"),
        ("fp16: true", "16-mixed"),
        ("fp16: false", None),
        ("bf16: true", "bf16-mixed"),
        ("mixed_precision: fp16", "16-mixed"),
        ("mixed_precision: 'no'", None),
        ("precision: fp16", "fp16"),
        ("precision: 16-true", "16-true"),
        ("precision: 32", "32"),
        ("amp: {enabled: true}", "16-mixed"),
    ],
)
def test_precision_tells_pure_from_mixed(tmp_path: Path, text: str, precision: str | None) -> None:
    assert read(tmp_path, text + "\n").get("precision") == precision


def test_an_optimizer_elsewhere_does_not_mix_with_the_first(tmp_path: Path) -> None:
    text = "optimizer_g:\n  name: adam\n  lr: 0.1\noptimizer_d:\n  name: sgd\n  lr: 0.2\n  momentum: 0.5\n"
    assert read(tmp_path, text) == {"optimizer.name": "adam", "optimizer.lr": 0.1}


def test_words_that_mean_something_else_are_left_alone(tmp_path: Path) -> None:
    text = "model:\n  lr: 7\n  eps: 1e-5\n  norm: {momentum: 0.1}\nnorm_eps: 1e-6\nexploration:\n  epsilon: 0.1\n"
    assert read(tmp_path, text) == {}
    assert read(tmp_path, "epsilon: 0.1\n") == {}


def test_unusable_values_are_not_settings(tmp_path: Path) -> None:
    text = "lr: auto\noptimizer: ${opt}\nmax_steps: -1\nbetas: [a, b]\nweight_decay: null\nmomentum: .nan\n"
    assert read(tmp_path, text) == {}


def test_limits_are_kept(tmp_path: Path) -> None:
    assert read(tmp_path, "lr: 0\nbeta1: 1.0\neps: 0\n") == {"optimizer.lr": 0.0, "optimizer.beta1": 1.0, "optimizer.eps": 0.0}


def test_a_later_file_overrides(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lr: 0.1\nbetas: [0.9, 0.99]\n")
    (tmp_path / "b.json").write_text('{"lr": 0.2, "beta2": 0.5}')
    settings, _ = load_settings([tmp_path / "a.yaml", tmp_path / "b.json"], tmp_path)
    assert settings["optimizer.lr"].value == 0.2
    assert settings["optimizer.lr"].origin == "b.json:1"
    assert settings["optimizer.betas"].value == (0.9, 0.5)


def test_a_repeated_key_reads_as_loaders_do_the_last(tmp_path: Path) -> None:
    assert read(tmp_path, "lr: 0.1\nlr: 0.2\n")["optimizer.lr"] == 0.2
    assert read(tmp_path, '{"lr": 0.1, "lr": 0.2}', "c.json")["optimizer.lr"] == 0.2


def test_merged_keys_are_overridden_by_own(tmp_path: Path) -> None:
    text = "base: &base\n  lr: 0.1\n  eps: 0.5\noptimizer:\n  <<: *base\n  name: adam\n  lr: 0.3\n"
    assert read(tmp_path, text) == {"optimizer.name": "adam", "optimizer.lr": 0.3, "optimizer.eps": 0.5}


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("config.yaml", b"lr: 0.1\noptimizer: {a: b\n- c\n", 3),
        ("config.yaml", b"just a sentence\n", 1),
        ("config.yaml", b"- 1\n- 2\n", 1),
        ("config.yaml", b"lr: 0.1\n\tb: 2\n", 2),
        ("config.yaml", b"lr: \xff\xfe\n", 1),
        ("config.json", b'{"a": 1,\n "b": }', 2),
        ("config.json", b"[1, 2]", 1),
        ("config.toml", b"a = 1\nb = = 2\n", 2),
    ],
)
def test_what_does_not_parse_is_damage_with_a_line_or_an_error(tmp_path: Path, name: str, text: bytes, line: int) -> None:
    (tmp_path / name).write_bytes(text)
    settings, damages = load_settings([tmp_path / name], tmp_path)
    assert settings == {}
    assert [(d.kind, d.file) for d in damages] == [("unreadable-config", name)]
    assert damages[0].detail.startswith(f"line {line}: ")
    with pytest.raises(ConfigError) as caught:
        load_settings([tmp_path / name], tmp_path, strict=True)
    assert caught.value.where == f"{name}:{line}"
    assert caught.value.ways_out


def test_missing_and_oversized_files_are_damage(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text("a: 1\n" * 500_000)
    _, damages = load_settings([tmp_path / "none.yaml", tmp_path / "big.yaml"], tmp_path)
    assert [d.file for d in damages] == ["none.yaml", "big.yaml"]


def test_empty_files_say_nothing(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.json", "c.toml"):
        (tmp_path / name).write_text("")
        assert load_settings([tmp_path / name], tmp_path) == ({}, [])


def test_aliases_of_aliases_end(tmp_path: Path) -> None:
    text = "a: &a {lr: 0.1}\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    (tmp_path / "c.yaml").write_text(text + "optimizer: &o\n  self: *o\n  <<: *o\n")
    began = time.monotonic()
    load_settings([tmp_path / "c.yaml"], tmp_path)
    assert time.monotonic() - began < 5


def test_deep_nesting_ends(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.json"):
        (tmp_path / name).write_text('{"a":' * 5000 + "1" + "}" * 5000)
        load_settings([tmp_path / name], tmp_path)


@given(st.text(max_size=200), st.sampled_from([".yaml", ".json", ".toml"]))
def test_any_text_parses_or_is_refused(text: str, suffix: str) -> None:
    with suppress(ParseError):
        assert isinstance(parse(text, suffix), list)


@given(st.text("lr: {}[]&*!<-\n\t'\"#|>0.1e%@`?,", max_size=60))
def test_any_yaml_like_text_parses_or_is_refused(text: str) -> None:
    with suppress(ParseError):
        assert isinstance(parse(text, ".yaml"), list)


@pytest.mark.parametrize(
    ("text", "is_noted"),
    [
        ("lr: 3e-4\n", True),
        ("lr: 1e5\noptimizer: sgd\n", True),
        ("lr: 1.0e5\n", True),
        ("betas: [0.9, 9e-1]\nlr: 0.1\n", True),
        ("lr: -.5\n", True),
        ("lr: 3.0e-4\n", False),
        ("lr: 0.1\nwidth: 1e3\n", False),  # no setting of the training
        ("lr: '3e-4'\n", False),  # text on purpose
        ("lr: !!float 3e-4\n", False),
        ("lr: 1_000\n", False),
        ("lr: ${base}\nbase: 3e-4\n", False),  # OmegaConf
        ("optimizer:\n  _target_: torch.optim.SGD\n  lr: 3e-4\n", False),
        ("optimizer:\n  _component_: torch.optim.SGD\n  lr: 3e-4\n", False),
        ("trainer: {max_epochs: 3}\noptimizer:\n  class_path: torch.optim.SGD\n  init_args: {lr: 3e-4}\n", False),
        ("base_model: x\nadapter: lora\nmicro_batch_size: 2\nlearning_rate: 3e-4\n", False),
        ("stage: sft\nfinetuning_type: lora\nlearning_rate: 3e-4\n", False),
        ("output_dir: x\nper_device_train_batch_size: 8\nlearning_rate: 3e-4\n", False),
        ("SOLVER:\n  BASE_LR: 3e-4\n", False),
        ("lr0: 1e-2\nlrf: 0.1\nbox: 7.5\noptimizer: SGD\n", True),
    ],
)
def test_a_number_that_pyyaml_reads_as_text_is_noted_where_nothing_casts_it(tmp_path: Path, text: str, is_noted: bool) -> None:
    (tmp_path / "config.yaml").write_text(text)
    _, damages = load_settings([tmp_path / "config.yaml"], tmp_path)
    assert [damage.kind for damage in damages] == ["number-as-text"] * is_noted
    key = next(key for key in ("lr0", "betas", "lr") if f"{key}:" in text) if is_noted else ""
    assert all(f"`{key}`" in damage.detail and damage.detail.startswith("line ") for damage in damages)


@given(st.from_regex(r"[-+]?[0-9]{0,2}\.?[0-9]{0,2}([eE][-+]?[0-9])?", fullmatch=True))
def test_the_words_that_pyyaml_reads_as_text_are_the_ones_that_are_noted(word: str) -> None:
    if isinstance(plain_scalar(word), float):
        assert is_text_in_yaml_1_1(word) == isinstance(yaml.safe_load(f"a: {word}")["a"], str)


def test_the_dialect_stands_with_the_settings_and_the_later_file_tells_it(tmp_path: Path) -> None:
    (tmp_path / "args.json").write_text('{"output_dir": "x", "per_device_train_batch_size": 8, "learning_rate": 1e-5}')
    (tmp_path / "ds.json").write_text(
        '{"zero_optimization": {"stage": 2}, "gradient_clipping": 0.5, "optimizer": {"params": {"eps": "auto"}}}'
    )
    (tmp_path / "plain.yaml").write_text("seed: 3\n")
    files = [tmp_path / name for name in ("args.json", "ds.json", "plain.yaml")]
    settings, _ = load_settings(files, tmp_path)
    assert (settings["dialect"].value, settings["dialect"].origin) == ("Hugging Face TrainingArguments", "args.json")
    assert with_defaults(settings)["optimizer.eps"].value == 1e-8
    alone, _ = load_settings(files[1:2], tmp_path)
    assert alone["dialect"].value == "DeepSpeed"
    assert alone["dialect.open"].value == ("optimizer.eps",)
    assert "optimizer.eps" not in with_defaults(alone)


@pytest.mark.parametrize("name", ["adafactor", "sgd", "rmsprop", "adamw_torch", "lion"])
def test_a_dialects_betas_are_for_optimizers_that_have_them(tmp_path: Path, name: str) -> None:
    (tmp_path / "args.json").write_text(f'{{"output_dir": "x", "per_device_train_batch_size": 8, "optim": "{name}"}}')
    settings, _ = load_settings([tmp_path / "args.json"], tmp_path)
    assert ("optimizer.beta1" in with_defaults(settings)) == (name in ("adamw_torch", "lion"))


def test_the_column_is_that_of_the_key() -> None:
    for text, suffix, column in (
        ("a:\n  lr: 1\n", ".yaml", 3),
        ('{"a": {"lr": 1}}', ".json", 8),
        ("  lr = 1\n", ".toml", 3),
        ("python t.py --lr 1", ".sh", 13),
    ):
        assert [(entry.key, entry.column) for entry in parse(text, suffix)] == [("lr", column)]
