"""Ctrl-C and SIGTERM come at once, or right after what must not be torn apart."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from study.store.signals import check, handled, shielded


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_outside_a_shield_a_signal_comes_at_once() -> None:
    with handled(), pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    with handled(), pytest.raises(SystemExit) as caught:
        send(signal.SIGTERM)
    assert caught.value.code == 143


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_shield_holds_a_signal_back_to_its_end(number: int, error: type[BaseException]) -> None:
    done: list[str] = []

    def work() -> None:
        with shielded():
            with shielded():
                send(number)
                done.append("inner")
            done.append("outer")
        done.append("after")

    with handled(), pytest.raises(error):
        work()
    assert done == ["inner", "outer"]


def test_a_shield_without_a_signal_changes_nothing() -> None:
    with handled(), shielded():
        pass
    with pytest.raises(ZeroDivisionError), handled(), shielded():
        _ = 1 / 0


def test_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with handled():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


TWICE = """
import os, signal
from study.store.signals import handled, shielded
with handled(), shielded():
    os.kill(os.getpid(), signal.{first})
    print("held back", flush=True)
    os.kill(os.getpid(), signal.{second})
    print("never", flush=True)
"""


@pytest.mark.parametrize(
    ("first", "second", "code"), [("SIGINT", "SIGINT", 130), ("SIGINT", "SIGTERM", 143)]
)
def test_a_second_signal_ends_the_process_at_once(first: str, second: str, code: int) -> None:
    script = TWICE.format(first=first, second=second)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "held back\n", "")


def test_an_interrupt_in_the_midst_of_an_exec_has_the_exit_code_of_any_other(
    tmp_path: Path,
) -> None:
    (tmp_path / "interrupted.py").write_text(
        "from study.store.signals import handled\n"
        "try:\n"
        "    with handled():\n"
        "        exec('import os, signal; os.kill(os.getpid(), signal.SIGINT)')\n"
        "except KeyboardInterrupt:\n"
        "    raise SystemExit(130) from None\n"
    )
    words = [sys.executable, "-m", "interrupted"]
    paths = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[3])))
    done = subprocess.run(words, check=False, timeout=60, env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 130


def test_a_signal_whose_exception_went_nowhere_is_raised_by_the_next_check(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Dying:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with handled():
        check()
        Dying()
        with pytest.raises(SystemExit) as caught:
            check()
    assert caught.value.code == 143
    assert capsys.readouterr().err == ""
    check()
