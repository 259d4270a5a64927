"""What check is called with: its flags, what they mean, and which make no sense together."""

from __future__ import annotations

import re

from absl import flags

from hifi_ref.check.ignoring import ignoring
from hifi_ref.commands import command_line, provenance
from hifi_ref.commands.command_line import FAULT, FINE, FOUND, USAGE_ERROR, UsageError
from hifi_ref.commands.usage import Usage
from hifi_ref.formats import builds
from hifi_ref.model_files.dialects import DIALECTS
from hifi_ref.model_files.finding_codes import SEVERITIES
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.model_files.remote import is_remote

USAGE = Usage(
    "check",
    "FILE.gguf ... [flags]",
    "look at a GGUF file's structure and at every block of its tensors, and compare them with their source",
    "Looks at a GGUF file's structure and at every block of its tensors, and tells what is wrong with it. With "
    "--source it also encodes the source's weights again, and tells which blocks are not what the reference encoder "
    "writes. FILE may be any shard of a model, which is checked whole, or stand for several models: a folder, or "
    "a glob in quotes; or lie at an address, https://... or hf://owner/repo/FILE.gguf.",
    {
        FINE: "sound (and reproduced); with --verify the same bytes",
        FOUND: "findings, of the severity of --fail-on; with --verify a difference",
        USAGE_ERROR: "wrong usage or a file, or a statement, that cannot be read",
        FAULT: "a fault of this program",
    },
)
# Flags that may stand without a value.
BARE = ("--attest", "--json", "--ray", "--resume")
# Flags that a verification takes, and no others.
WITH_VERIFY = ("verify", "json", "debug", "help")
CODES_TEXT = """
finding codes (an error means a broken file, one that llama.cpp does not load, or another than its source gives; a
warning one that no reference tool writes, or that the reference writes otherwise; both exit with 1; a note with 0):
"""


def flag_values() -> flags.FlagValues:
    values = command_line.flags_of_all()
    source = "PATH: the weights it was made from: a GGUF, a safetensors file, or a folder with safetensors"
    flags.DEFINE_string("source", None, source, flag_values=values)
    imatrix = "FILE: the importance matrix it was quantized with, GGUF or .dat"
    flags.DEFINE_string("imatrix", None, imatrix, flag_values=values)
    flags.DEFINE_string("tensors", None, "REGEX: compare only tensors whose name matches", flag_values=values)
    sample = "N: compare only about N blocks per tensor, drawn with --seed"
    flags.DEFINE_integer("sample", None, sample, lower_bound=1, flag_values=values)
    flags.DEFINE_integer("seed", 0, "N: another draw of the sample, 0 by default", lower_bound=0, flag_values=values)
    resume = "FILE: keep what is done in FILE (default: beside the report or the file), and go on from there"
    flags.DEFINE_string("resume", None, resume, flag_values=values)
    ray = "ADDRESS: compare with the source on the nodes of a Ray cluster, or of one on this machine"
    flags.DEFINE_string("ray", None, ray, flag_values=values)
    profile = "PROFILE: the build whose blocks are expected; by default strict, and others where blocks differ"
    flags.DEFINE_enum("profile", builds.STRICT, list(builds.PROFILES), profile, flag_values=values)
    dialect = "NAME: what the type ids mean, where the file leaves it open: one of the dialects below"
    flags.DEFINE_enum("dialect", None, list(DIALECTS), dialect, flag_values=values)
    structure = "look at header, metadata and loading alone: no tensor's bytes are read, and nothing is called sound"
    flags.DEFINE_boolean("structure-only", False, structure, flag_values=values)
    fail_on = "SEVERITY: exit with 1 from findings of this severity on: error, warning (the default) or note"
    flags.DEFINE_enum("fail-on", "warning", list(SEVERITIES), fail_on, flag_values=values)
    ignore = "CODE[:REGEX]: pass over findings of this code, or letter, about tensors that match"
    flags.DEFINE_multi_string("ignore", [], ignore, flag_values=values)
    json = "FILE: write the report as JSON, to FILE or in place of the text"
    flags.DEFINE_string("json", None, json, flag_values=values)
    html = "FILE: write the report as one page for a browser; of several models a page each, in a folder"
    flags.DEFINE_string("html", None, html, flag_values=values)
    attest = "FILE: write what was seen, with the SHA-256 of files and tensors, as a statement to be signed"
    flags.DEFINE_string("attest", None, attest, flag_values=values)
    verify = "STATEMENT: hold the files against such a statement instead: exit with 0 if they are the same, 1 if not"
    flags.DEFINE_string("verify", None, verify, flag_values=values)
    quiet = "print the findings and the verdict, without the tables"
    flags.DEFINE_boolean("quiet", False, quiet, flag_values=values)
    return values


def check_flags(values: flags.FlagValues, models: int) -> None:
    """Raises UsageError where the flags make no sense together, InputError where the date cannot be given."""
    provenance.date()
    if values.verify is not None:
        others = [name for name in values if values[name].present and name not in WITH_VERIFY]
        if others:
            raise UsageError(f"--verify looks at nothing but the statement, so --{others[0]} has no use")
    if values["structure-only"].value:
        for name in ("source", "attest"):
            if values[name].value is not None:
                raise UsageError(f"--{name} needs the blocks, which --structure-only leaves out")
    if values.source is None:
        for name in ("imatrix", "tensors", "sample", "resume", "profile", "ray"):
            if values[name].value is not None and values[name].present:
                raise UsageError(f"--{name} needs a --source to compare with")
    if values.ray is not None:
        for name in ("source", "imatrix"):
            if is_remote(values[name].value or ""):
                raise UsageError(f"--ray needs a path that all nodes have, and --{name} is an address")
    ignoring(values.ignore)
    if models > 1 and values.html == "-":
        raise UsageError(f"--html needs a folder for the pages of {models} models")
    if models > 1 and values.attest is not None:
        raise UsageError(f"--attest states what one model is, and {models} are given")
    if models > 1 and values.resume not in (None, "-"):
        raise UsageError(f"--resume=FILE keeps the results of one model, and {models} are given")
    if values.tensors is not None:
        try:
            re.compile(values.tensors)
        except re.error as error:
            message = f"--tensors={printable(values.tensors)} is no regular expression: {error}"
            raise UsageError(message) from None
