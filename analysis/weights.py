"""Whether the weights that lie beside a database are a trial's.

Files are moved, overwritten and mixed up; the database says what they must be. A trial stores the
SHA-256 of its weights; of an older trial, the figures beside the weights must be its own.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from analysis.trials import Trial


def path_of(trial: Trial, folder: Path) -> Path | None:
    """Return where a trial's weights must be; None: it keeps none.

    Args:
        trial: whose.
        folder: that the database lies in.
    """
    return None if trial.checkpoint is None else folder / trial.checkpoint


def fault(trial: Trial, folder: Path) -> str | None:
    """Say why the weights at a trial's place are not its own; None: they are.

    Args:
        trial: one that keeps weights.
        folder: that the database lies in.
    """
    path = path_of(trial, folder)
    if path is None:
        return f"trial {trial.number} keeps no weights"
    if not path.resolve().is_relative_to(folder.resolve()):  # a link that leads out
        return f"checkpoint {path}: leads out of {folder}"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"checkpoint {path}: {error.strerror}"
    return _mismatch(trial, path, digest)


def _mismatch(trial: Trial, path: Path, digest: str) -> str | None:
    """Say what does not fit together: the trial, its weights, what describes them."""
    about, stored = description(path), trial.weights_sha256
    if digest != about.get("sha256"):
        if digest == stored:
            return f"checkpoint {path.with_suffix('.json')}: does not describe these weights"
        return f"checkpoint {path}: SHA-256 is {digest}, must be {stored or about.get('sha256')}"
    if digest == stored or (stored is None and _tells_of(about, trial)):
        return None
    return f"checkpoint {path}: is of another training than trial {trial.number}"


def description(weights: Path) -> dict[str, Any]:
    """Read what lies beside weights; empty where that is no description."""
    try:
        about = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _tells_of(about: dict[str, Any], trial: Trial) -> bool:
    result = about.get("result")
    figures = result if isinstance(result, dict) else {}
    return bool(
        about.get("config") == trial.config
        and figures.get("val_accuracy") == trial.value
        and figures.get("test_accuracy") == trial.test_accuracy
    )
