"""`python -m golden.redundant FORMAT.OPERATION` names vectors that kill and cover nothing of their own.

Every known and every derived bug runs over all vectors of the cell. A vector is needed where it alone kills one, as
conform counts, or alone has a flag, or alone reaches a byte's value, a bit of a field or a number at its place, or
alone holds a tie of one of the definition's roundings (ties.py). From the last to the first, one that is not needed
beside those that are left is named.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np

from golden import derived, judge, places, ties
from hifi_ref.conform import cases
from hifi_ref.conform import judge as conform
from hifi_ref.formats import FORMATS, Format
from hifi_ref.known_bugs import BUGS
from hifi_ref.known_bugs.derived import derived_bugs

Items = dict[str, set[Hashable]]  # id of a test -> what it has


def redundant(items: Items) -> list[str]:
    """The ids that can go together: from the last on, whatever has nothing that the others left do not have."""
    count = Counter(item for of in items.values() for item in of)
    gone = []
    for id, of in reversed(items.items()):
        if all(count[item] > 1 for item in of):
            gone.append(id)
            count.subtract(of)
    return gone


def items_of(format: str, operation: str) -> Items:
    """What each vector of a cell kills and covers."""
    content = judge.load(format, operation)
    items: Items = {test["id"]: set(test["flags"]) for test in judge.all_tests(content)}
    for id, item in (*_killed(content), *_covered(FORMATS[format], content), *_ties(content)):
        items[id].add(item)
    return items


def _killed(content: dict[str, Any]) -> Iterator[tuple[str, Hashable]]:
    format, operation = content["format"], content["operation"]
    suite = cases.read_suite(judge.HERE / judge.DIALECT / f"{format}.{operation}.json")
    case_of = {case.id: case for case in suite.cases}
    named = [bug for bug in BUGS if (bug.format, bug.operation) == (format, operation)]
    for bug in (*named, *derived_bugs(format, operation)):
        one_by_one = bug.spans or (bug in named and operation == "encode")
        for tests in judge.batches(content, 1 if one_by_one else 1 << 30):
            try:
                result = np.ascontiguousarray(judge.observed(content, tests, bug.run))
                result = result if operation == "encode" else result.astype(np.float32)
                same = judge.agrees(result, tests)
            except derived.ERRORS:
                break
            for i in np.flatnonzero(~same):
                case = case_of[tests[i]["id"]]
                if conform.compare(suite, case, result[i].view(np.uint8)).outcome in conform.FAILED:
                    yield case.id, bug.name


def _covered(f: Format, content: dict[str, Any]) -> Iterator[tuple[str, Hashable]]:
    """Bits both ways, bytes and numbers of the blocks that are decoded, multiplied or expected."""
    key = {"decode": "blocks", "encode": "expected", "dot": "w"}[content["operation"]]
    for test in judge.all_tests(content):
        blocks = judge.raw(test[key]).reshape(-1, f.type_size)
        for at, bits in enumerate(np.unpackbits(blocks, axis=1).T):
            yield from ((test["id"], ("bit", at, int(bit))) for bit in np.unique(bits))
        for field in f.layout.fields:
            part = blocks[:, f.layout.span(field.name)]
            yield from ((test["id"], (field.name, int(byte))) for byte in np.unique(part))
        for kind, numbers in places.read(f.name, blocks).items():
            for place, values in enumerate(numbers.T):
                yield from ((test["id"], (kind, place, int(value))) for value in np.unique(values))


def _ties(content: dict[str, Any]) -> Iterator[tuple[str, Hashable]]:
    tests = judge.all_tests(content)
    met = ties.met_by_each(content["format"], content["operation"], ties.given(content, ([test] for test in tests)))
    for test, sites in zip(tests, met, strict=True):
        for site, found in sites.items():
            yield from ((test["id"], (site.name, *tie)) for tie in found if tie[0] in ties.SIDES)


def main(cells: list[str]) -> int:
    for cell in cells:
        items = items_of(*cell.split("."))
        gone = redundant(items)
        print(f"{cell}: {len(gone)} of {len(items)} vectors could go", flush=True)
        for id in gone:
            print(f"    {id}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
