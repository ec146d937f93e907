"""The study in one command: `python benchmarks/study --score`, `--generate`, `--retrain` or `--others`, and its own options."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

PARTS = {"--generate": "generate.py", "--score": "score.py", "--retrain": "retrain.py", "--others": "others.py"}


def main() -> None:
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    if part not in PARTS:
        sys.exit(f"usage: python benchmarks/study {'|'.join(PARTS)} [its options; --help shows them]")
    here = Path(__file__).parent
    sys.argv = [f"benchmarks/study {part}", *sys.argv[2:]]
    sys.path.insert(0, str(here))
    runpy.run_path(str(here / PARTS[part]), run_name="__main__")


if __name__ == "__main__":
    main()
