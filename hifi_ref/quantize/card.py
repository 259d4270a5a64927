"""A section of a model card: what the files were made from, what they hold, and how to hold them against it."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections import Counter
from collections.abc import Sequence

import hifi_ref
from hifi_ref.formats import FORMATS
from hifi_ref.model_files.files import name_of
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.quantize.budget import bits_per_weight
from hifi_ref.quantize.plan import NewFile
from hifi_ref.quantize.source import Source

CHUNK = 1 << 20


def section(files: Sequence[NewFile], source: Source, arguments: Sequence[str]) -> str:
    """Markdown. Raises OSError where a file that was written cannot be read again."""
    made_from = ", ".join(f"`{printable(name_of(path))}`" for path in source.paths)
    imatrix = next((a for a in arguments if a.startswith("--imatrix=")), None)
    lines = ["## Quantized files", "", f"Made from {made_from} by hifi_ref {hifi_ref.__version__}.", ""]
    lines += ["| file | mixture | bytes | bits a weight | types | with importance | sha256 |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for file in files:
        name, size = printable(name_of(file.path)), os.path.getsize(file.path)
        lines.append(
            f"| `{name}` | {file.name} | {size} | {bits_per_weight([file]):.2f} | {_types(file)} "
            f"| {_guided(file)} | `{_sha256(file.path)}` |"
        )
    lines += ["", "How they were made, and how each is held against its source:", "", "```"]
    lines.append(shlex.join(["python", "-m", "hifi_ref.quantize", *arguments]))
    for file in files:
        given = [f"--source={source.paths[0]}", *([imatrix] if imatrix else [])]
        lines.append(shlex.join(["python", "-m", "hifi_ref.check", file.path, *given]))
    return "\n".join([*lines, "```", ""])


def _guided(file: NewFile) -> str:
    """How many tensors were encoded with importance, of those whose format has a use for it."""
    searched = [plan for plan in file.plans if not plan.is_copied and FORMATS[plan.format].uses_importance]
    guided = sum(plan.importance is not None for plan in searched)
    return f"{guided} of {len(searched)} tensors" if guided else "none"


def _types(file: NewFile) -> str:
    kinds = Counter(plan.format for plan in file.plans)
    return ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())


def _sha256(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()
