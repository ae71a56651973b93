"""Whatever is given that is wrong: one line, exit code 2, and the database as it was."""

import gzip
import math
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.cli import main
from study.plans.plan import Plan, load_plan
from study.run import session
from study.run.coordinator import Coordinator, StudyFailed
from study.run.executors import Job, Watcher
from study.run.opening import open_study
from study.run.session import work_for
from study.run.weights import WeightFiles
from study.store.location import locate
from study.store.ownership import take
from study.store.writer import StudyWriter
from tests.faults.simulated import Simulated, result_of
from tests.support.plans import TINY, Witness, fingerprint, run, tiny
from trainer.config import FIELD_NAMES
from trainer.errors import UserError
from trainer.files import FILES

QUICK = ("--executor", "inline", "--device", "cpu")
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a finished study."""
    file = tmp_path_factory.mktemp("finished") / "studies.db"
    run(tiny(), file)
    return file


@pytest.fixture
def refused(
    tmp_path: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Refused:
    """Check that a command is refused beside a finished study; return what it said."""
    monkeypatch.chdir(tmp_path)
    for name in ("FMNIST_STUDY_STORAGE", "FMNIST_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "studies.db"
    (tmp_path / "tiny.toml").write_text(TINY)
    file.write_bytes(finished.read_bytes())

    def call(*words: str) -> str:
        (tmp_path / "studies.db.lock").touch()  # as a run leaves it
        before, names = fingerprint(file), sorted(path.name for path in tmp_path.iterdir())
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capsys.readouterr()
        assert (ended.value.code, said.out) == (2, ""), (words, said)
        assert said.err.startswith("fmnist-study: error: ")
        assert said.err.count("\n") == 1
        assert fingerprint(file) == before
        assert sorted(path.name for path in tmp_path.iterdir()) == names
        return said.err

    return call


HEAD = 'name = "tiny"\ndataset = "digits"\n'
MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "not TOML": b"name = ",
    "not UTF-8": b'name = "\xff\xfe"',
    "a pickle": b"\x80\x04\x95\x00\x00\x00\x00",
    "nul bytes": b"\0" * 1000,
    "a key twice": b'name = "a"\nname = "b"\n',
    "deeply nested": b"a = " + b"[" * 5000 + b"]" * 5000,
    "a number of many digits": b"seeds = " + b"9" * 6000,
    "no name": b'dataset = "digits"\n',
    "a name that leads out": b'name = "../../x"\ndataset = "digits"\n',
    "a name of control characters": b'name = "\\u001b[31m"\n',
    "a name that is a number": b"name = 1\n",
    "an unknown key": HEAD.encode() + b"speed = 1\n",
    "an unknown design": HEAD.encode() + b'design = "magic"\n',
    "no seeds": HEAD.encode() + b"seeds = 0\n",
    "seeds that are true": HEAD.encode() + b"seeds = true\n",
    "too many cells": HEAD.encode() + b"seeds = 10000\n[factors]\nwidth = [4, 8, 16, 32, 64, 128, "
    b"12, 20, 24, 28, 36]\n",
    "a factor without levels": HEAD.encode() + b"[factors]\nwidth = []\n",
    "a factor that there is not": HEAD.encode() + b"[factors]\ncolour = [1]\n",
    "a level that cannot be": HEAD.encode() + b"[factors]\nlearning_rate = [nan]\n",
    "a baseline that cannot be": HEAD.encode() + b"[baseline]\ndropout = 1.5\n",
    "a table that is a list": HEAD.encode() + b"factors = [1, 2]\n",
    "a search without parameters": HEAD.encode() + b'design = "search"\n[search]\ntrials = 3\n',
    "a data set that there is not": b'name = "tiny"\ndataset = "cifar"\n',
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_plan_changes_nothing(refused: Refused, tmp_path: Path, what: str) -> None:
    (tmp_path / "bad.toml").write_bytes(MALFORMED[what])
    for words in (["run", "bad.toml", *QUICK], ["run", "bad.toml", "--dry-run"]):
        assert "bad.toml: " in refused(*words)


def official(folder: Path) -> None:
    """Write files of the right names, of some images each: not the official ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        head = b"\0\0\x08\x03" + (2).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
        body = head + bytes(2 * 784) if "images" in name else b"\0\0\x08\x01\0\0\0\x02\1\2"
        (folder / name).write_bytes(gzip.compress(body))


def put(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return damage


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def folder_for(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "other files": lambda _: None,
    **{f"{name} is missing": without(name) for name in FILES},
    **{f"{name} is empty": put(name, b"") for name in FILES},
    **{f"{name} is cut": put(name, b"\x1f\x8b\x08") for name in FILES},
    **{f"{name} is a page": put(name, b"<html>404</html>") for name in FILES},
    **{f"{name} is a folder": folder_for(name) for name in FILES},
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_malformed_data_folder_changes_nothing(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network here")

    from trainer.torchvision_compat import torchvision

    monkeypatch.setattr(torchvision().datasets.utils, "download_url", offline)
    official(tmp_path / "data")
    DAMAGES[what](tmp_path / "data")
    said = refused("run", "ablation", "--data-dir", "data", *QUICK)
    assert any(words in said for words in ("is not the official", "could not be", "data/"))


@pytest.mark.parametrize(
    "words",
    [
        ["--epochs", "2"],
        ["--subset", "300"],
        ["--dataset", "fashion-mnist", "--data-dir", "."],
        ["--study-name", "../tiny"],
        ["--study-name", ".tiny"],
        ["--study-name", "a b"],
        ["--timeout", "never"],
        ["--workers", "-1"],
    ],
)
def test_another_config_changes_nothing(refused: Refused, words: list[str]) -> None:
    name = [] if "--study-name" in words else ["--study-name", "tiny"]
    refused("run", "tiny.toml", *QUICK, *name, *words)


def test_another_plan_is_refused_with_what_differs(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY.replace('["max", "avg"]', '["avg"]'))
    said = refused("run", "tiny.toml", *QUICK)
    assert "factors.pooling (['max', 'avg'], now ['avg'])" in said
    assert "choose another --study-name" in said


def test_a_foreign_optuna_database_is_not_even_opened_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.support.studies import POOLING, database, trial

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    database(tmp_path, [trial(POOLING, {}, 0, 0.9)], name="tiny", wal=False)
    before = fingerprint(tmp_path / "studies.db")
    with pytest.raises(SystemExit) as ended:
        main(["run", "tiny.toml", *QUICK])
    assert ended.value.code == 2
    assert "'tiny': was not made by fmnist-study" in capsys.readouterr().err
    assert fingerprint(tmp_path / "studies.db") == before  # not even its journal mode
    assert {path.name for path in tmp_path.iterdir()} <= {
        "studies.db", "studies.db.lock", "tiny.toml",
    }  # fmt: skip


# Plans that nobody would write.

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["max", "avg", "adam", "digits", "search", "flip+erase"]),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*FIELD_NAMES, "trials", "space", "low", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
keys = st.sampled_from(
    ["name", "design", "dataset", "seeds", "epochs", "subset", "baseline", "factors", "search",
     "variants", "source", "reported", "claims", "description", "x"]
)  # fmt: skip


@given(st.dictionaries(keys, values, max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_table_is_a_plan_or_a_user_s_error_in_one_line(table: dict[str, Any]) -> None:
    try:
        plan = Plan.from_dict({"name": "x", "dataset": "digits", **table})
    except UserError:
        return  # nothing else may be raised
    assert Plan.from_dict(plan.to_dict()).hash == plan.hash


@given(st.text(string.printable, max_size=200) | st.binary(max_size=200))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_file_is_a_plan_or_a_user_s_error(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "any.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=r"any\.toml: "):  # no such text names itself a plan
        load_plan(str(file))


@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(string.printable)), max_size=5))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_plan_with_typing_errors_is_a_plan_or_a_user_s_error(
    tmp_path: Path, errors: list[tuple[int, str]]
) -> None:
    text = TINY
    for place, letter in errors:
        text = text[: place % len(text)] + letter + text[place % len(text) + 1 :]
    file = tmp_path / "any.toml"
    file.write_text(text)
    said = "any.toml: "
    try:
        load_plan(str(file))
    except UserError as error:
        said = str(error)
    assert "any.toml: " in said


# Objectives that are none.


class Odd(Simulated):
    """Workers whose results of seed 1 have no objective."""

    value: float | None = None

    def run(self, watcher: Watcher) -> None:
        from dataclasses import replace

        while (job := watcher.next_job()) is not None:
            assert isinstance(job, Job)
            (config,) = job.configs
            result = result_of(config, config.epochs)
            if config.seed == 1:
                result = replace(result, val_accuracy=self.value)
            watcher.on_results(job, [result])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_an_objective_that_is_none_is_a_failure_and_spares_the_others(
    tmp_path: Path, value: float | None
) -> None:
    plan = tiny(seeds=3)
    with take(locate(str(tmp_path / "x.db")), "test") as opened:
        writer = StudyWriter(opened, "tiny")
        open_study(writer, plan, {"name": "digits", "sha256": ""})
        executor = Odd(1)
        executor.value = value
        coordinator = Coordinator(
            work_for(plan, []), writer, executor, bank_size=1,
            weights=WeightFiles(tmp_path, "studies.db", plan.name), view=Witness(),
        )  # fmt: skip
        state = coordinator.run()
        found = writer.trials()
    assert (state.done, state.failed) == (4, 2)
    for trial in found:
        odd = trial.user_attrs["seed"] == 1
        assert trial.state.name == ("FAIL" if odd else "COMPLETE")
        if odd:
            reason = trial.user_attrs["failure_reason"]
            assert reason == f"the objective is not a finite number: {value}"


def test_a_study_whose_objectives_are_all_none_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager

    class AllOdd(Odd):
        def run(self, watcher: Watcher) -> None:
            while (job := watcher.next_job()) is not None:
                from dataclasses import replace

                result = replace(result_of(job.configs[0], 1), val_accuracy=math.nan)
                watcher.on_results(job, [result])

    @contextmanager
    def workers(*_: object) -> Any:
        yield AllOdd(1), 1

    monkeypatch.setattr(session, "workers_for", workers)
    with pytest.raises(StudyFailed, match="5 failures in a row: the objective is not a finite"):
        run(tiny(seeds=5), tmp_path / "studies.db")


# Paths.


@pytest.mark.parametrize("name", ["a?b", "50%41", "a b", "{a}", "a#b", "ü&x=1", "a'b"])
def test_any_folder_works(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    where = str(folder / f"{name}.db")
    for words in (["run", "tiny.toml", *QUICK, "--quiet"], ["report"], ["backup"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--storage", where])
        assert ended.value.code == 0, capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.db", f"{name}.db.backup", f"{name}.db.lock", "checkpoints",
    }  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {name, "tiny.toml", "reports"}
