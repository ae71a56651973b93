"""How many workers, on which devices, with how many threads."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from study.run.executors import WorkerSpec
from trainer.errors import UserError


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_names(device: str) -> list[str]:
    """Return the devices that `auto`, `cpu`, `cuda`, `cuda:0,1` stand for.

    torch is loaded only where there may be a GPU.

    Raises:
        UserError: there is no such device here.
    """
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return ["cpu"]
    kind, _, indices = device.partition(":")
    listed = indices.split(",") if indices else []
    if device != "auto" and (kind != "cuda" or not all(index.isdecimal() for index in listed)):
        raise UserError(f"device = {device!r}: choose auto, cpu, cuda, or cuda:0,1,...")
    import torch

    from trainer.device import build_hint

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto" and not count:
        return ["cpu"]
    names = [f"cuda:{int(index)}" for index in listed] or [f"cuda:{i}" for i in range(count)]
    valid = ["cpu", *(f"cuda:{i}" for i in range(count))]
    for name in names or ["cuda"]:
        if name not in valid:
            hint = build_hint()
            raise UserError(f"device = {device!r}: this machine has only {', '.join(valid)}{hint}")
    return list(dict.fromkeys(names))


def _may_have_gpu() -> bool:
    return bool(shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists())


def worker_count(devices: Sequence[str], workers: int | None, trials: int) -> int:
    """Return how many workers share so many trials: one per GPU or core, if none are asked for."""
    count = workers or (available_cores() if devices[0] == "cpu" else len(devices))
    return max(1, min(count, trials))


def worker_specs(
    devices: Sequence[str], workers: int | None, trials: int, dataset: str, data_dir: Path | None
) -> list[WorkerSpec]:
    """Share the machine out, among no more workers than there are trials.

    On CPUs each worker has its share of the cores, usually one thread: several threads per small
    network gain little and collapse when the machine is busy.
    """
    count = worker_count(devices, workers, trials)
    threads = max(1, available_cores() // count)
    names = [devices[i % len(devices)] for i in range(count)]
    return [WorkerSpec(name, threads, dataset, data_dir) for name in names]
