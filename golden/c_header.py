"""hifi_ref.h: the blocks as C structs, whose sizes the compiler asserts, and the tables of grids.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hifi_ref.formats import Format
from hifi_ref.formats.layout import Field

TYPES = {
    "u8": "uint8_t", "i8": "int8_t", "u16": "uint16_t", "i16": "int16_t", "f16": "hifi_f16", "f32": "float"
}  # fmt: skip
HEAD = """\
/* The block formats of llama.cpp v0.5.0: blocks, and the tables that decoders look up. Written by
   `python -m golden.grids`; grids.json tells how numbers are packed. They are little-endian, as in files, so that a
   block can be read in place on a little-endian machine. For C11 and C++11. */

#ifndef HIFI_REF_H
#define HIFI_REF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define HIFI_ASSERT(what, message) static_assert(what, message)
#else
#define HIFI_ASSERT(what, message) _Static_assert(what, message)
#endif

/* The bits of a binary16. */
typedef uint16_t hifi_f16;
"""


def struct_name(f: Format) -> str:
    return f"hifi_block_{f.name.lower()}"


def text_of(formats: Iterable[Format], tables: dict[str, Any]) -> str:
    """The header; ``tables`` is the content of grids.json."""
    parts = [HEAD, "/* BLOCKS */\n", *(_struct(f) for f in formats), "/* TABLES */\n"]
    named = [*tables["grids"].values(), tables["signs"], *tables["steps"].values()]
    return "\n".join([*parts, *map(_table, named), "#endif\n"])


def _struct(f: Format) -> str:
    name = struct_name(f)
    lines = [f"/* {f.name}: {f.block_size} weight{'s' * (f.block_size > 1)}. */", "typedef struct {"]
    for field in f.layout.fields:
        lines.append(f"    {_declared(field)}; /* {field.holds} */")
    lines.append(f"}} {name};")
    lines.append(f'HIFI_ASSERT(sizeof({name}) == {f.type_size}, "{f.name} has {f.type_size} bytes");')
    for field in f.layout.fields[1:]:
        at = f.layout.offset(field.name)
        lines.append(f'HIFI_ASSERT(offsetof({name}, {field.name}) == {at}, "{field.name} begins at byte {at}");')
    return "\n".join(lines) + "\n"


def _declared(field: Field) -> str:
    return f"{TYPES[field.dtype]} {field.name}{'' if field.count == 1 else f'[{field.count}]'}"


def _table(table: dict[str, Any]) -> str:
    rows = table["table"]
    name = f"hifi_{table['c_name']}"
    says = f"/* {', '.join(table['formats'])}: {table['holds']}. */"
    if isinstance(rows[0], list):
        body = ",\n".join(f"    {{{', '.join(map(str, row))}}}" for row in rows)
        return f"{says}\nstatic const int8_t {name}[{len(rows)}][{len(rows[0])}] = {{\n{body}}};\n"
    kind = "int8_t" if min(rows) < 0 else "uint8_t"
    return f"{says}\nstatic const {kind} {name}[{len(rows)}] = {{\n{_wrapped(rows)}}};\n"


def _wrapped(numbers: Sequence[int]) -> str:
    lines = [numbers[i : i + 16] for i in range(0, len(numbers), 16)]
    return ",\n".join(f"    {', '.join(map(str, line))}" for line in lines)
