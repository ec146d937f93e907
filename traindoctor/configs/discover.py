"""Which files near a log are its configuration, and which its training script."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
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
MAX_CODE_FILES = 20
MAX_CODE_BYTES = 1_000_000
TRAINS = (b"backward(", b"zero_grad")


def find_configs(folder: Path, top: Path) -> list[Path]:
    """Return the config files of the nearest folder that has any, from `folder` up to `top` itself.

    Later files are meant to override earlier ones, and `config.*` comes last.
    """
    for here in _upwards(folder, top):
        if found := _configs_in(here):
            return found
    return []


def find_code(folder: Path, top: Path) -> list[Path]:
    """Return the Python files that train, by their text, of the nearest folder that has any; at most 20, sorted by name."""
    for here in _upwards(folder, top):
        found = [path for path in _files(here) if path.suffix == ".py" and _trains(path)]
        if found:
            return found[:MAX_CODE_FILES]
    return []


def _upwards(folder: Path, top: Path) -> Iterator[Path]:
    """Yield `folder` and its parents up to and including `top`; only `folder` when `top` is not above it."""
    folder, top = folder.resolve(), top.resolve()
    yield folder
    if folder != top and top in folder.parents:
        for parent in folder.parents:
            yield parent
            if parent == top:
                return


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []


def _configs_in(folder: Path) -> list[Path]:
    candidates = [p for p in _files(folder) if p.suffix.lower() in SUFFIXES and p.name.lower() not in NO_CONFIG]
    named = [p for p in candidates if p.stem.lower() in NAMES or "config" in p.stem.lower()]
    if named:
        return sorted(named, key=lambda p: (_rank(p), p.name))
    others = [
        p for p in candidates if p.suffix.lower() != ".json" and not p.name.startswith(".") and "metric" not in p.stem.lower()
    ]
    return others if len(others) == 1 else []


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
