"""Where a long training stands, on disk, so that it goes on from there after an interruption.

One file per member: a line of JSON (what it is, its course so far, a SHA-256), then safetensors:
weights, optimiser state, and the weights of the best epoch. Random numbers are functions of seed
and step, so there is no generator to keep, and a training that was interrupted comes to the same
result as one that was not. Never a pickle.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from trainer.atomic import sync_folder
from trainer.results import Epoch, State

SECONDS = 20.0  # of training between two files at least: short trials write none
SHARE = 0.05  # of the time that writing may take


@dataclass(frozen=True)
class Standing:
    """One member's course so far. What has ended has no weights and no optimiser state."""

    history: tuple[Epoch, ...]
    outcome: str | None  # None: still in training
    images_per_second: float
    best: State | None  # of the best epoch
    weights: State | None
    optimizer: list[dict[str, Tensor]] | None  # per parameter


class ResumePoints:
    """The files of a bank's members.

    Args:
        paths: one per member.
        about: what a training must agree in to go on from a file, beside its config; JSON.
        seconds: of training between two files.
    """

    def __init__(
        self, paths: Sequence[Path], about: Mapping[str, Any], seconds: float = SECONDS
    ) -> None:
        self.paths, self.about, self.seconds = tuple(paths), dict(about), seconds
        self.written, self.cost = time.monotonic(), 0.0

    def part(self, member: int) -> "ResumePoints":
        """Return the file of a member that is trained alone."""
        return ResumePoints([self.paths[member]], self.about, self.seconds)

    @property
    def due(self) -> bool:
        """Whether it is time for new files."""
        waited = time.monotonic() - self.written
        return waited >= max(self.seconds, self.cost / SHARE)

    def write(self, configs: Sequence[Mapping[str, Any]], members: Sequence[Standing]) -> None:
        """Write every member's file; where the disk refuses, the old ones stay."""
        began = time.monotonic()
        parts: list[Path] = []
        try:
            for path, config, member in zip(self.paths, configs, members, strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                parts.append(path.with_name(f".{path.name}.{os.getpid()}.tmp"))
                with parts[-1].open("wb") as file:
                    file.write(_content({**self.about, "config": dict(config)}, member))
                    file.flush()
                    os.fsync(file.fileno())
            # All at once, so that the members' files are of one epoch.
            for part, path in zip(parts, self.paths, strict=True):
                part.replace(path)
            sync_folder(self.paths[0].parent)
        except OSError:
            pass  # the training itself is not at fault: it goes on without
        finally:
            for part in parts:
                part.unlink(missing_ok=True)
            self.written = time.monotonic()
            self.cost = self.written - began

    def read(self, configs: Sequence[Mapping[str, Any]]) -> list[Standing] | None:
        """Return where the members stand; None: not all are there, whole, and of one epoch."""
        standings = []
        for path, config in zip(self.paths, configs, strict=True):
            member = _parse(path, {**self.about, "config": dict(config)})
            if member is None:
                return None
            standings.append(member)
        alive = {len(member.history) for member in standings if member.outcome is None}
        ended = max((len(member.history) for member in standings), default=0)
        return standings if alive == {ended} else None


def _content(about: Mapping[str, Any], member: Standing) -> bytes:
    tensors = {f"best.{name}": tensor for name, tensor in (member.best or {}).items()}
    tensors |= {f"weights.{name}": tensor for name, tensor in (member.weights or {}).items()}
    for i, moments in enumerate(member.optimizer or ()):
        tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in moments.items()}
    body = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    course = {
        "about": about,
        "history": [asdict(epoch) for epoch in member.history],
        "outcome": member.outcome,
        "images_per_second": member.images_per_second,
        "parameters": None if member.optimizer is None else len(member.optimizer),
    }
    text = json.dumps(course).encode()
    digest = hashlib.sha256(text + body).hexdigest().encode()
    return digest + b" " + text + b"\n" + body


def _parse(path: Path, about: Mapping[str, Any]) -> Standing | None:
    """Read a file; None: it is missing, damaged, or of another training."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    digest, _, text = head.partition(b" ")
    if digest != hashlib.sha256(text + body).hexdigest().encode():
        return None
    course = json.loads(text)
    if course["about"] != json.loads(json.dumps(about)):
        return None
    kinds: dict[str, dict[str, Tensor]] = {"best": {}, "weights": {}, "optimizer": {}}
    for name, tensor in load(body).items():
        kind, _, rest = name.partition(".")
        kinds[kind][rest] = tensor
    count = course["parameters"]
    moments: list[dict[str, Tensor]] = [{} for _ in range(count or 0)]
    for name, tensor in kinds["optimizer"].items():
        number, _, rest = name.partition(".")
        moments[int(number)][rest] = tensor
    return Standing(
        tuple(Epoch(**epoch) for epoch in course["history"]),
        course["outcome"],
        course["images_per_second"],
        kinds["best"] or None,
        kinds["weights"] or None,
        None if count is None else moments,
    )
