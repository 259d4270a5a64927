"""`python -m tools.peers` gives the damaged files of the tests to other programs of this job, and writes docs/peers.md.

The files are those of tests/check/test_battery.py but for sets of shards, and the sound ones that they were made of.
A program finds a damage where it ends otherwise than with exit code 0. @huggingface/gguf is fetched through npm into
build/peers, ggufpacker through pip; llama-quantize, which ggufpacker runs, is stood in for by the release's own
llama_model_quantize, with the arguments that the sound file was made with.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from hifi_ref.model_files.file_types import FILE_TYPES
from hifi_ref.model_files.files import write_atomically
from tests.check.damages import DAMAGES
from tests.check.injuries import FILE_TYPE, INJURIES, Patient, Sound, sound_files
from tests.check.rewrite import read, write
from tests.check.test_battery import READ, another
from tests.hostile import run_check
from tools.conformance import ROOT, run

FOLDER = ROOT / "build" / "peers"
TIMEOUT = 120
VIEWER = """\
import { gguf } from "@huggingface/gguf";
const { metadata, tensorInfos } = await gguf(process.argv[2], { allowLocalFile: true });
console.log(Object.keys(metadata).length, tensorInfos.length);
"""
STAND_IN = """\
#!{python}
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from hifi_ref.model_files.file_types import FILE_TYPES
from reference import fetch
from tools import make_sample
*words, source, target, name = sys.argv[1:] if len(sys.argv) > 3 else sys.exit("usage: llama-quantize")
number = next(number for number, (known, _) in FILE_TYPES.items() if known == name)
sys.exit(make_sample.quantize(fetch.library_dir(), Path(source), Path(target), number, 2, "--imatrix" in words))
"""


class Made(NamedTuple):
    """A file to be judged, what it was made from, its type by name, and the group it counts for."""

    group: str
    path: Path
    sound: Sound
    file_type: str


Judge = Callable[[Made], bool]


def files(folder: Path) -> Iterator[Made]:
    """The sound files first, then every damage of them; each is gone when the next is made."""
    made = sound_files(folder)
    names = {name: FILE_TYPES[number][0] for name, number in FILE_TYPE.items()}
    for name in FILE_TYPE:
        yield Made("sound files", made(name).path, made(name), names[name])
    path = folder / "damaged.gguf"
    q4_k_m = Sound(folder / "q4_k_m.gguf", folder / "small.gguf", None)
    _small_model(q4_k_m)
    yield Made("sound files", q4_k_m.path, q4_k_m, "Q4_K_M")
    for damage in DAMAGES.values():
        damage.spoil(q4_k_m.path, path)
        yield Made("structure, names, shapes", path, q4_k_m, "Q4_K_M")
    for key in READ:
        for after in ("changed", "lost"):
            content = read(q4_k_m.path)
            value, *kinds = content.metadata.pop(key)
            if after == "changed":
                content.metadata[key] = (another(value), *kinds)
            yield Made("metadata", write(path, content), q4_k_m, "Q4_K_M")
    for name, injure, _ in INJURIES.values():
        patient = Patient(made(name).path)
        injure(patient)
        path.write_bytes(patient.data)
        yield Made("data", path, made(name), names[name])


def _small_model(sound: Sound) -> None:
    from reference import fetch
    from tools import make_sample

    make_sample.write_model(sound.source, layers=1)
    assert make_sample.quantize(fetch.library_dir(), sound.source, sound.path, 15, 2, weighted=False) == 0


def ends_well(words: list[str | Path], folder: Path | None = None) -> bool:
    try:
        done = subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def gguf_dump(made: Made) -> bool:
    return ends_well([Path(sys.executable).parent / "gguf-dump", made.path])


def viewer(made: Made) -> bool:
    return ends_well(["node", FOLDER / "viewer.mjs", made.path], FOLDER)


def packer(made: Made) -> bool:
    words = [Path(sys.executable).parent / "ggufpacker", "attest", made.path, "--source", made.sound.source]
    words += ["--qtype", made.file_type, "--llama-quantize", FOLDER / "llama-quantize", "-o", FOLDER / "out.json"]
    return ends_well([*words, *(["--imatrix", made.sound.imatrix] if made.sound.imatrix else [])])


def check(made: Made) -> bool:
    # The sound files of one type have no tokenizer, and say less of themselves than a model does.
    return run_check(made.path, "--quiet", *_ignored(made))[0] == 0


def check_with_source(made: Made) -> bool:
    words = [f"--source={made.sound.source}"]
    words += [f"--imatrix={made.sound.imatrix}"] if made.sound.imatrix else []
    return run_check(made.path, "--quiet", *_ignored(made), *words)[0] == 0


def _ignored(made: Made) -> list[str]:
    return [] if made.file_type == "Q4_K_M" and made.sound.imatrix is None else ["--ignore=L"]


PEERS: dict[str, Judge] = {
    "gguf-dump": gguf_dump,
    "@huggingface/gguf": viewer,
    "`check`": check,
    "ggufpacker attest, with the source": packer,
    "`check`, with the source": check_with_source,
}


def prepare() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "viewer.mjs").write_text(VIEWER)
    (FOLDER / "llama-quantize").write_text(STAND_IN.format(python=sys.executable, root=str(ROOT)))
    (FOLDER / "llama-quantize").chmod(0o755)
    if not (FOLDER / "node_modules" / "@huggingface").is_dir():
        run("npm", "install", "--silent", f"--prefix={FOLDER}", "@huggingface/gguf@0.4.6")
    if not (Path(sys.executable).parent / "ggufpacker").exists():
        run(sys.executable, "-m", "pip", "install", "--quiet", "ggufpacker==0.4.2")


def main() -> None:
    os.chdir(ROOT)
    prepare()
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    totals: dict[str, int] = defaultdict(int)
    seconds: dict[str, list[float]] = defaultdict(list)
    only_others: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for made in files(Path(scratch)):
            totals[made.group] += 1
            found_by = {}
            for name, judge in PEERS.items():
                start = time.perf_counter()
                found_by[name] = not judge(made)
                seconds[name].append(time.perf_counter() - start)
                found[name][made.group] += found_by[name]
            if made.group != "sound files" and not found_by["`check`, with the source"] and any(found_by.values()):
                only_others.append(f"{made.group} {totals[made.group]}")
    groups = [group for group in totals if group != "sound files"]
    lines = [f"| program | {' | '.join(groups)} | all | sound files called bad | seconds a file, the median |"]
    lines.append("|---" * (len(groups) + 4) + "|")
    for name in PEERS:
        counts = [f"{found[name][group]} of {totals[group]}" for group in groups]
        whole = f"{sum(found[name][g] for g in groups)} of {sum(totals[g] for g in groups)}"
        median = sorted(seconds[name])[len(seconds[name]) // 2]
        bad = f"{found[name]['sound files']} of {totals['sound files']}"
        lines.append(f"| {name} | {' | '.join(counts)} | {whole} | {bad} | {median:.2f} |")
    print("\n".join(lines))
    print("found by others alone:", only_others or "nothing")
    page = ROOT / "docs" / "peers.md"
    if page.exists():
        head, _, tail = page.read_text().partition("| program |")
        rest = tail.partition("\n\n")[2]
        write_atomically(page, head + "\n".join(lines) + "\n\n" + rest)


if __name__ == "__main__":
    main()
