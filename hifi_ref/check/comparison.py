"""What is compared, and what came of it: the data that compare makes, and that resume, verdict and reports read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from hifi_ref.check.hashes import HashedFile
from hifi_ref.check.metadata import MetadataComparison
from hifi_ref.formats.builds import STRICT

REPRODUCED, OTHERWISE, DIFFERS, NOT_JUDGED = "reproduced", "otherwise", "differs", "not judged"


@dataclass(frozen=True)
class Options:
    """What to compare with, and how much of it. The file ``state`` keeps results; ``resume`` goes on from there.

    ``hashed`` asks for the hashes of the files of source and importance matrix. ``profile`` names the build of which
    blocks are expected.
    """

    source: str
    imatrix: str | None = None
    tensors: str | None = None
    sample: int | None = None
    seed: int = 0
    state: str | None = None
    resume: bool = False
    hashed: bool = False
    profile: str = STRICT


@dataclass
class TensorResult:
    """What is known of one tensor. ``outcome`` is one of the four above.

    ``meaning`` of a difference: damage, few, profile, encoder, source; of another way: order, importance, rounding;
    of a tensor not judged: absent, shape, importance, format, conversion. None where there is nothing to explain.
    ``profile`` of a difference: the builds, other than the one asked for, that write all that differs from it; or, of
    damage, that write the rest, and what then differs is what is told.
    """

    name: str
    outcome: str
    meaning: str | None = None
    why: str = ""
    profile: str = ""
    source_name: str | None = None
    source_type: str | None = None
    importance: bool = False
    blocks_judged: int = 0
    blocks_differing: int = 0
    blocks_not_finite: int = 0
    first: dict[str, Any] | None = None
    fields: dict[str, int] = field(default_factory=dict)
    single_bytes: int = 0
    worse: int = 0
    errors: dict[str, Any] = field(default_factory=dict)
    map: dict[str, list[float]] = field(default_factory=dict)
    histogram: list[int] = field(default_factory=list)

    @property
    def explained(self) -> str:
        """The meaning of a result that has one, as every difference and every other way does."""
        assert self.meaning is not None
        return self.meaning

    @property
    def first_difference(self) -> dict[str, Any]:
        """The first byte that differs, of a result that has one: tally.describe says what of it."""
        assert self.first is not None
        return self.first

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Coverage(NamedTuple):
    """How far an importance matrix goes: of its ``entries`` so many are ``matched`` by the file's tensors' names.

    Of the compared tensors whose format takes importance, ``of``, so many were made with it: ``used``.
    """

    entries: int
    matched: int
    used: int
    of: int


@dataclass
class Comparison:
    """What came of it. ``missing`` are GGUF names that only the source has, ``unmapped`` its names that have none.

    ``elsewhere`` are the source's names that belong into another file, as those of a model's eyes and ears do.
    ``left_out`` are the file's tensors that were not asked for, or cannot be read; ``coverage`` is None without an
    importance matrix, ``misfits`` says which of its entries have another width than their tensor. ``encoded_on`` are
    the devices and lanes that encoded again; the files of source and matrix are there where they were hashed.
    """

    options: Options
    form: str
    results: list[TensorResult]
    missing: list[str] = field(default_factory=list)
    unmapped: list[str] = field(default_factory=list)
    datasets: tuple[str, ...] = ()
    left_out: list[str] = field(default_factory=list)
    coverage: Coverage | None = None
    misfits: dict[str, str] = field(default_factory=dict)
    metadata: MetadataComparison | None = None
    elsewhere: list[str] = field(default_factory=list)
    encoded_on: tuple[str, ...] = ()
    source_files: list[HashedFile] = field(default_factory=list)
    imatrix_files: list[HashedFile] = field(default_factory=list)
