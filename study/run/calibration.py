"""`--bank auto`: as many members as pay on this device, measured once and remembered.

What was measured lies in the user's cache folder, by device, torch version and network. It may be
deleted at any time.
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.errors import UserError

Curve = Mapping[int, float]  # members -> images per second
# Config, device, data folder -> its curve.
Measure = Callable[[TrainConfig, str, Path | None], Curve]


def best_bank_size(
    config: TrainConfig,
    device: str,
    data_dir: Path | None,
    *,
    cache: Path | None = None,
    hardware: Callable[[str], str] | None = None,
    measure: Measure | None = None,
) -> int:
    """Return how many members a bank of this network should have.

    Args:
        config: the study's baseline.
        device: `cpu`, where it is 1, or `cuda:N`.
        data_dir: where the images are.
        cache: the file of what was measured; by default the user's.
        hardware: names a device and what its speed depends on.
        measure: measures where nothing is remembered, by default in a process of its own.

    Raises:
        UserError: it cannot be measured; a size should be given.
    """
    if device == "cpu":
        return 1
    cache = cache or cache_folder() / "banks.json"
    key = f"{(hardware or _hardware)(device)}; {_shape(config)}"
    known = _read(cache)
    if key not in known:
        found = (measure or _measure_apart)(config, device, data_dir)
        known = {**_read(cache), key: {str(size): own for size, own in found.items()}}
        with contextlib.suppress(OSError):  # a folder that cannot be written: measured again
            _write(cache, known)
    from trainer.calibration import best

    return best({int(size): own for size, own in known[key].items()})


def cache_folder() -> Path:
    """Return the folder for what can be made again, by the platform's custom."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fmnist-study"


def _shape(config: TrainConfig) -> str:
    """Name what the speed of a bank depends on: the network, the data's shape, the batch."""
    values = repr((config.fusion_key, config.augmentation)).encode()
    return f"{config.architecture} {hashlib.sha256(values).hexdigest()[:16]}"


def _hardware(device: str) -> str:
    import torch

    from trainer.cuda_graph import graphs_wanted
    from trainer.device import resolve

    graphs = "graphs" if graphs_wanted() else "no graphs"
    return f"{torch.cuda.get_device_name(resolve(device))}; torch {torch.__version__}; {graphs}"


def _read(cache: Path) -> dict[str, dict[str, float]]:
    """Return what is remembered; what cannot be read is measured again."""
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
        return {
            key: {str(int(size)): float(own) for size, own in curve.items()}
            for key, curve in known.items()
            if curve
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(cache: Path, known: Mapping[str, Any]) -> None:
    """Write whole or not at all: other runs read it."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=cache.parent, prefix=cache.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(known, file, indent=1)
        Path(name).replace(cache)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _measure_apart(config: TrainConfig, device: str, data_dir: Path | None) -> Curve:
    """Measure in a process of its own: it leaves the device's memory empty, whatever happens."""
    context = multiprocessing.get_context("spawn")
    pipe, child = context.Pipe()
    process = context.Process(target=_serve, args=(config, device, data_dir, child), daemon=True)
    process.start()
    child.close()
    try:
        answer: Curve | str = pipe.recv()
    except EOFError:
        answer = "the process died"
    finally:
        process.kill()
        process.join()
    if isinstance(answer, str):
        raise UserError(
            f"bank = 'auto': no size could be measured on {device}: {answer}; give a number"
        )
    return answer


def _serve(
    config: TrainConfig, device: str, data_dir: Path | None, pipe: "Connection[Any, Any]"
) -> None:
    from trainer import data
    from trainer import device as devices
    from trainer.calibration import measured

    try:
        place = devices.resolve(device)
        pipe.send(measured(config, data.load(config.dataset, data_dir).to(place), place))
    except Exception as error:  # said by the parent
        pipe.send(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
