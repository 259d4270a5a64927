"""Cut the sample model's texts: what was held out, to score, and what it was trained on, for importance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.training_text import Text, parts_of

PIECE, FILES = 4000, 13


def write_texts(text: Text, folder: Path) -> None:
    """Write held-out.txt, and of some training files prose.txt, their docstrings, and code.txt, what is left."""
    spread = text.training[:: len(text.training) // FILES]
    documents = [(name, parts_of(content)) for name, content in spread]
    _write(folder / "held-out.txt", text.held_out)
    _write(folder / "prose.txt", [(name, prose) for name, (prose, _) in documents])
    _write(folder / "code.txt", [(name, code) for name, (_, code) in documents])


def _write(path: Path, files: Sequence[tuple[str, str]]) -> None:
    """From the middle of the longest files, about PIECE characters each, whole lines."""
    longest = sorted(files, key=lambda file: (-len(file[1]), file[0]))[:FILES]
    pieces = []
    for _, content in sorted(longest):
        start = content.rfind("\n", 0, max(0, len(content) - PIECE) // 2) + 1
        pieces.append(content[start : content.find("\n", start + PIECE) + 1 or None])
    path.write_text("\n".join(pieces), "utf-8", newline="\n")
