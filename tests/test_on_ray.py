"""--ray: what the nodes of a cluster do, one of which is lost, is the same as what one machine does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from hifi_ref.check import command as check
from hifi_ref.check import compare, comparison
from hifi_ref.check import on_ray as check_on_ray
from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.quantize import command as quantize
from hifi_ref.quantize import journal, on_ray, write
from hifi_ref.quantize.source import open_model
from tests.quantize import families

# One cluster for all.
pytestmark = pytest.mark.xdist_group("ray")

SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return families.written(families.described("mixtral"), tmp_path / "source.gguf", "F16")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes that work, and the head, which does not."""
    made = Cluster(initialize_head=True, head_node_args=SMALL | {"num_cpus": 0, "include_dashboard": False})
    made.workers = [made.add_node(**SMALL), made.add_node(**SMALL)]
    yield made
    ray.shutdown()
    made.shutdown()


def lose_a_node(cluster: Any) -> None:
    """And have a new one for whoever comes next."""
    cluster.remove_node(cluster.workers.pop(0), allow_graceful=False)
    cluster.workers.append(cluster.add_node(**SMALL))


def test_compared_on_nodes(
    source: Path, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    families.importance(source, tmp_path / "i.dat")
    matrix, out = f"--imatrix={tmp_path / 'i.dat'}", tmp_path / "out.gguf"
    assert quantize.main(["--mixture=Q4_0", "--quiet", matrix, str(source), str(out)]) == 0
    tensor = next(t for t in open_gguf(out).tensors if t.name == "blk.1.attn_q.weight")
    data = bytearray(out.read_bytes())
    data[tensor.start + 5] ^= 1
    out.write_bytes(data)
    flags = [f"--source={source}", matrix, "--json", str(out)]
    capsys.readouterr()
    assert check.main(flags) == 1
    here = json.loads(capsys.readouterr().out)
    done = []

    def counted(*one: Any) -> compare.Compared:
        done.append(one)
        if len(done) == 3:
            lose_a_node(cluster)
        return compare.Compared(*one)

    monkeypatch.setattr(check_on_ray, "Compared", counted)
    monkeypatch.setattr(compare, "compare_tensor", None)
    assert check.main([f"--ray={cluster.address}", *flags]) == 1
    there = json.loads(capsys.readouterr().out)
    assert len(done) == sum("source" in one for one in there["tensors"]) > 20
    assert there["source"].pop("encoded_on") == ["2 nodes of a Ray cluster"]
    here["source"].pop("encoded_on")
    there.pop("date"), here.pop("date")
    assert there == here and "blk.1.attn_q.weight" in str(there["findings"])


def test_made_on_nodes(source: Path, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    families.importance(source, tmp_path / "i.dat")
    flags = ["--mixture=Q4_0,Q8_0", "--quiet", f"--imatrix={tmp_path / 'i.dat'}"]
    assert quantize.main([*flags, str(source), str(tmp_path / "here-{type}.gguf")]) == 0
    here = []
    monkeypatch.setattr(write, "PIECE", 512)
    monkeypatch.setattr(write._Threads, "submit", lambda *args: here.append(args))
    finish, done = journal.Part.finish, []

    def finished(part: journal.Part, i: int) -> None:
        finish(part, i)
        done.append(i)
        if len(done) == 9:
            lose_a_node(cluster)

    monkeypatch.setattr(journal.Part, "finish", finished)
    command = [*flags, f"--ray={cluster.address}", str(source), str(tmp_path / "there-{type}.gguf")]
    assert quantize.main(command) == 0 and not here and len(done) > 30
    for name in ("Q4_0", "Q8_0"):
        assert (tmp_path / f"there-{name}.gguf").read_bytes() == (tmp_path / f"here-{name}.gguf").read_bytes()
    # What a node finds wrong is said here.
    tensor = next(t for t in open_gguf(source).tensors if t.name == "blk.1.attn_q.weight")
    data = bytearray(source.read_bytes())
    data[tensor.start : tensor.start + 2] = np.float16(np.inf).tobytes()
    source.write_bytes(data)
    assert quantize.main(command) == 2 and not list(tmp_path.glob("*.part*"))


def test_a_node_with_another_source(source: Path, tmp_path: Path) -> None:
    here = open_model(str(source))
    job = on_ray.Job(str(source), (), on_ray._seen(here))
    assert on_ray._opened(job).shard_of == here.shard_of
    families.written(families.described("mixtral"), source, "BF16")
    on_ray._opened.cache_clear()
    with pytest.raises(InputError, match="source.gguf: a node has another file there"):
        on_ray._opened(job)
    options = comparison.Options(str(source))
    seen = check_on_ray._seen([str(source)], options)
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(InputError, match="source.gguf: a node has other files there"):
        check_on_ray._open(check_on_ray.Job((str(source),), "llama.cpp", options, (), seen))


def test_no_cluster(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert quantize.main(["--mixture=Q4_0", "--ray", str(source), str(tmp_path / "out.gguf")]) == 2
    assert "--ray needs Ray, pip install 'hifi-ref[ray]'" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))
    assert check.main([f"--source={source}", "--ray", str(source)]) == 2
    assert "--ray needs Ray, pip install 'hifi-ref[ray]'" in capsys.readouterr().err
    assert check.main(["--source=https://example.org/f.gguf", "--ray", str(source)]) == 2
    assert "--ray needs a path that all nodes have, and --source is an address" in capsys.readouterr().err
