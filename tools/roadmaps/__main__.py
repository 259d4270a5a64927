"""`python -m tools.roadmaps`: measure what is not measured yet, keep it, and write docs/roadmaps.md and its drawing.

    python -m tools.roadmaps [FOLDER] [--only=REGEX] [--chunks=N] [--json=FILE] [--pages=FOLDER] [--files FILE ...]

FOLDER holds a model and texts as tests/data/model does: model-F16.gguf, held-out.txt, prose.txt and code.txt. Each row
is kept in --json as soon as it is measured, and the same command goes on from there. --files adds what other programs
made of the model, each file a row by its name. Needs hifi-ref[plots].
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from hifi_ref.model_files.files import InputError, unusable
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
    parser.add_argument("--files", type=Path, nargs="+", help="quantized files of the model, in place of the rows")
    parser.add_argument("--chunks", type=int, default=CHUNKS, help="of the held-out text so many chunks of 256 ids")
    parser.add_argument("--json", type=Path, default=KEPT)
    parser.add_argument("--pages", type=Path, default=ROOT / "docs")
    try:
        run(parser.parse_args())
    except (OSError, InputError) as error:
        print(unusable(error) if isinstance(error, OSError) else error, file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> None:
    """Raises OSError, InputError."""
    sample = measure.sample(options.folder, options.chunks)
    found = _opened(options.json, measure.basis(options.folder, sample))
    wanted = {row.key: partial(measure.measured, sample, row) for row in rows(sample.model.gguf, list(sample.weights))}
    wanted = {key: row for key, row in wanted.items() if re.search(options.only, key)}
    if options.files:
        wanted = {f"file: {path.stem}": partial(measure.measured_file, sample, "file", path) for path in options.files}
    for key, row in wanted.items():
        if key not in found["rows"]:
            shown = found["rows"][key] = row()
            _keep(options.json, found)
            print(f"{key}: {shown['bits']:.3f} bits, divergence {shown['divergence'][0]:.5f}", flush=True)
    page.write(found, options.pages)


def _opened(path: Path, basis: dict[str, Any]) -> dict[str, Any]:
    """What was measured before. Raises InputError where that was on another model or text."""
    if not path.exists():
        return {"basis": basis, "rows": {}}
    found = json.loads(path.read_text())
    if any(found["basis"][part] != basis[part] for part in ("files", "context", "chunks")):
        raise InputError(
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
