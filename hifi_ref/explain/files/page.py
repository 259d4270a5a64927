"""A tensor, or a block of it, as the parts of a page."""

from __future__ import annotations

from typing import Any

from hifi_ref.explain.files import charts
from hifi_ref.explain.page import by_hand, lines, step_row
from hifi_ref.explain.parts import Fold, Heading, Listing, Paragraph, Part, Picture, Table
from hifi_ref.explain.search.page import search_parts

# Weights that are listed; what lines of a tensor's picture show.
FEW, LINES = 16, ("root_mean_square", "largest")
IMPORTANCE = {
    "given": "with the importance that was given",
    "none": "without importance",
    "one for each": "with an importance of 1 for each, since none was given",
}


def tensor_parts(e: dict[str, Any]) -> list[Part]:
    """The page of what `report.of_tensor` found."""
    parts: list[Part] = [_facts(e)]
    if e["block"] is not None:
        parts += _block(e["block"])
    else:
        parts += _survey(e["survey"])
        if e["errors"] is not None:
            parts += _errors(e["errors"])
    if e["compared"] is not None:
        parts += _compared(e)
    return parts


def _facts(e: dict[str, Any]) -> Part:
    rows = [
        ("file", e["file"]),
        ("tensor", e["tensor"]),
        ("format", f"{e['format']}: `python -m hifi_ref.explain {e['format']}` explains it"),
        ("shape", " x ".join(map(str, e["shape"]))),
        ("blocks", f"{e['blocks']:,}"),
        *([("source", e["source"])] if e["source"] else []),
    ]
    return Table(("fact", "value"), rows)


# A WHOLE TENSOR


def _survey(s: dict[str, Any]) -> list[Part]:
    size = s["root_mean_square"]
    broken = f" {s['blocks_not_finite']:,} blocks are not finite." if s["blocks_not_finite"] else ""
    cells = s["cells"]
    says = "The weights' root mean square, and the largest weight, from the first block to the last."
    made: list[Part] = [
        Heading("The weights"),
        Paragraph(
            f"{s['weights']:,} weights have a root mean square of {size:.4g}; {100 * s['zero_share']:.3g} % of them "
            f"are exactly 0.{broken} In {s['blocks_with_outliers']:,} of {s['blocks']:,} blocks a weight is more than "
            "six times that size."
        ),
        Picture(
            lambda: charts.lines(
                (("root mean square", cells["root_mean_square"]), ("largest", cells["largest"])),
                s["blocks"] - 1, "block", says,
            ),
            says, "\n".join(f"{line.replace('_', ' ')}\n{charts.spark(cells[line])}" for line in LINES),
        ),
        Table(
            ("largest weights: block", "weight", "value", "times the root mean square"),
            [(str(r["block"]), str(r["weight"]), f"{r['value']:.6g}", f"{r['times']:g}") for r in s["largest"]],
            right=(0, 1, 2, 3),
        ),
    ]  # fmt: skip
    if s["steps"]:
        made += [
            Heading("Its steps"),
            Paragraph("What one unit of a code is worth, over all sub-blocks: so many of them have a step of at most"),
            Table(tuple(s["steps"]), [tuple(f"{v:g}" for v in s["steps"].values())], right=range(len(s["steps"]))),
        ]
    if s["codes"]:
        made += [Heading("How its numbers are used"), *_uses(s["codes"])]
    return made


def _uses(codes: list[dict[str, Any]]) -> list[Part]:
    rows = [
        (
            use["kind"], str(use["bits"]), f"{use['entropy']:.3g}", f"{use['values_used']} of {len(use['counts'])}",
            f"{100 * use['lowest_share']:.3g} %", f"{100 * use['highest_share']:.3g} %",
        )
        for use in codes
    ]  # fmt: skip
    head = ("number", "bits", "entropy in bits", "values used", "at the lowest", "at the highest")
    made: list[Part] = [
        Paragraph("An entropy below the bits means that a code of unequal length would save the rest. Numbers at the "
                  "lowest or highest value are where weights may be clipped."),
        Table(head, rows, right=(1, 2, 4, 5)),
    ]  # fmt: skip
    for use in codes:
        says = f"How often each value of {use['kind']} comes, from {use['lowest_value']} on."
        made.append(_histogram(use, says))
    return made


def _histogram(use: dict[str, Any], says: str) -> Picture:
    return Picture(lambda: charts.bars(use["counts"], use["lowest_value"], says), says, charts.spark(use["counts"]))


def _errors(found: dict[str, Any]) -> list[Part]:
    cells = found["cells"]["relative_error"]
    says = "The error relative to the source's weights, from the first block to the last."
    return [
        Heading("Its error"),
        Paragraph(f"The root mean square error is {100 * found['relative_error']:.4g} % of the source's weights. Of "
                  "the blocks so many have a relative error of at most"),
        Table(tuple(found["quantiles"]), [tuple(f"{100 * v:.3g} %" for v in found["quantiles"].values())],
              right=range(len(found["quantiles"]))),
        Picture(lambda: charts.lines((("relative error", cells),), len(cells) - 1, "cell", says), says,
                charts.spark(cells)),
        Table(("worst blocks", "share of all error", "relative error"),
              [(str(w["block"]), f"{100 * w['share']:.3g} %", f"{100 * w['relative_error']:.4g} %")
               for w in found["worst"]], right=(0, 1, 2)),
        *_reference(found["reference"]),
    ]  # fmt: skip


def _reference(found: dict[str, Any] | None) -> list[Part]:
    if found is None:
        return []
    made: list[Part] = [Heading("What the reference would have written", 3)]
    importance = IMPORTANCE[found["importance"]]
    looked = f"The rows of the worst blocks and some drawn evenly, {found['blocks']:,} blocks, were encoded again, "
    if not found["differing"]:
        return [*made, Paragraph(f"{looked}{importance}: all are what the file has.")]
    kinds = ", ".join(f"{kind} in {n:,}" for kind, n in found["kinds"].items())
    made.append(Paragraph(f"{looked}{importance}: {found['differing']:,} differ. Differing numbers: {kinds} blocks."))
    if found["profile"]:
        made.append(Paragraph(f"All of these blocks are what the build {found['profile']} writes (docs/profiles.md)."))
    made.append(Paragraph(
        f"{found['why']} Of the blocks that differ the root mean square error is {found['error_of_file']:g} in the "
        f"file, and would have been {found['error_of_reference']:g}."
    ))  # fmt: skip
    first = found["first"]
    return [*made, Paragraph(f"The first of them is block {first['block']}:"), _numbers(first["numbers"])]


def _numbers(numbers: list[dict[str, Any]]) -> Table:
    rows = [
        (n["kind"] if n["number"] is None else f"{n['kind']} {n['number']}", f"{n['file']:g}", f"{n['reference']:g}")
        for n in numbers
    ]
    return Table(("number", "in the file", "the reference's"), rows, right=(1, 2))


# A BLOCK


def _block(b: dict[str, Any]) -> list[Part]:
    raw = bytes.fromhex(b["bytes"])
    dump = "\n".join(f"{at:4}  {raw[at : at + 16].hex(' ')}" for at in range(0, len(raw), 16))
    made: list[Part] = [
        Heading(f"Block {b['block']}"),
        Paragraph(f"It holds the weights of row {b['row']} from number {b['first_weight_of_row']} on. Its bytes:"),
        Listing(dump),
        Paragraph("Step by step; s counts sub-blocks, g groups of weights, j weights:"),
        Table(("step", "is", "values"), [step_row(step) for step in b["steps"]]),
    ]
    for shown in b["by_hand"]:
        made += [Heading(f"Weight {shown['weight']} by hand", 3), by_hand(shown)]
    made.append(Fold("All weights", [Listing(lines(b["steps"][-1]["values"]))]))
    return made if b["source"] is None else [*made, *_beside_source(b["source"], b["steps"][-1]["values"])]


def _beside_source(found: dict[str, Any], decoded: list[str]) -> list[Part]:
    reference = found["reference"]
    made: list[Part] = [Heading("Beside its source"), Paragraph(f"Its root mean square error is {found['error']:g}.")]
    columns = [found["weights"], decoded, *([reference["weights"]] if reference else [])]
    head = ("weight", "source", "file", *(["reference"] if reference else []))
    rows = [(str(j), *values) for j, values in enumerate(zip(*columns, strict=True))]
    if reference and not reference["kinds"]:
        made.append(Paragraph("It is what the reference writes."))
    elif reference:
        made.append(Paragraph(f"{reference['why']} The reference's block has an error of {reference['error']:g}."))
        made.append(_numbers(reference["numbers"]))
    made.append(Fold("Weight by weight", [Table(head, rows, right=range(len(head)))]))
    return [*made, *search_parts(found.get("search"))]


# TWO QUANTIZATIONS


def _compared(e: dict[str, Any]) -> list[Part]:
    found = e["compared"]
    intro: list[Part] = [
        Heading("Beside another quantization"),
        Paragraph(f"{found['file']} has it as {found['format']}."),
    ]
    return [*intro, *(_weights_compared(e, found) if "weights" in found else _whole_compared(e, found))]


def _weights_compared(e: dict[str, Any], found: dict[str, Any]) -> list[Part]:
    pairs = enumerate(zip(*found["weights"], strict=True))
    rows = [(str(j), f"{a:.6g}", f"{b:.6g}", f"{b - a:.3g}") for j, (a, b) in pairs]
    head = ("weight", e["format"], found["format"], "difference")
    table = Table(head, rows[:FEW], right=range(4))
    return [table, Fold("All of them", [Table(head, rows, right=range(4))])] if len(rows) > FEW else [table]


def _whole_compared(e: dict[str, Any], found: dict[str, Any]) -> list[Part]:
    cells = found["cells"]["relative_difference"]
    says = "The difference relative to the weights, from the first row to the last."
    rows = [_summary(one["format"], one["survey"], one["errors"]) for one in (e, found)]
    head = ("format", "bits per weight", "root mean square", "exactly 0", "middle step", "entropy of codes", "error")
    return [
        Paragraph(f"The weights of the two differ by {100 * found['relative_difference']:.4g} % of their size; their "
                  f"correlation is {found['correlation']:.6g}."),
        Table(head, rows, right=range(1, len(head))),
        Picture(lambda: charts.lines((("relative difference", cells),), len(cells) - 1, "cell", says), says,
                charts.spark(cells)),
    ]  # fmt: skip


def _summary(name: str, s: dict[str, Any], errors: dict[str, Any] | None) -> tuple[str, ...]:
    codes = next((use for use in s["codes"] if use["kind"] in ("code", "row", "digits")), None)
    return (
        name, f"{s['bits_per_weight']:g}", f"{s['root_mean_square']:.5g}", f"{100 * s['zero_share']:.3g} %",
        f"{s['steps']['50 %']:.4g}" if s["steps"] else "-",
        f"{codes['entropy']:.3g} of {codes['bits']}" if codes else "-",
        f"{100 * errors['relative_error']:.4g} %" if errors else "-",
    )  # fmt: skip
