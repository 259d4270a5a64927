"""A complete consumer of the golden vectors in plain Python: decodes Q4_0, Q8_0, Q4_K and IQ3_S.

    python golden/examples/consume.py [FOLDER]

FOLDER is golden/llama.cpp by default. Exit code 0: all bits agree; 1: some do not.
"""

import json
import math
import struct
import sys
from pathlib import Path

GRIDS = json.loads((Path(__file__).parent.parent / "grids.json").read_text())

# THE IMPLEMENTATION UNDER TEST. Python's floats are binary64, so each result is rounded to binary32 by f32.


def f32(x):
    try:
        return struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def f16(block, at):
    return struct.unpack_from("<e", block, at)[0]


def decode_q4_0(block):
    d, qs = f16(block, 0), block[2:18]
    codes = [byte & 15 for byte in qs] + [byte >> 4 for byte in qs]
    return [f32(d * (code - 8)) for code in codes]


def decode_q8_0(block):
    d = f16(block, 0)
    return [f32(d * code) for code in struct.unpack_from("<32b", block, 2)]


def decode_q4_k(block):
    d, dmin, packed, qs = f16(block, 0), f16(block, 2), block[4:16], block[16:144]
    weights = []
    for s in range(8):
        if s < 4:
            scale, minimum = packed[s] & 63, packed[s + 4] & 63
        else:
            scale = packed[s + 4] & 15 | packed[s - 4] >> 6 << 4
            minimum = packed[s + 4] >> 4 | packed[s] >> 6 << 4
        for byte in qs[32 * (s // 2) : 32 * (s // 2) + 32]:
            code = byte >> 4 if s % 2 else byte & 15
            # Both products are exact in binary32, so that the difference is the only rounding.
            weights.append(f32(d * scale * code - dmin * minimum))
    return weights


def number(block, entry):
    """A number that is packed in a block, by the triples byte, shift, width of grids.json."""
    value = at = 0
    for byte, shift, width in zip(*[iter(entry)] * 3, strict=True):
        value |= (block[byte] >> shift & (1 << width) - 1) << at
        at += width
    return value


def decode_iq3_s(block):
    d = f16(block, 0)
    places = GRIDS["formats"]["IQ3_S"]["numbers"]
    rows, signs, scales = ([number(block, entry) for entry in places[kind]] for kind in ("row", "sign", "scale"))
    magnitudes = [magnitude for row in rows for magnitude in GRIDS["grids"]["IQ3_S"]["table"][row]]
    # A sign byte serves 8 weights, a scale 32.
    signed = [-m if signs[i // 8] >> i % 8 & 1 else m for i, m in enumerate(magnitudes)]
    return [f32(d * (2 * scales[i // 32] + 1) * m) for i, m in enumerate(signed)]


DECODERS = {"Q4_0": decode_q4_0, "Q8_0": decode_q8_0, "Q4_K": decode_q4_k, "IQ3_S": decode_iq3_s}


# THE CONFORMANCE TEST


def same(value, expected):
    """Equal bits, so that -0 is not +0; any NaN is right where a NaN is expected."""
    return value.hex() == expected.hex() or (value != value and expected != expected)


def failures(content, decode):
    """The tests of one file that a decoder of one block fails."""
    size, failed, count = content["type_size"], [], 0
    for group in content["groups"]:
        for test in group["tests"]:
            count += 1
            blocks, expected = bytes.fromhex(test["blocks"]), bytes.fromhex(test["expected"])
            values = [value for i in range(0, len(blocks), size) for value in decode(blocks[i : i + size])]
            wanted = struct.unpack(f"<{len(expected) // 4}f", expected)
            wrong = [i for i, pair in enumerate(zip(values, wanted, strict=False)) if not same(*pair)]
            if wrong or len(values) != len(wanted):
                failed.append((group["name"], test, wrong))
    return failed, count


def main(folder):
    bad = 0
    for name, decode in DECODERS.items():
        content = json.loads((Path(folder) / f"{name}.decode.json").read_text())
        failed, count = failures(content, decode)
        print(f"{name} decode: {count - len(failed)} of {count} tests agree")
        for group, test, wrong in failed[:3]:
            print(f"  test {test['id']} ({group}): {len(wrong)} weights differ, the first is number {wrong[:1]}")
            for flag in test["flags"]:
                print(f"    {flag}: {content['notes'][flag]['description']}")
        bad += len(failed)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "llama.cpp"))
