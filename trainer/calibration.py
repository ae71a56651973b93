"""How many members a bank should have: measured, as it depends on the network and on the device.

More members share the starts of kernels, until these are busy; then a larger bank only takes more
memory, and where a grouped operation is slower than single ones, it takes more time.
"""

import gc
import time
from collections.abc import Callable, Mapping

import torch

from trainer import convolutions
from trainer import device as devices
from trainer.bank import Bank
from trainer.config import TrainConfig
from trainer.cuda_graph import WARM_UP
from trainer.data import ImageData

MOST = 64  # members
SECONDS = 20.0  # of measuring a network
WORTH = 1.05  # times as many images per second, else a bank of twice the size is not worth it
STEPS = 50  # timed ones of a size, at most


def curve(
    rate: Callable[[int], float],
    *,
    most: int = MOST,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
    tell: Callable[[int, float], None] = lambda *_: None,
) -> dict[int, float]:
    """Measure banks of 1, 2, 4, ... members.

    It ends where memory does or a measurement fails otherwise, after two doublings in a row without
    a gain, or when time is up.

    Args:
        rate: members to images per second.
        most: members.
        seconds: after which no further size is begun.
        clock: tells the seconds.
        tell: called with each size and its rate, as soon as it is measured.

    Raises:
        Exception: what `rate` raised for one member.
    """
    rates: dict[int, float] = {}
    started, members, in_vain = clock(), 1, 0
    while members <= most and in_vain < 2 and (not rates or clock() - started < seconds):
        try:
            images_per_second = rate(members)
        except Exception:  # memory, or a kernel that such a bank breaks
            if not rates:
                raise
            break
        too_slow = bool(rates) and images_per_second < WORTH * max(rates.values())
        in_vain = in_vain + 1 if too_slow else 0
        rates[members] = images_per_second
        tell(members, images_per_second)
        members *= 2
    return rates


def best(rates: Mapping[int, float]) -> int:
    """Return the smallest size that is about as fast as the fastest."""
    fastest = max(rates.values())
    return min(members for members, rate in rates.items() if rate * WORTH >= fastest)


def throughput(config: TrainConfig, data: ImageData, device: torch.device, members: int) -> float:
    """Return the images per second that a bank of this network trains on.

    Raises:
        UserError: the config cannot be trained on this data.
        torch.OutOfMemoryError: the device has not enough memory.
    """
    bank = Bank([config.replace(seed=seed) for seed in range(members)], data, device)
    bank.begin_epoch(1)
    warm_up = min(WARM_UP + 2, bank.steps_per_epoch - 1)
    steps = max(min(STEPS, bank.steps_per_epoch - warm_up), 1)
    for _ in range(warm_up):
        bank.next_step()
    devices.synchronise(device)
    started = time.perf_counter()
    for _ in range(steps):
        bank.next_step()
    devices.synchronise(device)
    return members * bank.batch_size * steps / (time.perf_counter() - started)


def measured(
    config: TrainConfig,
    data: ImageData,
    device: torch.device,
    tell: Callable[[int | str, float], None] = lambda *_: None,
) -> dict[int | str, float]:
    """Measure the curve of a config's network on a device, then other ways to convolve.

    Returns:
        Images per second of each size, with convolutions as by default; and by their names those of
        the other ways that work, at the best size if that is more than one. `tell` as of `curve`.

    Raises:
        UserError, torch.OutOfMemoryError: as `throughput`, for one member.
    """

    def rate(members: int) -> float:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()  # of the bank before
        return throughput(config, data, device, members)

    rates = curve(rate, tell=tell)
    size = best(rates)
    found: dict[int | str, float] = dict(rates.items())
    others = convolutions.others(device, devices.precision(config, device))
    for way in others if size > 1 else ():
        convolutions.use(way)
        try:
            found[way] = rate(size)
            tell(way, found[way])
        except Exception:  # memory, or a kernel that is missing: not this way, then
            continue
        finally:
            convolutions.use("auto")
    return found


def best_way(rates: Mapping[int | str, float]) -> str:
    """Return how a bank should convolve: `auto`, unless another way was measured to be faster."""
    default = max((rate for name, rate in rates.items() if isinstance(name, int)), default=0.0)
    others = {name: rate for name, rate in rates.items() if isinstance(name, str)}
    way = max(others, key=others.__getitem__, default="auto")
    return way if others.get(way, 0.0) > default * WORTH else "auto"
