"""What a format is, down to each bit: computed from its LAYOUT, its definition and real runs.

places       where each number lies;  byte_map, byte_words   the same as runs of bytes, and in words
effects      what flipping a bit does
steps        a block decoded by hand; worked  the block that is decoded so
levels       between which values a weight can choose
family       families and history;    facts.json   errors, and which vector catches which bug
search       how encoders search;     files   tensors and blocks of a file
explained    all of this as data;     page   the data as parts;  parts   their three renderings
svg          pieces of pictures;      drawings   the pictures of bytes
"""
