"""The files that llama-quantize of the release writes: types, order of tensors, metadata, layers left out, shards.

Reference: llama_model_quantize_impl (llama-quant.cpp) and llama_quantize (tools/quantize) of llama.cpp v0.5.0.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from hifi_ref.formats import FORMATS
from hifi_ref.mixtures import llama_quantize, model
from hifi_ref.mixtures.kept import dimensions
from hifi_ref.model_files import file_types
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_model import DEFAULT_ALIGNMENT, Tensor
from hifi_ref.model_files.gguf_write import Change, Entry, Typed
from hifi_ref.quantize.importance import Importance
from hifi_ref.quantize.options import LONGEST, NO_OPTIONS, Options
from hifi_ref.quantize.plan import FLOATS, NewFile, Plan, new_file, share_of
from hifi_ref.quantize.source import COUNT, NUMBER, SPLIT, TENSORS, Source
from hifi_ref.quantize.texts import cut_off

QUANTIZATION_VERSION = 2
COPY = "COPY"
SUFFIX = ".gguf"
# Names and types of tensors for which there is no importance.
Lacking = list[tuple[str, str]]
_LAYER = re.compile(r"blk\.(\d+)\.")
_IDS = {kind.name: type_id for type_id, kind in DIALECTS[REFERENCE].ids.items()}


class Written(NamedTuple):
    """A tensor that is written: what it is in the source, its name in the new file, and what becomes of it."""

    tensor: Tensor
    name: str
    plan: Plan


def as_released(
    source: Source, out: str, file_type: str, importance: Importance | None = None, options: Options = NO_OPTIONS
) -> list[NewFile]:
    """The files, one a shard with ``keep_split``. Raises InputError where the release stops.

    ``file_type``: its name, or COPY.
    """
    names, layers = _names(source, options)
    types = _types(source, names, file_type, importance is not None, options)
    tensors = {tensor.name: tensor for tensor in source.whole.tensors}
    written = [
        Written(tensors[old], new, _plan(tensors[old], types[new], importance, options)) for old, new in names.items()
    ]
    lacking = [(w.name, w.plan.format) for w in written if _lacks(file_type, w, types[w.name], importance)]
    changes = _changes(source, file_type, importance, options, layers)
    if options.keep_split:
        return _shards(source, out, file_type, written, changes, lacking)
    return [_laid_out(source, out, file_type, written, changes, lacking)]


def check_source(source: Source) -> None:
    """Raises InputError for a source of which the release writes files that are broken, or not whole."""
    alignment = next((g.alignment for g in source.ggufs if g.alignment != DEFAULT_ALIGNMENT), None)
    if alignment is not None:
        raise InputError(f"its alignment is {alignment}, by which llama-quantize writes broken files")
    if (key := cut_off(source.ggufs[0])) is not None:
        raise InputError(f"{key} has a text with a NUL byte, at which llama-quantize cuts it off")


def _names(source: Source, options: Options) -> tuple[dict[str, str], int]:
    """Names in the source and in the new file, in the order of writing; and how many layers are left."""
    tensors = source.whole.tensors
    order = llama_quantize.in_order(tensor.name for tensor in tensors)
    names = {name: name for name in order}
    layers: dict[int, int | None] = {}
    following = 0
    for name in order if options.prune else []:
        found = _LAYER.search(name)
        if found is None:
            continue
        old = int(found[1])
        if old not in layers:
            following = old if old < options.prune[0] else following
            layers[old] = None if old in options.prune else following
            following += old not in options.prune
        new = layers[old]
        names[name] = "" if new is None else f"{name[: found.start(1)]}{new}{name[found.end(1) :]}"
    if options.keep_split:
        places = {t.name: (source.shard_of[t.name], t.start) for t in tensors}
        names = {name: names[name] for name in sorted(names, key=places.__getitem__)}
    return {old: new for old, new in names.items() if new}, following


def _types(
    source: Source, names: dict[str, str], file_type: str, guided: bool, options: Options
) -> dict[str, str | None]:
    """The type of every tensor by its new name; None for those that stay as they are."""
    if file_type == COPY:
        return dict.fromkeys(names.values())
    of = {tensor.name: tensor.shape for tensor in source.whole.tensors}
    shapes = {new: of[old] for old, new in names.items()}
    described = model.read(source.whole, options.given)
    try:
        return llama_quantize.choose(file_type, described, shapes, guided, options.types._replace(keep_split=True))
    except llama_quantize.Refused as refused:
        raise InputError(str(refused)) from None


def _plan(tensor: Tensor, chosen: str | None, importance: Importance | None, options: Options) -> Plan:
    if chosen is None or chosen == tensor.type_name:
        return Plan(tensor, tensor.type_name, {}, None, as_released=True)
    if tensor.type_name not in FLOATS and not (tensor.type_name in FORMATS and options.allow_requantize):
        raise InputError(f"tensor {tensor.name} is {tensor.type_name}: that is quantized again with --allow-requantize")
    if tensor.shape[0] % FORMATS[chosen].block_size:
        raise InputError(f"rows of {tensor.shape[0]} in {tensor.name} are no whole blocks of {chosen}")
    return Plan(tensor, chosen, {}, share_of(importance, tensor, tensor.name, chosen), as_released=True)


def _lacks(file_type: str, w: Written, chosen: str | None, importance: Importance | None) -> bool:
    """Whether llama-quantize stops at a tensor for want of importance, or its encoder does."""
    if chosen is None or w.plan.importance is not None:
        return False
    needs = llama_quantize.needs_importance(file_type, w.name, chosen)
    if w.plan.is_copied:
        return needs and importance is None
    return needs or FORMATS[chosen].requires_weights


def _changes(
    source: Source, file_type: str, importance: Importance | None, options: Options, layers: int
) -> dict[str, Change]:
    """What becomes of the source's metadata, in the release's order."""
    number = _copied_file_type(source, options) if file_type == COPY else llama_quantize.file_types()[file_type]
    found: dict[str, Change] = {
        "general.quantization_version": QUANTIZATION_VERSION, "general.file_type": number, **dict.fromkeys(SPLIT),
    }  # fmt: skip
    following: list[tuple[str, Change]] = list(options.keys)
    if importance is not None:
        matrix = importance.matrix
        following.append(("quantize.imatrix.file", _cut(importance.path)))
        following += [("quantize.imatrix.dataset", _cut(name)) for name in matrix.datasets[:1]]
        following.append(("quantize.imatrix.entries_count", len(matrix.rows)))
        following += [("quantize.imatrix.chunks_count", matrix.chunks)] if matrix.chunks > 0 else []
    if options.prune:
        following.append((f"{model.architecture_of(source.whole, options.given)}.block_count", layers))
    for key, value in following:
        # What is set again moves to the end.
        found.pop(key, None)
        found[key] = value
    return found


def _copied_file_type(source: Source, options: Options) -> int:
    """The number that the source states, or what the release guesses from its tensors' types."""
    given, stated = options.given.get("general.file_type"), file_types.file_type(source.whole)
    if isinstance(given, int) or stated is not None:
        return given if isinstance(given, int) else stated or 0
    kinds, most, guess = Counter[str](), 0, "F32"
    types = {tensor.name: tensor.type_name for tensor in source.whole.tensors}
    for kind in (types[name] for name in llama_quantize.in_order(types)):
        kinds[kind] += 1
        if kinds[kind] > most:
            most, guess = kinds[kind], kind
    numbers = {name: number for number, (name, _) in file_types.FILE_TYPES.items()}
    return numbers.get(llama_quantize.ALIASES.get(guess, guess), 0) | file_types.GUESSED


def _shards(
    source: Source,
    out: str,
    file_type: str,
    written: list[Written],
    changes: dict[str, Change],
    lacking: Lacking,
) -> list[NewFile]:
    """Files named as the release names them, of as many shards as the source has."""
    of_shard: dict[int, list[Written]] = {0: []}
    for w in written:
        of_shard.setdefault(source.shard_of[w.tensor.name], []).append(w)
    count = max(of_shard) + 1
    if len(of_shard) < count:
        raise InputError(f"{source.name} has a shard without tensors, at which llama-quantize stops with --keep-split")
    prefix = out[: -len(SUFFIX)] if SUFFIX in out else out
    files = []
    for shard, tensors in sorted(of_shard.items()):
        own: dict[str, Change] = dict(changes) if shard == 0 else {}
        if count > 1:
            places = {NUMBER: Typed("u16", shard), COUNT: Typed("u16", count), TENSORS: Typed("i32", len(written))}
            own = {key: value for key, value in own.items() if key not in SPLIT}
            own.update(places)
        path = f"{prefix}-{shard + 1:05}-of-{count:05}{SUFFIX}"
        files.append(_laid_out(source, path, file_type, tensors, own, lacking if shard == 0 else [], shard == 0))
    return files


def _laid_out(
    source: Source, path: str, name: str, written: list[Written], changes: dict[str, Change], lacking: Lacking,
    is_first: bool = True,
) -> NewFile:  # fmt: skip
    entries = []
    for w in written:
        raw = source.holder(w.tensor).raw_name(w.tensor) if w.name == w.tensor.name else w.name.encode()
        shape = w.tensor.shape[: dimensions(w.tensor.shape)]
        type_id = w.tensor.type_id if w.plan.is_copied else _IDS[w.plan.format]
        entries.append(Entry(raw, shape, type_id, w.plan.nbytes))
    like = source.ggufs[0] if is_first else None
    return new_file(path, name, like, changes, [w.plan for w in written], entries, lacking)


def _cut(text: str) -> str:
    return text.encode("utf-8", "surrogateescape")[:LONGEST].decode("utf-8", "surrogateescape")
