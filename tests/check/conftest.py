import pytest

from tests.check.rules import Shelf
from traindoctor.check import pipeline
from traindoctor.check.options import CheckOptions


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Write files below the working directory, an empty one, and return it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()

    def write(**files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Check paths with the rules of the tests."""
    monkeypatch.setattr(pipeline, "Shelf", Shelf)

    def run(*paths, data=None, **options):
        return pipeline.check([tmp_path / path for path in paths], CheckOptions(**options), tmp_path, data)

    return run


def found(result):
    """Return code and place of each finding."""
    return [(one.code, one.mistake.location.text) for file in result.files for one in file.findings]
