"""How each format packs its numbers, in words: grids.json says the same as data."""

from __future__ import annotations

# A paragraph for each format whose packing takes more words than its table of bytes has room for.
TEXT = """
Q2_K: A byte for each 16 weights: its scale in the low nibble, its min in the high one.

Q3_K: Sixteen scales of 6 bits, each stored plus 32, in twelve bytes from byte 96 on. For j in 0..7: byte 96 + j has
the low four bits of scale j in its low nibble and those of scale j + 8 in its high nibble. Bits 2k and 2k + 1 of
byte 104 + i are the top two bits of scale 4 k + i, for i and k in 0..3. The high bit of a code is stored so that 0
means minus 4.

Q4_K Q5_K: Eight scales and eight mins of 6 bits in twelve bytes from byte 4 on. For j in 0..3: byte 4 + j has scale
j in bits 0-5 and the top two bits of scale j + 4 in bits 6-7; byte 8 + j has min j in bits 0-5 and the top two bits
of min j + 4 in bits 6-7; byte 12 + j has the low four bits of scale j + 4 in its low nibble and those of min j + 4
in its high nibble.

Q6_K: The sixteen scales are signed bytes.

IQ1_S: A 16-bit word for each 32 weights: the top three bits of four row numbers in bits 0-11, the first lowest; the
scale in bits 12-14; bit 15 is set where delta is -1/8, and clear where it is 1/8.

IQ1_M: A nibble for each 8 weights from byte 32 on, the low one first: the top three bits of the row number, then a
bit that is set where delta is -1/8. Four 16-bit words from byte 48 on: four 3-bit scales in bits 0-11, lowest
first, and in bits 12-15 a nibble of d, the first word's lowest: the four nibbles are one binary16.

IQ2_XXS: Eight bytes for each 32 weights: four row numbers, a byte each, then a little-endian 32-bit word for each
32 weights: four 7-bit sign codes, lowest first, and the scale in its top four bits. A sign code is a row of the
table signs.

IQ2_XS: A 16-bit word for each 8 weights: the row number in bits 0-8, the sign code in bits 9-15. A sign code is a
row of the table signs. A byte for each 32 weights: the scale of the first 16 in its low nibble.

IQ2_S: The low eight bits of 32 row numbers, then 32 sign bytes, bit j of which is set where weight j of the eight
is negative; then the top two bits of the row numbers, four a byte, the first lowest; then the scales of 16 weights
each, the first in the low nibble.

IQ3_XXS: 64 row numbers of 4 weights each, a byte each; then a little-endian 32-bit word for each 32 weights: four
7-bit sign codes, lowest first, and the scale in its top four bits. A sign code is a row of the table signs.

IQ3_S: The low eight bits of 64 row numbers of 4 weights each; then their top bits, eight a byte, the first lowest;
then 32 sign bytes, bit j of which is set where weight j of the eight is negative; then the scales of 32 weights
each, the first in the low nibble.

IQ4_XS: Eight scales of 6 bits, each stored plus 32: the top two bits in the 16-bit word at byte 2, the first
lowest; the low four bits from byte 4 on, two a byte, the first in the low nibble.

TQ1_0: A byte holds ceil(n * 256 / 243), where n is a number of five ternary digits, the first most significant; in
bytes 48-51 the fifth is none. Digit k of a byte b is ((b * 3^k mod 256) * 3) >> 8. Byte m of the first 32 holds the
weights m + 32 k; byte 32 + m of the next 16 the weights 160 + m + 16 k; byte 48 + m of the last 4 the weights 240 +
m + 4 k.

MXFP4: The scale e is a biased exponent: 2^(e - 128) times a step, also for e = 0 and e = 255.

NVFP4: A byte for the scale of each 16 weights; half of its value is a row of the table ue4m3_halves.
"""

PLACES = """
places has an entry for each number of a block, in the order of the weights. An entry is a list of triples byte,
shift, width, the number's lowest bits first: the next width bits of the number are (block[byte] >> shift) & ((1 <<
width) - 1). In a field of type i8 a number is signed. Of the formulas q is called code here, index row, and delta
shift; numbers are as they are stored, without what a formula subtracts.
"""


def packed() -> dict[str, str]:
    """Format -> how its numbers are packed."""
    words = {}
    for paragraph in TEXT.strip().split("\n\n"):
        names, _, says = paragraph.partition(":")
        words |= dict.fromkeys(names.split(), " ".join(says.split()))
    return words


def places() -> str:
    """How grids.json says where a number lies."""
    return " ".join(PLACES.split())
