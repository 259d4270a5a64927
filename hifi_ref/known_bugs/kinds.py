"""The classes of bugs: what goes wrong, and where it was seen in real implementations."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    says: str
    seen: tuple[str, ...] = ()


_GITHUB = "https://github.com/"


def _kind(says: str, *seen: str) -> Kind:
    return Kind(says, tuple(_GITHUB + place for place in seen))


KINDS: dict[str, Kind] = {
    "nibble order": _kind(
        "Codes of 4 bits are taken for other weights than they stand for: a run of bytes holds first all low nibbles, "
        "then all high ones.",
        "kekzl/imp/pull/567", "kekzl/imp/pull/722", "paiml/aprender/pull/2127", "1bit-MONSTER/1bit-MONSTER/pull/572",
    ),
    "bit order": _kind(
        "Codes of 1, 2 or 3 bits are taken for other weights: some formats keep neighbours in one byte, others spread "
        "them over the bytes of a run.",
        "ModelCloud/GPTQModel/pull/3058", "paiml/aprender/pull/1924", "intel/auto-round/issues/602",
        "SKaiNET-developers/SKaiNET/pull/1080",
    ),
    "high-bit plane": _kind(
        "The high bits of codes, kept apart from the low ones, are taken for other weights or with the wrong sense.",
        "paiml/aprender/pull/1621", "paiml/aprender/pull/2115", "paiml/aprender/pull/2127",
    ),
    "packed scales": _kind(
        "Scales of less than a byte, packed together, are taken apart in a wrong way.",
        "paiml/aprender/pull/2141", "paiml/aprender/pull/2115", "ggml-org/llama.cpp/pull/15862",
        "cisco-ai-defense/defenseclaw/pull/679",
    ),
    "sign of min": _kind("The min is added where it is to be subtracted, or the other way round, or left out."),
    "field order": _kind(
        "A field is looked for at the place of another, as in the block of a similar format.",
        "ml-explore/mlx/pull/3664", "openvinotoolkit/openvino.genai/pull/2563",
    ),
    "byte order": _kind("Numbers of two or four bytes are read with the high byte first."),
    "offset of codes": _kind(
        "Codes that are kept with an offset are taken for two's complement, or signed numbers for unsigned ones.",
        "1bit-MONSTER/1bit-MONSTER/pull/572", "pytorch/FBGEMM/pull/5705",
    ),
    "f16 conversion": _kind(
        "The f16 scale is widened or narrowed in a wrong way: subnormals lost or halved, infinities and NaN made "
        "numbers, rounded towards zero, or taken for a bfloat16.",
        "tenstorrent/tt-metal/issues/48264", "paiml/aprender/pull/2073", "invergent-ai/surogate/issues/162",
        "1bit-MONSTER/1bit-MONSTER/issues/473",
    ),
    "bf16 conversion": _kind(
        "bfloat16 is cut off or rounded half up, not half to even; or its subnormals are lost.",
        "groonga/groonga/pull/2961", "1bit-MONSTER/1bit-MONSTER/issues/640", "ggml-org/llama.cpp/pull/7843",
    ),
    "flush to zero": _kind("Weights that are subnormal binary32 numbers become zero."),
    "half precision": _kind("Weights are computed or returned in binary16, or sums are kept in it."),
    "code table": _kind(
        "A table of steps or a grid holds a wrong value, or a row number loses its high bits.",
        "vllm-project/vllm-gguf-plugin/issues/129", "chu-tianxiang/llama-cpp-torch/issues/4",
    ),
    "sign codes": _kind("The signs of a group are taken in reverse order, inverted, or with a wrong eighth sign."),
    "shift of the grid": _kind("The eighth that is added to a row of the IQ1 grid is left out or has the wrong sign."),
    "ternary digits": _kind(
        "Base-3 digits are taken from the wrong end or by division, though a byte holds a fraction of 256.",
        "SKaiNET-developers/SKaiNET/pull/1080", "gittensor-ai-lab/sparkinfer/pull/1124",
    ),
    "E8M0 special": _kind(
        "The power of two of MXFP4 is wrong by a factor of two, or at its ends: bytes 0 and 1 are subnormal numbers, "
        "and byte 255 is one more power of two, though the standard calls it NaN.",
        "NVIDIA/TransformerEngine/pull/3262", "tinygrad/tinygrad/pull/14850", "1CatAI/1Cat-vLLM/pull/222",
    ),
    "UE4M3 special": _kind(
        "The scale of NVFP4 is wrong where it is subnormal, where its byte is 0x7F, or where its top bit is set.",
        "local-inference-lab/b12x/pull/388", "vllm-project/vllm/pull/47315",
    ),
    "sign of zero": _kind("A zero has the other sign.", "almide/almide/pull/1377"),
    "rounding": _kind(
        "Ties, or what lies next to them, are rounded in another way: half to even, half away from zero and half up "
        "differ, and adding 0.5 to 0.49999997 gives 1.",
        "ModelCloud/GPTQModel/pull/3058", "ROCm/aiter/pull/3992",
    ),
    "scale": _kind("The scale is computed in another way: from another weight, with another divisor, or without "
                   "search."),
    "narrowed first": _kind("Codes are rounded with the scale as it is stored, though the reference uses it as it "
                            "was."),
    "reciprocal": _kind("Weights are divided by the scale, though the reference multiplies them by its inverse."),
    "stride": _kind("The second block of a row, or the second row, is taken from a wrong place, or with what was the "
                    "first one's."),
    "importance": _kind("The importance row is left out, or does not count as it should."),
    "fused multiply-add": _kind(
        "A multiplication and an addition round once, not twice: what arm64 builds do, and other compilers may.",
        "ggml-org/llama.cpp/pull/25353",
    ),
    "order of additions": _kind("Float sums are added in another order, or in another precision."),
    "integer overflow": _kind(
        "Sums of products of codes are kept in too few bits, wrap around or saturate.",
        "ikawrakow/ik_llama.cpp/pull/427", "ikawrakow/ik_llama.cpp/pull/137", "ggml-org/llama.cpp/pull/986",
    ),
    "activation -128": _kind(
        "The code -128 is negated in 8 bits and stays -128.", "ggml-org/ggml/issues/1393"
    ),
    "activation sums": _kind("The stored sums of the activations are taken for others, scaled twice, or left out."),
    "quirk of the release": _kind(
        "What the release does there looks like an oversight, and the implementation does what was probably meant."
    ),
}  # fmt: skip
