"""Costs of inference: medians over replicates, and their table."""

import csv
import io
from pathlib import Path
from typing import Any

from analysis.designs import results
from analysis.documents import render
from analysis.inference_cost import flat, median, typical
from analysis.tables.effects import EffectTable
from tests.support.studies import POOLING, SEARCH, read, searched, trial


def measured(p50: float, *devices: str) -> dict[str, Any]:
    one = {"p50_ms": p50, "p95_ms": 2 * p50, "images_per_second": 1000 / p50}
    many = {"p50_ms": 8 * p50, "p95_ms": 9 * p50, "images_per_second": 4000 / p50}
    return {device: {"1": one, "32": many} for device in devices}


def test_medians_are_over_those_that_measured() -> None:
    found = median([measured(1.0, "cpu", "cuda"), {}, measured(2.0, "cpu"), measured(9.0, "cpu")])
    assert found["cpu"]["1"] == {"p50_ms": 2, "p95_ms": 4, "images_per_second": 500}
    assert found["cuda"]["32"]["images_per_second"] == 4000
    assert flat(found)["cpu_32_p50_ms"] == 16
    assert median([]) == {}


def test_latencies_have_a_median_and_other_costs_a_mean(tmp_path: Path) -> None:
    costs = [(0.3, 10.0), (0.3, 11.0), (0.9, 15.0)]  # the last one beside something else
    rows = [
        trial(POOLING, {}, seed, 0.9, latency_ms=latency, seconds=seconds)
        for seed, (latency, seconds) in enumerate(costs)
    ]
    _, found = read(tmp_path, rows, POOLING)
    assert (typical(found, "latency_ms"), typical(found, "seconds")) == (0.3, 12.0)
    assert typical([], "latency_ms") is None


def test_what_another_writer_put_there_is_left_out() -> None:
    strange = {"cpu": {"1": {"p50_ms": "fast", "x": 1, "p95_ms": float("nan")}, "2": 3}, "tpu": []}
    assert median([strange, measured(1.0, "cpu")]) == median([measured(1.0, "cpu")])


def test_each_device_has_a_block(tmp_path: Path) -> None:
    costs: dict[str, Any] = {"multiply_adds": 1_234_567, "model_bytes": 1_570_856}
    rows = [
        trial(POOLING, {}, 0, 0.9, inference=measured(1.25, "cpu", "cuda"), **costs),
        trial(POOLING, {"pooling": "avg"}, 0, 0.9, inference=measured(10.0, "cpu")),
    ]
    found = results(*read(tmp_path, rows, POOLING)).table
    assert isinstance(found, EffectTable)
    text = render(found, "text")
    start = text.index("Inference on the CPU")
    assert text[start:].splitlines()[:10] == [
        "Inference on the CPU: median and 95th percentile for an image, images/s of 32",
        "         multiply-adds  p50 ms  p95 ms  images/s    MB",
        "baseline     1,234,567    1.25    2.50     3,200  1.57",
        "pooling",
        "  avg                    10.00   20.00       400",
        "batchnorm",
        "  false",
        "",
        "Inference on the GPU: median and 95th percentile for an image, images/s of 32",
        "         multiply-adds  p50 ms  p95 ms  images/s    MB",
    ]
    assert max(map(len, text.splitlines())) <= 80
    baseline, avg, _ = csv.DictReader(io.StringIO(render(found, "csv")))
    assert (baseline["cpu_1_p95_ms"], baseline["model_bytes"]) == ("2.5", "1570856")
    assert (avg["cpu_1_p50_ms"], avg["cuda_1_p50_ms"]) == ("10.0", "")


def test_candidates_of_a_search_have_costs_too(tmp_path: Path) -> None:
    own = searched(SEARCH, SEARCH["baseline"], 0, 0.9, inference=measured(2.0, "cpu"))
    (row,) = csv.DictReader(
        io.StringIO(render(results(*read(tmp_path, [own], SEARCH)).table, "csv"))
    )
    assert (row["cpu_32_p50_ms"], row["candidate"]) == ("16.0", "baseline")
    assert "inference" not in row
