"""`python -m golden.archive OUT.tar.gz` writes the vectors alone: what a project of any language takes into its tests.

The archive holds one folder, hifi-ref-vectors-VERSION, with the vectors, their indices, grids.json and hifi_ref.h, the
schemas, the examples, the licence, manifest.json, and SHA256SUMS for `sha256sum -c`. The same files give the same
bytes: names are in order, and times, owners and modes are fixed. Of gzip's bytes that is so for one version of zlib;
the digest of the tar inside, which is printed as well, is the same everywhere.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import hifi_ref
from golden.vector_file import text_of
from hifi_ref.model_files.files import replacing

HERE = Path(__file__).resolve().parent
SCHEMA = "hifi_ref.golden.manifest/1"
KINDS = ("*.json", "hifi_ref.h", "README.md", "schema/*.json", "examples/*", "llama.cpp/*.json", "hifi/*.json")
# What only the generator reads.
NOT_TAKEN = {"profile_dependent.json"}
# 1980-01-01, the first time that every kind of archive can state.
TIME = 315532800


def contents() -> dict[str, bytes]:
    """Path in the folder -> bytes, in order, manifest and digests included."""
    paths = {path for kind in KINDS for path in HERE.glob(kind) if path.is_file() and path.name not in NOT_TAKEN}
    found = {path.relative_to(HERE).as_posix(): path.read_bytes() for path in paths}
    found["LICENSE"] = (HERE.parent / "LICENSE").read_bytes()
    digests = {name: hashlib.sha256(found[name]).hexdigest() for name in sorted(found)}
    manifest = {
        "schema": SCHEMA,
        "version": hifi_ref.__version__,
        "reference": json.loads(found["index.json"])["reference"],
        "files": [{"path": name, "bytes": len(found[name]), "sha256": digest} for name, digest in digests.items()],
    }
    found["manifest.json"] = text_of(manifest).encode()
    digests["manifest.json"] = hashlib.sha256(found["manifest.json"]).hexdigest()
    found["SHA256SUMS"] = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()
    return dict(sorted(found.items()))


def tar_of(files: dict[str, bytes], folder: str) -> bytes:
    """A tar archive of these files, which says nothing of when, where and by whom it was made."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), TIME, 0o644
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def main() -> None:
    """Write the archive, whole or not at all, and print its digests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.tar.gz")
    out = parser.parse_args().out
    tar = tar_of(contents(), f"hifi-ref-vectors-{hifi_ref.__version__}")
    packed = gzip.compress(tar, mtime=0)
    try:
        with replacing(out, "wb") as file:
            file.write(packed)
    except OSError as error:
        parser.error(f"cannot write {out}: {error.strerror}")
    print(f"{hashlib.sha256(packed).hexdigest()}  {out}")
    print(f"{hashlib.sha256(tar).hexdigest()}  the tar inside")


if __name__ == "__main__":
    main()
