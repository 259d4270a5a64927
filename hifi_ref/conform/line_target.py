"""Asks a program over a line protocol on its stdin and stdout, so that any language can be judged.

One line per question, one line per answer; everything is ASCII, bytes are hexadecimal, numbers little-endian:

    hello hifi_ref.conform/1                         ok NAME AND VERSION
    decode FORMAT blocks                             ok binary32 weights
    encode FORMAT weights importance-or-minus ...    ok blocks
    dot    FORMAT w a                                ok one binary32
                                                     no             (not offered)
                                                     error WHY      (in words, on one line)

KEY=NUMBER words may follow. With rows=3 the weights, or w, are so many rows; importance and a are those of one row,
and a dot product is answered for each. Some formats of some dialects are encoded with more, such as outliers=3.
End of input means the end. What a program says on stderr is kept for the case that it dies, and shown with --debug. A
program that hangs, dies or answers something else is ended and started anew, and the question counts as failed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO

import numpy as np

from hifi_ref.conform.cases import hexed
from hifi_ref.model_files.gguf_model import printable

HELLO = "hello hifi_ref.conform/1"
# Nothing that is right has more characters; a program that writes without end is stopped there.
LONGEST_ANSWER = 1 << 24


class NotOfferedError(Exception):
    """The target does not implement this operation of this format."""


class NoAnswerError(Exception):
    """The target crashed, hung, refused or answered rubbish; one sentence says what. ended: its process is gone."""

    def __init__(self, message: str, ended: bool = True):
        super().__init__(message)
        self.ended = ended


class LineTarget:
    """A program under test. ``command`` is what a shell would take, or its arguments.

    ``debug``: what it says on its stderr is written to ours, whole.
    """

    def __init__(
        self, command: str | Sequence[str], seconds: float = 30, environment: Mapping[str, str] | None = None,
        debug: bool = False,
    ):  # fmt: skip
        self.arguments = shlex.split(command) if isinstance(command, str) else list(command)
        self.seconds = seconds
        self.environment = {**os.environ, **(environment or {})}
        # None where it is to be started; else there are its input and its output.
        self.process: subprocess.Popen[bytes] | None = None
        self.questions: IO[bytes]
        self.answers: IO[bytes]
        self.pending = b""
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115  closed with the target
        self.debug = debug
        self.passed_on = 0
        self.said_before = 0

    def hello(self) -> str:
        """Start the program; its name and version. Raises NoAnswerError."""
        answer = self.exchange(HELLO)
        if answer != "ok" and not answer.startswith("ok "):
            self._stop()
            raise NoAnswerError(f"answered the greeting with {_short(answer)}, not ok")
        return printable(answer[3:].strip())

    def ask(
        self, operation: str, name: str, given: Mapping[str, np.ndarray | None], context: Mapping[str, float]
    ) -> np.ndarray:
        """The bytes of an answer, uint8[n]. Raises NotOfferedError, NoAnswerError."""
        if self.process is None:
            self.hello()
        more = [f"{key}={value}" for key, value in context.items()]
        answer = self.exchange(" ".join([operation, name, *map(hexed, given.values()), *more]))
        if answer == "no":
            raise NotOfferedError
        if answer.startswith("error"):
            why = answer.removeprefix("error").strip() or "without a reason"
            raise NoAnswerError(f"refused: {_short(why)}", ended=False)
        try:
            head, text = answer.split()
            assert head == "ok"
            return np.frombuffer(bytes.fromhex(text), np.uint8)
        except (AssertionError, ValueError):
            # What comes next may belong to this question.
            self._stop()
            raise NoAnswerError(f"answered {_short(answer)}, not ok and hexadecimal digits, no, or error") from None

    def close(self) -> None:
        """End the program."""
        self._stop()
        self._pass_on()
        self.complaints.close()

    def _start(self) -> None:
        self.complaints.seek(0)
        self.complaints.truncate()
        self.passed_on = self.said_before = 0
        self.pending = b""
        try:
            self.process = subprocess.Popen(
                self.arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints,
                env=self.environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise NoAnswerError(f"cannot run {self.arguments[0]}: {error.strerror}") from error
        assert self.process.stdin is not None and self.process.stdout is not None
        self.questions, self.answers = self.process.stdin, self.process.stdout
        os.set_blocking(self.questions.fileno(), False)
        os.set_blocking(self.answers.fileno(), False)

    def exchange(self, line: str) -> str:
        """The line that answers this one, of a program that was greeted. Raises NoAnswerError."""
        try:
            return self._asked(line)
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """To our stderr what was said on its own since the last time, if we are to show it."""
        if not self.debug:
            return
        self.complaints.seek(self.passed_on)
        said = self.complaints.read()
        self.passed_on += len(said)
        sys.stderr.write(said.decode("utf-8", "backslashreplace"))
        sys.stderr.flush()

    def _asked(self, line: str) -> str:
        if self.process is None:
            self._start()
        else:
            self.said_before = self.complaints.seek(0, os.SEEK_END)
        # What is left of the last answer, or came behind it.
        if self.pending or self._read():
            rest = _short(self.pending.decode("ascii", "backslashreplace"))
            self._stop()
            raise NoAnswerError(f"wrote {rest} without being asked")
        left, deadline = memoryview(line.encode("ascii") + b"\n"), time.monotonic() + self.seconds
        parts: list[bytes] = []
        size = 0
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            selector.register(self.questions, selectors.EVENT_WRITE)
            while not parts or b"\n" not in parts[-1]:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready or size > LONGEST_ANSWER:
                    self._stop()
                    raise NoAnswerError("answers without end" if ready else f"no answer within {self.seconds:g} s")
                for key, _ in ready:
                    if key.fileobj is self.questions:
                        left = left[self._write(left) :]
                        if not left:
                            selector.unregister(self.questions)
                    elif self._read():
                        parts.append(self.pending)
                        size, self.pending = size + len(self.pending), b""
                    else:
                        raise NoAnswerError(self._death())
        answer, _, self.pending = b"".join(parts).partition(b"\n")
        return answer.decode("ascii", "backslashreplace").rstrip("\r")

    def _write(self, part: memoryview) -> int:
        try:
            return os.write(self.questions.fileno(), part[: 1 << 16])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            # It has closed its input; the end of its output tells the rest.
            return len(part)

    def _read(self) -> bool:
        """Take what it has written; False at the end of its output, or where there is nothing."""
        try:
            part = os.read(self.answers.fileno(), 1 << 20)
        except BlockingIOError:
            return False
        self.pending = part
        return bool(part)

    def _death(self) -> str:
        assert self.process is not None
        try:
            code = self.process.wait(self.seconds)
        except subprocess.TimeoutExpired:
            self._stop()
            return "closed its output"
        # A warning of an earlier question says nothing of this death.
        self.complaints.seek(max(self.said_before, self.complaints.seek(0, os.SEEK_END) - 4096))
        said = [line.strip() for line in self.complaints.read().decode("utf-8", "replace").splitlines() if line.strip()]
        self._stop()
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        # The end of a line says what failed, its beginning where.
        return how + (f": {_short(_telling(said)[-76:])}" if said else "")

    def _stop(self) -> None:
        process, self.process, self.pending = self.process, None, b""
        if process is None:
            return
        # Its own children too: they share its session.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (self.questions, self.answers):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _telling(said: list[str]) -> str:
    """The line of a program's last words that says most."""
    return next((line for line in reversed(said) if "assert" in line.lower() or "error" in line.lower()), said[-1])


def _short(text: str) -> str:
    text = text.encode("ascii", "backslashreplace").decode("ascii")
    return repr(text) if len(text) <= 80 else f"{text[:76]!r}... ({len(text)} characters)"
