"""The pinned release, fetched through npm, verified by its digest, and kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "@node-llama-cpp/linux-x64@3.22.1"
SHA256 = "0d953e1503d5ab4608d8ed5b739132308c81ac05ffeb760d2a7f30e08a9f90e0"


def library_dir() -> Path:
    """The folder with the release's shared libraries, fetched on first use.

    Raises RuntimeError, in one sentence, when npm cannot bring it or its digest is not the pinned one.
    """
    cache = Path(os.environ.get("HIFI_REF_CACHE", Path.home() / ".cache" / "hifi_ref"))
    target = cache / f"llama.cpp-v0.5.0-{SHA256[:12]}"
    libraries = target / "package" / "bins" / "linux-x64"
    if libraries.is_dir():
        return libraries
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        packed = subprocess.run(["npm", "pack", PACKAGE], cwd=scratch, capture_output=True, text=True, check=False)
        archives = list(Path(scratch).glob("*.tgz"))
        if packed.returncode or not archives:
            raise RuntimeError(f"npm pack {PACKAGE} failed: {packed.stderr.strip()[-300:]}")
        digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
        if digest != SHA256:
            raise RuntimeError(f"{PACKAGE} has sha256 {digest}, not the pinned {SHA256}")
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(archives[0]) as archive:
            archive.extractall(unpacked, filter="data")
        try:
            unpacked.rename(target)
        except OSError:
            # Another process was first; its copy passed the same check.
            if not libraries.is_dir():
                raise
    return libraries
