"""What it all comes to: one verdict on a file, why, and the sentence that a publisher may sign."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from hifi_ref.check.comparison import REPRODUCED as SAME
from hifi_ref.check.comparison import Comparison, TensorResult
from hifi_ref.formats import FORMATS
from hifi_ref.formats.builds import BUILDS, STRICT
from hifi_ref.model_files.files import name_of
from hifi_ref.model_files.finding_codes import CODES
from hifi_ref.model_files.findings import Findings
from hifi_ref.model_files.gguf_file import Gguf, printable

# The first that applies is the verdict.
BROKEN, WILL_NOT_LOAD, AMBIGUOUS = "broken", "will not load in llama.cpp", "ambiguous"
DAMAGED, NOT_REPRODUCED, NOT_SOUND = "damaged against its source", "not reproduced", "not sound"
IN_PART, REPRODUCED, SOUND = "compared in part", "reproduced", "sound"
STRUCTURE = "structure only"
GOOD = (IN_PART, REPRODUCED, SOUND)


class Verdict(NamedTuple):
    """One of the kinds above; what made it so, in a few words; what came of a comparison, in one sentence or none."""

    kind: str
    reason: str
    sentence: str = ""


def judge(path: str, gguf: Gguf, findings: Findings, comparison: Comparison | None, payload: bool = True) -> Verdict:
    """The verdict on a file whose findings are all there; ``payload`` says whether its blocks were looked at."""
    kind, reason = _kind(gguf, findings, comparison, payload)
    return Verdict(kind, reason, "" if comparison is None else _sentence(path, gguf, comparison, kind == REPRODUCED))


def _kind(gguf: Gguf, findings: Findings, comparison: Comparison | None, payload: bool) -> tuple[str, str]:
    """The first verdict that applies, and what made it so."""
    groups: dict[str, list[str]] = {}
    for code in sorted(findings.counts):
        if CODES[code].severity != "note":
            groups.setdefault(_kind_of(code), []).append(code)
    for kind in (BROKEN, WILL_NOT_LOAD, AMBIGUOUS, DAMAGED, NOT_REPRODUCED, NOT_SOUND):
        if kind in groups:
            return kind, _titles(groups[kind], findings.counts)
    ignored = f"; ignored: {_titles(sorted(findings.ignored), findings.ignored)}" if findings.ignored else ""
    if not payload:
        return STRUCTURE, f"{counted(findings.counts) or 'no findings'}, and no block was looked at{ignored}"
    if comparison is None:
        return SOUND, f"{counted(findings.counts) or 'no findings'}{ignored}"
    if any(_matters(code) for code in findings.ignored):
        return NOT_REPRODUCED, ignored.removeprefix("; ")
    if not is_whole(gguf, comparison):
        return IN_PART, f"no difference in {_extent(gguf, comparison)}{ignored}"
    return REPRODUCED, f"every block of every tensor{ignored}"


def _matters(code: str) -> bool:
    """Whether what is ignored keeps a model from being what its source gives: it differs, or is not whole."""
    if CODES[code].severity == "note":
        return False
    return code[0] in "ES" or code == "L004" or (code[0] == "G" and CODES[code].severity == "error")


def _kind_of(code: str) -> str:
    """The verdict that a finding of this code leads to where no graver one is there."""
    if code[0] == "E":
        return DAMAGED if code == "E010" else NOT_REPRODUCED
    if CODES[code].severity == "warning":
        return NOT_SOUND
    return {"L": WILL_NOT_LOAD, "D": AMBIGUOUS}.get(code[0], BROKEN)


def _titles(codes: Iterable[str], counts: Counter[str]) -> str:
    return ", ".join(f"{CODES[code].title} ({counts[code]})" for code in codes)


def counted(counts: Counter[str]) -> str:
    """So many errors, so many warnings and so many notes; nothing where there are none."""
    by_severity: Counter[str] = Counter()
    for code, count in counts.items():
        by_severity[CODES[code].severity] += count
    return " and ".join(f"{n} {severity}{plural(n)}" for severity, n in sorted(by_severity.items()))


def is_whole(gguf: Gguf, comparison: Comparison) -> bool:
    """Whether every block of every tensor that the file or its source has was compared, and is the reference's."""
    options = comparison.options
    chosen = options.tensors is not None or options.sample is not None
    if chosen or comparison.left_out or comparison.missing or comparison.unmapped or comparison.misfits:
        return False
    if comparison.coverage is not None and not comparison.coverage.matched:
        return False
    blocks = {tensor.name: tensor.blocks for tensor in gguf.tensors}
    results = comparison.results
    same = all(r.outcome == SAME and r.blocks_judged == blocks[r.name] for r in results)
    return same and len(results) == len(gguf.tensors) > 0


def _extent(gguf: Gguf, comparison: Comparison) -> str:
    """How many blocks of how many tensors were compared."""
    judged, compared = judged_blocks(comparison), sum(1 for r in comparison.results if r.blocks_judged)
    total = sum(tensor.blocks or 0 for tensor in gguf.tensors)
    return f"{judged} of {total} blocks, in {compared} of {len(gguf.tensors)} tensors"


def judged_blocks(comparison: Comparison) -> int:
    """How many blocks were compared."""
    return sum(result.blocks_judged for result in comparison.results)


def _sentence(path: str, gguf: Gguf, comparison: Comparison, reproduced: bool) -> str:
    """One sentence that a publisher can paste. It says "every tensor" only where that is the verdict."""
    results, name = comparison.results, _name(path)
    of = f"{_name(comparison.options.source)}{_with_importance(comparison)}"
    forks = {FORMATS[t.type_name].dialect for t in gguf.tensors if t.type_name in FORMATS} - {"llama.cpp"}
    build = "x86-64" if comparison.options.profile == STRICT else f"profile {comparison.options.profile}"
    reference = f"the reference encoder (llama.cpp v0.5.0, {build}{', and the HIFI fork' if forks else ''})"
    good = [result for result in results if result.outcome == SAME]
    if not judged_blocks(comparison):
        return f"{name}: no tensor was compared with {of}{_left_out(gguf, comparison)}."
    if reproduced:
        weights = sum(tensor.elements for tensor in gguf.tensors)
        n, blocks = len(results), judged_blocks(comparison)
        counts = f"{n} tensor{plural(n)}, {blocks} block{plural(blocks)}, {weights} weights"
        return f"{name}: every tensor is bit for bit what {reference} writes from {of} ({counts})."
    same = f"{len(good)} of {len(gguf.tensors)} tensors"
    sampled = ", in a sample of their blocks," if comparison.options.sample is not None else ""
    parts = [f"{same}{sampled} are bit for bit what {reference} writes from {of}", *_explained(results)]
    return f"{name}: {'; '.join(parts)}{_left_out(gguf, comparison)}."


def _name(path: str) -> str:
    return printable(name_of(path.rstrip("/")) or path)


def _with_importance(comparison: Comparison) -> str:
    coverage, matrix = comparison.coverage, comparison.options.imatrix
    if coverage is None or matrix is None:
        return ""
    if not coverage.used:
        return f" without the importance matrix {_name(matrix)}, which none of them takes"
    of = f"{coverage.used} of {coverage.of} tensors that take one"
    return f" with the importance matrix {_name(matrix)} (used for {of})"


def _explained(results: Iterable[TensorResult]) -> Iterable[str]:
    """How many tensors differ, or were not judged, for each meaning."""
    others = [result for result in results if result.outcome != SAME]
    for meaning, (of_one, of_several) in _MEANINGS.items():
        group = [r for r in others if (r.meaning or "").startswith(meaning)]
        if meaning == "profile":
            yield from _by_profile([r for r in group if r.profile])
            group = [r for r in group if not r.profile]
        if group:
            n = sum(r.blocks_differing for r in group)
            words = of_one if len(group) == 1 else of_several
            yield f"{len(group)} {words}{f' in {n} block{plural(n)}' if meaning in _IN_BLOCKS else ''}"


def _by_profile(results: list[TensorResult]) -> Iterable[str]:
    """Which builds wrote the blocks that differ: those that explain every tensor, where there are any."""
    named = [result.profile.split(" or ") for result in results]
    common = " or ".join(profile for profile in named[0] if all(profile in names for names in named)) if named else ""
    for profile in dict.fromkeys(common or result.profile for result in results):
        group = [result for result in results if profile in (common, result.profile)]
        n, of = sum(r.blocks_differing for r in group), sum(r.blocks_judged for r in group)
        says = " or ".join(f"{name} ({BUILDS[name].says})" for name in profile.split(" or "))
        differ = f"{len(group)} differ{'s' if len(group) == 1 else ''} in {n} block{plural(n)} of {of}"
        yield f"{differ}, {'each' if n > 1 else 'and it is'} what {says} writes"


def _left_out(gguf: Gguf, comparison: Comparison) -> str:
    """What the sentence does not speak of, as its end."""
    options = comparison.options
    n, missing, unmapped = len(comparison.left_out), len(comparison.missing), len(comparison.unmapped)
    blocks = sum(tensor.blocks or 0 for tensor in gguf.tensors) - judged_blocks(comparison)
    flags = " and ".join(f"--{name}" for name in ("tensors", "sample") if getattr(options, name) is not None)
    parts = []
    if blocks or n:
        parts.append(f"{n} tensor{plural(n)} and {blocks} blocks in all were not compared{f' ({flags})' * bool(flags)}")
    if missing:
        parts.append(f"{missing} of the source {'is' if missing == 1 else 'are'} not in the file")
    if unmapped:
        parts.append(f"{unmapped} of the source {'has' if unmapped == 1 else 'have'} no name in GGUF")
    if comparison.metadata is not None and comparison.metadata.read:
        parts.append("the metadata that llama.cpp computes by are not the source's")
    return "".join(f"; {part}" for part in parts)


def plural(n: int) -> str:
    return "" if n == 1 else "s"


_FUSED = "as a build with fused multiply-adds (arm64, for one) does,"
_ENCODER = "from another encoder, or from slightly other weights"
# What the verdict says of one tensor, and of several.
_MEANINGS = {
    "profile": (f"differs {_FUSED}", f"differ {_FUSED}"),
    "damage": ("was changed or damaged", "were changed or damaged"),
    "encoder": (f"comes {_ENCODER}", f"come {_ENCODER}"),
    "source": ("comes from other weights", "come from other weights"),
    "importance": ("needs or lacks the importance matrix", "need or lack the importance matrix"),
    "order": ("has its rows in another order", "have their rows in another order"),
    "rounded": ("was rounded to another float first", "were rounded to another float first"),
    "absent": ("is not in the source", "are not in the source"),
    "shape": ("has another shape in the source", "have another shape in the source"),
    "conversion": ("cannot be known from the source", "cannot be known from the source"),
    "format": ("has a format without an encoder here", "have a format without an encoder here"),
    "not finite": ("has a source that is not finite", "have a source that is not finite"),
}
_IN_BLOCKS = ("profile", "damage")
