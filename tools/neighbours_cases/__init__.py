"""What the systems' own programs computed, as questions to hifi_ref.neighbours: one file a group of archives.

A folder of such data holds archives of arrays, and manifest.json, which says of each where it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tools.neighbours_cases import bitsandbytes, hyper, one_system
from tools.neighbours_cases.case import Archive, Case


def cases(folder: Path) -> Iterator[Case]:
    """All of them."""
    manifest = json.loads((folder / "manifest.json").read_text())["files"]
    for name, questions in ((n, q) for part in (bitsandbytes, hyper, one_system) for n, q in part.ARCHIVES.items()):
        yield from questions(Archive.load(folder, name, manifest[name]))
