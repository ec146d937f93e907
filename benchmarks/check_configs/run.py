"""Runs `traindoctor check` over the public example configs of each dialect: which are read, and what is reported.

    python benchmarks/check_configs/run.py --corpus FOLDER [--list]

FOLDER holds one checkout per repository, named owner__name.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

#: Where each dialect's own examples lie: the repository and the paths in it.
EXAMPLES: tuple[tuple[str, str, str], ...] = (
    ("axolotl", "axolotl-ai-cloud/axolotl", r"^examples/.*\.ya?ml$"),
    ("torchtune", "pytorch/torchtune", r"^recipes/configs/.*\.yaml$"),
    ("torchtitan", "pytorch/torchtitan", r".*\.toml$"),
    ("LLaMA-Factory", "hiyouga/LLaMA-Factory", r"^examples/.*\.(ya?ml|json)$"),
    ("DeepSpeed", "hiyouga/LLaMA-Factory", r"^examples/deepspeed/.*\.json$"),
    ("DeepSpeed", "microsoft/DeepSpeedExamples", r".*(ds|deepspeed|zero)[^/]*\.json$"),
    ("DeepSpeed", "axolotl-ai-cloud/axolotl", r"^deepspeed_configs/.*\.json$"),
    ("Detectron2", "facebookresearch/detectron2", r"^configs/.*\.(yaml|py)$"),
    ("MMEngine", "open-mmlab/mmpretrain", r"^configs/.*\.py$"),
    ("nanoGPT", "karpathy/nanoGPT", r"^config/.*\.py$"),
    ("Lightning and Hydra", "ashleve/lightning-hydra-template", r"^configs/.*\.yaml$"),
    ("Hydra", "facebookresearch/fairseq", r"^examples/.*config.*\.yaml$"),
    ("TRL", "huggingface/alignment-handbook", r"^recipes/.*\.yaml$"),
    ("TRL", "huggingface/trl", r"^examples/.*\.(yaml|json)$"),
    ("Accelerate", "huggingface/accelerate", r"^(examples|tests).*\.ya?ml$"),
    ("Ultralytics and yolov5", "ultralytics/yolov5", r"^data/hyps/.*\.yaml$"),
    ("Ultralytics and yolov5", "ultralytics/yolov3", r"^data/hyps/.*\.yaml$"),
    ("kohya", "kohya-ss/sd-scripts", r".*\.toml$"),
    ("kohya", "bmaltais/kohya_ss", r"^(presets|examples|config)[^/]*/.*\.(json|toml)$"),
    ("litgpt", "Lightning-AI/litgpt", r"^config_hub/.*\.yaml$"),
    ("OLMo", "allenai/OLMo", r"^configs/.*\.yaml$"),
    ("Composer", "mosaicml/examples", r".*yamls?/.*\.yaml$"),
    ("plain YAML", "salesforce/ALBEF", r"^configs/.*\.yaml$"),
    ("plain YAML", "CompVis/taming-transformers", r"^configs/.*\.yaml$"),
    ("plain YAML", "microsoft/Swin-Transformer", r"^configs/.*\.yaml$"),
    ("pytorch-template", "victoresque/pytorch-template", r"^config\.json$"),
    ("ml_collections", "google-research/vision_transformer", r"^vit_jax/configs/.*\.py$"),
    # Taken after the rules were finished; no dialect was written with them at hand.
    ("Composer, fresh", "mosaicml/llm-foundry", r"^scripts/.*yamls/.*\.yaml$"),
    ("NeMo, fresh", "NVIDIA/NeMo", r"^examples/.*conf/.*\.yaml$"),
    ("MMEngine, fresh", "open-mmlab/mmaction2", r"^configs/.*\.py$"),
    ("nanotron, fresh", "huggingface/nanotron", r"^examples/.*\.ya?ml$"),
    ("GPT-NeoX, fresh", "EleutherAI/gpt-neox", r"^(post-training/)?configs/.*\.yml$"),
    ("WeNet, fresh", "wenet-e2e/wenet", r"^examples/.*conf/.*\.yaml$"),
    ("Lightning YAML, fresh", "CompVis/latent-diffusion", r"^configs/.*\.yaml$"),
    ("Lightning YAML, fresh", "Stability-AI/generative-models", r"^configs/.*\.yaml$"),
    ("plain YAML, fresh", "HRNet/HRNet-Semantic-Segmentation", r"^experiments/.*\.yaml$"),
    ("plain YAML, fresh", "hszhao/semseg", r"^config/.*\.yaml$"),
    ("plain YAML, fresh", "ming024/FastSpeech2", r"^config/.*\.yaml$"),
    ("plain YAML, fresh", "sooftware/kospeech", r"^configs/.*\.yaml$"),
)


#: Hints too, by the rules as they come, everything looked at anew.
ALL = ("--level", "info", "--fail-on", "never", "--isolated", "--no-cache")


@dataclass
class Count:
    """Of one tool: files, those named as a dialect and those that are not, those with findings, and those not read."""

    files: int = 0
    named: int = 0
    other: int = 0
    errors: int = 0
    warnings: int = 0
    unread: int = 0
    lines: list[str] = field(default_factory=list)


def examples(corpus: Path, repo: str, pattern: str) -> list[Path]:
    """Return the example configs of a repository."""
    root = corpus / repo.replace("/", "__")
    inside = re.compile(pattern)
    return (
        sorted(f for f in root.rglob("*") if f.is_file() and inside.search(f.relative_to(root).as_posix()))
        if root.is_dir()
        else []
    )


def check(files: list[Path], root: Path) -> tuple[dict, str]:
    """Return what `check` says of the files as JSON, and what it wrote beside it."""
    call = [sys.executable, "-m", "traindoctor", "check", "--format", "json", *ALL, *(str(f.relative_to(root)) for f in files)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if not done.stdout.strip():
        raise SystemExit(f"{root.name}: no output, exit {done.returncode}: {done.stderr[-800:]}")
    return json.loads(done.stdout), done.stderr


def main() -> None:
    """Check the examples of each dialect and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--list", action="store_true", help="print every error and warning, and every file that was not read")
    options = parser.parse_args()
    counts: dict[str, Count] = {}
    codes: Counter[str] = Counter()
    for dialect, repo, pattern in EXAMPLES:
        files = examples(options.corpus, repo, pattern)
        if not files:
            continue
        root = options.corpus / repo.replace("/", "__")
        said, beside = check(files, root)
        count = counts.setdefault(dialect, Count())
        count.files += len(files)
        count.named += sum(entry["dialect"] is not None for entry in said["files"])
        count.other += said["summary"]["n_other_files"] + sum(entry["dialect"] is None for entry in said["files"])
        for entry in said["files"]:
            severities = [f["severity"] for f in entry["findings"]]
            count.errors += "error" in severities
            count.warnings += "warning" in severities and "error" not in severities
            for finding in entry["findings"]:
                if finding["severity"] != "info":
                    codes[finding["code"]] += 1
                    line = (finding["locations"] or [{}])[0].get("line")
                    count.lines.append(
                        f"  {repo}/{entry['path']}:{line} {finding['severity']} {finding['code']} {finding['message'][:160]}"
                    )
        problems = [line for line in beside.splitlines() if line.startswith(("error", "warning"))]
        count.unread += len(problems)
        count.lines += [f"  {repo}: {line}" for line in problems]
    print(f"{'examples of':24} {'files':>6} {'a dialect':>10} {'no dialect':>12} {'not read':>9} {'error':>6} {'warning':>8}")
    for dialect, c in counts.items():
        print(f"{dialect:24} {c.files:6d} {c.named:10d} {c.other:12d} {c.unread:9d} {c.errors:6d} {c.warnings:8d}")
        if options.list:
            print("\n".join(c.lines))
    print("\nby code:", ", ".join(f"{code} {n}" for code, n in codes.most_common()))


if __name__ == "__main__":
    main()
