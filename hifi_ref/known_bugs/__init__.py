"""Wrong implementations of the formats, each with a bug that real ones have had or nearly had.

The golden vectors must tell every one of them from the reference (python -m golden.mutants), and a foreign
implementation that goes wrong can be compared with them to name its fault.

>>> from hifi_ref.known_bugs import bugs_of
>>> print(bugs_of("Q4_0", "decode")[0].says)
Takes the high nibble of a byte for the earlier weight.

    bug              what a bug is, and how a misreading of blocks makes one of each operation
    kinds            the classes of bugs, and where they were seen
    moves            changes of bytes;         misread_codes, misread_scales   the bugs made of them
    decoded_values   f16 scales and values;    decoded_tables                  4-bit floats, grids, digits
    rounding         wrong roundings;          encoded_codes, encoded_floats, encoded_blocks, encoded_high_bits
    dot_terms        a dot product's parts;    dot_sums, dot_integers, dot_mins, dot_floats   the bugs made of them
    spanning         what shows in the second block or row alone
    hifi             the formats of the HIFI fork, a list of their own
"""

from __future__ import annotations

from hifi_ref.known_bugs import (
    decoded_tables,
    decoded_values,
    dot_floats,
    dot_integers,
    dot_mins,
    dot_sums,
    encoded_blocks,
    encoded_codes,
    encoded_floats,
    encoded_high_bits,
    misread_codes,
    misread_scales,
    spanning,
)
from hifi_ref.known_bugs.bug import Bug
from hifi_ref.known_bugs.kinds import KINDS, Kind

__all__ = ["BUGS", "KINDS", "Bug", "Kind", "bugs_of"]

BUGS: tuple[Bug, ...] = (
    *misread_codes.bugs(),
    *misread_scales.bugs(),
    *decoded_values.bugs(),
    *decoded_tables.bugs(),
    *encoded_blocks.bugs(),
    *encoded_codes.bugs(),
    *encoded_floats.bugs(),
    *encoded_high_bits.bugs(),
    *dot_sums.bugs(),
    *dot_integers.bugs(),
    *dot_mins.bugs(),
    *dot_floats.bugs(),
    *spanning.bugs(),
)


def bugs_of(format: str, operation: str) -> list[Bug]:
    """The known bugs of one operation of one format."""
    return [bug for bug in BUGS if (bug.format, bug.operation) == (format, operation)]
