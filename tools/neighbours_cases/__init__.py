"""What the systems' own programs computed, as questions to hifi_ref.neighbours: one file a group of archives.

A folder of such data holds archives of arrays, and manifest.json, which says of each where it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tools.neighbours_cases import bitsandbytes, hyper, micro, one_system, web_rwkv
from tools.neighbours_cases.case import Archive, Case


def cases(folder: Path) -> Iterator[Case]:
    """All of them."""
    manifest = json.loads((folder / "manifest.json").read_text())["files"]
    for part in (web_rwkv, bitsandbytes, micro, hyper, one_system):
        for name, questions in part.ARCHIVES.items():
            archive = Archive.load(folder, name, manifest[name])
            for each in questions:
                yield from each(archive)
