"""A Ray cluster, for commands that share their work out. What a lost node had in work is done again on another."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from hifi_ref.model_files.files import InputError

# How often a piece of work is tried again where its node is lost.
RETRIES = 10
# What --ray means where no address follows.
HERE = "-"


class LostError(Exception):
    """Ray gave a piece of work up; the message is one sentence."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to the cluster at ``address``, or to one of this machine alone where that is HERE.

    What Ray tells of its nodes goes to stderr, like all that is said meanwhile.
    Raises InputError where there is no Ray, or no cluster.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--ray needs Ray, pip install 'hifi-ref[ray]'") from None
    try:
        ray.init(address=None if address == HERE else address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"--ray: {str(error).splitlines()[0]}") from None
    with redirect_stdout(sys.stderr):
        try:
            yield ray
        finally:
            ray.shutdown()


def task(ray: Any, work: Callable[..., Any]) -> Any:
    """``work`` as a task that takes one core of a node."""
    return ray.remote(num_cpus=1, max_retries=RETRIES)(work)


@contextmanager
def asking(ray: Any) -> Iterator[None]:
    """What a node raised, as it raised it; LostError for what is Ray's own."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise LostError(f"Ray gave a piece of work up: {str(error).splitlines()[0]}") from None
