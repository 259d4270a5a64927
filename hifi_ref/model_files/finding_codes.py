"""What `check` can find: one table of codes. A code never changes its meaning; new ones end their letter's list."""

from __future__ import annotations

from dataclasses import dataclass

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Code:
    """One kind of finding.

    An error means a file that is broken, that llama.cpp does not load, or that is not what its source gives; a warning
    one that no reference tool writes, or that the reference writes otherwise; a note something worth knowing.
    """

    severity: str
    title: str
    means: str
    advice: str


_COPY = "Fetch the file again, and compare its size and SHA-256 with the publisher's."
_SHARDS = "Fetch all shards of one revision again, under the names that they were published with."
_CONVERT = "Convert the model again with a current llama.cpp, and report it to the author of the tool used."
_WRITER = "Write the file again with a current llama.cpp or gguf-py, and report it to the author of the tool used."

CODES: dict[str, Code] = {
    "G001": Code("error", "file ends early", "The header, the metadata or the tensor list is cut off.", _COPY),
    "G002": Code(
        "error",
        "unsupported version",
        "GGUF versions 2 and 3 are defined; this file states another.",
        "Convert the model again with a current llama.cpp; version 1 has not been read since 2023.",
    ),
    "G003": Code("error", "impossible count", "More entries, characters or elements than the file could hold.", _COPY),
    "G004": Code("error", "bad metadata key", "A metadata key is empty or holds a NUL byte.", _WRITER),
    "G005": Code("error", "duplicate metadata key", "Two metadata entries have the same key.", _WRITER),
    "G006": Code("error", "bad metadata value", "A value's type is unknown, or not the one its key requires.", _WRITER),
    "G007": Code("error", "bad alignment", "general.alignment is not a power of two stored as u32.", _WRITER),
    "G008": Code(
        "error",
        "bad tensor name",
        "A tensor name is 64 bytes or longer, or holds a NUL byte.",
        "Rename the tensor: ggml keeps names as C strings of at most 63 bytes.",
    ),
    "G009": Code("error", "duplicate tensor name", "Two tensors have the same name.", _WRITER),
    "G010": Code("error", "bad dimensions", "A tensor has more than 4 dimensions, or a negative one.", _COPY),
    "G011": Code("error", "size overflow", "A tensor's number of elements or bytes does not fit in 63 bits.", _COPY),
    "G012": Code(
        "error",
        "unknown tensor type",
        "A tensor's type id stands for no block format known here.",
        "If the file is newer than this release, or of a fork, use a release that knows the type.",
    ),
    "G013": Code(
        "error",
        "removed tensor type",
        "A tensor's type once existed and is read by no current llama.cpp.",
        "Quantize the model again from its original weights; Q4_0 and IQ4_NL are now repacked while loading.",
    ),
    "G014": Code(
        "error",
        "row is not whole blocks",
        "A tensor's row length is no multiple of its type's block size.",
        _WRITER,
    ),
    "G015": Code("error", "misaligned tensor", "A tensor's offset is no multiple of the alignment.", _WRITER),
    "G016": Code("error", "overlapping tensors", "Two tensors claim the same bytes.", _WRITER),
    "G017": Code(
        "error",
        "tensor out of place",
        "A tensor does not start where the one before it ends, padded.",
        _WRITER,
    ),
    "G018": Code("error", "tensor data cut off", "A tensor's bytes lie partly or wholly past the file's end.", _COPY),
    "G019": Code(
        "warning",
        "last padding missing",
        "The file ends before the padding that closes its last tensor.",
        "Readers that load the data section in one piece reject the file: write it again, or append zero bytes.",
    ),
    "G020": Code("warning", "trailing bytes", "Bytes follow the last tensor that belong to nothing.", _COPY),
    "G021": Code(
        "warning",
        "file type does not fit",
        "general.file_type names no mixture, or one named after a type that no tensor has.",
        "Go by the table of types; correct general.file_type with the tool gguf-set-metadata of the gguf package.",
    ),
    "G022": Code("warning", "empty tensor", "A tensor has a dimension of 0 and holds nothing.", _WRITER),
    "G023": Code(
        "warning",
        "unprintable name",
        "A key or tensor name holds control characters or is not UTF-8.",
        _WRITER,
    ),
    "G024": Code("warning", "bool is neither 0 nor 1", "A metadata bool holds another byte.", _WRITER),
    "G025": Code(
        "note",
        "a mixture of its own",
        "Types are not those that llama-quantize v0.5.0 chooses under the name of general.file_type.",
        "Nothing, where its publisher chose them so; other releases of llama.cpp chose otherwise, too.",
    ),
    "P001": Code(
        "error",
        "non-finite scale",
        "A block's scale is NaN or infinite, and so is every weight of it.",
        "Quantize the model again: the source weights or the importance matrix hold NaN, or the file was damaged.",
    ),
    "P002": Code(
        "error",
        "non-finite weight",
        "An unquantized weight is NaN or infinite.",
        "Convert the model again; weights beyond 65504 become infinite in F16, so use BF16 or F32.",
    ),
    "P003": Code(
        "error",
        "exponent byte 255",
        "An E8M0 scale is 255, which is NaN; llama.cpp refuses the tensor.",
        "Quantize the model again; the reference encoder writes it for blocks whose largest weight is near 1e-38.",
    ),
    "P004": Code(
        "error",
        "scale byte is NaN",
        "A UE4M3 scale is 0x7F or 0xFF, NaN in E4M3; decoders disagree on its value.",
        "Quantize or convert the model again, with scales of at most 448.",
    ),
    "P005": Code(
        "warning",
        "code that no encoder writes",
        "Legal bytes that this format's reference encoder never makes.",
        "Ask which tool wrote the tensor: decoders that rely on the reference's range may go wrong here.",
    ),
    "P006": Code("warning", "padding is not zero", "Bytes between tensors, which nothing reads, are not zero.", _COPY),
    "P007": Code(
        "error",
        "impossible count",
        "A block counts more outliers than it has room for; decoders read beyond them.",
        "Quantize the model again: no encoder writes such a count.",
    ),
    "S001": Code("error", "shard missing", "A model in several files lacks one.", "Fetch all shards of one revision."),
    "S002": Code("error", "shard twice", "Two files of a model say that they are the same shard.", _SHARDS),
    "S003": Code(
        "error",
        "shard out of place",
        "A file is another shard than its name says, by which llama.cpp finds it.",
        _SHARDS,
    ),
    "S004": Code("warning", "shards of two builds", "Shards of one model contradict each other.", _SHARDS),
    "S005": Code("error", "tensors of a shard lost", "All shards hold another number of tensors than stated.", _SHARDS),
    "S006": Code("error", "tensor in two shards", "Two shards of a model hold the same tensor.", _SHARDS),
    "S007": Code("error", "not marked as a shard", "A file with a shard's name does not say which it is.", _SHARDS),
    "P008": Code("error", "no data at all", "Every byte of every tensor is zero: none of it was ever written.", _COPY),
    "P009": Code(
        "error",
        "lost pages",
        "A tensor holds one value from the edge of a page to the edge of a page, through rows and blocks.",
        _COPY,
    ),
    "P010": Code(
        "error",
        "pages written twice",
        "Pages of a tensor stand in the file a second time, where other weights belong.",
        _COPY,
    ),
    "P011": Code(
        "error",
        "weight beyond all measure",
        "A weight of a matrix or a norm is larger than 10^12, as a flipped bit of its exponent makes it.",
        _COPY,
    ),
    "P012": Code(
        "warning",
        "scale far above the others",
        "A few scales, or floats, are a thousand times nearly all others of their tensor, as flipped bits make them.",
        _COPY,
    ),
    "P013": Code(
        "warning",
        "sign that the others lack",
        "A few scales are negative, which the format's encoder never writes, and the others are not.",
        _COPY,
    ),
    "P014": Code(
        "error",
        "needed tensor is zero",
        "Every weight of the embedding, of the output or of the last norm is zero, so that all answers are the same.",
        "Fetch the file again; where it is the publisher's, its weights were too small for the format's scales.",
    ),
    "P015": Code(
        "warning",
        "norm is zero",
        "Every weight of a norm is zero, so that what follows it in its layer is switched off.",
        "Fetch or convert the file again, unless the layer was switched off on purpose.",
    ),
    "P016": Code(
        "warning",
        "copy of another tensor",
        "A matrix holds the bytes of another one, and nothing else of the two layers is alike.",
        "Fetch or convert the file again, unless the two share their weights on purpose.",
    ),
    "D001": Code(
        "warning",
        "type ids of a fork",
        "The file's type ids are a fork's: other readers fail on it, or take its tensors for something else.",
        "Use it with the fork that is named. Where you know the fork, name it with --dialect.",
    ),
    "D002": Code(
        "error",
        "ambiguous type ids",
        "Several dialects fit the file that mean different formats by its type ids.",
        "Say with --dialect which program wrote the file; --help lists the dialects.",
    ),
    "D003": Code(
        "warning",
        "format not defined here",
        "A fork's format of which only the size is known: the tensor's blocks were not looked at.",
        "Judge the tensor by its fork's own tools.",
    ),
    "E001": Code(
        "error",
        "other weights",
        "The tensor's weights are not the source's: its error is far above what its format costs.",
        "Compare the source's revision with the model card; a fine-tuned or merged model needs its own source.",
    ),
    "E002": Code(
        "warning",
        "another arithmetic",
        "A few blocks differ and are as good, as builds that fuse multiply-adds write them; those known are named.",
        "Nothing is wrong with it. Ask for the build by --profile, or quantize on x86-64 for the reference's bits.",
    ),
    "E003": Code(
        "warning",
        "another encoder",
        "The tensor approximates the source, but the reference encoder writes other blocks.",
        "If an importance matrix was used, give it with --imatrix; else ask which program wrote the tensor.",
    ),
    "E004": Code(
        "warning",
        "importance not used",
        "The tensor was written without the importance matrix that was given.",
        "Give the matrix that was used, or quantize again with it.",
    ),
    "E005": Code(
        "warning",
        "rows in another order",
        "The tensor holds the source's rows in the other of the two orders that rotary embeddings use.",
        "Convert the model again: with the wrong order attention is wrong, unless the metadata say otherwise.",
    ),
    "E006": Code(
        "warning",
        "not in the source",
        "The source has no tensor of this name, so it was not compared.",
        "Give the source that holds it; a converter may have made it from others.",
    ),
    "E007": Code("warning", "left out", "The source has a tensor that the file lacks.", "Ask why it was left out."),
    "E008": Code(
        "error",
        "another shape",
        "The tensor has another shape than in the source.",
        "Compare the source's revision with the model card.",
    ),
    "E009": Code(
        "warning",
        "not judged",
        "What the reference encoder would have written cannot be known from what was given.",
        "Give the importance matrix with --imatrix, or a source that says all: finite, with its config.json.",
    ),
    "E010": Code(
        "error",
        "changed blocks",
        "Nearly all blocks are the reference's, but some were changed, as damage or patching does.",
        _COPY,
    ),
    "E011": Code(
        "warning",
        "rounded first",
        "The tensor is what the reference writes from the source's weights rounded to another float.",
        "Quantize from the source itself; F16 loses what lies beyond 65504 or below 6e-8.",
    ),
    "E012": Code(
        "error",
        "importance of another model",
        "The importance matrix names none of the file's tensors, so it was not used.",
        "Give the matrix that was made of this model.",
    ),
    "E013": Code(
        "error",
        "importance of another width",
        "The importance matrix has another number of values than the tensor has columns; llama-quantize refuses it.",
        "Give the matrix that was made of this model.",
    ),
    "E014": Code(
        "error",
        "other hyper-parameters",
        "Metadata that llama.cpp computes or tokenizes by are not the source's: the same weights give other answers.",
        "Ask who changed them, and why; quantize the source again, without --override-kv.",
    ),
    "E015": Code(
        "warning",
        "another chat template",
        "The chat template is not the source's: the model is asked otherwise than its makers meant.",
        "Read both templates; corrected ones are common.",
    ),
    "E016": Code(
        "note",
        "other descriptions",
        "Metadata that only describe the model are not the source's.",
        "Nothing is wrong with it.",
    ),
    # Whether llama.cpp loads it: errors say that it will not.
    # fmt: off
    "L001": Code(
        "error",
        "not a model of this release",
        "llama.cpp knows no such architecture, or shards are missing.",
        "Use a llama.cpp that knows the architecture; fetch all shards of one revision.",
    ),
    "L002": Code("error", "key missing or of another type", "llama.cpp refuses the metadata of a model so.", _CONVERT),
    "L003": Code("error", "numbers that do not fit", "llama.cpp refuses hyper-parameters that conflict.", _CONVERT),
    "L004": Code("error", "tensor missing", "llama.cpp refuses a model without a tensor that it asks for.", _CONVERT),
    "L005": Code("error", "wrong shape or type", "llama.cpp refuses another shape than the metadata say.", _CONVERT),
    "L006": Code(
        "error", "tensor too many", "llama.cpp refuses a model with a tensor that it does not ask for.", _CONVERT
    ),
    "L007": Code("error", "tokenizer", "llama.cpp refuses a vocabulary that is incomplete or unknown.", _CONVERT),
    "L008": Code(
        "warning",
        "chat template",
        "It is no UTF-8 or no Jinja: the model loads, and programs that chat fail.",
        "Correct tokenizer.chat_template.",
    ),
    "L009": Code(
        "warning", "passed over by the tokenizer", "A token's id, or a list's end, is beyond the vocabulary.", _CONVERT
    ),
    "L010": Code(
        "note",
        "loading not judged",
        "Whether llama.cpp loads it cannot be told: no rule covers it.",
        "Load it with llama.cpp.",
    ),
    "L011": Code(
        "warning",
        "doubtful number",
        "A hyper-parameter makes no sense: the model loads, and computes nonsense.",
        _CONVERT,
    ),
    "L012": Code(
        "note",
        "no model",
        "An adapter, projector, control vector, importance matrix or bare vocabulary.",
        "Give it to the option that is named.",
    ),
    # fmt: on
}


def code_table() -> str:
    """Every code with its severity, title and meaning, as `--help` prints it."""
    return "\n".join(f"  {code}  {entry.severity:<7}  {entry.title}: {entry.means}" for code, entry in CODES.items())
