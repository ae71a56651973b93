"""The simulated cluster: its time is virtual, its owner and database are real."""

import pytest

from benchmarks import scale
from study.store import writer


@pytest.fixture(autouse=True)
def clock_of_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "time", writer.time)  # type: ignore[attr-defined] # put back


def measured(monkeypatch: pytest.MonkeyPatch, seconds: float) -> scale.Figures:
    """Measure 4 workers whose owner takes so long for each answer."""
    moments = iter(range(10**9))
    monkeypatch.setitem(scale.CLOCKS, "wall", lambda: seconds * next(moments))
    return scale.measure(workers=4, bank=5, epochs=3, trials=200, clock="wall")


def test_workers_of_an_owner_that_takes_no_time_always_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = measured(monkeypatch, 1e-9)
    assert figures.trials == 200  # 10 banks for each worker
    assert figures.utilisation == pytest.approx(1)
    assert figures.p95_ms < 1e-3
    assert figures.database_mb > 0.1


def test_workers_of_a_slow_owner_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = measured(monkeypatch, 0.1)
    # For each of 40 banks it answers 3 epochs twice (report and tick), its result and its start.
    assert figures.owner_busy > 0.7
    assert figures.trials_per_owner_second == pytest.approx(200 / (40 * 8 * 0.1), rel=0.1)
    assert figures.utilisation < 0.95
    assert figures.median_ms > 50
