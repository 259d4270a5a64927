"""Damaged files end in findings or one sentence, and what is called sound the release reads."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from hifi_ref.model_files.gguf_file import TENSOR_TYPES, open_gguf
from reference import release
from reference.loader import outcomes
from tests import hostile
from tests.hostile import build, run_check
from tests.paths import ROOT, SAMPLE


def test_mutants_end_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "mutant.gguf"
    codes: Counter[int] = Counter()
    for mutant in hostile.mutants(SAMPLE.read_bytes(), 900, seed=11):
        path.write_bytes(mutant.data)
        code, _, err = run_check(path)
        codes[code] += 1
        assert hostile.complaints(mutant, code, err, 0.0) == []
    assert codes[1] > 600 and codes[2] > 12


def reference_reads(path: Path) -> bool:
    """Whether the release's own reader accepts a file's structure, and its validator every tensor's bytes."""

    class Params(ctypes.Structure):
        _fields_ = [("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p)]

    lib = release.base()
    lib.ggml_log_set(QUIET, None)
    lib.gguf_init_from_file.restype = ctypes.c_void_p
    lib.gguf_init_from_file.argtypes = [ctypes.c_char_p, Params]
    lib.gguf_free.argtypes = [ctypes.c_void_p]
    lib.ggml_validate_row_data.restype = ctypes.c_bool
    lib.ggml_validate_row_data.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    context = lib.gguf_init_from_file(str(path).encode(), Params(True, None))
    if not context:
        return False
    lib.gguf_free(context)
    file = open_gguf(path)
    return all(lib.ggml_validate_row_data(t.type_id, file.blocks(t).tobytes(), t.nbytes) for t in file.tensors)


QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)


def test_the_reference_loads_whatever_is_called_sound_and_nothing_that_will_not_load(tmp_path: Path) -> None:
    paths, reports, how = [], [], []
    for i, mutant in enumerate(hostile.mutants(SAMPLE.read_bytes(), 700, seed=17)):
        path = tmp_path / f"{i}.gguf"
        path.write_bytes(mutant.data)
        code, out, _ = run_check(path, "--json")
        if code != 2 and not mutant.strict:
            paths.append(path)
            reports.append(json.loads(out))
            how.append(mutant.how)
            assert code or reference_reads(path), mutant.how
    kinds = [(report["verdict"]["kind"], report["loading"]["kind"]) for report in reports]
    for kind, outcome, mutant in zip(kinds, outcomes(paths), how, strict=True):
        assert outcome.loads or kind[0] != "sound", mutant
        assert not outcome.loads or kind[1] != "will not load", (mutant, kind)
    assert kinds.count(("sound", "loads")) > 70 and kinds.count(("will not load in llama.cpp", "will not load")) > 14


def test_mutants_of_a_file_with_every_type(tmp_path: Path) -> None:
    tensors = [(kind.name, i, (kind.block_size,), bytes(kind.type_size)) for i, kind in TENSOR_TYPES.items()]
    path = tmp_path / "mutant.gguf"
    for mutant in hostile.mutants(build(tensors, [("general.alignment", 4, 32), ("t", 8, b"x")]), 400, seed=3):
        path.write_bytes(mutant.data)
        code, _, err = run_check(path)
        assert code in (0, 1, 2) and "fault" not in err, mutant.how


def test_mutants_in_processes_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "mutant.gguf"
    strict = [m for m in hostile.mutants(SAMPLE.read_bytes(), 60, seed=5) if m.strict]
    for mutant in strict[:8]:
        path.write_bytes(mutant.data)
        command = [sys.executable, "-m", "hifi_ref.check", str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in (1, 2) and "Traceback" not in done.stderr, mutant.how
