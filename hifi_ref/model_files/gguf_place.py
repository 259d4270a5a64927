"""Where a GGUF file's tensors lie: their types and sizes, their places, and what is between them."""

from __future__ import annotations

from hifi_ref.model_files.dialects import DIALECTS, REFERENCE
from hifi_ref.model_files.findings import Finding, Findings
from hifi_ref.model_files.gguf_model import Gguf, Tensor, above, note, padded
from hifi_ref.model_files.remote import RemoteMap, need
from hifi_ref.model_files.resolve_dialect import Claim, resolve
from hifi_ref.model_files.tensor_types import nbytes

REMOVED_TYPES = {
    4: "Q4_2, removed in May 2023, before GGUF",
    5: "Q4_3, removed in May 2023, before GGUF",
    31: "Q4_0_4_4, removed in December 2024: use Q4_0",
    32: "Q4_0_4_8, removed in December 2024: use Q4_0",
    33: "Q4_0_8_8, removed in December 2024: use Q4_0",
    36: "IQ4_NL_4_4, removed in December 2024: use IQ4_NL",
    37: "IQ4_NL_4_8, removed in December 2024: use IQ4_NL",
    38: "IQ4_NL_8_8, removed in December 2024: use IQ4_NL",
}


def place_tensors(gguf: Gguf, header_end: int | None, dialect: str | None, findings: Findings) -> None:
    """Find every tensor's type, size and place. ``header_end`` is None where the list of tensors is broken."""
    if header_end is not None:
        gguf.header_end, gguf.data_start = header_end, padded(header_end, gguf.alignment)
    if dialect is None and gguf.text("hifi_ref.dialect") in DIALECTS:
        dialect = gguf.text("hifi_ref.dialect")
    contested = frozenset() if dialect else _find_dialect(gguf, findings)
    gguf.dialect = dialect or gguf.dialect
    for tensor in gguf.tensors:
        if tensor.type_id not in contested:
            _measure(gguf, tensor, findings)
    if header_end is not None:
        _place(gguf, findings)
        # What lies between a remote file's tensors is not here yet.
        if not isinstance(gguf.data, RemoteMap):
            check_padding(gguf, findings)


def _find_dialect(gguf: Gguf, findings: Findings) -> frozenset[int]:
    """Set the dialect that the tensors' sizes speak of; the type ids that they leave open."""

    def read(i: int, n: int) -> bytes:
        start = (gguf.data_start or 0) + gguf.tensors[i].offset
        need(gguf.data, start, start + n)
        return bytes(gguf.data[start : start + n])

    claims = _claims(gguf, last_is_whole=False)
    found = resolve(claims)
    if found.contested:
        # The last tensor's end is known only from the file's, which may be cut off: a last resort.
        whole = _claims(gguf, last_is_whole=True)
        if resolve(whole).fits:
            claims, found = whole, resolve(whole)
    if found.contested:
        found = resolve(claims, read)
    if found.contested:
        findings.add(Finding("D002", found.why))
    elif found.name != REFERENCE:
        gguf.dialect = found.name
        findings.add(Finding("D001", f"{found.why}, by the sizes of the tensors: {DIALECTS[found.name].says}"))
    return found.contested


def _claims(gguf: Gguf, last_is_whole: bool) -> list[Claim]:
    """What the file says of each tensor's size: it ends, padded, where the next one starts."""
    if gguf.data_start is None:
        return [Claim(tensor.type_id, tensor.shape) for tensor in gguf.tensors]
    starts = sorted({tensor.offset for tensor in gguf.tensors})
    ends = dict(zip(starts, starts[1:], strict=False))
    if starts and last_is_whole:
        ends[starts[-1]] = padded(len(gguf.data) - gguf.data_start, gguf.alignment)
    claims = []
    for tensor in gguf.tensors:
        room = ends.get(tensor.offset, tensor.offset) - tensor.offset
        bounds = (room - gguf.alignment + 1, room) if room > 0 else (None, None)
        claims.append(Claim(tensor.type_id, tensor.shape, *bounds))
    return claims


def _measure(gguf: Gguf, tensor: Tensor, findings: Findings) -> None:
    """Set the tensor's type and size, where they make sense."""
    at = tensor.type_at
    if any(n >= 1 << 63 for n in tensor.shape):
        message = f"a dimension of {max(tensor.shape)} is negative as a signed number"
        note(findings, tensor, "G010", message, offset=at)
        return
    if tensor.elements >= 1 << 63:
        note(findings, tensor, "G011", f"{tensor.elements} elements do not fit in 63 bits", offset=at)
        return
    tensor.type = DIALECTS[gguf.dialect].ids.get(tensor.type_id)
    if tensor.type is None:
        _note_unknown(gguf, tensor, findings)
        return
    size = nbytes(tensor.type, tensor.shape)
    if size is None:
        row = tensor.shape[0] if tensor.shape else 1
        message = f"rows of {row} weights are not whole {tensor.type.name} blocks of {tensor.type.block_size}"
        note(findings, tensor, "G014", message, offset=at)
        return
    if size >= 1 << 63:
        note(findings, tensor, "G011", f"{size} bytes do not fit in 63 bits", offset=at)
        return
    if size == 0:
        note(findings, tensor, "G022", f"the shape {list(tensor.shape)} holds nothing", offset=at)
    tensor.nbytes = size


def _note_unknown(gguf: Gguf, tensor: Tensor, findings: Findings) -> None:
    place = f"the type id {tensor.type_id}, at byte {tensor.type_at},"
    if gguf.dialect == REFERENCE and tensor.type_id in REMOVED_TYPES:
        note(findings, tensor, "G013", f"{place} was {REMOVED_TYPES[tensor.type_id]}", offset=tensor.type_at)
        return
    meanings = [f"{d.ids[tensor.type_id].name} ({name})" for name, d in DIALECTS.items() if tensor.type_id in d.ids]
    if gguf.dialect != REFERENCE:
        why = f" in the dialect {gguf.dialect}"
    else:
        why = f": {' or '.join(meanings)} has another size than this tensor" if meanings else ""
    note(findings, tensor, "G012", f"{place} is unknown{why}", offset=tensor.type_at)


def _place(gguf: Gguf, findings: Findings) -> None:
    """Hold every tensor's place against its neighbours and the file's size."""
    size, data_start = len(gguf.data), gguf.data_start or 0
    # Tensors follow each other without gaps. After a wrong offset or a wrong size the rest may still be right,
    # so the next may start after the sum of all sizes, or where the last one says that it ends.
    total: int | None = 0
    last_end: int | None = 0
    for tensor in gguf.tensors:
        tensor.start = data_start + tensor.offset
        fits = total is None or last_end is None or tensor.offset in (total, last_end)
        if tensor.offset % gguf.alignment:
            message = f"the offset {tensor.offset} in the data section is no multiple of {gguf.alignment}"
            note(findings, tensor, "G015", message, offset=tensor.start)
        elif not fits:
            message = f"the offset in the data section is {tensor.offset}, where {last_end} is expected"
            note(findings, tensor, "G017", message, offset=tensor.start)
        if tensor.nbytes is None:
            total = last_end = None
            continue
        last_end = padded(tensor.offset + tensor.nbytes, gguf.alignment)
        total = last_end if total is None or fits else padded(total + tensor.nbytes, gguf.alignment)

    last: Tensor | None = None
    for tensor in _placed(gguf):
        stop = tensor.start + tensor.known_nbytes
        if stop > size:
            message = f"the data needs bytes {tensor.start} to {stop}, but the file ends at byte {size}"
            note(findings, tensor, "G018", message, offset=min(size, tensor.start))
            continue
        if last is not None and tensor.start < last.start + last.known_nbytes:
            message = f"bytes {tensor.start} to {stop} overlap those of tensor {last.name}"
            note(findings, tensor, "G016", message, offset=tensor.start)
        else:
            tensor.readable = True
        if last is None or stop > last.start + last.known_nbytes:
            last = tensor
    _check_end(gguf, findings)


def _placed(gguf: Gguf) -> list[Tensor]:
    """The tensors of known size, in the order of the file."""
    return sorted((t for t in gguf.tensors if t.nbytes), key=lambda tensor: tensor.start)


def _check_end(gguf: Gguf, findings: Findings) -> None:
    """The file must end where the last tensor's padding does."""
    size, at = len(gguf.data), gguf.header_end or 0
    for tensor in _placed(gguf):
        at = max(at, tensor.start + tensor.known_nbytes)
    # A tensor of unknown size may own all that follows the others.
    known = all(tensor.nbytes is not None for tensor in gguf.tensors)
    end = padded(at, gguf.alignment)
    if known and size > end:
        message = f"{size - end} bytes follow the last tensor, which ends with its padding at byte {end}"
        findings.add(Finding("G020", message, offset=end, count=size - end))
    # A file without tensors may end either way: ggml pads its header, gguf-py does not.
    elif known and gguf.tensors and at <= size < end:
        message = f"the file ends at byte {size}, {end - size} bytes short of the padding that closes its last tensor"
        findings.add(Finding("G019", message, offset=size))


def check_padding(gguf: Gguf, findings: Findings) -> None:
    """The bytes that fill up behind the list of tensors and behind each tensor must be zero."""
    size, at = len(gguf.data), gguf.header_end or 0
    gaps = []
    for tensor in _placed(gguf):
        gaps.append((at, min(tensor.start, padded(at, gguf.alignment), size)))
        at = max(at, tensor.start + tensor.known_nbytes)
    gaps.append((at, min(padded(at, gguf.alignment), size)))
    for start, stop in gaps:
        need(gguf.data, start, stop)
        wrong, first = above(gguf.data, start, stop, 0)
        if wrong:
            message = (
                f"{wrong} of the {stop - start} padding bytes from byte {start} are not zero, the first at {first}"
            )
            findings.add(Finding("P006", message, offset=first, count=wrong))
