"""A training in a program of its own, which speaks JSON lines.

It reads its config, a line, from standard input, and writes a line for each epoch to standard
output, `{"epoch": 1, "val_accuracy": 0.9}`; it reads the answer, `{"stop": false}`, and writes its
figures last, `{"result": {"test_accuracy": 0.9}}`. Other lines than objects are its own affair.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from study.run.executors.import_path import environment_of_the_caller
from study.run.executors.parent_death import die_with_parent
from trainer import user_code
from trainer.errors import UserError

TakesEpochs = Callable[..., bool]
LAST = 2000  # bytes of what a program said before it ended
GRACE_SECONDS = 10.0  # to end after the last word


class Talk:
    """What is said with one program."""

    def __init__(self, command: str, threads: int) -> None:
        self.command, self.words = command, user_code.with_files(shlex.split(command))
        self.environment = {"OMP_NUM_THREADS": str(threads), **environment_of_the_caller()}

    def train(
        self, told: Mapping[str, Any], report: TakesEpochs, failed: Callable[[str], Exception]
    ) -> Any:
        """Have it train; return its figures, None: it gave none.

        Args:
            told: its config.
            report: takes an epoch; returns whether to stop.
            failed: makes the error that is raised where it ends badly.

        Raises:
            UserError: there is no such program, or what it says is not to be understood.
        """
        with tempfile.TemporaryFile() as errors, self._started(errors) as process:
            figures, stopped = self._talk(process, told, report)
            if stopped:
                return None  # and it may still be at it
            try:
                code = process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise failed(f"{self.command}: did not end after its last word") from error
            if code < 0 and signal.Signals(-code) == signal.SIGKILL:
                raise ChildProcessError(f"{self.command}: was killed")  # not by its own fault
            if code:
                raise failed(f"{self.command}: exit code {code}{_last_line(errors)}")
            return figures

    @contextmanager
    def _started(self, errors: IO[bytes]) -> Iterator["subprocess.Popen[str]"]:
        """Start it; it never outlives this, nor do the processes that it starts."""
        try:
            process = subprocess.Popen(
                self.words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=self.environment,
                start_new_session=True,
                # Unsafe beside threads is what takes locks; this is one system call.
                preexec_fn=die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )
        except OSError as error:
            raise UserError(f"command = {self.command!r}: {error.strerror}") from error
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what it never read
                    if pipe is not None:
                        pipe.close()

    def _talk(
        self, process: "subprocess.Popen[str]", told: Mapping[str, Any], report: TakesEpochs
    ) -> tuple[dict[str, Any] | None, bool]:
        """Say its config, answer its epochs; return its figures, and whether it was stopped."""
        assert process.stdin is not None
        assert process.stdout is not None
        stopped = False
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its exit code says why
            _say(process.stdin, told)
            for line in process.stdout:
                message = self._message(line)
                if "result" in message:
                    return self._table(message["result"]), stopped
                if "epoch" in message:
                    if stopped:
                        break
                    stopped = self._reported(report, message)
                    _say(process.stdin, {"stop": stopped})
        return None, stopped

    def _message(self, line: str) -> dict[str, Any]:
        if not line.startswith("{"):
            return {}
        try:
            return self._table(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.command}: wrote {line[:100].strip()!r}, no JSON") from error

    def _table(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise UserError(f"{self.command}: wrote {value!r}, must be an object")
        return value

    def _reported(self, report: TakesEpochs, message: dict[str, Any]) -> bool:
        if "val_accuracy" not in message:
            raise UserError(f"{self.command}: an epoch lacks 'val_accuracy'")
        return report(**message)


def _say(pipe: IO[str], message: Mapping[str, Any]) -> None:
    pipe.write(json.dumps(dict(message)) + "\n")
    pipe.flush()


def _last_line(errors: IO[bytes]) -> str:
    """Return the last line that a program wrote to standard error."""
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - LAST))
    lines = errors.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last}" if last else ""
