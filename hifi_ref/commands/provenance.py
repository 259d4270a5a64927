"""When a report was made, and by which versions."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib import metadata

import numpy as np

import hifi_ref
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import printable

RELEASE = "llama.cpp v0.5.0"
# What builds that can be repeated set to the seconds since 1970 that shall count as now: reproducible-builds.org.
EPOCH = "SOURCE_DATE_EPOCH"


def date() -> str:
    """Now, or what SOURCE_DATE_EPOCH says, in UTC. Raises InputError where that is no number of seconds."""
    epoch = os.environ.get(EPOCH)
    try:
        when = datetime.now(UTC) if not epoch else datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{EPOCH} is {printable(str(epoch))}, which is no number of seconds since 1970") from None
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def versions() -> dict[str, str]:
    """Of this package, of the release that is meant, and of the two array libraries; JAX need not be loaded."""
    return {
        "hifi_ref": hifi_ref.__version__,
        "reference": RELEASE,
        "numpy": np.__version__,
        "jax": metadata.version("jax"),
    }
