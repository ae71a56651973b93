"""Weights on disk: `NAME.safetensors` beside `NAME.json`, whole or not at all, never a pickle.

The JSON names the config, the figures and the SHA-256 of the weights, which reading verifies.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def _serialised(state: Mapping[str, Tensor]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in state.items()})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and their description.

    Raises:
        UserError: a file is missing, or the weights are not those that were written.
    """
    try:
        weights = path.read_bytes()
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"checkpoint {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"checkpoint {path.with_suffix('.json')}: not JSON ({error})") from error
    if not isinstance(about, dict):
        raise UserError(f"checkpoint {path.with_suffix('.json')}: does not describe weights")
    found = hashlib.sha256(weights).hexdigest()
    if found != about.get("sha256"):
        raise UserError(f"checkpoint {path}: SHA-256 is {found}, must be {about.get('sha256')}")
    return load(weights), about
