"""Weights on disk: `NAME.safetensors` beside `NAME.json`, whole or not at all, never a pickle.

The JSON names the config, the figures and the SHA-256 of the weights, which reading verifies.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trainer.atomic import write_atomically
from trainer.errors import UserError


def write(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write weights to `path` (`.safetensors`) and what they are to its `.json`.

    The JSON comes last: where it is, the weights are complete.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = _serialised(state)
    write_atomically(path, weights)
    described = {**about, "sha256": hashlib.sha256(weights).hexdigest()}
    write_atomically(path.with_suffix(".json"), json.dumps(described, indent=1).encode())


def size(state: Mapping[str, Tensor]) -> int:
    """Return the bytes of the file of these weights in fp32, without writing it."""
    return len(_serialised({name: tensor.float() for name, tensor in state.items()}))


def sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the file that `write` makes of these weights, without writing it."""
    return hashlib.sha256(_serialised(state)).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a weights file as it lies there.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror}") from error


def _serialised(state: Mapping[str, Tensor]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in state.items()})


def read(path: Path, expected: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and their description.

    Args:
        path: the weights; the description lies beside them.
        expected: the SHA-256 that the weights must have, where somebody else remembers it too.

    Raises:
        UserError: a file is missing or damaged, or the weights are not those that were written, or
            not the expected ones.
    """
    weights, about = _files(path, path.with_suffix(".json"))
    actual = hashlib.sha256(weights).hexdigest()
    for digest in (about.get("sha256"), expected or actual):
        if actual != digest:
            raise UserError(f"checkpoint {path}: SHA-256 is {actual}, must be {digest}")
    try:
        return load(weights), about
    # The weights may be those that were written and still be none: somebody wrote both files.
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"checkpoint {path}: does not hold weights ({reason})") from error


def _files(path: Path, described: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the content of both files of a checkpoint."""
    try:
        weights = path.read_bytes()
        about = json.loads(described.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"checkpoint {error.filename}: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"checkpoint {described}: its JSON is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"checkpoint {described}: not JSON ({error})") from error
    if not isinstance(about, dict):
        raise UserError(f"checkpoint {described}: does not describe weights")
    return weights, about
