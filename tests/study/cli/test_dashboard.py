"""The dashboard serves snapshots that follow the database, with notes and plots of ours."""

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from analysis import dashboard
from analysis.designs import results
from study.cli.dashboard import Snapshots
from study.store.location import locate
from tests.faults.machine import SECONDS, until
from tests.support.plans import fingerprint, run, tiny
from tests.support.studies import read, trial


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("trained") / "studies.db"
    run(tiny(epochs=2), file)
    return file


@pytest.fixture
def database(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(trained, tmp_path))


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the command; yield the address of its API's first study."""
    words = [sys.executable, "-m", "study.cli", "dashboard", "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=folder, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[0]
            assert address.endswith("/dashboard/studies/1")
            yield address.replace("/dashboard/studies/1", "/api/studies/1?after=0"), process
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=SECONDS)
        finally:
            process.kill()


def ask(api: str) -> dict[str, Any]:
    with urllib.request.urlopen(api, timeout=SECONDS) as answer:
        shown: dict[str, Any] = json.load(answer)
    return shown


def test_the_dashboard_follows_a_study_that_goes_on_and_ends_with_ctrl_c(database: Path) -> None:
    with serving(database.parent) as (api, process):
        assert len(ask(api)["trials"]) == 4
        run(tiny(epochs=2, seeds=3), database)
        until(lambda: len(ask(api)["trials"]) == 6, "all trials in a snapshot")
        before = fingerprint(database)
    assert process.returncode == 0
    assert fingerprint(database) == before


def served(snapshots: Snapshots) -> dict[str, Any]:
    """Ask an application for its first study."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies/1", "QUERY_STRING": "after=0",
               "SERVER_NAME": "localhost", "SERVER_PORT": "80",
               "wsgi.url_scheme": "http"}  # fmt: skip
    answer: dict[str, Any] = json.loads(b"".join(snapshots(environ, lambda *_: None)))
    return answer


def test_a_snapshot_holds_summary_table_findings_plots_and_each_trial_s_course(
    database: Path, tmp_path: Path
) -> None:
    place = tmp_path / "snapshots"
    place.mkdir()
    before = fingerprint(database)
    snapshots = Snapshots(locate(str(database)), database, place)
    shown = served(snapshots)
    note = shown["note"]["body"]
    assert "Too few seeds for any claim" in note
    assert "| pooling | avg | 2 |" in note
    assert "`single-run`" in note
    figures = [graph["graph_object"] for graph in shown["plotly_graph_objects"]]
    titles = {json.loads(figure)["layout"]["title"]["text"] for figure in figures}
    assert "Effect of each level" in titles
    first = shown["trials"][0]["note"]["body"]
    assert first.startswith("**baseline**, seed 0")
    assert "| epoch | train_loss |" in first
    assert "| width | 4 |" in first
    assert not snapshots.refresh()  # nothing has changed
    run(tiny(epochs=2, seeds=3), database)
    assert snapshots.refresh()
    assert len(served(snapshots)["trials"]) == 6
    assert "| pooling | avg | 3 |" in served(snapshots)["note"]["body"]
    assert fingerprint(database) != before
    assert len(list(place.glob("*.db"))) == 2


def test_names_of_others_steer_neither_note_nor_plot(tmp_path: Path) -> None:
    hostile = tiny(description="<script>x</script>").to_dict()
    rows = [trial(hostile, {}, seed, 0.5) for seed in range(3)]
    study, trials = read(tmp_path, rows, hostile, name="x")
    note = dashboard.study_note(
        results(study, trials),
        [{"severity": "note", "code": "c", "where": "a|b", "message": "[x](javascript:1) <b>"}],
    )
    assert r"\[x\](javascript:1) \<b\>" in note
    assert r"(a\|b)" in note


def test_a_failed_trial_s_note_says_why(tmp_path: Path) -> None:
    of = tiny().to_dict()
    rows = [trial(of, {}, 0, None, state=TrialState.FAIL, failure_reason="no *room*")]
    _, (failed,) = read(tmp_path, rows, of)
    assert r"Failed: no \*room\*" in dashboard.trial_note(failed)


def test_a_sparkline_spans_its_values_and_leaves_out_what_is_no_number() -> None:
    assert dashboard.sparkline([0.1, float("nan"), 0.5, 0.4]) == "▁ █▆"
    assert dashboard.sparkline([0.2, 0.2]) == "▄▄"
