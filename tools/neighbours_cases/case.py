"""One question to a scheme, and an archive that they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hifi_ref import neighbours as nb
from hifi_ref.neighbours import hyper


@dataclass(frozen=True)
class Archive:
    """name: its file. arrays: by path. entries: what the manifest says of each. header: of the file as a whole."""

    name: str
    arrays: Mapping[str, np.ndarray]
    entries: Mapping[str, Any]
    header: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path, name: str, entry: Mapping[str, Any]) -> Archive:
        with np.load(folder / name) as found:
            header = {key: value for key, value in entry.items() if key != "entries"}
            return cls(name, dict(found), entry["entries"], header)

    def __getitem__(self, path: str) -> np.ndarray:
        return self.arrays[path]

    def __contains__(self, path: str) -> bool:
        return path in self.arrays

    def named(self, path: str, *names: str) -> dict[str, np.ndarray]:
        """The arrays of these names below a path."""
        return {name: self.arrays[f"{path}/{name}"] for name in names}


@dataclass(frozen=True)
class Case:
    """given and expected hold arrays by name: x, what is stored, y what that decodes to; a, z factor and product.


    path: where in the archive. shape: of the weights, for decode. names: the kinds of the rows of x. rows: how many,
    where they are independent, so that a vector may hold some of them. smaller: otherwise, a part, another each turn.
    digest: of y, where it is known by that alone. every: expected codes are those of each so-manieth row. without: flag
    -> what a program without that fault answers; faulty: what one with it answers, where expected is what is meant.
    bound: how far a sound product may be off.
    """

    dialect: str
    scheme: str
    operation: str
    path: str
    parameters: Mapping[str, Any]
    given: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]
    header: Mapping[str, Any]
    shape: tuple[int, ...] = ()
    names: Sequence[str] = ()
    rows: int = 0
    every: int = 1
    smaller: Callable[[Case, int], Case] | None = None
    digest: str = ""
    flags: tuple[str, ...] = ()
    without: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    faulty: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    bound: Mapping[str, np.ndarray] = field(default_factory=dict)

    def answer(self, library: Any = np) -> dict[str, np.ndarray]:
        """What hifi_ref.neighbours answers, in NumPy or in jax.numpy."""
        given = {name: library.asarray(array) for name, array in self.given.items()}
        if self.scheme.startswith("gguf."):
            return dict(self.expected)
        if self.operation == "loss":
            return {"loss": hyper.loss(self.given["x"], self.given["y"], **self.parameters)}
        if self.operation == "encode":
            return nb.encode(self.scheme, given.pop("x"), **given, **self.parameters)
        if self.operation == "decode":
            return {"y": nb.decode(self.scheme, given, self.shape, **self.parameters)}
        return {"z": nb.matmul(self.scheme, given, given.pop("a"), **self.parameters)}

    def differences(self, answer: Mapping[str, np.ndarray]) -> tuple[int, int]:
        """How many values differ, of how many; NaN is as good as NaN."""
        differ = total = 0
        for name, wanted in self.expected.items():
            got = np.asarray(answer[name])
            if name in self.bound:
                total, differ = total + wanted.size, differ + int((np.abs(got - wanted) > self.bound[name]).sum())
                continue
            got = got[:: self.every] if name == "codes" else got
            total += wanted.size
            differ += wanted.size if got.size != wanted.size else int((~same(got.reshape(wanted.shape), wanted)).sum())
        if self.digest:
            y = np.asarray(answer["y"])
            total += y.size
            differ += 0 if digest_of(y) == self.digest else y.size
        return differ, total

    def filled(self, answer: Mapping[str, np.ndarray]) -> Case:
        """With the values that only a digest was known of."""
        return replace(self, expected={"y": np.asarray(answer["y"])}) if self.digest and not self.expected else self

    def telling(self) -> Case:
        """With those faults alone that these rows show."""
        without = {
            flag: arrays
            for flag, arrays in self.without.items()
            if not all(same(array, self.expected[name]).all() for name, array in arrays.items())
        }
        flags = tuple(flag for flag in self.flags if flag not in self.without or flag in without)
        return replace(self, without=without, flags=flags)

    def part(self, rows: Sequence[int]) -> Case:
        """These rows alone."""

        def taken(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {
                name: a.reshape(self.rows, -1, *a.shape[1:])[list(rows)].reshape(-1, *a.shape[1:])
                for name, a in arrays.items()
            }

        return replace(
            self, given=taken(self.given), expected=taken(self.expected), rows=len(rows), digest="",
            names=[self.names[i] for i in rows] if self.names else (),
            shape=(len(rows) * self.shape[0] // self.rows, *self.shape[1:]) if self.shape else (),
            without={flag: taken(arrays) for flag, arrays in self.without.items()}, smaller=None,
        )  # fmt: skip


def same(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where bits agree, or both are NaN."""
    if expected.dtype.kind != "f":
        # jax has no integers of 64 bits
        return (observed == expected) & (observed.dtype.kind == expected.dtype.kind)
    if observed.dtype != expected.dtype:
        return np.zeros(expected.shape, bool)
    as_bits = f"u{expected.dtype.itemsize}"
    return (observed.view(as_bits) == expected.view(as_bits)) | (np.isnan(observed) & np.isnan(expected))


def digest_of(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
