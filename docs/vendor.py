"""Fetches uPlot into traindoctor/report/_vendor/uplot/ and writes down what was fetched; needs npm and a network.

python docs/vendor.py              # the version that VERSION.json names, again
python docs/vendor.py 1.6.33       # another one
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PLACE = Path(__file__).parents[1] / "traindoctor" / "report" / "_vendor" / "uplot"
#: File of ours -> its place in the package.
FILES = {
    "LICENSE": "package/LICENSE",
    "uPlot.iife.min.js": "package/dist/uPlot.iife.min.js",
    "uPlot.min.css": "package/dist/uPlot.min.css",
}
PROJECT = "https://github.com/leeoniya/uPlot"


def fetched(version, folder):
    """Return the files of a version, by our names."""
    done = subprocess.run(["npm", "pack", "--silent", f"uplot@{version}"], cwd=folder, check=True, capture_output=True, text=True)
    with tarfile.open(folder / done.stdout.strip()) as package:
        return {ours: package.extractfile(theirs).read() for ours, theirs in FILES.items()}


def main(version=None):
    """Write the files and VERSION.json."""
    version = version or json.loads((PLACE / "VERSION.json").read_text())["version"]
    with tempfile.TemporaryDirectory() as folder:
        files = fetched(version, Path(folder))
    for name, content in files.items():
        (PLACE / name).write_bytes(content)
    known = {
        "name": "uPlot",
        "version": version,
        "url": PROJECT,
        "license": "MIT",
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    }
    (PLACE / "VERSION.json").write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
