"""Nothing that is read is trusted: whatever lies there, a command ends in 0, 1 or 2, in two lines.

The kind: values of another type, of absurd size or depth, and control characters, wherever the
product reads what somebody else may have written. A database without seals (an older one, another
tool's, one that was edited) is changed cell by cell and deep inside its JSON.
"""

import contextlib
import hashlib
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.cli import main
from study.plans.plan import Plan, load_plan
from tests.faults.machine import finished
from tests.support.studies import database, small_search

SCALE: dict[str, Any] = {"max_examples": 25}
LONG: dict[str, Any] = {"max_examples": 400}

# What an attacker, another tool or a flipped bit leaves.
NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, -1e308, 10**18, 10**400, "", "x", "0", "none",
    "\x1b[31mred\x07", "a\nb", "\u202e", "\ud800", "=1+1", "../../x", "/dev/zero", "a" * 5000,
    [], {}, [[]], [{}], {"": {}}, {"name": 1}, [1, "x", None], {"\x1b[2J": "\x1b"},
]  # fmt: skip
CELLS: list[Any] = [
    *map(json.dumps, NASTY), "", "{", "NaN", "[NaN, Infinity, -Infinity]", "1e999", "9" * 5000,
    "[" * 50_000, '{"a":' * 50_000, "[" * 900 + "]" * 900, None, 3, 2.5, -1, 1e300, b"\xff\x00",
    "COMPLETE", "DAMAGED", "NAN", "FINITE", "MINIMIZE", "2026-13-45 99:00:00", "\x1b[31m",
]  # fmt: skip
nasty = st.sampled_from(NASTY) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)

# Table, column, whether it holds JSON.
PLACES = [
    ("study_user_attributes", "value_json", True),
    ("study_user_attributes", "value_json", True),
    ("trial_user_attributes", "value_json", True),
    ("trial_user_attributes", "value_json", True),
    ("trial_params", "distribution_json", True),
    ("trial_params", "param_value", False),
    ("trial_params", "param_name", False),
    ("trial_values", "value", False),
    ("trial_values", "value_type", False),
    ("trial_values", "objective", False),
    ("trial_intermediate_values", "intermediate_value", False),
    ("trial_intermediate_values", "step", False),
    ("trials", "number", False),
    ("trials", "state", False),
    ("trials", "datetime_start", False),
    ("trials", "datetime_complete", False),
    ("studies", "study_name", False),
    ("study_directions", "direction", False),
    ("study_directions", "objective", False),
]

ABLATION = {
    "name": "tiny", "dataset": "digits", "seeds": 2, "epochs": 2, "subset": 200,
    "baseline": {"width": 4, "batch_size": 32, "precision": "fp32"},
    "factors": {"pooling": ["max", "avg"], "batchnorm": [True, False]},
    "variants": [{"factor": "size", "level": "wide", "changes": {"width": 8}}],
    "source": {"name": "somebody", "selected_on": "test", "test_images": 100, "runs": 1},
    "reported": [{"changes": {"pooling": "avg"}, "test_accuracy": 0.9, "parameters": 50}],
    "claims": [{"text": "average is best", "factor": "pooling", "best": "avg"}],
}  # fmt: skip
CSV = "pooling,width,seed,val_accuracy,test_accuracy\n" + "".join(
    f"{pooling},{width},{seed},0.{80 + width + seed},0.{70 + width + seed}\n"
    for pooling in ("max", "avg")
    for width in (4, 8)
    for seed in (0, 1)
)
MORE = {
    "confusion": {"test": [[3, 1], [0, 4]]},
    "inference": {"cpu": {"1": {"p50_ms": 1.0, "p95_ms": 2.0, "images_per_second": 900.0}}},
    "model_bytes": 4000, "multiply_adds": 70_000, "weights_sha256": "0" * 64,
}  # fmt: skip
STUDIES = ("tiny", "factorial", "search", "imported", "foreign")
COMMANDS: list[tuple[str, ...]] = [
    ("list",),
    ("list", "--json"),
    ("status", "STUDY"),
    ("status", "STUDY", "--json"),
    ("report", "STUDY"),
    ("report", "STUDY", "--format", "csv"),
    ("report", "STUDY", "--format", "json"),
    ("report", "STUDY", "--html", "--hiplot", "--out", "pages"),
    ("best", "STUDY"),
    ("best", "STUDY", "--json"),
    ("lint", "STUDY"),
    ("lint", "STUDY", "--json"),
    ("compare", "STUDY", "tiny"),
    ("compare", "STUDY", "factorial", "--format", "csv"),
    ("ensemble", "STUDY", "--top", "2", "--data-dir", "nowhere"),
]


def call(words: tuple[str, ...]) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, output and complaints."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


def assert_civil(words: tuple[str, ...]) -> None:
    """Run a command: it ends in 0, 1 or 2, with at most two lines, and steers no terminal."""
    code, out, err = call(words)
    assert code in {0, 1, 2}, (words, code)
    assert err.count("\n") <= 2, (words, err)
    for text in (out.replace("\n", ""), err.replace("\n", "")):
        bad = {letter for letter in text if not letter.isprintable() and letter not in "\t\r"}
        assert not bad, (words, bad)


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of every kind of study, none of which says what it must be."""
    folder = tmp_path_factory.mktemp("unsealed")
    file = folder / "studies.db"
    finished(file, Plan.from_dict(ABLATION))
    finished(
        file,
        Plan.from_dict(
            {**{k: ABLATION[k] for k in ("dataset", "seeds", "epochs", "baseline", "factors")},
             "name": "factorial", "design": "factorial"}
        ),
    )  # fmt: skip
    finished(file, load_plan("search", dataset="digits").override(trials=14, epochs=3, seeds=2))
    (folder / "sheet.csv").write_text(CSV)
    words = ("import", str(folder / "sheet.csv"), "--study-name", "imported")
    assert call((*words, "--storage", str(file)))[0] == 0
    database(folder, small_search(), name="foreign")
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute("DELETE FROM study_user_attributes WHERE key = 'seal'")
        opened.execute("DELETE FROM trial_user_attributes WHERE key = 'checksum'")
        for key, value in MORE.items():
            opened.execute(
                "INSERT INTO trial_user_attributes (trial_id, key, value_json) "
                "SELECT trial_id, ?, ? FROM trials WHERE state = 'COMPLETE' AND study_id < 4 "
                "AND trial_id NOT IN (SELECT trial_id FROM trial_user_attributes WHERE key = ?)",
                (key, json.dumps(value), key),
            )
            opened.execute(
                "UPDATE trial_user_attributes SET value_json = ? WHERE key = ?",
                (json.dumps(value), key),
            )
    with closing(sqlite3.connect(file)) as opened:
        opened.execute("PRAGMA journal_mode=DELETE")
        opened.execute("VACUUM")
    return file.read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder of all commands here."""
    folder = tmp_path_factory.mktemp("place")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as context:
        for name in ("FMNIST_STUDY_STORAGE", "FMNIST_DATA_DIR"):
            context.delenv(name, raising=False)
        yield folder


def test_what_is_changed_below_is_sound(unsealed: bytes, place: Path) -> None:
    (place / "studies.db").write_bytes(unsealed)
    for study in STUDIES:
        for words in COMMANDS:
            assert_civil(tuple(study if word == "STUDY" else word for word in words))
    for study in STUDIES:
        code, out, err = call(("report", study, "--format", "json"))
        assert (code, err) == (0, ""), study
        assert json.loads(out)["damaged"] == 0


def changed_inside(data: st.DataObject, value: Any) -> Any:
    """Replace, drop or add something somewhere inside a JSON value."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 4)):
        key = data.draw(st.sampled_from(sorted(value)))
        if data.draw(st.integers(0, 9)) == 0:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: changed_inside(data, value[key])}
    if isinstance(value, list) and value and data.draw(st.integers(0, 4)):
        place = data.draw(st.integers(0, len(value) - 1))
        if data.draw(st.integers(0, 9)) == 0:
            return value[:place] + value[place + 1 :]
        return [*value[:place], changed_inside(data, value[place]), *value[place + 1 :]]
    return data.draw(nasty)


def damage(data: st.DataObject, opened: sqlite3.Connection, study: str) -> None:
    """Change one cell of a study."""
    table, column, is_json = data.draw(st.sampled_from(PLACES))
    study_id = "SELECT study_id FROM studies WHERE study_name = ?"
    inside = f"study_id IN ({study_id})"
    if table.startswith("trial_"):
        inside = f"trial_id IN (SELECT trial_id FROM trials WHERE {inside})"
    rows = opened.execute(
        f"SELECT rowid, {column} FROM {table} WHERE {inside} ORDER BY rowid", (study,)
    ).fetchall()
    if not rows:
        return
    rowid, before = data.draw(st.sampled_from(rows))
    if is_json and isinstance(before, str) and data.draw(st.integers(0, 3)):
        try:
            after: Any = json.dumps(changed_inside(data, json.loads(before)))
        except (ValueError, RecursionError):  # it was changed before
            after = data.draw(st.sampled_from(CELLS))
    else:
        after = data.draw(st.sampled_from(CELLS))
    everywhere = data.draw(st.integers(0, 9)) == 0 and table != "trials"
    where = f"{column} = ?" if everywhere and isinstance(before, str) else "rowid = ?"
    with contextlib.suppress(sqlite3.IntegrityError, UnicodeEncodeError):
        opened.execute(
            f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {where}",
            (after, before if where.startswith(column) else rowid),
        )


def check_commands(unsealed: bytes, place: Path, data: st.DataObject) -> None:
    (place / "studies.db").write_bytes(unsealed)
    study = data.draw(st.sampled_from(STUDIES))
    with closing(sqlite3.connect(place / "studies.db")) as opened, opened:
        for _ in range(data.draw(st.integers(1, 3))):
            damage(data, opened, study)
    for words in data.draw(st.lists(st.sampled_from(COMMANDS), min_size=3, max_size=3)):
        assert_civil(tuple(study if word == "STUDY" else word for word in words))


QUIETLY: dict[str, Any] = {
    "deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True,
    "database": None,
}  # fmt: skip


@given(data=st.data())
@settings(**SCALE, **QUIETLY)
def test_whatever_is_stored_no_command_fails_in_an_unforeseen_way(
    unsealed: bytes, place: Path, data: st.DataObject
) -> None:
    check_commands(unsealed, place, data)


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(data=st.data())
@settings(**LONG, **QUIETLY)
def test_whatever_is_stored_no_command_fails_in_an_unforeseen_way_at_length(
    unsealed: bytes, place: Path, data: st.DataObject
) -> None:
    check_commands(unsealed, place, data)


# Files that are given: results of others, plans, folders of an exported network.

WORDS = [
    b"=1+1", b"\x1b[31m", b"nan", b"inf", b"-1", b"1e999", b"9" * 400, b"%", b"\xff", b"\0", b"\n",
    b",", b'"', b";", b"\t", b"seed", b"epoch", b"val_accuracy", b"test_accuracy", b"[" * 3000,
    b'{"a":' * 3000, b"null", b"true", b"\xef\xbb\xbf", b"'''", b"#", b"\xe2\x80\xae",
]  # fmt: skip
FILES = {
    "sheet.csv": CSV.encode(),
    "sheet.json": json.dumps(
        [{"pooling": "max", "seed": n, "val_accuracy": 0.8 + n / 100} for n in range(4)]
    ).encode(),
    "sheet.jsonl": b'{"lr": 0.1, "acc": 0.9}\n{"lr": 0.2, "acc": 0.8}\n',
    "plan.toml": b'name = "x"\ndataset = "digits"\nseeds = 2\nepochs = 1\n[baseline]\nwidth = 4\n'
    b'[factors]\npooling = ["max", "avg"]\n[[variants]]\nfactor = "size"\nlevel = 1\n'
    b"changes = { width = 8 }\n",
    "search.toml": b'name = "x"\ndesign = "search"\ndataset = "digits"\n[search]\ntrials = 3\n'
    b"[search.space]\nwidth = [4, 32]\nlearning_rate = { low = 1e-3, high = 3e-2, log = true }\n"
    b"momentum = { low = 0.1, high = 0.9, when = { width = [4] } }\n",
}


@st.composite
def spoilt(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut, repeat and overwrite parts of a file."""
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        stop = start + draw(st.integers(0, 12))
        word = draw(
            st.sampled_from(WORDS)
            | st.text(max_size=3).map(str.encode)
            | st.just(content[start:stop])
        )
        content = content[:start] + word + content[stop:]
    return content


def check_file(place: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FILES)))
    (place / name).write_bytes(data.draw(spoilt(FILES[name])))
    for file in place.glob("studies.db*"):
        file.unlink()
    if name.endswith(".toml"):
        assert_civil(("lint", name))
        assert_civil(("run", name, "--dry-run", "--executor", "inline", "--data-dir", "nowhere"))
        return
    assert_civil(("import", name, "--study-name", "given"))
    for words in (("report", "given"), ("lint", "given"), ("list",)):
        assert_civil(words)


@given(data=st.data())
@settings(**SCALE, **QUIETLY)
def test_whatever_file_is_given_no_command_fails_in_an_unforeseen_way(
    place: Path, data: st.DataObject
) -> None:
    check_file(place, data)


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(data=st.data())
@settings(**LONG, **QUIETLY)
def test_whatever_file_is_given_no_command_fails_in_an_unforeseen_way_at_length(
    place: Path, data: st.DataObject
) -> None:
    check_file(place, data)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `best --export` writes it, but for the ONNX file, which nothing reads."""
    from study.run.executors import Job, WorkerSpec
    from study.run.executors.worker import Worker
    from trainer.config import TrainConfig

    folder = tmp_path_factory.mktemp("exported")
    config = TrainConfig(dataset="digits", width=4, epochs=1, subset=200, batch_size=32)
    worker = Worker(WorkerSpec("cpu", 1, "digits", None))
    worker.train(Job((config,), (folder / "model.safetensors",)), lambda _: ())
    return folder


def check_folder(exported: Path, place: Path, data: st.DataObject) -> None:
    weights = (exported / "model.safetensors").read_bytes()
    about = json.loads((exported / "model.json").read_text())
    if data.draw(st.booleans()):
        weights = data.draw(spoilt(weights))
        about["sha256"] = hashlib.sha256(weights).hexdigest()  # whoever wrote both
    if data.draw(st.booleans()):
        about = changed_inside(data, about)
    text = json.dumps(about).encode("utf-8", "surrogatepass")
    if data.draw(st.integers(0, 4)) == 0:
        text = data.draw(spoilt(text))
    (place / "model").mkdir(exist_ok=True)
    (place / "model" / "model.safetensors").write_bytes(weights)
    (place / "model" / "model.json").write_bytes(text)
    assert_civil(("evaluate", "model", "--data-dir", "nowhere", "--device", "cpu"))


@given(data=st.data())
@settings(max_examples=15, **QUIETLY)
def test_whatever_lies_in_a_model_s_folder_evaluate_says_it_in_a_line(
    exported: Path, place: Path, data: st.DataObject
) -> None:
    check_folder(exported, place, data)


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(data=st.data())
@settings(max_examples=150, **QUIETLY)
def test_whatever_lies_in_a_model_s_folder_evaluate_says_it_in_a_line_at_length(
    exported: Path, place: Path, data: st.DataObject
) -> None:
    check_folder(exported, place, data)
