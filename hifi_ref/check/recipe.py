"""Which recipe a file follows: the types of its tensors, held against those that its general.file_type stands for."""

from __future__ import annotations

from typing import NamedTuple

from hifi_ref.check.verdict import plural
from hifi_ref.formats import FORMATS
from hifi_ref.mixtures import hifi, llama_quantize
from hifi_ref.mixtures import model as models
from hifi_ref.mixtures.kept import is_quantized
from hifi_ref.mixtures.llama_quantize import Options, Refused
from hifi_ref.mixtures.model import NotDescribed
from hifi_ref.mixtures.rows import FORK_FALLBACK, that_fits
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.file_types import FILE_TYPES, GUESSED
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_model import Gguf, Tensor, note

AS_NAMED, PURE, OWN, NOT_JUDGED, NOT_NAMED = "as named", "pure", "its own", "not judged", "not named"
_NAMES = {number: name for number, (name, _) in FILE_TYPES.items()}
_FORK_NAMES = {number: name for name, number in hifi.FORK_FILE_TYPES.items()}
# Where llama-quantize says that it used importance.
IMPORTANCE_KEYS = ("quantize.imatrix.file", "quantize.imatrix.entries_count")


class Recipe(NamedTuple):
    """``kind`` is one of the above; ``importance`` None where it made no difference, or cannot be told.

    ``raised``, ``lowered`` and ``exchanged`` name the tensors that have more bits than the mixture gives them, fewer,
    or another type of as many.
    """

    kind: str
    file_type: str | None
    importance: bool | None
    raised: list[str]
    lowered: list[str]
    exchanged: list[str]
    sentence: str


class _Mixture(NamedTuple):
    """One that the name allows: what each tensor takes, None where it stays as it is."""

    kind: str
    importance: bool | None
    types: dict[str, str | None]


def recipe_of(gguf: Gguf, findings: Findings, incomplete: bool = False) -> Recipe:
    """The recipe of a whole model; what contradicts its file type, and what is a choice of its own, are findings.

    ``incomplete``: shards are missing.
    """
    name = _name(gguf, findings)
    if isinstance(name, Recipe):
        return name
    if incomplete or gguf.data_start is None or any(tensor.type is None for tensor in gguf.tensors):
        return _unjudged(name, "not all tensors and types are known")
    if gguf.dialect != REFERENCE and name not in hifi.FORK_FILE_TYPES:
        return _unjudged(name, f"its types were chosen by {DIALECTS[gguf.dialect].says}")
    try:
        mixtures, refusal = _mixtures(gguf, name)
    except NotDescribed as problem:
        return _unjudged(name, str(problem))
    if _contradicts(gguf, name, mixtures, findings):
        return _unjudged(name, f"no tensor is {llama_quantize.default_type(name)}")
    fitting = [mixture for mixture in mixtures if not _others(gguf, mixture)]
    if fitting:
        return _followed(name, fitting)
    if name in hifi.FORK_FILE_TYPES:
        return _unjudged(name, "the HIFI fork also goes by importance, or the types were chosen otherwise")
    named = [mixture for mixture in mixtures if mixture.kind == AS_NAMED]
    if not named:
        return _unjudged(name, refusal)
    return _its_own(gguf, name, min(named, key=lambda mixture: len(_others(gguf, mixture))), findings)


def _name(gguf: Gguf, findings: Findings) -> str | Recipe:
    """The name of general.file_type; a recipe that says why there is none."""
    value = gguf.metadata.get("general.file_type")
    if value is None:
        return Recipe(NOT_NAMED, None, None, [], [], [], "none named, there is no general.file_type")
    stated = value.integer
    if value.kind != "u32" or stated is None:
        message = f"general.file_type, at byte {value.start}, is of kind {value.kind}, not one u32"
    else:
        names = _NAMES | (_FORK_NAMES if gguf.dialect.startswith("hifi") else {})
        if stated & ~GUESSED in names:
            return names[stated & ~GUESSED]
        message = f"general.file_type, at byte {value.start}, is {stated}, which stands for no file type in use"
    findings.add(Finding("G021", message, offset=value.start))
    return _unjudged(None, "general.file_type stands for no file type in use")


def _unjudged(name: str | None, why: str) -> Recipe:
    return Recipe(NOT_JUDGED, name, None, [], [], [], f"{f'{name} by name, ' if name else ''}not judged: {why}")


def _mixtures(gguf: Gguf, name: str) -> tuple[list[_Mixture], str]:
    """What the name may stand for, the likeliest first, and why llama-quantize stops at what is not among them."""
    if name in hifi.FORK_FILE_TYPES:
        return [_Mixture(AS_NAMED, None, _as_the_fork(gguf, name))], ""
    model = models.read(gguf)
    shapes = {tensor.name: tensor.shape for tensor in gguf.tensors}
    stated = any(key in gguf.metadata for key in IMPORTANCE_KEYS)
    found, refusal = [], ""
    for options in (Options(), Options(keep_split=True), Options(pure=True)):
        for importance in (None,) if options.pure else (stated, not stated):
            try:
                types = llama_quantize.choose(name, model, shapes, bool(importance), options)
            except Refused as refused:
                refusal = refusal or str(refused)
            else:
                found.append(_Mixture(PURE if options.pure else AS_NAMED, importance, types))
    return found, refusal


def _as_the_fork(gguf: Gguf, name: str) -> dict[str, str | None]:
    model = hifi.read(gguf)

    def chosen(tensor: Tensor) -> str | None:
        if not is_quantized(tensor.name, tensor.shape):
            return None
        return that_fits(hifi.fork_format(name, tensor.name, model), tensor.shape[0], FORK_FALLBACK)

    return {tensor.name: chosen(tensor) for tensor in gguf.tensors}


def _others(gguf: Gguf, mixture: _Mixture) -> list[Tensor]:
    """The tensors that have another type; those that stay as they are may have any that is no block format."""
    return [t for t in gguf.tensors if not _has(t, mixture.types[t.name])]


def _has(tensor: Tensor, wanted: str | None) -> bool:
    return tensor.known_type.block_size == 1 if wanted is None else tensor.type_name == wanted


def _contradicts(gguf: Gguf, name: str, mixtures: list[_Mixture], findings: Findings) -> bool:
    """Whether a file is named after a type that it has not, though all mixtures that the name allows have it."""
    if not mixtures or name in hifi.FORK_FILE_TYPES:
        return False
    value, default = gguf.metadata["general.file_type"], llama_quantize.default_type(name)
    held = any(tensor.type_name == default for tensor in gguf.tensors)
    wrong = not held and all(default in mixture.types.values() for mixture in mixtures)
    if wrong:
        message = f"general.file_type, at byte {value.start}, is {value.scalar} ({name}), but no tensor is {default}"
        findings.add(Finding("G021", message, offset=value.start))
    return wrong


def _followed(name: str, fitting: list[_Mixture]) -> Recipe:
    """The recipe of a file whose every tensor is as the first of these mixtures has it."""
    kind = fitting[0].kind
    if kind == PURE:
        sentence = f"{name} by name, but all matrices {llama_quantize.default_type(name)} (--pure)"
        return Recipe(kind, name, None, [], [], [], sentence)
    known = {mixture.importance for mixture in fitting if mixture.kind == kind}
    importance = known.pop() if len(known) == 1 else None
    chooser = "the HIFI fork" if name in hifi.FORK_FILE_TYPES else "llama-quantize"
    how = "" if importance is None else " with importance" if importance else " without importance"
    return Recipe(kind, name, importance, [], [], [], f"{name}, as {chooser} chooses{how}")


def _its_own(gguf: Gguf, name: str, nearest: _Mixture, findings: Findings) -> Recipe:
    """The recipe of a file that differs from the mixture that it is named after, with a note for each tensor."""
    groups: dict[str, list[str]] = {"raised": [], "lowered": [], "exchanged": []}
    for tensor in _others(gguf, nearest):
        wanted = nearest.types[tensor.name]
        has = f"the mixture {name} has {wanted}" if wanted else "llama-quantize leaves floats as they are"
        note(findings, tensor, "G025", f"{tensor.type_name}, where {has}")
        groups[_direction(tensor, wanted)].append(tensor.name)
    counts = [(len(names), what) for what, names in groups.items() if names]
    first, *rest = counts
    more = "".join(f", {n} {what}" for n, what in rest)
    sentence = f"{name} by name, a mixture of its own: {first[0]} tensor{plural(first[0])} {first[1]}{more}"
    return Recipe(OWN, name, None, groups["raised"], groups["lowered"], groups["exchanged"], sentence)


def _direction(tensor: Tensor, wanted: str | None) -> str:
    if wanted is None:
        return "lowered"
    kind, f = tensor.known_type, FORMATS[wanted]
    more = kind.type_size * f.block_size - f.type_size * kind.block_size
    return "raised" if more > 0 else "lowered" if more < 0 else "exchanged"
