"""The command `run` on every executor: stopped, killed, nodes lost, and the table is the same."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from study.run.hardware import available_cores
from tests.faults.machine import assert_sound, results, running, states, until, write_plan
from tests.study.run.executors.conftest import Kind
from tests.support.cluster import TestCluster

pytestmark = pytest.mark.slow
TIMES = ("seconds", "_ms", "_per_second")  # ends of columns that depend on the machine


def words(kind: Kind) -> list[str]:
    if kind.cluster is None:
        return ["--executor", kind.name, "--device", "cpu"]
    return ["--executor", "ray", "--ray-address", kind.cluster.address]


def table(file: Path) -> list[dict[str, str]]:
    """Return the rows of a study's report, without what depends on the machine."""
    command = [sys.executable, "-m", "study.cli", "report", "--storage", str(file),
               "--format", "csv"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120,
                          env=os.environ)  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows
    return [{k: figure(v) for k, v in row.items() if not k.endswith(TIMES)} for row in rows]


def figure(text: str) -> str:
    """Return a cell without the digits that the order of sums decides: that in which trials end."""
    return f"{float(text):.10g}" if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", text) else text


def test_a_run_that_is_stopped_and_then_killed_comes_to_the_same_results(
    kind: Kind, tmp_path: Path
) -> None:
    seeds = 3 + available_cores()  # there is more to do than workers begin at once
    write_plan(tmp_path, seeds=seeds, epochs=120)
    undisturbed, file = tmp_path / "undisturbed.db", tmp_path / "studies.db"
    with running("study.cli", ["run", "tiny.toml", "--storage", str(undisturbed)], tmp_path) as own:
        assert own.ends() == 0, own.err
    command = ["run", "tiny.toml", *words(kind)]
    with running("study.cli", command, tmp_path) as own:
        until(lambda: states(file)["COMPLETE"] > 0, "a result")
        own.process.send_signal(signal.SIGINT)
        assert own.ends() == 130, own.err
    assert_sound(file)
    with running("study.cli", command, tmp_path) as own:
        done = states(file)["COMPLETE"]
        until(lambda: states(file)["COMPLETE"] > done, "another result")
        own.process.kill()
        own.ends()
    with running("study.cli", command, tmp_path) as own:
        assert own.ends() == 0, own.err
    assert results(file) == results(undisturbed)
    assert_sound(file)


def test_an_ablation_on_a_cluster_whose_nodes_come_and_go_has_the_table_of_one_machine(
    cluster: TestCluster, tmp_path: Path
) -> None:
    cluster.restore()
    study = ["run", "ablation", "--dataset", "digits", "--seeds", "3", "--epochs", "2"]
    here, there = tmp_path / "here.db", tmp_path / "there.db"
    with running("study.cli", [*study, "--storage", str(here)], tmp_path) as own:
        assert own.ends() == 0, own.err
    command = [*study, "--storage", str(there), "--executor", "ray"]
    command += ["--ray-address", cluster.address]
    with running("study.cli", command, tmp_path) as own:
        until(lambda: states(there)["COMPLETE"] > 8, "some results")
        cluster.kill_node()
        own.says(" was lost: ")
        cluster.grow()
        until(lambda: sum(": 1 workers" in line for line in own.err) == 3, "work for who joined")
        assert own.ends() == 0, own.err
    assert len(results(there)) == 66
    assert results(there) == results(here)
    assert table(there) == table(here)
    assert states(there)["FAIL"] <= 1  # what the lost node was at
    assert_sound(there)
    weights = (tmp_path / "checkpoints" / "there.db").rglob("*.safetensors")
    assert len(list(weights)) == 66
