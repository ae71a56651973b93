"""The one command for a GPU: its parts run on a CPU too, and its goals are judged by figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import PARTS, Run, goals, measure

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_whole_command_runs_on_a_cpu_and_judges_nothing_there(tmp_path: Path) -> None:
    out = str(tmp_path / "x.json")
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--out", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["results"].keys() == PARTS.keys()
    assert written["goals"] == {}
    assert written["results"]["killed_worker"]["killed workers"] == 1
    for part in ("killed_worker", "ablation"):
        assert written["results"][part]["the run"].startswith("exit code 0"), part
    assert "no goal is judged on a CPU" in done.stdout


def test_goals_hold_are_missed_or_were_not_measured() -> None:
    times = "bank of 16, graphed, times plain eager"
    results: dict[str, dict[str, float | str]] = {
        "steps": {f"2 conv, {times}": 21.0, f"4 conv, {times}": 5.9},
        "pooling": {"seconds": 59.0},
        "single": {"4 conv, 20 epochs": "needs a GPU and --data-dir"},
    }
    assert list(goals(results).values()) == [True, False, True, None]
    assert list(goals({}).values()) == [None] * 4


def test_a_part_that_fails_is_said_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(run: Run) -> dict[str, float | str]:
        raise RuntimeError(f"no such kernel on {run.device}")

    monkeypatch.setitem(PARTS, "steps", broken)
    monkeypatch.setitem(PARTS, "memory", lambda run: {"figure": 1.5, "device": str(run.device)})
    run = Run(torch.device("cpu"), None, quick=True)
    measure(run, ["steps", "memory"])
    assert run.results["steps"] == {"failed": "RuntimeError: no such kernel on cpu"}
    assert run.results["memory"] == {"figure": 1.5, "device": "cpu"}
    assert "figure" in capsys.readouterr().out
