"""What `check` makes of config files: which are configs of a training, where values stand, and what no rule may say of them."""

from pathlib import Path

import pytest

from traindoctor.check import in_file
from traindoctor.configs.documents import ParseError, read_text
from traindoctor.configs.file import ConfigFile, is_training_config
from traindoctor.configs.spelling import distance, near
from traindoctor.configs.words import may_be_config
from traindoctor.registry import load_rules
from traindoctor.testing import static_cases

ROOT = Path(__file__).parents[2]
CAUSES = [cause for cause in load_rules().causes.values() if cause.file_rules]
BY_CODE = {cause.code: cause for cause in CAUSES}
SUFFIXES = (".yaml", ".yml", ".json", ".toml", ".py", ".sh")


def config_of(folder: Path, name: str, text: str, **others: str) -> ConfigFile:
    """Return the config of a text that is written into a folder, with files beside it."""
    for other, its in others.items():
        (folder / other.replace("__", "/").replace("_dot_", ".")).parent.mkdir(parents=True, exist_ok=True)
        (folder / other.replace("__", "/").replace("_dot_", ".")).write_text(its)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return ConfigFile(name, text, path=path, root=folder)


def said(config: ConfigFile, *codes: str) -> list[tuple[str, str, str]]:
    """Return code, severity and place of what is found in a config."""
    causes = [BY_CODE[code] for code in codes] if codes else CAUSES
    return [(one.code, one.mistake.severity, one.mistake.location.text) for one in in_file(config, causes)]


def well_tuned() -> list[Path]:
    """Return the configs of the fixtures that nothing is wrong with."""
    folders = [ROOT / "fixtures" / "formats" / "configs", ROOT / "fixtures" / "healthy"]
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES]
    return [path for path in found if path.name not in ("expected.json",)]


class TestWhatIsWellTuned:
    @pytest.mark.parametrize("path", well_tuned(), ids=lambda path: path.relative_to(ROOT / "fixtures").as_posix())
    def test_gets_no_error_and_no_warning(self, path):
        try:
            config = ConfigFile(path.name, read_text(path), path=path, root=path.parent)
        except ParseError:
            pytest.skip("no config")
        if is_training_config(config) and path.parent.name != "plain":
            assert [one for one in said(config) if one[1] != "info"] == []

    def test_the_fixture_that_says_so_gets_its_warning(self):
        folder = ROOT / "fixtures" / "formats" / "configs" / "plain"
        assert "number-as-text" in (folder / "expected.json").read_text()
        config = ConfigFile("config.yaml", read_text(folder / "config.yaml"))
        assert said(config) == [("TD801", "warning", "config.yaml:4")]

    def test_every_dialect_is_taken_for_a_training(self):
        folders = sorted((ROOT / "fixtures" / "formats" / "configs").iterdir())
        for folder in (f for f in folders if f.is_dir() and f.name not in ("accelerate", "wandb-sweep", "argparse-options")):
            files = [path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES and path.name != "expected.json"]
            taken = [
                path
                for path in files
                if may_be_config(text := read_text(path), path.suffix)
                and is_training_config(ConfigFile(path.name, text, path=path, root=folder))
            ]
            assert taken or folder.name == "fairseq-namespace", folder.name


OTHER_FILES = {
    "docker-compose.yml": "services:\n  trainer:\n    image: ${IMAGE}\n    command: python train.py --lr 0.1\n",
    "compose.yaml": "services:\n  optim:\n    image: optim\n    deploy: {resources: {limits: {memory: '${MEM}'}}}\n",
    ".github/workflows/train.yml": "on: push\ndefaults: {run: {shell: bash}}\njobs:\n  a:\n    steps: [{run: 'a --lr 1'}]\n",
    "package.json": '{"name": "x", "scripts": {"optimize": "webpack"}, "dependencies": {"lr": "1.0"}}',
    "tsconfig.json": '{"compilerOptions": {"target": "es5", "optimizer": true}}',
    "pyproject.toml": "[project]\nname = 'optim'\n[tool.ruff]\nline-length = 100\n",
    "tokenizer.json": '{"model": {"vocab": {"lr": 1, "optimizer": 2, "learning_rate": 3}}}',
    "annotations.json": '{"images": [{"id": 1}], "categories": [{"name": "lr"}], "info": {"batch_size": 3}}',
    "mkdocs.yml": "nav:\n  - Optimizer: optimizer.md\n  - Learning rate: lr.md\n",
    "environment.yml": "name: x\ndependencies:\n  - pytorch-lr-finder\n  - pip: [optimizer]\n",
    "job.yaml": "kind: Job\nspec:\n  template:\n    spec:\n      containers: [{name: t, args: ['--lr=0.1']}]\n",
    "config.json": '{"model_type": "bert", "hidden_size": 768, "layer_norm_eps": 1e-12, "torch_dtype": "float16"}',
    "trainer_state.json": '{"max_steps": 10, "num_train_epochs": 3, "log_history": [{"learning_rate": 0.1, "step": 1}]}',
    "adapter_config.json": '{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": "x"}',
    "openapi.yaml": "openapi: 3.0.0\npaths: {/optimizer: {get: {responses: {'200': {description: lr}}}}}\n",
    "labels.yaml": "names: [cat, dog]\nnc: 2\ntrain: images/train\nval: images/val\n",
}


class TestWhichFilesAreConfigs:
    @pytest.mark.parametrize("name", OTHER_FILES)
    def test_others_are_none(self, name):
        text = OTHER_FILES[name]
        suffix = Path(name).suffix
        assert not may_be_config(text, suffix) or not is_training_config(ConfigFile(name, text))

    @pytest.mark.parametrize(
        "text",
        [
            "import torch\nlr = 0.1\nfor x in data:\n    loss.backward()\n",
            "learning_rate = 1e-3\nclass Net:\n    pass\n",
            "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr')\n",
            "lr = 0.1\ndef train():\n    pass\n",
        ],
    )
    def test_a_program_is_none(self, text):
        assert not may_be_config(text, ".py")

    def test_a_python_file_counts_by_its_dialect_or_its_name(self):
        assert is_training_config(ConfigFile("config.py", "learning_rate = 1e-3\nepochs = 3\n"))
        assert not is_training_config(ConfigFile("constants.py", "learning_rate = 1e-3\nepochs = 3\n"))
        assert is_training_config(ConfigFile("rtmdet.py", "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n"))
        assert (
            is_training_config(
                ConfigFile("c4.py", "def get_config():\n  config = ConfigDict()\n  config.lr = 0.1\n  return config\n")
            )
            is False
        )

    def test_the_samples_of_the_rules_are(self):
        for case in static_cases(CAUSES):
            suffix = Path(case.sample.file).suffix
            if case.lines and (suffix != ".py" or case.sample.file.startswith("config")):
                assert may_be_config(case.sample.text, suffix), str(case)


class TestBases:
    BASE = "SOLVER:\n  BASE_LR: 0.02\n  WARMUP_ITERS: 1000\n  MAX_ITER: 90000\n  STEPS: (60000, 80000)\n"

    def test_the_place_is_that_of_the_value_in_the_base(self, tmp_path):
        child = "_BASE_: common.yaml\nSOLVER:\n  IMS_PER_BATCH: 2\n"
        config = config_of(tmp_path, "c.yaml", child, common_dot_yaml=self.BASE.replace("90000", "500"))
        assert {place for _, _, place in said(config, "TD205", "TD209")} == {"common.yaml:3", "common.yaml:5"}

    def test_what_a_child_changes_is_said_of_the_child(self, tmp_path):
        child = "_BASE_: common.yaml\nSOLVER:\n  MAX_ITER: 500\n"
        config = config_of(tmp_path, "c.yaml", child, common_dot_yaml=self.BASE)
        assert {place for _, _, place in said(config, "TD205", "TD209")} == {"c.yaml:3"}

    def test_a_base_and_its_child_say_the_same(self, tmp_path):
        child = config_of(
            tmp_path, "c.yaml", "_BASE_: common.yaml\nVERSION: 2\n", common_dot_yaml=self.BASE.replace("90000", "500")
        )
        base = config_of(tmp_path, "common.yaml", self.BASE.replace("90000", "500"))
        causes = [BY_CODE["TD205"], BY_CODE["TD209"]]
        mine, its = ([one.mistake for one in in_file(config, causes)] for config in (child, base))
        assert [(m.location.line, m.message) for m in mine] == [(m.location.line, m.message) for m in its]

    def test_a_part_that_others_inherit_from_is_not_held_to_its_length(self, tmp_path):
        assert said(config_of(tmp_path, "Base-RCNN.yaml", self.BASE.replace("90000", "500")), "TD205", "TD209") == []

    def test_an_override_in_the_child_mends_the_base(self, tmp_path):
        child = "_base_ = ['./base_schedule.py']\ntrain_cfg = dict(max_epochs=300)\n"
        base = (
            "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\ntrain_cfg = dict(by_epoch=True, max_epochs=100)\n"
            "param_scheduler = dict(type='MultiStepLR', milestones=[200, 250])\n"
        )
        assert said(config_of(tmp_path, "child.py", child, base_schedule_dot_py=base), "TD209") == []

    def test_a_group_of_hydra_is_seen_in_its_file(self, tmp_path):
        child = (
            "defaults:\n  - optimizer: sgd\n  - _self_\ntrainer: {max_epochs: 200}\n"
            "scheduler:\n  _target_: torch.optim.lr_scheduler.CosineAnnealingLR\n  T_max: 10\n"
        )
        config = config_of(
            tmp_path, "train.yaml", child, optimizer__sgd_dot_yaml="_target_: torch.optim.SGD\nlr: 0.1\nmomentun: 0.9\n"
        )
        assert said(config, "TD209") == [("TD209", "warning", "train.yaml:7")]


class TestPlaces:
    def test_of_an_expression_is_the_expression(self):
        text = "init_from = 'scratch'\nblock_size = 256\nn_layer = 6\nlearning_rate = 1e-4\nmin_lr = (1e-2\n          * 2)\n"
        (found,) = in_file(ConfigFile("config_n.py", text), [BY_CODE["TD212"]])
        place = found.mistake.location
        assert (place.line, place.column, place.end_line, place.end_column) == (5, 11, 6, 14)

    def test_of_a_key_is_the_key(self):
        text = "# é\nlearning_rte = 1e-4\nmax_iters = 5\nblock_size = 2\nn_layer = 3\ndecay_lr = True\n"
        (found,) = in_file(ConfigFile("config_n.py", text), [BY_CODE["TD802"]])
        assert found.mistake.location[1:5] == (2, 1, 2, 13)

    def test_of_a_json_key_is_without_quotes(self):
        text = '{"zero_optimization": {"stage": 2},\n  "gradient_cliping": 1.0}'
        (found,) = in_file(ConfigFile("ds.json", text), [BY_CODE["TD802"]])
        assert found.mistake.location[1:5] == (2, 4, 2, 20)


class TestFilesBeside:
    ARGUMENTS = "output_dir: o\ndeepspeed: conf/ds.json\nper_device_train_batch_size: 4\nlearning_rate: 2.0e-5\n"
    DEEPSPEED = '{"zero_optimization": {"stage": 2},\n "optimizer": {"type": "AdamW", "params": {"lr": 0.001}}}'

    def test_a_deepspeed_config_is_found_below_a_folder_above(self, tmp_path):
        config = config_of(tmp_path, "recipes/train.yaml", self.ARGUMENTS, conf__ds_dot_json=self.DEEPSPEED)
        assert said(config, "TD804") == [("TD804", "error", "conf/ds.json:2")]

    def test_nothing_outside_the_root_is_read(self, tmp_path):
        (tmp_path / "ds.json").write_text(self.DEEPSPEED)
        inside = self.ARGUMENTS.replace("conf/ds.json", "../../ds.json")
        config = config_of(tmp_path / "project", "recipes/train.yaml", inside)
        assert said(config, "TD804") == []

    def test_the_arguments_beside_a_deepspeed_config_are_found(self, tmp_path):
        arguments = self.ARGUMENTS.replace("conf/ds.json", "ds.json")
        config = config_of(tmp_path, "ds.json", self.DEEPSPEED, train_dot_yaml=arguments)
        assert said(config, "TD804") == [("TD804", "error", "ds.json:2")]

    def test_a_loader_in_the_project_says_how_numbers_are_read(self, tmp_path):
        text = "optimizer: {name: sgd, lr: 3e-4}\n"
        loads = {"src__train_dot_py": "import yaml\nc = yaml.safe_load(f)\n"}
        assert said(config_of(tmp_path, "configs/a.yaml", text, **loads), "TD801")
        casts = {"src__train_dot_py": "from ruamel.yaml import YAML\n"}
        assert not said(config_of(tmp_path, "configs/a.yaml", text, **casts), "TD801")


class TestSpelling:
    @pytest.mark.parametrize(
        ("one", "other", "n"),
        [
            ("lr", "lr", 0),
            ("decya", "decay", 1),
            ("cliping", "clipping", 1),
            ("val", "value", 2),
            ("abc", "xyz", 3),
            ("a", "abcd", 3),
        ],
    )
    def test_distance(self, one, other, n):
        assert distance(one, other) == distance(other, one) == n

    def test_short_words_are_held_to_one_letter(self):
        assert near("base_rl", "base_lr")
        assert not near("max_lr", "min_lr")


@pytest.mark.parametrize(
    "text",
    [
        "lr: [[[1]]]\noptimizer: {}\n",
        "optimizer: {name: 3, lr: {a: b}, betas: x, eps: [], momentum: null}\n",
        "SOLVER: {BASE_LR: x, STEPS: 3, MAX_ITER: [], WARMUP_ITERS: -1, IMS_PER_BATCH: 1.5}\n",
        "output_dir: 1\nper_device_train_batch_size: x\nlearning_rate: .nan\nwarmup_ratio: .inf\nmax_steps: 1e400\n",
        "zero_optimization: 3\ntrain_batch_size: 1e30\ntrain_micro_batch_size_per_gpu: 0\nscheduler: {type: []}\n",
        "lr0: .inf\nlrf: .inf\nbox: 1\nmomentum: .nan\nepochs: .inf\nwarmup_epochs: .inf\n",
        "lr: 0.1\noptimizer: sgd\n" + "".join(f"learning_rat{i}: {i}\n" for i in range(3_000)),
    ],
)
def test_odd_values_do_not_stop_a_rule(text):
    config = ConfigFile("config.yaml", text)
    said(config)


def test_what_stands_in_another_file_is_not_mended_in_this_one(tmp_path: Path) -> None:
    script = "deepspeed train.py --deepspeed ds.json --output_dir o --per_device_train_batch_size 4 --learning_rate 2e-5\n"
    held = '{"zero_optimization": {"stage": 2}, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}}'
    config = config_of(tmp_path, "launch.sh", script, ds_dot_json=held)
    found = in_file(config, [BY_CODE["TD804"]])
    assert [(one.mistake.location.file, one.mistake.repair) for one in found] == [("ds.json", None)]


TOML = """\
[optimizer]
name = "adam"
betas = [
  0.9, # not "]"
  1.0,
]
note = '''
lr = 5
[nothing]
'''
[train]
groups = { lr = -2.0, sub = { a.b = [1, 2] } }
names = [
  ["c"]
]
epochs = 3
"""


def test_values_of_toml_know_their_characters() -> None:
    config = ConfigFile("config.toml", TOML)
    shown = {".".join(entry.path): (entry.line, TOML[slice(*entry.span)]) for entry in config.entries}
    assert shown["train.groups.lr"] == (12, "-2.0")
    assert shown["train.groups.sub.a.b"] == (12, "[1, 2]")
    assert shown["train.names.0"] == (14, '["c"]')
    assert shown["train.epochs"] == (16, "3")
    betas = next(entry for entry in config.entries if entry.key == "betas")
    assert [(TOML.count("\n", 0, start) + 1, TOML[start:stop]) for start, stop in betas.items] == [(4, "0.9"), (5, "1.0")]


def test_a_further_optimizer_of_the_same_class_is_read_beside_the_first() -> None:
    text = "gen: {_target_: torch.optim.Adam, lr: 0.1}\ndisc: {_target_: torch.optim.Adam, lr: 0.2, betas: [0.5, 0.9]}\n"
    slots = ConfigFile("config.yaml", text).reading.slots
    assert {name: slots[name].value for name in ("optimizer.lr", "optimizer.100.lr", "optimizer.100.betas")} == {
        "optimizer.lr": 0.1,
        "optimizer.100.lr": 0.2,
        "optimizer.100.betas": (0.5, 0.9),
    }


@pytest.mark.parametrize(
    ("file", "severity"), [("train.yaml", "warning"), ("quick_schedules/train.yaml", "info"), ("run_debug.yaml", "info")]
)
def test_a_config_that_tries_the_code_is_not_held_to_its_lengths(file, severity):
    text = "MODEL:\n  META_ARCHITECTURE: GeneralizedRCNN\nSOLVER:\n  BASE_LR: 0.005\n  MAX_ITER: 40\n"
    (found,) = in_file(ConfigFile(file, text), [load_rules().causes["TD205"]])
    assert found.mistake.severity == severity


def test_a_key_that_says_the_same_twice_is_a_note():
    (found,) = in_file(ConfigFile("config.yaml", "lr: 0.1\nepochs: 3\nlr: 0.1\n"), [load_rules().causes["TD803"]])
    assert found.mistake.severity == "info"
