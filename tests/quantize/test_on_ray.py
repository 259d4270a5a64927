"""--ray: pieces made on the nodes of a cluster, one of which is lost, give the same bytes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from hifi_ref.model_files.files import InputError
from hifi_ref.model_files.gguf_file import open_gguf
from hifi_ref.quantize import command as quantize
from hifi_ref.quantize import journal, on_ray, write
from hifi_ref.quantize.source import open_model
from tests.quantize import families

SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return families.written(families.described("mixtral"), tmp_path / "source.gguf", "F16")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two nodes that work, and the head, which does not."""
    made = Cluster(initialize_head=True, head_node_args=SMALL | {"num_cpus": 0, "include_dashboard": False})
    made.workers = [made.add_node(**SMALL), made.add_node(**SMALL)]
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_node_is_lost(source: Path, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    families.importance(source, tmp_path / "i.dat")
    flags = ["--mixture=Q4_0,Q8_0", "--quiet", f"--imatrix={tmp_path / 'i.dat'}"]
    assert quantize.main([*flags, str(source), str(tmp_path / "here-{type}.gguf")]) == 0
    here = []
    monkeypatch.setattr(write, "PIECE", 512)
    monkeypatch.setattr(write._Threads, "submit", lambda *args: here.append(args))
    finish, done = journal.Part.finish, []

    def lose_a_node(part: journal.Part, i: int) -> None:
        finish(part, i)
        done.append(i)
        if len(done) == 9:
            cluster.remove_node(cluster.workers[0], allow_graceful=False)

    monkeypatch.setattr(journal.Part, "finish", lose_a_node)
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


def test_no_cluster(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert quantize.main(["--mixture=Q4_0", "--ray", str(source), str(tmp_path / "out.gguf")]) == 2
    assert "--ray needs Ray, pip install 'hifi-ref[ray]'" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))
