"""`traindoctor compare`: real runs, made-up runs, and the exit codes."""

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from traindoctor.cli import main
from traindoctor.report.comparison import comparison_schema

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "fixtures" / "compare"
GOOD, BAD = str(RUNS / "good-1"), str(RUNS / "bad")


def write(folder, config="optimizer:\n  name: adam\n  lr: 0.001\n", every=1, n=200, seed=0, change=None, script="", **columns):
    """Write a run of a noisy descent: columns and their values may be replaced by `change` of the table."""
    rng = np.random.default_rng(seed)
    step = np.arange(0, n, every)
    level = 0.2 + 2.0 / (1.0 + step / 20.0)
    table = {
        "step": step,
        "loss": level * np.exp(0.05 * rng.standard_normal(step.size)),
        "grad_norm": (0.3 + 1.0 / (1.0 + step / 20.0)) * np.exp(0.1 * rng.standard_normal(step.size)),
        "lr": np.full(step.size, 1e-3),
        **columns,
    }
    table = change(table) if change is not None else table
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    names = list(table)
    rows = [",".join(names), *(",".join(f"{table[k][i]:.6g}" for k in names) for i in range(step.size))]
    (folder / "logs" / "metrics.csv").write_text("\n".join(rows) + "\n")
    if config:
        (folder / "config.yaml").write_text(config)
    if script:
        (folder / "train.py").write_text(script)
    return str(folder)


def compared(capsys, *arguments):
    """Return the exit code and the JSON of a comparison, which the schema allows."""
    code = main(["compare", *arguments, "--format", "json"])
    made = json.loads(capsys.readouterr().out)
    jsonschema.validate(made, comparison_schema())
    return code, made


def quantities(made):
    return {q["quantity"]: q for q in made["quantities"]}


def test_two_seeds_of_one_recipe(capsys):
    code, made = compared(capsys, GOOD, str(RUNS / "good-2"))
    assert code == 0
    assert not made["differs"]
    assert made["summary"] == "No difference beyond noise. The runs differ in 1 setting (seed)."


def test_a_run_and_itself(capsys):
    code, made = compared(capsys, GOOD, GOOD)
    assert code == 0
    assert made["summary"] == "No difference beyond noise. No setting differs either."
    assert made["settings"] == []


@pytest.mark.parametrize(
    "good", [[GOOD], ["--good", GOOD, "--good", str(RUNS / "good-2")], [str(RUNS / f"good-{i}") for i in (1, 2, 3)]]
)
def test_the_learning_rate_explains_the_bad_run(capsys, good):
    code, made = compared(capsys, *good, BAD)
    assert code == 1
    status = {s["key"]: s["status"] for s in made["settings"]}
    assert status == {"optimizer.lr": "explains", "batch_size": "possible", "seed": "possible", "output_dir": "excluded"}
    assert made["settings"][0]["code"] == made["cause"]["code"] == "TD201"
    assert made["settings"][0]["bad"] == {"value": 0.3, "origin": "config.yaml:3"}
    assert made["quantities"][0]["quantity"] == "learning_rate"
    assert made["begins"]["at"] == "start"
    assert "only optimizer.lr explains TD201" in made["summary"]
    assert (
        "batch_size and seed cannot be excluded" in made["summary"] or "seed and batch_size cannot be excluded" in made["summary"]
    )


def test_the_text_says_the_same(capsys):
    assert main(["compare", GOOD, BAD]) == 1
    out = capsys.readouterr().out
    assert "only optimizer.lr explains TD201" in " ".join(out.split())
    assert all(len(line) <= 100 for line in out.splitlines())


def test_runs_given_the_wrong_way_round(capsys):
    code, made = compared(capsys, BAD, GOOD)
    assert code == 1
    assert any("was given as good, and is failed itself" in note and "swapped?" in note for note in made["notes"])
    assert any("no fault is found in it by itself" in note for note in made["notes"])


def test_curves_part_in_their_order(tmp_path, capsys):
    def late(table):
        late_norm = np.where(table["step"] >= 80, 5.0, 1.0)
        late_loss = np.where(table["step"] >= 120, 4.0, 1.0)
        return {**table, "grad_norm": table["grad_norm"] * late_norm, "loss": table["loss"] * late_loss}

    code, made = compared(capsys, write(tmp_path / "good"), write(tmp_path / "bad", seed=1, change=late))
    assert code == 1
    names = [q["quantity"] for q in made["quantities"] if q["parts"]]
    assert names == ["grad_norm", "loss"]
    assert quantities(made)["grad_norm"]["parts"]["step"] == pytest.approx(80, abs=8)
    assert quantities(made)["loss"]["parts"]["step"] == pytest.approx(120, abs=8)
    assert made["begins"]["at"] == "later"
    assert "No setting differs" in made["summary"]


def test_a_step_of_the_learning_rate_is_where_it_begins(tmp_path, capsys):
    def stepped(table):
        after = table["step"] >= 100
        return {**table, "lr": np.where(after, 1e-2, 1e-3), "loss": np.where(after, 5.0, 1.0) * table["loss"]}

    bad = write(tmp_path / "bad", seed=1, change=stepped, config="optimizer:\n  name: adam\n  lr: 0.001\nscheduler: step\n")
    code, made = compared(capsys, write(tmp_path / "good"), bad)
    assert code == 1
    assert made["begins"] == {"at": "learning rate", "step": 100, "text": made["begins"]["text"]}
    assert next(s for s in made["settings"] if s["key"] == "schedule.name")["status"] == "explains"


def test_a_setting_that_acts_through_the_rate_is_excluded_where_that_is_the_same(tmp_path, capsys):
    good = write(tmp_path / "good", config="optimizer:\n  name: adam\n  lr: 0.001\nscheduler: cosine\n")
    bad = write(tmp_path / "bad", seed=1, loss=np.geomspace(2.0, 30.0, 200))
    _, made = compared(capsys, good, bad)
    assert made["settings"][0]["key"] == "schedule.name"
    assert made["settings"][0]["status"] == "excluded"


def test_a_clip_that_was_never_reached_is_excluded(tmp_path, capsys):
    config = "optimizer:\n  name: adam\n  lr: 0.001\nclip_grad_norm: {}\n"
    good = write(tmp_path / "good", config=config.format(50))
    bad = write(tmp_path / "bad", config=config.format(100), seed=1, loss=np.geomspace(2.0, 30.0, 200))
    _, made = compared(capsys, good, bad)
    assert [(s["key"], s["status"]) for s in made["settings"]] == [("gradient.clip_norm", "excluded")]


def test_a_line_of_the_script_is_the_cause(capsys):
    code, made = compared(
        capsys, str(ROOT / "fixtures/healthy/line-zero-grad-adam"), str(ROOT / "fixtures/sick/line-no-zero-grad-adam")
    )
    assert code == 1
    (script,) = made["scripts"]
    assert script["code"] == "TD301"
    assert any("zero_grad" in line["text"] and line["run"] == "good" for line in script["lines"])
    assert "only the change of train.py explains TD301" in made["summary"]


def test_the_replay_is_asked(capsys):
    code, made = compared(
        capsys, str(ROOT / "fixtures/healthy/perceptron-cosine"), str(ROOT / "fixtures/sick/overtrained-perceptron")
    )
    assert code == 1
    assert (made["settings"][0]["key"], made["settings"][0]["status"], made["settings"][0]["replay"]) == (
        "schedule.name",
        "explains",
        "repairs",
    )


def test_a_loss_that_is_lost(tmp_path, capsys):
    def lost(table):
        return {**table, "loss": np.where(table["step"] >= 100, np.nan, table["loss"])}

    code, made = compared(capsys, write(tmp_path / "good"), write(tmp_path / "bad", seed=1, change=lost))
    assert code == 1
    assert (quantities(made)["loss"]["parts"]["step"], quantities(made)["loss"]["parts"]["lost"]) == (100, True)
    assert quantities(made)["loss"]["parts"]["bad"] == "NaN"


def test_other_intervals_lengths_and_tags(tmp_path, capsys):
    def renamed(table):
        return {{"loss": "train/total_loss", "grad_norm": "gnorm", "lr": "learning_rate"}.get(k, k): v for k, v in table.items()}

    code, made = compared(capsys, write(tmp_path / "good", n=400), write(tmp_path / "bad", seed=1, every=8, change=renamed))
    assert code == 0
    assert quantities(made)["loss"]["tags"] == ["loss", "train/total_loss"]
    assert quantities(made)["loss"]["compared"] == {"start": 0, "stop": 192, "points": 25}
    assert any("logs end at steps 192 and 399" in note for note in made["notes"])


def test_epochs_beside_steps(tmp_path, capsys):
    def by_epoch(table):
        return {"epoch": np.arange(20), "loss": [np.mean(table["loss"][10 * i : 10 * i + 10]) for i in range(20)]}

    good = write(tmp_path / "good", config="optimizer:\n  name: adam\n  lr: 0.001\nepochs: 20\n")
    bad = write(tmp_path / "bad", seed=1)
    folder = tmp_path / "bad" / "logs" / "metrics.csv"
    table = by_epoch({"loss": np.array([float(row.split(",")[1]) for row in folder.read_text().splitlines()[1:]])})
    folder.write_text("epoch,loss\n" + "".join(f"{e},{v}\n" for e, v in zip(table["epoch"], table["loss"], strict=True)))
    code, made = compared(capsys, good, bad)
    assert code == 0
    assert made["step_unit"] == "step"
    assert quantities(made)["loss"]["compared"]["stop"] == 199


def test_units_that_cannot_be_matched(tmp_path, capsys):
    bad = Path(write(tmp_path / "bad"))
    (bad / "logs" / "metrics.csv").write_text("epoch,loss\n" + "".join(f"{e},{1.0 / (1 + e)}\n" for e in range(20)))
    code, made = compared(capsys, write(tmp_path / "good"), str(bad))
    assert code == 2
    assert made["quantities"][0]["reason"] == "one log counts epochs and another steps"


def test_a_config_that_is_missing_is_said(tmp_path, capsys):
    bad = write(tmp_path / "b" / "bad", config="", seed=1, loss=np.geomspace(2.0, 30.0, 200))
    code, made = compared(capsys, write(tmp_path / "a" / "good"), bad)
    assert code == 1
    assert any("no config beside its log" in note for note in made["notes"])
    assert all(s["key"] != "optimizer.eps" for s in made["settings"])


def test_settings_in_which_the_good_runs_differ_too(tmp_path, capsys):
    config = "optimizer:\n  name: adam\n  lr: {lr}\nseed: {seed}\nmodel:\n  width: {width}\n"
    goods = [write(tmp_path / f"good-{i}", config=config.format(lr=0.001, seed=i, width=8 * i), seed=i) for i in (1, 2, 3)]
    bad = write(tmp_path / "bad", config=config.format(lr=0.5, seed=9, width=16), seed=9, loss=np.geomspace(2.0, 90.0, 200))
    _, made = compared(capsys, *goods, bad)
    assert made["settings_varying_among_good"] == ["model.width", "seed"]
    assert "model.width" not in {s["key"] for s in made["settings"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([GOOD], "two runs are compared"),
        ([GOOD, str(RUNS / "sweep")], "holds 10 runs, and one bad run is compared"),
        ([GOOD, str(RUNS / "no-such-run")], "there is no such file or folder"),
    ],
)
def test_what_cannot_be_compared(capsys, arguments, words):
    assert main(["compare", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_nothing_in_common(tmp_path, capsys):
    def other(table):
        return {"step": table["step"], "my_own_metric": table["loss"]}

    code, made = compared(capsys, write(tmp_path / "good"), write(tmp_path / "bad", change=other))
    assert code == 2
    assert made["quantities"] == []
    assert made["summary"].startswith("No quantity could be compared")


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1", "1e300"])
def test_hostile_values(tmp_path, capsys, value):
    good, bad = tmp_path / "good", tmp_path / "bad"
    shutil.copytree(RUNS / "good-1", good)
    shutil.copytree(RUNS / "good-2", bad)
    log = bad / "logs" / "metrics.csv"
    rows = [row.split(",") for row in log.read_text().splitlines()]
    log.write_text("\n".join(",".join([row[0], *([value] * 5)]) if i else ",".join(row) for i, row in enumerate(rows)) + "\n")
    code, made = compared(capsys, str(good), str(bad))
    assert code == 1
    assert made["differs"]


def test_a_name_from_a_log_is_made_harmless(tmp_path, capsys):
    config = 'optimizer:\n  name: adam\n  lr: 0.001\n"key\\e[31m": "{}"\n'
    write(tmp_path / "good", config=config.format("a"))
    write(tmp_path / "bad", config=config.format("b\\e[2J"), seed=1)
    assert main(["compare", str(tmp_path / "good"), str(tmp_path / "bad")]) == 0
    assert "\x1b" not in capsys.readouterr().out
