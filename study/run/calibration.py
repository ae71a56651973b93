"""`--bank auto`: as many members as pay on this device, and the fastest way to convolve.

Both are measured once and remembered.

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
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import trainer
from study.run.executors.import_path import path_for_children
from trainer.config import PER_MEMBER, TrainConfig
from trainer.errors import UserError

Curve = Mapping[int, float]  # members -> images per second
Rates = Mapping[int | str, float]  # a curve, and other ways to convolve at its best size
# Config, device, data folder -> what was measured.
Measure = Callable[[TrainConfig, str, Path | None], Rates]


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
    curves = _read(cache)
    if key not in curves:
        curve = (measure or _measure_apart)(config, device, data_dir)
        curves = {**_read(cache), key: curve}
        with contextlib.suppress(OSError):  # a folder that cannot be written: measured again
            _write(cache, curves)
    from trainer.calibration import best

    return best(_sizes(curves[key]))


def known_curve(
    config: TrainConfig,
    device: str,
    *,
    cache: Path | None = None,
    hardware: Callable[[str], str] | None = None,
) -> Curve:
    """Return what is remembered of a network's banks on a device: empty if nothing is.

    Args:
        config, device, cache, hardware: as of `best_bank_size`.
    """
    return _sizes(_remembered(config, device, cache, hardware))


def best_convolutions(
    config: TrainConfig,
    device: str,
    *,
    cache: Path | None = None,
    hardware: Callable[[str], str] | None = None,
) -> str:
    """Return how banks of a network should convolve: `auto`, where no faster way is remembered.

    Args:
        config, device, cache, hardware: as of `best_bank_size`.
    """
    rates = _remembered(config, device, cache, hardware)
    if not rates:
        return "auto"
    from trainer.calibration import best_way

    return best_way(rates)


def _remembered(
    config: TrainConfig,
    device: str,
    cache: Path | None,
    hardware: Callable[[str], str] | None,
) -> Rates:
    if device == "cpu":
        return {}
    key = f"{(hardware or _hardware)(device)}; {_shape(config)}"
    return _read(cache or cache_folder() / "banks.json").get(key, {})


def _sizes(rates: Rates) -> Curve:
    return {size: rate for size, rate in rates.items() if isinstance(size, int)}


def cache_folder() -> Path:
    """Return the folder for what can be made again, by the platform's custom."""
    variable = {"win32": "LOCALAPPDATA", "darwin": ""}.get(sys.platform, "XDG_CACHE_HOME")
    below = {"win32": "AppData/Local", "darwin": "Library/Caches"}.get(sys.platform, ".cache")
    try:
        base = Path(os.environ.get(variable) or Path.home() / below)
    except RuntimeError:  # nobody's home: a container's user without a name
        base = Path(tempfile.gettempdir())
    return base / "fmnist-study"


# Fields that a step's speed does not depend on: how many there are, not what one is.
_LENGTH = frozenset({"subset", "validation_fraction", "epochs"})


def _shape(config: TrainConfig) -> str:
    """Name what the speed of a bank depends on: the network, the data's shape, the batch, our code.

    Members of a bank share these fields, so they are those of every bank of the study.
    """
    shared = {
        name: value for name, value in config.to_dict().items() if name not in PER_MEMBER | _LENGTH
    }
    values = repr((shared, config.augmentation, _code())).encode()
    return f"{config.architecture} {hashlib.sha256(values).hexdigest()[:16]}"


@cache
def _code() -> str:
    """Return a hash of the code that trains: another one may be faster or slower."""
    digest = hashlib.sha256()
    folder = Path(trainer.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _hardware(device: str) -> str:
    import torch

    from trainer.cuda_graph import graphs_wanted
    from trainer.device import resolve

    graphs = "graphs" if graphs_wanted() else "no graphs"
    return f"{torch.cuda.get_device_name(resolve(device))}; torch {torch.__version__}; {graphs}"


def _read(cache: Path) -> dict[str, Rates]:
    """Return what is remembered; what cannot be read is measured again."""

    def name(text: str) -> int | str:
        return text if text in ("separate", "products") else int(text)

    try:
        curves = json.loads(cache.read_text(encoding="utf-8"))
        return {
            key: {name(text): float(rate) for text, rate in curve.items()}
            for key, curve in curves.items()
            if curve
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(cache: Path, curves: Mapping[str, Any]) -> None:
    """Write whole or not at all: other runs read it."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=cache.parent, prefix=cache.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(curves, file, indent=1)
        Path(name).replace(cache)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _measure_apart(config: TrainConfig, device: str, data_dir: Path | None) -> Rates:
    """Measure in a process of its own: it leaves the device's memory empty, whatever happens."""
    context = multiprocessing.get_context("spawn")
    pipe, child = context.Pipe()
    process = context.Process(target=_serve, args=(config, device, data_dir, child), daemon=True)
    with path_for_children():
        process.start()
    child.close()
    curve: dict[int | str, float] = {}
    answer: dict[int | str, float] | str | None = None
    try:
        while isinstance(answer := pipe.recv(), dict):  # a size at a time: what there is, remains
            curve |= answer
    except EOFError:
        answer = "the process died"
    finally:
        process.kill()
        process.join()
    if not curve:
        raise UserError(
            f"bank = 'auto': no size could be measured on {device}: {answer}; give a number"
        )
    return curve


def _serve(
    config: TrainConfig, device: str, data_dir: Path | None, pipe: "Connection[Any, Any]"
) -> None:
    from trainer import data
    from trainer import device as devices
    from trainer.calibration import measured

    try:
        place = devices.resolve(device)
        images = data.load(config.dataset, data_dir).to(place)
        measured(config, images, place, tell=lambda size, rate: pipe.send({size: rate}))
        pipe.send(None)
    except Exception as error:  # said by the parent
        pipe.send(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
