"""Which files near a log are its configuration, and which its training script."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NAMES = ("config", "hparams", "args", "params")
SUFFIXES = (".yaml", ".yml", ".json", ".toml")
#: Files of these names hold something else, whatever their suffix says.
NO_CONFIG = {
    "pyproject.toml",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "trainer_state.json",
    "expected.json",
    "label.json",
    "metrics.json",
    "tokenizer_config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "adapter_config.json",
    "ruff.toml",
    "poetry.lock",
    "environment.yml",
    "environment.yaml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "mkdocs.yml",
    "dvc.yaml",
    ".pre-commit-config.yaml",
}
#: Dumps of the command line that a script was called with.
OPTIONS = {"args.txt", "opt.txt", "train_opt.txt", "options.txt", "hparams.txt", "config.txt"}
SCRIPTS = (".sh", ".bash", ".slurm", ".sbatch")
MAX_CODE_FILES = 20
MAX_CODE_BYTES = 1_000_000
MAX_PYTHON_FILES = 50
RATES = ("lr", "learning_rate", "learning-rate", "optim")
TRAINS = (b"backward(", b"zero_grad")


class Surroundings:
    """What lies in folders: their files, configs and scripts. Each is looked into once, however many runs lie below it."""

    def __init__(self) -> None:
        self._files: dict[Path, list[Path]] = {}
        self._configs: dict[Path, list[Path]] = {}
        self._code: dict[Path, list[Path]] = {}

    def files(self, folder: Path) -> list[Path]:
        """Return the files of a folder, sorted; none of a folder that cannot be listed."""
        if folder not in self._files:
            try:
                self._files[folder] = sorted(path for path in folder.iterdir() if path.is_file())
            except OSError:
                self._files[folder] = []
        return self._files[folder]

    def configs(self, folder: Path) -> list[Path]:
        """Return the config files of a folder, those that override others last."""
        if folder not in self._configs:
            self._configs[folder] = _configs_among(self.files(folder))
        return self._configs[folder]

    def code(self, folder: Path) -> list[Path]:
        """Return the Python files of a folder that train, by their text; at most 20."""
        if folder not in self._code:
            found = [path for path in self.files(folder) if path.suffix == ".py" and _trains(path)]
            self._code[folder] = found[:MAX_CODE_FILES]
        return self._code[folder]


def find_configs(folder: Path, top: Path, around: Surroundings | None = None) -> list[Path]:
    """Return the config files of the nearest folder that has any, from `folder` up to `top` itself.

    Later files are meant to override earlier ones, and `config.*` comes last. `around`: what was looked into before.
    """
    around = around or Surroundings()
    return next((found for here in _upwards(folder, top) if (found := around.configs(here))), [])


def find_code(folder: Path, top: Path, around: Surroundings | None = None) -> list[Path]:
    """Return the Python files that train, by their text, of the nearest folder that has any; at most 20, sorted by name."""
    around = around or Surroundings()
    return next((found for here in _upwards(folder, top) if (found := around.code(here))), [])


def _upwards(folder: Path, top: Path) -> Iterator[Path]:
    """Yield `folder` and its parents up to and including `top`; only `folder` when `top` is not above it."""
    folder, top = folder.resolve(), top.resolve()
    yield folder
    if folder != top and top in folder.parents:
        for parent in folder.parents:
            yield parent
            if parent == top:
                return


def _configs_among(files: Sequence[Path]) -> list[Path]:
    candidates = [p for p in files if p.suffix.lower() in SUFFIXES and p.name.lower() not in NO_CONFIG]
    named = [p for p in candidates if p.stem.lower() in NAMES or "config" in p.stem.lower()]
    if named:
        return sorted(named, key=lambda p: (_rank(p), p.name))
    others = [
        p for p in candidates if p.suffix.lower() != ".json" and not p.name.startswith(".") and "metric" not in p.stem.lower()
    ]
    if others:
        return others if len(others) == 1 else []
    for more in (_python_configs(files), _commands(files)):
        if more:
            return more if len(more) == 1 else []
    return []


def _python_configs(files: Sequence[Path]) -> list[Path]:
    """Return the Python files that hold settings and do not train: configs of OpenMMLab, nanoGPT, Detectron2 and their like."""
    candidates = [p for p in files if p.suffix == ".py" and not p.name.startswith(("_", "setup", "test_", "conftest"))]
    return [path for path in candidates[:MAX_PYTHON_FILES] if not _trains(path) and _says_how_to_train(path)]


def _commands(files: Sequence[Path]) -> list[Path]:
    """Return the dumps of a command line, or else the launch scripts, that set a learning rate."""
    dumps = [path for path in files if path.name.lower() in OPTIONS and _says_how_to_train(path)]
    return dumps or [p for p in files[:MAX_PYTHON_FILES] if p.suffix in SCRIPTS and _says_how_to_train(p)]


def _says_how_to_train(path: Path) -> bool:
    """Whether a file that is no usual config sets a learning rate or an optimizer, in a dialect that is known or by its name."""
    from traindoctor.configs.dialects import read_settings
    from traindoctor.configs.documents import ParseError, parse, read_text

    try:
        text = read_text(path)
        if not any(word in text for word in RATES):
            return False
        reading = read_settings(parse(text, path.suffix), path.name)
    except ParseError:
        return False
    told = reading.dialect.name or path.suffix != ".py" or path.stem.lower() in NAMES or "config" in path.stem.lower()
    return bool(told) and not {"optimizer.lr", "optimizer.name"}.isdisjoint(reading.slots)


def _rank(path: Path) -> int:
    """Return how late a file is read: the more it is this run's own, the later."""
    stem = path.stem.lower()
    return {"params": 1, "args": 2, "hparams": 3, "config": 4}.get(stem, 0)


def _trains(path: Path) -> bool:
    try:
        if path.stat().st_size >= MAX_CODE_BYTES:
            return False
        text = path.read_bytes()
    except OSError:
        return False
    return any(word in text for word in TRAINS)
