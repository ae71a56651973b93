"""`verify`: what changed since, what never fitted, what does not repeat; and what it cannot say."""

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fmnist_common.checksums import CHECKSUM, SEAL, trial_checksum
from study.cli import main
from tests.support.plans import fingerprint

Answer = tuple[int, dict[str, Any]]
Verify = Callable[..., Answer]


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """Run `verify --json` in the current folder; return its exit code and document."""

    def call(*words: str) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["verify", "--json", *words])
        out = capsys.readouterr().out
        assert isinstance(ended.value.code, int)
        return ended.value.code, json.loads(out) if out else {}

    return call


def states(document: dict[str, Any]) -> dict[str, str]:
    return {check["what"]: check["state"] for check in document["checks"]}


def text(document: dict[str, Any], what: str) -> str:
    (check,) = [check for check in document["checks"] if check["what"] == what]
    return str(check["text"])


def change(statement: str, *values: object) -> None:
    """Change the database behind the back of the product."""
    with closing(sqlite3.connect("studies.db")) as opened, opened:
        assert opened.execute(statement, values).rowcount > 0


def forge(trial: int, attributes: dict[str, Any]) -> None:
    """Change a trial's attributes as somebody would who also writes its checksum and the seal."""
    with closing(sqlite3.connect("studies.db")) as opened, opened:
        where = "WHERE trial_id = ? AND key = ?"
        for key, value in attributes.items():
            opened.execute(
                f"UPDATE trial_user_attributes SET value_json = ? {where}",
                (json.dumps(value), trial, key),
            )
        texts = dict(
            opened.execute(
                "SELECT key, value_json FROM trial_user_attributes WHERE trial_id = ?", (trial,)
            )
        )
        number, state = opened.execute(
            "SELECT number, state FROM trials WHERE trial_id = ?", (trial,)
        ).fetchone()

        def rows(columns: str, table: str) -> list[tuple[Any, ...]]:
            return opened.execute(
                f"SELECT {columns} FROM {table} WHERE trial_id = ?", (trial,)
            ).fetchall()

        steps = rows("step, intermediate_value, intermediate_value_type",
                     "trial_intermediate_values")  # fmt: skip
        parameters = rows("param_name, param_value, distribution_json", "trial_params")
        checksum = trial_checksum(
            number,
            state,
            rows("value, value_type", "trial_values"),
            {name: (value, kind) for name, value, kind in parameters},
            {step: (value, kind) for step, value, kind in steps},
            texts,
        )
        opened.execute(
            f"UPDATE trial_user_attributes SET value_json = ? {where}",
            (json.dumps(checksum), trial, CHECKSUM),
        )
        sums = opened.execute(
            "SELECT value_json FROM trial_user_attributes WHERE key = ?", (CHECKSUM,)
        )
        total = sum(int(json.loads(value), 16) for (value,) in sums) % 2**256
        (seal,) = opened.execute(
            "SELECT value_json FROM study_user_attributes WHERE key = ?", (SEAL,)
        ).fetchone()
        opened.execute(
            "UPDATE study_user_attributes SET value_json = ? WHERE key = ?",
            (json.dumps({**json.loads(seal), "total": f"{total:064x}"}), SEAL),
        )


def attribute(trial: int, key: str) -> Any:
    with closing(sqlite3.connect("studies.db")) as opened:
        (value,) = opened.execute(
            "SELECT value_json FROM trial_user_attributes WHERE trial_id = ? AND key = ?",
            (trial, key),
        ).fetchone()
    return json.loads(value)


def weights() -> list[Path]:
    return sorted(Path("checkpoints").rglob("*.safetensors"))


def everything(folder: Path) -> dict[str, str]:
    return {str(file): fingerprint(file) for file in folder.rglob("*") if file.is_file()}


def test_a_study_repeats_to_the_bit_where_it_was_trained_and_nothing_is_written(
    folder: Path, verify: Verify
) -> None:
    before = everything(folder)
    code, said = verify("--retrain", "2", "--seed", "5")
    assert (code, said["wrong"], said["seed"]) == (0, 0, 5)
    repeats = [check for check in said["checks"] if check["what"].startswith("trial ")]
    assert len(repeats) == 2
    assert all("equal to the bit" in check["text"] for check in repeats)
    assert everything(folder) == before
    again = verify("--retrain", "2", "--seed", "5")[1]
    assert [check["what"] for check in again["checks"]] == [c["what"] for c in said["checks"]]


def test_a_flipped_bit_in_a_figure_is_found(folder: Path, verify: Verify) -> None:
    content = bytearray((folder / "studies.db").read_bytes())
    stored = json.dumps(attribute(2, "test_loss")).encode()
    content[content.index(stored) + len(stored) - 1] ^= 1  # the last digit
    (folder / "studies.db").write_bytes(content)
    code, said = verify()
    assert code == 1
    assert states(said)["trials"] == "wrong"
    assert "1 trial damaged: 1 (it is not what was written)" in text(said, "trials")


def test_a_flipped_bit_in_the_weights_is_found(folder: Path, verify: Verify) -> None:
    content = bytearray(weights()[0].read_bytes())
    content[-1] ^= 1
    weights()[0].write_bytes(content)
    code, said = verify()
    assert (code, states(said)["weights"], states(said)["trials"]) == (1, "wrong", "ok")


def test_a_page_that_sqlite_cannot_read_is_found(folder: Path, verify: Verify) -> None:
    content = bytearray((folder / "studies.db").read_bytes())
    content[4096] ^= 0xFF  # the kind of the second page
    (folder / "studies.db").write_bytes(content)
    code, said = verify()
    assert (code, states(said)) == (1, {"database": "wrong"})


def test_a_changed_history_is_found(folder: Path, verify: Verify) -> None:
    history = attribute(3, "history")
    history[0]["train_loss"] /= 2
    change(
        "UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = 3 AND key = 'history'",
        json.dumps(history),
    )
    code, said = verify()
    assert (code, states(said)["trials"]) == (1, "wrong")


def test_a_history_that_was_changed_before_it_was_sealed_contradicts_the_accuracy(
    folder: Path, verify: Verify
) -> None:
    history = attribute(3, "history")
    history[-1]["val_accuracy"] = 0.99
    forge(3, {"history": history})
    code, said = verify()
    assert (code, states(said)["trials"], states(said)["figures"]) == (1, "ok", "wrong")
    assert "its history is not its intermediate values" in text(said, "figures")


def test_exchanged_weights_are_found(folder: Path, verify: Verify) -> None:
    first, second = weights()[:2]
    for suffix in (".safetensors", ".json"):
        place = folder / f"aside{suffix}"
        first.with_suffix(suffix).rename(place)
        second.with_suffix(suffix).rename(first.with_suffix(suffix))
        place.rename(second.with_suffix(suffix))
    code, said = verify()
    assert (code, states(said)["weights"]) == (1, "wrong")
    assert "2 files" in text(said, "weights")


def test_weights_that_vanished_beside_others_are_found_and_all_of_them_are_only_told(
    folder: Path, verify: Verify
) -> None:
    weights()[0].unlink()
    assert verify()[0] == 1
    shutil.rmtree("checkpoints")
    code, said = verify()
    assert (code, states(said)["weights"]) == (0, "not verified")


def test_a_result_that_does_not_repeat_is_found_however_well_it_is_signed(
    folder: Path, verify: Verify
) -> None:
    losses = [{**entry, "train_loss": entry["train_loss"] / 2} for entry in attribute(1, "history")]
    forge(1, {"history": losses})
    code, said = verify()
    assert (code, said["wrong"]) == (0, 0)  # nothing that was stored contradicts it
    code, said = verify("--retrain", "4")
    assert (code, said["wrong"]) == (1, 1)
    assert "must be equal to the bit, but history differ" in text(
        said, "trial 0 (baseline, seed 0)"
    )


def test_where_bits_are_not_promised_a_stated_tolerance_decides(
    folder: Path, verify: Verify
) -> None:
    """As if it had been trained on another host; one accuracy is not what was measured."""
    with closing(sqlite3.connect("studies.db")) as opened, opened:
        (seal,) = opened.execute(
            "SELECT value_json FROM study_user_attributes WHERE key = 'seal'"
        ).fetchone()
        made = json.loads(seal)
        made["attributes"]["host"] = hashlib.sha256(b'"elsewhere"').hexdigest()
        for key, value in (("seal", json.dumps(made)), ("host", '"elsewhere"')):
            opened.execute(
                "UPDATE study_user_attributes SET value_json = ? WHERE key = ?", (value, key)
            )
    forge(1, {"test_accuracy": attribute(1, "test_accuracy") / 2, "confusion": {}})
    code, said = verify("--retrain", "4", "--tolerance", "2")
    assert (code, said["wrong"]) == (1, 1)
    wrong = text(said, "trial 0 (baseline, seed 0)")
    assert "beyond the tolerance of 2.00" in wrong
    assert "host: elsewhere, here" in wrong
    code, said = verify("--retrain", "4", "--tolerance", "100")
    assert code == 0
    assert "within the tolerance of 100.00" in text(said, "trial 0 (baseline, seed 0)")


def test_a_damaged_study_that_cannot_be_named_any_more_is_found(
    folder: Path, verify: Verify
) -> None:
    change("UPDATE studies SET study_name = 'tinx'")
    code, said = verify("tiny")
    assert code == 1
    assert "it was written under another name, 'tiny'" in text(said, "seal")


def test_a_study_without_a_seal_says_what_cannot_be_verified(folder: Path, verify: Verify) -> None:
    change("DELETE FROM trial_user_attributes WHERE key = 'checksum'")
    change("DELETE FROM study_user_attributes WHERE key = 'seal'")
    code, said = verify()
    assert (code, states(said)["seal"]) == (0, "not verified")


def test_an_imported_study_says_what_cannot_be_verified_and_is_not_trained(
    tmp_path: Path, verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs.csv").write_text("lr,seed,val_accuracy\n0.1,0,0.8\n0.01,0,0.7\n")
    with contextlib.chdir(tmp_path):
        with pytest.raises(SystemExit) as ended:
            main(["import", "theirs.csv", "--study-name", "theirs"])
        assert ended.value.code == 0
        code, said = verify("theirs")
        assert (code, states(said)["trials"], states(said)["weights"]) == (0, "ok", "not verified")
        assert "theirs.csv" in text(said, "weights")
        with pytest.raises(SystemExit, match="2"):
            main(["verify", "theirs", "--retrain", "1"])
    assert "was not trained by fmnist-study" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("nosuch",), ("--tolerance", "-1"), ("--retrain", "-1"), ("--storage", "nosuch.db")]
)
def test_mistakes_of_the_user_are_no_findings(
    folder: Path, verify: Verify, words: tuple[str, ...]
) -> None:
    assert verify(*words)[0] == 2
