"""The order of banks: the longest first, as several GPUs want it; single trainings as planned."""

from study.plans.plan import load_plan
from study.run.work import DesignedWork, cost_key
from trainer.results import Cost


def queue(bank: int) -> list[float]:
    """Return what the banks of `ablation` take, in order, where a training takes its width."""
    work = DesignedWork(load_plan("ablation"), [], bank)
    work.learn([Cost(float(config.width), 1000) for config in work.kinds()])
    assert len({cost_key(config) for config in work.kinds()}) > 3
    banks = []
    while tasks := work.next(bank):
        banks.append(sum(float(task.config.width) for task in tasks))
    return banks


def test_the_longest_banks_come_first() -> None:
    seconds = queue(4)
    assert len(set(seconds)) > 2
    assert seconds == sorted(seconds, reverse=True)


def test_single_trainings_stay_in_the_order_of_the_plan() -> None:
    seconds = queue(1)
    assert seconds != sorted(seconds, reverse=True)
