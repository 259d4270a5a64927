"""The flags, and what they ask for: recipes, each a name and the function that plans its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from absl import flags

from hifi_ref.commands import command_line
from hifi_ref.commands.command_line import UsageError
from hifi_ref.formats import FORMATS, builds
from hifi_ref.mixtures import llama_quantize
from hifi_ref.mixtures.assignments import MEASURED, RULES, Assignment
from hifi_ref.mixtures.hifi import FORK_FILE_TYPES
from hifi_ref.mixtures.roadmaps import ROADMAP
from hifi_ref.model_files.files import name_of
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.model_files.models import SHARD
from hifi_ref.quantize import assignment_file, budget
from hifi_ref.quantize.as_released import COPY, as_released, check_source
from hifi_ref.quantize.assigned import Job, Limit, assigned, by_rule
from hifi_ref.quantize.choices import Choice, a_mix, as_the_fork, but, one_format
from hifi_ref.quantize.importance import Importance
from hifi_ref.quantize.in_formats import in_formats
from hifi_ref.quantize.options import NOT_WRITTEN, Options
from hifi_ref.quantize.plan import NewFile
from hifi_ref.quantize.source import Source

WHAT = ("hifi", "type", "mixture", "fork", "copy", "target-size", "target-bpw")
# Flags that only make sense where a file is made as llama-quantize makes it.
OF_RELEASE = ("pure", "leave-output-tensor", "output-tensor-type", "token-embedding-type", "tensor-type",
              "tensor-type-file", "prune-layers", "override-kv", "keep-split")  # fmt: skip
TARGETS = ("target-size", "target-bpw")
# Flags of files as llama-quantize makes them that --assign does not take.
NOT_ASSIGNED = ("pure", "prune-layers")
PLACE = "{type}"
# Flags that may stand without their value.
BARE = ("--ray", "--protect-super-weights")

# The last are types of some tensors, whatever else they would have.
Make = Callable[[Source, str, Importance | None, Mapping[str, str]], list[NewFile]]


class Recipe(NamedTuple):
    """What is to be made: a name, which stands for {type} in OUT, and the function that plans the files."""

    name: str
    make: Make
    as_released: bool = False


def flag_values() -> flags.FlagValues:
    values = command_line.flags_of_all()

    def text(name: str, what: str) -> None:
        flags.DEFINE_string(name, None, what, flag_values=values)

    def switch(name: str, what: str) -> None:
        flags.DEFINE_boolean(name, False, what, flag_values=values)

    def several(name: str, what: str) -> None:
        flags.DEFINE_multi_string(name, [], what, flag_values=values)

    _define_what(text, switch)
    text("assign", "NAME: types by tensor, chosen for the least error at a size, or by a rule: "
         f"{' '.join((*MEASURED, *RULES))}; or a FILE.json that says what is asked for")  # fmt: skip
    text("errors", "FILE: keep the errors that --assign measures, and take from it those of an earlier call")
    protect = (
        "FILE: tensors that lose a super weight get a higher type; FILE is of quality --super-weights --json, else a"
    )
    text("protect-super-weights", f"{protect} pass of SOURCE finds them")
    text("text", "FILE: errors count for --assign by what they do to the model's answers on this text")
    text("imatrix", "FILE: an importance matrix, GGUF or .dat")
    several("include-weights", "PART: of the matrix only entries that have this in their names")
    several("exclude-weights", "PART: of the matrix no entries that have this in their names")
    switch("pure", "all matrices in the type that the file type is named after")
    switch("leave-output-tensor", "output.weight stays as it is")
    text("output-tensor-type", "TYPE: of output.weight")
    text("token-embedding-type", "TYPE: of the token embeddings")
    several("tensor-type", "REGEX=TYPE: of tensors whose names match; the first that matches counts")
    text("tensor-type-file", "FILE: more of them, between white space")
    text("prune-layers", "N,N: without these layers")
    several("override-kv", "KEY=TYPE:VALUE: set metadata; TYPE is int, float, bool or str")
    switch("keep-split", "as many shards as the source has: OUT-00001-of-00002.gguf and so on")
    switch("allow-requantize", "decode tensors that are quantized already, and quantize them again")
    profile = "PROFILE: the build whose blocks are written, the x86-64 release's by default; others take much longer"
    flags.DEFINE_string("profile", builds.STRICT, profile, flag_values=values)
    switch("dry-run", "tell what would be written, and write nothing; OUT may be left out")
    text("card", "FILE: write a section of a model card about the new files")
    text("ray", "ADDRESS: encode on the nodes of a Ray cluster, or of one on this machine")
    switch("quiet", "do not tell what became of each tensor")
    return values


def _define_what(text: Callable[[str, str], None], switch: Callable[[str, str], None]) -> None:
    switch("hifi", "a mix of HIFI formats that fits the model's size")
    text("type", "NAME,NAME: one format for all matrices, such as Q4_K or Q4_K_HIFI, or a mix: "
         f"{' '.join(ROADMAP)}; a name of --mixture that is no format means that")  # fmt: skip
    text("mixture", "NAME,NAME: as llama-quantize does for a file type, byte for byte: "
         f"{' '.join(llama_quantize.file_types())}")  # fmt: skip
    text("fork", f"NAME: as the HIFI fork does for a file type: {' '.join(FORK_FILE_TYPES)}")
    switch("copy", "all tensors as they are, as llama-quantize does for COPY")
    text("target-size", "SIZE: the mixture whose file is the largest not above this, such as 4.5G or 800MiB")
    text("target-bpw", "BITS: the mixture with the most bits a weight not above this")


def recipes(values: flags.FlagValues, options: Options) -> list[Recipe]:
    """What is asked for by name; nothing where a target is given. Raises UsageError for a name that nothing has."""
    given = [name for name in WHAT if values[name].value]
    if values.profile not in builds.PROFILES:
        raise UsageError(f"--profile={values.profile} is no build; there are {', '.join(builds.PROFILES)}. What types"
                         " tensors take says --assign")  # fmt: skip
    if values.assign:
        return [_assigned(values, options, given)]
    if values.errors or values.text:
        flag = "errors" if values.errors else "text"
        raise UsageError(f"--{flag} goes with --assign, which is not asked for")
    if len(given) != 1:
        *most, last = (f"--{name}" for name in WHAT)
        raise UsageError(f"one of {', '.join(most)} and {last} is needed")
    found = [_recipe(given[0], name, options) for name in _names(values, given[0])]
    alone = [name for name in OF_RELEASE if values[name].value and not all(recipe.as_released for recipe in found)]
    if alone:
        raise UsageError(f"--{alone[0]} goes with files as llama-quantize writes them: --mixture=NAME")
    return found


def _names(values: flags.FlagValues, flag: str) -> list[str]:
    if flag in TARGETS:
        return []
    if flag in ("hifi", "copy"):
        return [flag]
    names = [name for name in str(values[flag].value).split(",") if name]
    if len(set(names)) < len(names) or not names:
        raise UsageError(f"--{flag}={values[flag].value} names nothing, or one thing twice")
    return names


def _recipe(flag: str, name: str, options: Options) -> Recipe:
    if flag == "copy":
        return released(COPY, options)
    if flag == "hifi":
        return _chosen("HIFI", a_mix(None), options)
    if flag == "fork":
        if name not in FORK_FILE_TYPES:
            raise UsageError(f"the fork has no file type {name!r}; there are {' '.join(FORK_FILE_TYPES)}")
        return _chosen(name, as_the_fork(name), options)
    file_type = COPY if name.upper() == COPY else llama_quantize.named(name)
    if flag == "mixture":
        if file_type is None:
            known = " ".join(llama_quantize.file_types())
            raise UsageError(f"llama-quantize has no file type {name!r}; there are {known}")
        return released(file_type, options)
    if name in FORMATS and FORMATS[name].encode is not None and name not in NOT_WRITTEN:
        return _chosen(name, one_format(name), options)
    if name in ROADMAP:
        return _chosen(name, a_mix(name), options)
    if file_type is not None:
        return released(file_type, options)
    raise UsageError(f"no format is called {name!r}, and no mix; there are {' '.join(FORMATS)}")


def released(file_type: str, options: Options) -> Recipe:
    """The recipe of llama-quantize's own files."""

    def make(source: Source, out: str, importance: Importance | None, types: Mapping[str, str]) -> list[NewFile]:
        check_source(source)
        return as_released(source, out, file_type, importance, options.with_types(types))

    return Recipe(file_type, make, as_released=True)


def _chosen(name: str, choice: Choice, options: Options) -> Recipe:
    def make(source: Source, out: str, importance: Importance | None, types: Mapping[str, str]) -> list[NewFile]:
        return [in_formats(source, out, but(choice, types), importance, options.allow_requantize)]

    return Recipe(name, make)


def _assigned(values: flags.FlagValues, options: Options, given: Sequence[str]) -> Recipe:
    """Raises OSError, UsageError, or InputError for a file that says nothing sensible."""
    apart = [name for name in (*given, *NOT_ASSIGNED) if name not in TARGETS and values[name].value]
    if apart:
        raise UsageError(f"--assign does not go with --{apart[0]}")
    if len(given) > 1:
        raise UsageError("--target-size and --target-bpw do not go together")
    size, bits = values["target-size"].value, values["target-bpw"].value
    limit = Limit(budget.bytes_of(size) if size else None, budget.bits_of(bits) if bits else None)
    asked, name = str(values.assign), str(values.assign)
    if asked.endswith(".json"):
        name, own = name_of(asked), assignment_file.read(asked)
    elif asked in RULES:
        own = Assignment()
        if given or values.text or values.errors:
            flag = (*given, *(name for name in ("text", "errors") if values[name].value))[0]
            raise UsageError(
                f"--{flag} does not go with --assign={asked}, a rule that measures nothing and takes no size"
            )
    elif asked in MEASURED:
        own = MEASURED[asked]
    else:
        known = " ".join((*MEASURED, *RULES))
        raise UsageError(f"there is no --assign={asked}; there are {known}, or a FILE.json")
    limit = limit if given else Limit(bits=own.bits)

    def make(source: Source, out: str, importance: Importance | None, types: Mapping[str, str]) -> list[NewFile]:
        job = Job(source, out, printable(name), importance, options.with_types(types), values.errors, values.text)
        return assigned(job, by_rule(job, asked) if asked in RULES else own, limit)

    return Recipe(name.removesuffix(".json"), make, as_released=True)


def path_for(out: str, source: Source, name: str) -> str:
    """Where a recipe's file goes: OUT with its name for {type}, or a name of its own in a folder."""
    if PLACE in out:
        return out.replace(PLACE, name)
    if not out.endswith("/") and not os.path.isdir(out):
        return out
    stem = os.path.basename(source.paths[0])
    shard = SHARD.fullmatch(stem)
    return os.path.join(out, f"{shard[1] if shard else stem.removesuffix('.gguf')}-{name}.gguf")
