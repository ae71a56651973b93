"""How many workers, on which devices, with how many threads."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from study.run.executors import Request, WorkerSpec
from trainer.errors import UserError
from trainer.sources.places import absolute


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


def gpu_count() -> int:
    """Return the number of GPUs that this process may use."""
    return len([name for name in device_names("auto") if name != "cpu"])


def cpu_threads(workers: int | None) -> int:
    """Return the threads of each worker on CPUs, where a study has not fixed them yet.

    Each has its share of the cores, usually one thread: several threads per small network gain
    little and collapse when the machine is busy. How many jobs there are does not count: sums are
    rounded differently by other numbers of threads, and a training that goes on must be the same.
    """
    return max(1, available_cores() // (workers or available_cores()))


def worker_count(
    devices: Sequence[str], workers: int | None, trials: int, threads: int | None = None
) -> int:
    """Return how many workers share so many trials.

    If none are asked for, one per GPU, or as many as the cores have threads for.
    """
    on_cpu = devices[0] == "cpu"
    most = available_cores() // (threads or cpu_threads(workers)) if on_cpu else len(devices)
    return max(1, min(workers or most, trials))


def worker_specs(
    devices: Sequence[str],
    workers: int | None,
    trials: int,
    dataset: str,
    data_dir: Path | None,
    *,
    threads: int | None = None,
) -> list[WorkerSpec]:
    """Share the machine out, among no more workers than there are trials.

    Args:
        devices: their names; all CPUs are one.
        workers: how many are wanted.
        trials: how many there are.
        dataset: the data set that workers load.
        data_dir: where it is.
        threads: of each worker on CPUs, as the study fixed them.
    """
    count = worker_count(devices, workers, trials, threads)
    if devices[0] == "cpu":
        threads = threads or cpu_threads(workers)
    else:
        threads = max(1, available_cores() // count)
    names = [devices[i % len(devices)] for i in range(count)]
    # Workers may have another current directory.
    return [WorkerSpec(name, threads, absolute(dataset), data_dir) for name in names]


def specs_for(request: Request) -> list[WorkerSpec]:
    """Return the workers of this machine that a run asks for.

    Raises:
        UserError: there is no such device.
    """
    specs = worker_specs(
        request.devices or device_names(request.device),
        request.workers,
        request.trials,
        request.dataset,
        request.data_dir,
        threads=request.threads,
    )
    return [replace(spec, convolutions=request.convolutions, code=request.code) for spec in specs]
