"""Is everything there that a study needs? One finding per line."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy

from fmnist_common.environment import variable
from study.run.hardware import available_cores
from study.store import location
from trainer.errors import UserError
from trainer.files import AbsentDataError, default_data_dir

PACKAGES = (
    "torch",
    "torchvision",
    "optuna",
    "sqlalchemy",
    "hiplot",
    "plotly",
    "scikit-learn",
    "scipy",
)

Diagnosis = tuple[str, bool, str]  # what, whether it is fine, the words


def findings(url: sqlalchemy.URL, data_dir: Path | None) -> Iterator[Diagnosis]:
    """Check the machine, the packages, the data and the database."""
    import torch

    from trainer import native
    from trainer.data import load
    from trainer.device import native_bf16
    from trainer.torchvision_compat import torchvision

    yield "python", True, f"{platform.python_version()} on {platform.platform(terse=True)}"
    for name in PACKAGES:
        try:
            yield name, True, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, False, "is not installed"
    try:
        yield "torchvision import", True, torchvision().__name__
    except (ImportError, RuntimeError) as error:
        yield "torchvision import", False, str(error)
    bf16 = "bf16" if native_bf16(torch.device("cpu")) else "fp32"
    yield "cpu", True, f"{available_cores()} cores, trains in {bf16}"
    missing = native.missing()
    if missing is None and native.outdated():
        yield "cpu kernels", False, "older than their sources: install again (pip install -e .)"
    else:
        yield "cpu kernels", True, f"PyTorch's: {missing}" if missing else "our own, AVX512-BF16"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        yield f"cuda:{index}", True, torch.cuda.get_device_name(index)
    if not count:
        yield "cuda", True, "no device; studies run on the CPU"
    try:
        load("fashion-mnist", data_dir)
        yield "data", True, f"fashion-mnist in {data_dir or default_data_dir()}, MD5 as published"
    except AbsentDataError as error:
        given = data_dir is not None or variable("DATA_DIR")[1]
        yield "data", not given, f"{error}{'' if given else ' (only its own studies need it)'}"
    except UserError as error:
        yield "data", False, str(error)
    path = location.sqlite_path(url)
    try:
        location.check_writable(url)
        state = "is there" if path is None or path.exists() else "will be made by the first run"
        yield "storage", True, f"{location.display(url)} {state}"
    except UserError as error:
        yield "storage", False, str(error)
    if path is not None and path.parent.is_dir():
        free = _free_bytes(path.parent)
        yield "disk", free > 1 << 28, f"{free / 1e9:.1f} GB free beside the database"


def _free_bytes(folder: Path) -> int:
    import shutil

    return shutil.disk_usage(os.fspath(folder)).free
