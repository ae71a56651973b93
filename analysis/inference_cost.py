"""What a trained network costs: times, throughput, size; over trials, and as a table."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from analysis.table_formats import Block
from analysis.text import printable
from analysis.trials import Trial, known

# Device -> images at once -> p50_ms, p95_ms, images_per_second.
Inference = Mapping[str, Mapping[str, Mapping[str, float]]]
FIGURES = ("p50_ms", "p95_ms", "images_per_second")
DEVICES = {"cpu": "the CPU", "cuda": "the GPU"}


class Costs(Protocol):
    """What a row of a table knows about its network."""

    @property
    def multiply_adds(self) -> int | None:
        """Per image."""

    @property
    def model_bytes(self) -> int | None:
        """Size of the weights as a file."""

    @property
    def inference(self) -> Inference:
        """Times and throughput, medians over replicates."""


def typical(trials: Iterable[Trial], name: str) -> float | None:
    """Return a cost of trials: the mean; of latencies the median, for `median`'s reason."""
    values = known(trials, name)
    if not values:
        return None
    return statistics.median(values) if name == "latency_ms" else statistics.fmean(values)


def median(measured: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the medians of what replicates measured; what is no number is left out.

    Medians, because trainings beside it may slow one measurement to half the speed of the next.
    """
    values: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for devices in measured:
        for device, sizes in devices.items():
            for size, figures in _entries(sizes):
                for name, value in _entries(figures):
                    if name in FIGURES and isinstance(value, int | float) and math.isfinite(value):
                        values[device, size, name].append(value)
    medians: dict[str, dict[str, dict[str, float]]] = {}
    for (device, size, name), measurements in values.items():
        sizes_of = medians.setdefault(device, {})
        sizes_of.setdefault(size, {})[name] = statistics.median(measurements)
    return medians


def _entries(value: Any) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, dict) else ()


def flat(inference: Inference) -> dict[str, float]:
    """Name every figure in a word, e.g. `cpu_32_images_per_second`."""
    return {
        f"{device}_{size}_{name}": value
        for device, sizes in inference.items()
        for size, figures in sizes.items()
        for name, value in figures.items()
    }


def blocks(labels: Mapping[str, list[str]], rows: Sequence[Costs]) -> list[Block]:
    """Lay the costs of rows out, a block per device that anything was measured on.

    Args:
        labels: factor and level of each row.
        rows: the rows.
    """
    devices = dict.fromkeys(device for row in rows for device in row.inference)
    return [_block(labels, rows, device) for device in devices]


def _block(labels: Mapping[str, list[str]], rows: Sequence[Costs], device: str) -> Block:
    def figure(size: str, name: str, digits: int) -> list[str]:
        values = (row.inference.get(device, {}).get(size, {}).get(name) for row in rows)
        return ["" if value is None else f"{value:,.{digits}f}" for value in values]

    columns = {
        "multiply-adds": ["" if n is None else f"{n:,}" for n in (r.multiply_adds for r in rows)],
        "p50 ms": figure("1", "p50_ms", 2),
        "p95 ms": figure("1", "p95_ms", 2),
        "images/s": figure("32", "images_per_second", 0),
        "MB": ["" if n is None else f"{n / 1e6:,.2f}" for n in (r.model_bytes for r in rows)],
    }
    return Block(
        f"Inference on {DEVICES.get(device, printable(device))}: median and 95th percentile for an "
        "image, images/s of 32",
        {**labels, **{title: cells for title, cells in columns.items() if any(cells)}},
        nested=True,
    )
