import pytest

from traindoctor.errors import ConfigError
from traindoctor.settings import KEYS, Settings, load_settings


def test_without_a_file_there_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_settings(tmp_path / "logs") == Settings()


def test_the_nearest_file_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.traindoctor]\nselect = ["TD1"]\n')
    logs = tmp_path / "a" / "logs"
    logs.mkdir(parents=True)
    assert load_settings(logs).select == ("TD1",)
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert load_settings(logs).select == ("TD1",)
    (tmp_path / "a" / "traindoctor.toml").write_text('select = "TD2"\n')
    assert load_settings(logs).select == ("TD2",)


def test_the_working_directory_counts_where_the_logs_are_elsewhere(tmp_path, monkeypatch):
    project, logs = tmp_path / "project", tmp_path / "logs"
    project.mkdir()
    logs.mkdir()
    (project / "traindoctor.toml").write_text('ignore = ["TD101"]\n')
    monkeypatch.chdir(project)
    assert load_settings(logs).ignore == ("TD101",)


def test_everything_that_can_be_set(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.traindoctor]\nselect = ["td1"]\nextend-select = ["td301"]\nexclude = ["old"]\nlevel = "info"\nfail-on = "error"\n'
        'baseline = "known.json"\nper-file-ignores = { "x/*.py" = ["td3"] }\n[tool.traindoctor.thresholds.td101]\nmargin = 40\n'
        '[tool.traindoctor.tags]\nloss = ["a", "b"]\n'
    )
    made = load_settings(tmp_path)
    assert made.select == ("TD1",)
    assert made.thresholds == {"TD101": {"margin": 40.0}}
    assert made.tags == {"loss": ("a", "b")}
    assert (made.extend_select, made.exclude, made.level, made.fail_on) == (("TD301",), ("old",), "info", "error")
    assert (made.baseline, made.per_file_ignores) == ("known.json", (("x/*.py", ("TD3",)),))
    assert made.source.endswith("pyproject.toml")
    assert made.folder == tmp_path


@pytest.mark.parametrize(
    ("text", "what", "way"),
    [
        ("selct = []", "unknown key 'selct'", "did you mean select?"),
        ("banana = 1", "unknown key 'banana'", f"known keys: {', '.join(KEYS)}"),
        ("fail_on = 'error'", "unknown key 'fail_on'", "did you mean fail-on?"),
        ("fail-on = 'all'", "fail-on must be one of error, warning, info, never", 'fail-on = "warning"'),
        ("baseline = 1", "baseline must be a string", 'baseline = "..."'),
        ("per-file-ignores = []", "per-file-ignores must be a table", "[per-file-ignores]"),
        ("select = 3", "select must be a list of strings", 'select = ["..."]'),
        ("tags = 3", "tags must be a table", "[tags]"),
        ("[thresholds.TD101]\nmargin = 'x'", "thresholds.TD101.margin must be a number", None),
        ("[", "is not TOML", None),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(tmp_path, text, what, way):
    (tmp_path / "traindoctor.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path)
    assert what in caught.value.what
    if way:
        assert way in caught.value.ways_out


def test_a_section_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool]\ntraindoctor = 3\n")
    with pytest.raises(ConfigError, match="must be a table"):
        load_settings(tmp_path)
