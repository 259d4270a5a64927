"""`python -m tools.roadmaps`: measure what is not measured yet, keep it, and write docs/roadmaps.md and its drawing.

    python -m tools.roadmaps [FOLDER] [--only=REGEX] [--chunks=N] [--json=FILE] [--pages=FOLDER]

FOLDER holds a model and texts as tests/data/model does: model-F16.gguf, held-out.txt, prose.txt and code.txt. Each row
is kept in --json as soon as it is measured, and the same command goes on from there. Needs hifi-ref[plots].
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from tools.roadmaps import measure, page
from tools.roadmaps.rows import rows

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "tests" / "data" / "model"
CHUNKS = 24
KEPT = ROOT / "tests" / "data" / "roadmaps.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=MODEL)
    parser.add_argument("--only", default="", help="rows whose names match")
    parser.add_argument("--chunks", type=int, default=CHUNKS, help="of the held-out text so many chunks of 256 ids")
    parser.add_argument("--json", type=Path, default=KEPT)
    parser.add_argument("--pages", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    sample = measure.sample(options.folder, options.chunks)
    found = _opened(options.json, measure.basis(options.folder, sample))
    for row in rows(sample.model.gguf, list(sample.weights)):
        if re.search(options.only, row.key) and row.key not in found["rows"]:
            found["rows"][row.key] = measure.measured(sample, row)
            _keep(options.json, found)
            shown = found["rows"][row.key]
            print(f"{row.key}: {shown['bits']:.3f} bits, divergence {shown['divergence'][0]:.5f}", flush=True)
    page.write(found, options.pages)
    return 0


def _opened(path: Path, basis: dict[str, Any]) -> dict[str, Any]:
    """What was measured before on the same model and text."""
    if not path.exists():
        return {"basis": basis, "rows": {}}
    found = json.loads(path.read_text())
    if found["basis"] != basis:
        raise SystemExit(
            f"{path} is of another model, text, or number of chunks: remove it, or name another with --json"
        )
    return found


def _keep(path: Path, found: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    lines = [f"{json.dumps(key)}: {json.dumps(row)}" for key, row in found["rows"].items()]
    part.write_text(f'{{"basis": {json.dumps(found["basis"])},\n"rows": {{\n' + ",\n".join(lines) + "\n}}\n")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
