"""A format's page: the data of `explained` as parts, which `parts` renders for a terminal, as Markdown and as HTML."""

from __future__ import annotations

from typing import Any

from hifi_ref.explain import drawings
from hifi_ref.explain.byte_words import map_rows, serves, strips
from hifi_ref.explain.explained import explanation
from hifi_ref.explain.parts import (
    Fold,
    Heading,
    Listing,
    Paragraph,
    Part,
    Picture,
    Table,
    to_markdown,
)
from hifi_ref.explain.search.page import search_parts

OPERATIONS = ("decode", "encode", "dot")
# Weights of a block that a row of a listing has.
PER_LINE = 8


def markdown(name: str) -> str:
    """The page of a format, a key of FORMATS, as Markdown: headings from level 2, pictures as SVG in it."""
    return to_markdown(parts_of(explanation(name)))


def parts_of(e: dict[str, Any]) -> list[Part]:
    """The page of an explanation."""
    return [
        *_what(e), *_bytes(e), *_account(e), *_formula(e), *_worked(e), *_bits(e), *_errors(e),
        *search_parts(e["search"]), *_family(e), *_mistakes(e),
    ]  # fmt: skip


def _what(e: dict[str, Any]) -> list[Part]:
    number = "none in GGUF" if e["type_id"] is None else f"{e['type_id']} in GGUF"
    rows = [
        ("number", number if e["dialect"] == "llama.cpp" else f"{number}, of the HIFI fork"),
        ("weights a block", str(e["block_size"])),
        ("bytes a block", str(e["type_size"])),
        ("bits per weight", f"{e['bits_per_weight']:g}"),
        ("operations", ", ".join(e["operations"]) + (" (with importance alone)" if e["requires_importance"] else "")),
        ("dot product with", e["dot_with"] or "nothing: it is the other side"),
        ("defined in", f"`{e['source']}`"),
    ]
    return [Paragraph(e["says"]), Table(("fact", "value"), rows)]


def _bytes(e: dict[str, Any]) -> list[Part]:
    name = e["format"]
    fields = [
        (_span(field["offset"], field["bytes"]), f"`{field['field']}`", field["type"], field["holds"])
        for field in e["layout"]
    ]
    picture = Picture(
        lambda: drawings.byte_picture(name),
        f"The {e['type_size']} bytes of a block, a column a byte, bit 7 on top.",
        strips(e["map"]),
    )
    return [
        Heading("The bytes"),
        Table(("bytes", "field", "type", "holds"), fields),
        picture,
        Paragraph(f"Which bits of which byte hold which number. {serves(e['account'])}"),
        Table(("bytes", "bits", "hold"), map_rows(e["map"], e["account"])),
    ]


def _span(offset: int, count: int) -> str:
    return str(offset) if count == 1 else f"{offset}-{offset + count - 1}"


def _account(e: dict[str, Any]) -> list[Part]:
    rows = [
        (
            row["kind"], str(row["numbers"]), str(row["bits_each"]), str(row["bits"]), f"{row['bits_per_weight']:g}",
            str(row["weights_each"]) if row["weights_each"] else "none: decoding ignores it",
        )
        for row in e["account"]
    ]  # fmt: skip
    total = ("together", "", "", str(8 * e["type_size"]), f"{e['bits_per_weight']:g}", "")
    head = ("number", "how many", "bits each", "bits a block", "bits per weight", "weights that one serves")
    return [Heading("Where the bits go"), Table(head, [*rows, total], right=(1, 2, 3, 4))]


def _formula(e: dict[str, Any]) -> list[Part]:
    said = [Paragraph(line) for paragraph in e["prose"] for line in paragraph.split("\n")]
    formula = [Listing("\n".join(e["formula"]))] if e["formula"] else []
    source = [Paragraph(e["reference"])] if e["reference"] else []
    return [Heading("The formula"), *formula, *said, *source]


# THE WORKED BLOCK


def _worked(e: dict[str, Any]) -> list[Part]:
    work = e["worked"]
    numbers = bytes.fromhex(work["bytes"])
    dump = "\n".join(f"{at:4}  {numbers[at : at + 16].hex(' ')}" for at in range(0, len(numbers), 16))
    importance = ", with an importance of 1 for each" if work["importance"] else ""
    unit = "weight" if e["block_size"] == 1 else "block"
    shown = work["by_hand"]
    example, *others = shown
    error = f"The root mean square error is {work['error']:g}, {work['relative_error']:.3g} of the weights' own."
    return [
        Heading(f"A {unit} taken apart"),
        Paragraph(f"Here {_count(e['block_size'], 'weight')} went in{importance}; they are made, and look like a "
                  "model's. The encoder, which `hr.encode` runs, made these bytes of them:"),
        Listing(dump),
        Fold("The weights that went in", [Listing(lines(work["weights"]))]),
        Paragraph("From the bytes to the weights, step by step; s counts sub-blocks, g groups of weights, j weights:"),
        Table(("step", "is", "values"), [step_row(step) for step in work["steps"]]),
        *_grid_rows(work["grid_rows"]),
        Heading(f"Weight {example['weight']} by hand", 3),
        by_hand(example),
        *_exercise(e, others),
        Heading("And back", 3),
        Table(("weight", "went in", "came out"), _in_and_out(work), right=(0, 1, 2)),
        Paragraph(error),
        Fold("All weights that come out", [Listing(lines(work["steps"][-1]["values"]))]),
    ]  # fmt: skip


def _grid_rows(rows: dict[str, list[int]]) -> list[Part]:
    listed = "\n".join(f"{row:>4}  {' '.join(f'{value:2}' for value in values)}" for row, values in rows.items())
    return [Fold("The rows of the grid that this block names", [Listing(listed)])] if rows else []


def _count(n: int, what: str) -> str:
    return f"one {what}" if n == 1 else f"{n} {what}s"


def lines(values: list[str]) -> str:
    """Eight numbers a line, the first one's position before them."""
    width = max(len(value) for value in values)
    return "\n".join(
        f"{at:4}  " + " ".join(value.rjust(width) for value in values[at : at + PER_LINE])
        for at in range(0, len(values), PER_LINE)
    )


def step_row(step: dict[str, Any]) -> tuple[str, str, str]:
    values = step["values"]
    shown = " ".join(values[:PER_LINE])
    rest = f" ... ({len(values)} in all)" if len(values) > PER_LINE else ""
    return f"`{step['name']}`", step["formula"], shown + rest


def by_hand(shown: dict[str, Any]) -> Table:
    return Table(("number", "is"), [(f"`{name}`", how) for name, how in shown["lines"]])


def _exercise(e: dict[str, Any], others: list[dict[str, Any]]) -> list[Part]:
    made: list[Part] = []
    for k, shown in enumerate(others):
        what = "an outlier: " if k else ""
        made += [
            Heading(f"Try it: {what}weight {shown['weight']}", 3),
            Paragraph(f"Decode weight {shown['weight']} from the bytes above, then look."),
            Fold(f"Solution: weight {shown['weight']}", [by_hand(shown)]),
        ]
    return made


def _in_and_out(work: dict[str, Any]) -> list[tuple[str, str, str]]:
    pairs = list(zip(work["weights"], work["steps"][-1]["values"], strict=True))
    return [(str(j), *pair) for j, pair in enumerate(pairs[:PER_LINE])]


# BITS, ERRORS


def _bits(e: dict[str, Any]) -> list[Part]:
    rows = [
        (
            row["kind"], str(row["bit"]), str(row["moves"]), _share(row["median"], row["moves"]),
            _share(row["most"], row["moves"]),
        )
        for row in e["bits"]
    ]  # fmt: skip
    head = ("number", "bit", "weights moved at most", "the furthest, usually", "at most")
    table = Table(head, rows, right=(1, 2, 3, 4))
    return [
        Heading("What one bit does"),
        Paragraph("Each bit of the block above was flipped and the block decoded again. How far the weight moves that "
                  "moves most is given in the weights' root mean square: 1 is as much as a weight usually is."),
        Picture(lambda: drawings.influence_picture(e["format"], e["change"]),
                "The same bytes, each bit coloured by how far flipping it moves a weight."),
        Fold("Bit by bit", [table]) if len(rows) > 20 else table,
    ]  # fmt: skip


def _share(value: float | None, moves: int) -> str:
    return "-" if not moves else "no number" if value is None else f"{value:g}"


def _errors(e: dict[str, Any]) -> list[Part]:
    made: list[Part] = [Heading("Range, step and error")]
    found = e["levels"]
    if found:
        values = found["values"]
        some = " ".join(f"{v:g}" for v in values) if len(values) <= 32 else f"{values[0]:g} to {values[-1]:g}"
        made.append(Paragraph(
            f"While all that it shares with others stands, a weight chooses among {len(values)} values by its "
            f"{found['chosen_by']}, in units of its step: {some}. Between these its error is at most half the distance "
            f"of neighbours, {found['gap'] / 2:g} steps."
        ))  # fmt: skip
        made.append(Paragraph(_reach(e)))
    made.append(Paragraph(
        "Measured: the root mean square error relative to the weights' own, for 16,384 weights of a normal "
        "distribution and of one with heavy tails (Student's t, 3 degrees of freedom), beside formats of nearly its "
        "size. It is an error of weights, and no measure of a model's answers."
    ))  # fmt: skip
    rows = [
        (f"{name} (this)" if name == e["format"] else name, f"{row['bits_per_weight']:g}",
         f"{100 * row['gaussian']:.3g} %", f"{100 * row['heavy tails']:.3g} %")
        for name, row in e["errors"].items()
    ]  # fmt: skip
    return [*made, Table(("format", "bits per weight", "normal", "heavy tails"), rows, right=(1, 2, 3))]


def _reach(e: dict[str, Any]) -> str:
    """What the steps of the worked block's first sub-block reach."""
    first = e["reach"][0]
    several = f" Its {len(e['reach'])} sub-blocks have steps from {min(r['step'] for r in e['reach']):.4g} to "
    last = f"{max(r['step'] for r in e['reach']):.4g} in size." if len(e["reach"]) > 1 else ""
    where = "first sub-block" if last else "block"
    ends = f"from {first['low']:.4g} to {first['high']:.4g}"
    reach = f"The {where} above has steps of {first['step']:.4g} and reaches {ends}."
    finest, largest = e["steps_possible"]["finest"], e["steps_possible"]["largest"]
    possible = f" Steps of this format can be from {finest:.4g} to {largest:.4g}."
    return reach + (several + last if last else "") + possible


# FAMILY, MISTAKES


def _family(e: dict[str, Any]) -> list[Part]:
    own = e["family"]
    others = ", ".join(name for name in own["formats"] if name != e["format"])
    return [
        Heading("Its family, and what it is good for"),
        Paragraph(f"{own['name'][0].upper()}{own['name'][1:]}. {own['says']} In the same family: {others}."),
        Paragraph(own["good_for"]),
        Paragraph(own["history"]),
    ]


def _mistakes(e: dict[str, Any]) -> list[Part]:
    made: list[Part] = [Heading("What implementations do wrong")]
    if not e["mistakes"]:
        return [*made, Paragraph("None is known here.")]
    made.append(Paragraph(
        "Known bugs, and of each operation that they spoil a golden vector that catches it: `python -m "
        f"hifi_ref.conform TARGET --formats={e['format']}` runs all vectors, and `--dump=ID` shows one."
        if e["dialect"] == "llama.cpp" else "Known bugs, each with a vector of `golden/hifi` that catches it."
    ))  # fmt: skip
    caught: dict[tuple[str, str], dict[str, str]] = {}
    for row in e["mistakes"]:
        vector = f"`{row['vector']}`" if row["vector"] else "yes"
        caught.setdefault((row["kind"], row["says"]), {})[row["operation"]] = vector
    rows = [(*what, *(by.get(operation, "") for operation in OPERATIONS)) for what, by in caught.items()]
    made.append(Table(("kind", "what it does", *(f"in {operation}" for operation in OPERATIONS)), rows))
    seen = list(dict.fromkeys(place for row in e["mistakes"] for place in row["seen"]))
    return [*made, *([Fold("Where such bugs were seen", [Paragraph(place) for place in seen])] if seen else [])]
