import dataclasses
import shutil
import subprocess

import numpy as np
import pytest

from tests.report import sample
from traindoctor.diff import unified_diff
from traindoctor.model import Fix, Setting
from traindoctor.report.redaction import HIDDEN, is_secret, redacted, redacted_text, without_secrets
from traindoctor.report.to_json import to_json, to_json_lines


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("api_key", "abc"),
        ("wandb.apiKey", "abc"),
        ("WANDB_API_KEY", "abc"),
        ("SOME_KEY", "abc"),
        ("hub_token", "abc"),
        ("HF_TOKEN", "abc"),
        ("token", "abc"),
        ("db/password", 1234),
        ("aws_secret_access_key", "abc"),
        ("credentials", "abc"),
        ("key", "a1b2c3d4e5f6a7b8c9d0"),
    ],
)
def test_a_secret_is_told_by_its_name(key, value):
    assert is_secret(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer", "gpt2"),
        ("max_tokens", 2048),
        ("n_tokens", "300B"),
        ("pad_token", "<pad>"),
        ("eos_token", "</s>"),
        ("image_key", "image"),
        ("monitor_key", "val/loss"),
        ("use_auth_token", True),
        ("api_key", None),
        ("api_key", ""),
        ("optimizer.lr", 0.1),
        ("", "abc"),
    ],
)
def test_a_setting_of_training_is_no_secret(key, value):
    assert not is_secret(key, value)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("s3://me:pw@bucket/run", f"s3://{HIDDEN}@bucket/run"),
        ("see https://host/a?step=3&token=abc&x=1 there", f"see https://host/a?step=3&token={HIDDEN}&x=1 there"),
        ("https://b.s3/x?X-Amz-Signature=ff00&a=b", f"https://b.s3/x?X-Amz-Signature={HIDDEN}&a=b"),
        ("WANDB_API_KEY=deadbeef python train.py", f"WANDB_API_KEY={HIDDEN} python train.py"),
        ('"password": "hunter2",', f'"password": "{HIDDEN}",'),
        ("key hf_" + "a" * 34, f"key {HIDDEN}"),
        ("AKIAIOSFODNN7EXAMPLE", HIDDEN),
        ("a token of 5 characters", "a token of 5 characters"),
        ("tokens=100000", "tokens=100000"),
        ("loss@step", "loss@step"),
        ("https://host/a@b/c", "https://host/a@b/c"),
        ("optimizer.lr = 0.1", "optimizer.lr = 0.1"),
    ],
)
def test_a_secret_in_a_text_is_told_by_its_form(text, made):
    assert redacted_text(text) == made
    assert redacted_text(made) == made


def test_a_report_without_secrets_is_the_same_object():
    report = sample.report_of(sample.failed_run(), sample.healthy_run())
    assert redacted(report) is report


def test_the_value_of_a_secret_setting_is_gone_wherever_it_stands():
    run = sample.run_with("run of hunter2xyz", sample.series("loss", "loss/hunter2xyz", np.ones(5)))
    run = dataclasses.replace(run, settings={"db.password": Setting("hunter2xyz", "config.yaml:1")})
    report = sample.report_of(dataclasses.replace(sample.undecided_run(), run=run, summary="It used hunter2xyz."))
    made = redacted(report)
    assert "hunter2xyz" not in repr(made)
    assert made.runs[0].run.settings["db.password"] == Setting(HIDDEN, "config.yaml:1")
    assert np.array_equal(made.runs[0].run.primary["loss"].value, np.ones(5))
    assert redacted(made) == made


def test_neither_form_of_the_json_holds_a_secret():
    run = sample.run_with("gs://me:hunter2@bucket", sample.series("loss", "loss", np.ones(5)))
    report = sample.report_of(dataclasses.replace(sample.undecided_run(), run=run))
    for made in (to_json(report), *to_json_lines(report)):
        assert "hunter2" not in str(made)
        assert HIDDEN in str(made)


CONFIG = [f"line_{i}: {i}" for i in range(12)]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("secret_at", [i for i in range(12) if i != 6])
def test_a_patch_near_a_secret_is_shorter_and_still_applies(tmp_path, secret_at):
    lines = list(CONFIG)
    lines[secret_at] = "api_key: hunter2xyz"
    before = "".join(f"{line}\n" for line in lines)
    after = before.replace("line_6: 6\n", "line_6: 7\n")
    patch = unified_diff("config.yaml", before, after)
    made = without_secrets(patch)
    if secret_at == 7:  # right below the change: git takes a patch with nothing below it to end the file
        assert made is None
        return
    assert "hunter2xyz" not in made
    if abs(secret_at - 6) > 3:
        assert made == patch
    (tmp_path / "config.yaml").write_text(before, encoding="utf-8")
    subprocess.run(["git", "apply", "-"], input=made.encode(), cwd=tmp_path, check=True)
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == after


def test_a_fix_whose_patch_cannot_be_shown_keeps_its_settings():
    patch = "--- a/c.yaml\n+++ b/c.yaml\n@@ -1,3 +1,3 @@\n a: 1\n-lr: 1\n+lr: 2\n api_key: hunter2xyz\n"
    fix = Fix("Raise lr", {"optimizer.lr": 2}, patch)
    finding = dataclasses.replace(sample.failed_run().findings[0], fixes=(fix,))
    report = sample.report_of(dataclasses.replace(sample.failed_run(), findings=(finding,)))
    assert redacted(report).runs[0].findings[0].fixes == (dataclasses.replace(fix, patch=None),)
