"""Random numbers as a pure function of (seed, stream, step, position).

Counter-based, as in Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011): there
is no generator state to save, share or restore, so a member of a bank draws the same numbers alone,
in any bank, on any device, and after a resume. The mixing function is the 32-bit integer hash
`lowbias32` of Chris Wellons' hash-prospector, with a second key between its rounds.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

BITS = 24  # as many as a float32 holds exactly
MULTIPLY_1 = 0x7FEB352D
MULTIPLY_2 = 0x846CA68B - (1 << 32)


def derive(seed: int, *names: object) -> int:
    """Derive a 63-bit seed for one purpose, e.g. `derive(seed, "order", epoch)`."""
    text = "\0".join([str(seed), *map(str, names)]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """Return a CPU generator for one purpose (initialisation, data order)."""
    return torch.Generator().manual_seed(derive(seed, *names))


class Stream:
    """One named stream of uniform numbers for each member of a bank.

    A step's numbers come from two keys per member, hashed from (seed, name, step): small tensors,
    but many operations, so a bank hashes the keys of a whole epoch at once.

    Args:
        seeds: the members' seeds, K of them.
        name: the purpose; equal names and seeds give equal numbers.
        device: where the numbers are made.
    """

    def __init__(self, seeds: Sequence[int], name: str, device: torch.device) -> None:
        self.words = [divmod(derive(seed, name), 1 << 32) for seed in seeds]  # unsigned
        keys = torch.tensor([[high, _signed(low)] for high, low in self.words], dtype=torch.int32)
        self.seeds = keys.to(device)  # [K, 2]
        self._positions: dict[tuple[int, int], Tensor] = {}

    def keys(self, steps: Tensor) -> Tensor:
        """Return the keys of steps (int32 [...]), int32 [..., K, 2]."""
        return _mix(self.seeds ^ _mix(steps + 1)[..., None, None])

    def part(self, keys: Tensor, number: int) -> Tensor:
        """Return keys [..., 2] for the n-th of several draws of a step, as good as independent."""
        return _mix(keys + (number + 1))

    def numbers(self, keys: Tensor, rows: int, columns: int) -> Tensor:
        """Return int32 numbers in [0, 2**24) of keys [..., K, 2]: [..., rows, K, columns]."""
        position = self._positions.get((rows, columns))
        if position is None:
            count = torch.arange(rows * columns, dtype=torch.int32, device=self.seeds.device)
            position = self._positions[rows, columns] = count.view(rows, 1, columns)
        first, second = keys[..., None, :, None, :].unbind(-1)  # [..., 1, K, 1] each
        x = position + first  # a new tensor; from here on in place
        x ^= x.bitwise_right_shift(16).bitwise_and_(0xFFFF)
        x *= MULTIPLY_1
        x ^= second
        x ^= x.bitwise_right_shift(15).bitwise_and_(0x1FFFF)
        x *= MULTIPLY_2
        return x.bitwise_right_shift_(32 - BITS).bitwise_and_((1 << BITS) - 1)

    def bits(self, step: Tensor, rows: int, columns: int) -> Tensor:
        """Return int32 numbers in [0, 2**24), shape [rows, K, columns], for `step` (int32 [])."""
        return self.numbers(self.keys(step), rows, columns)

    def uniform(self, step: Tensor, rows: int, columns: int) -> Tensor:
        """Return float32 numbers in [0, 1), shape [rows, K, columns]."""
        return fractions(self.bits(step, rows, columns))


def fractions(numbers: Tensor) -> Tensor:
    """Turn numbers in [0, 2**24) into float32 numbers in [0, 1)."""
    return numbers * (1.0 / (1 << BITS))


def threshold(probability: float) -> int:
    """Return t such that `bits < t` happens with this probability."""
    return round(probability * (1 << BITS))


def _signed(word: int) -> int:
    return word - (1 << 32) if word >= 1 << 31 else word


def _mix(x: Tensor) -> Tensor:
    # int32 arithmetic wraps; the masks make the right shifts logical.
    x = (x ^ ((x >> 16) & 0xFFFF)) * MULTIPLY_1
    x = (x ^ ((x >> 15) & 0x1FFFF)) * MULTIPLY_2
    return x ^ ((x >> 16) & 0xFFFF)
