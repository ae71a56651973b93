"""Batch systems: the script of docs/growing.md is told to end, ends in time, and goes on."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.machine import (
    RUN,
    SECONDS,
    SIMULATED,
    assert_sound,
    hold,
    let_go,
    results,
    running,
    simulated,
    states,
    until,
    write_plan,
)
from tests.support.house import ROOT


def test_sigusr1_ends_a_run_as_sigterm_does(tmp_path: Path) -> None:
    write_plan(tmp_path, seeds=1000, epochs=1)
    file = tmp_path / "studies.db"
    hold(tmp_path, 5)
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path)) as own:
        until(lambda: states(file)["COMPLETE"] == 5, "results")
        own.process.send_signal(signal.SIGUSR1)
        assert own.ends() == 143, own.err
    assert_sound(file)


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)
    return file


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM], ids=["SIGUSR1", "SIGTERM"])
def test_the_job_script_is_requeued_and_goes_on(tmp_path: Path, number: int) -> None:
    page = (ROOT / "docs" / "growing.md").read_text(encoding="utf-8")
    found = re.search(r"```sbatch\n(.*?)```", page, re.DOTALL)
    assert found
    script = written(tmp_path, "job", found[1].replace("run ablation", "run tiny.toml"))
    written(tmp_path, "scontrol", '#!/bin/sh\necho "$@" >> requeued\n')
    program = f'#!/bin/sh\nexec "{sys.executable}" -m {SIMULATED} "$@"\n'
    written(tmp_path, "fmnist-study", program)
    env = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_ID": "7",
        **simulated(tmp_path),
    }
    write_plan(tmp_path, seeds=3, epochs=60)
    hold(tmp_path, 2)
    file = tmp_path / "studies.db"
    with subprocess.Popen([script], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL) as job:
        until(lambda: states(file)["COMPLETE"] == 2, "results")
        job.send_signal(number)
        assert job.wait(SECONDS) == 143
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    kept = results(file)
    let_go(tmp_path)
    again = subprocess.run(
        [script], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, check=False, timeout=200
    )
    assert again.returncode == 0
    assert kept.items() <= results(file).items()
    assert len(results(file)) == 6
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
