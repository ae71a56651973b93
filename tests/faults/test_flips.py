"""A bit changes in a finished database: it is noticed, or it does not matter."""

import json
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from analysis import integrity as reader
from fmnist_common.checksums import trial_checksum
from study.cli import main
from study.plans.plan import load_plan
from study.store import seal as writer
from tests.faults.machine import finished
from tests.support.plans import tiny

Report = Callable[[Path], tuple[int, str]]
Answer = tuple[int, str, str]  # exit code, output, complaints
Call = Callable[..., Answer]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command on a database."""

    def run(command: str, file: Path, *words: str) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([command, "--storage", str(file), *words])
        assert isinstance(ended.value.code, int)
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


@pytest.fixture
def report(call: Call) -> Report:
    """Run `report --format json` on a database; return exit code and output."""
    return lambda file: call("report", file, "--format", "json")[:2]


def change(file: Path, *statements: str) -> None:
    """Change a database behind the back of the product."""
    with closing(sqlite3.connect(file)) as opened:
        for statement in statements:
            opened.execute(statement)
        opened.commit()


@pytest.fixture(scope="module")
def four_trials(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of a finished study of four trials."""
    file = tmp_path_factory.mktemp("finished") / "studies.db"
    finished(file, tiny())
    return file.read_bytes()


@pytest.fixture
def answers(tmp_path: Path, four_trials: bytes, call: Call) -> Callable[[str], list[Answer]]:
    """Change the study of four trials; return what `report` and `status` answer."""

    def ask(statement: str) -> list[Answer]:
        file = tmp_path / "studies.db"
        file.write_bytes(four_trials)
        change(file, statement)
        return [call(command, file) for command in ("report", "status")]

    return ask


@pytest.mark.parametrize(
    ("design", "flips"),
    [
        ("ablation", 60),
        pytest.param("ablation", 200, marks=pytest.mark.slow),
        pytest.param("search", 200, marks=pytest.mark.slow),
    ],
)
def test_a_flipped_bit_is_noticed_or_harmless(
    tmp_path: Path, report: Report, design: str, flips: int
) -> None:
    file = tmp_path / "studies.db"
    plan = tiny(seeds=10, epochs=3)
    if design == "search":
        plan = load_plan("search", dataset="digits").override(trials=20, epochs=3, seeds=1)
    finished(file, plan)
    content = file.read_bytes()
    assert not file.with_name("studies.db-wal").exists()
    code, figures = report(file)
    assert code == 0
    assert json.loads(figures)["damaged"] == 0

    chance = random.Random(design)
    figures_at = [i for i in range(len(content)) if content[i : i + 4] == b"accu"]
    silent, noticed = [], 0
    for number in range(flips):
        # Half of them where the figures are, in the attributes; many pages hold nothing.
        bit = chance.randrange(8 * len(content))
        if number % 2:
            place = chance.choice(figures_at) + chance.randrange(200)
            bit = 8 * min(place, len(content) - 1) + chance.randrange(8)
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        code, now = report(file)
        if code != 0:
            assert code == 2
            noticed += 1
        elif now != figures:
            said = json.loads(now)
            seen = said["damaged"] or said["missing_results"]
            noticed += bool(seen)
            if not seen:
                silent.append(bit)
    assert silent == []
    assert noticed > flips / 4


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE trial_values SET value = value + 1e-15 WHERE trial_value_id = 3", "1 damaged"),
        ("UPDATE trial_user_attributes SET value_json = '0.99' WHERE key = 'test_accuracy' AND "
         "trial_id = 2", "1 damaged"),
        ("UPDATE trial_user_attributes SET key = 'test_bccuracy' WHERE key = 'test_accuracy' AND "
         "trial_id = 2", "1 damaged"),
        ("UPDATE trial_params SET param_value = 1 - param_value WHERE trial_id = 1", "1 damaged"),
        ("UPDATE trial_intermediate_values SET step = 9 WHERE trial_id = 1", "1 damaged"),
        ("UPDATE trials SET state = 'PRUNED' WHERE trial_id = 1", "1 damaged"),
        ("UPDATE trials SET number = 77 WHERE trial_id = 1", "1 damaged"),
        ("DELETE FROM trial_user_attributes WHERE key = 'checksum' AND trial_id = 1", "1 damaged"),
        ("UPDATE trial_user_attributes SET key = 'checksun' WHERE key = 'checksum'", "4 damaged"),
        ("DELETE FROM trials WHERE trial_id = 1", "4 trials were written, 3 are there"),
        ("UPDATE trials SET study_id = 9 WHERE trial_id = 1", "4 trials were written, 3 are there"),
        ("UPDATE trial_values SET value_type = 'NAN', value = NULL", "4 damaged"),
    ],
)  # fmt: skip
def test_a_changed_figure_is_never_shown(
    answers: Callable[[str], list[Answer]], statement: str, words: str
) -> None:
    for code, said, _ in answers(statement):
        assert code == 0
        assert words in said
        assert "DAMAGED: " in said


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE study_user_attributes SET value_json = replace(value_json, 'max', 'mbx') "
         "WHERE key = 'plan'", "its attribute 'plan' is not what was written"),
        ("UPDATE study_user_attributes SET key = 'plao' WHERE key = 'plan'",
         "its attribute 'plan' is not what was written"),
        ("DELETE FROM study_user_attributes WHERE key = 'seal'", "its seal is damaged or missing"),
        ("UPDATE study_user_attributes SET value_json = '[' WHERE key = 'seal'",
         "its seal is damaged or missing"),
        ("UPDATE study_directions SET direction = 'MINIMIZE'", "its directions are not those"),
        ("UPDATE studies SET study_name = 'tinx'", "it was written under another name, 'tiny'"),
    ],
)  # fmt: skip
def test_a_study_whose_description_changed_is_not_reported(
    answers: Callable[[str], list[Answer]], statement: str, words: str
) -> None:
    for code, said, complaint in answers(statement):
        assert (code, said) == (2, "")
        assert words in complaint
        assert complaint.count("\n") == 1


def test_an_older_study_has_no_checksums_and_gets_them_from_now_on(
    tmp_path: Path, report: Report
) -> None:
    file = tmp_path / "studies.db"
    finished(file, tiny())
    change(
        file,
        "DELETE FROM study_user_attributes WHERE key = 'seal'",
        "DELETE FROM trial_user_attributes WHERE key = 'checksum'",
    )
    code, before = report(file)
    assert (code, json.loads(before)["damaged"]) == (0, 0)
    finished(file, tiny(seeds=3))
    code, after = report(file)
    assert (code, json.loads(after)["damaged"]) == (0, 0)
    change(file, "UPDATE trial_values SET value = 0.5 WHERE trial_id IN (1, 6)")
    assert json.loads(report(file)[1])["damaged"] == 1  # the new one; nobody can tell of the old


def test_a_run_whose_earlier_results_are_damaged_trains_them_again(
    tmp_path: Path, report: Report
) -> None:
    file = tmp_path / "studies.db"
    finished(file, tiny())
    _, before = report(file)
    change(file, "UPDATE trial_values SET value = 0.5 WHERE trial_id = 2")
    finished(file, tiny())
    after = json.loads(report(file)[1])
    assert after["counts"] == {"finished": 4, "damaged": 1}
    assert after["baseline"] == json.loads(before)["baseline"]


def test_both_halves_compute_the_same_checksum() -> None:
    trial: Any = (
        3, "COMPLETE", [(0.5, "FINITE"), (None, "NAN")], {"width": (4.0, '{"name": "x"}')},
        {1: (0.25, "FINITE"), 10: (0.5, "FINITE")}, {"seed": "0", "name": '"ä"'},
    )  # fmt: skip
    assert reader.expected_checksum(*trial) == trial_checksum(*trial)
    seal = writer.Seal("x", ["MAXIMIZE"])
    seal.take_attribute("plan", "{}")
    seal.take_trial("f" * 64)
    seal.take_trial("f" * 64)
    attributes = {"plan": "{}", "seal": seal.text()}
    assert reader.damage("x", ["MAXIMIZE"], attributes, True) is None
    assert reader.missing(attributes, [json.dumps("f" * 64)] * 2) is None
    assert reader.missing(attributes, [json.dumps("f" * 64)]) is not None
    assert writer.Seal.parse(json.loads(seal.text())) == seal
