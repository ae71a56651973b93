"""Each augmentation does what its name says, at its rate, in its range, in any company."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from trainer.augment import Augmentation
from trainer.config import TrainConfig

CPU = torch.device("cpu")
SIDES = pytest.mark.parametrize("side", [8, 28])
COMBINATION = "flip+erase+translate+crop+crop_reflect+rotate+noise"


def augment(
    images: Tensor, *augmentations: str, seeds: Sequence[int] = (), step: int = 0
) -> Tensor:
    """Augment uint8 [B, side, side], the same for each member -> float64 [B, K, side, side]."""
    members = [
        TrainConfig(augmentation=augmentation, seed=seed)
        for augmentation, seed in zip(augmentations, seeds or [0] * len(augmentations), strict=True)
    ]
    bank = images[:, None].repeat(1, len(members), 1, 1)
    augmentation = Augmentation(members, images.shape[-1], CPU, torch.float64)
    return augmentation(bank, torch.tensor(step, dtype=torch.int32))


def noise(side: int, count: int = 1000) -> Tensor:
    """Copies of one image without symmetry and without black pixels."""
    image = torch.randint(1, 256, (side, side), generator=torch.Generator().manual_seed(0))
    return image.to(torch.uint8).expand(count, side, side)


def pixels(x: Tensor) -> Tensor:
    """Back to the values 0 to 255, exact where pixels were moved or blanked."""
    return (x * 255).round().to(torch.uint8)


def shifts(images: Tensor, originals: Tensor) -> list[tuple[int, int]]:
    """By how much (down, right) each image [B, side, side] is shifted, zeros filling the gap."""
    side = images.shape[-1]
    padded = np.pad(originals.numpy(), ((0, 0), (side, side), (side, side)))
    reach = range(-(side // 2), side // 2 + 1)
    found = []
    for image, wide in zip(images.numpy(), padded, strict=True):
        matches = [
            (y, x)
            for y in reach
            for x in reach
            if np.array_equal(image, wide[side - y : 2 * side - y, side - x : 2 * side - x])
        ]
        assert len(matches) == 1
        found += matches
    return found


def assert_share(hits: Tensor | np.ndarray, probability: float) -> None:
    """Of the hits, within 4.5 standard errors."""
    error = 4.5 * math.sqrt(probability * (1 - probability) / len(hits))
    assert hits.mean().item() == pytest.approx(probability, abs=error)


@SIDES
def test_none_only_scales_to_the_unit_interval(side: int) -> None:
    images = noise(side, 10)
    torch.testing.assert_close(augment(images, "none")[:, 0], images / 255, check_dtype=False)


@SIDES
def test_flip_mirrors_half_of_the_images_left_to_right(side: int) -> None:
    images = noise(side)
    flipped = pixels(augment(images, "flip")[:, 0])
    mirrored = (flipped == images.flip(2)).all(2).all(1)
    assert ((flipped == images).all(2).all(1) ^ mirrored).all()
    assert_share(mirrored.double(), 0.5)


@pytest.mark.parametrize(("side", "reach"), [(8, 3), (28, 10)])
def test_translate_shifts_half_of_the_images_by_up_to_10_of_28_pixels(
    side: int, reach: int
) -> None:
    images = noise(side)
    found = np.array(shifts(pixels(augment(images, "translate")[:, 0]), images))
    assert (found.min(), found.max()) == (-reach, reach)
    unmoved = (1 - 1 / (2 * reach + 1) ** 2) / 2
    assert_share((found != 0).any(1), unmoved)
    moved = found[(found != 0).any(1)]
    for axis in (0, 1):  # every distance is as likely, but both at 0 is counted as unmoved
        counts = np.bincount(moved[:, axis] + reach)
        assert stats.chisquare(np.delete(counts, reach)).pvalue > 1e-3


@pytest.mark.parametrize(("side", "reach"), [(8, 1), (28, 3)])
def test_crop_cuts_every_image_out_of_its_zero_padded_self(side: int, reach: int) -> None:
    images = noise(side)
    found = np.array(shifts(pixels(augment(images, "crop")[:, 0]), images))
    assert (found.min(), found.max()) == (-reach, reach)
    positions = (found + reach) @ [2 * reach + 1, 1]
    assert stats.chisquare(np.bincount(positions)).pvalue > 1e-3


@pytest.mark.parametrize(("side", "reach"), [(8, 1), (28, 3)])
@pytest.mark.parametrize("augmentation", ["crop_reflect", "flip+crop_reflect"])
def test_crop_reflect_cuts_every_image_out_of_its_reflected_self(
    side: int, reach: int, augmentation: str
) -> None:
    images = noise(side)
    cropped = pixels(augment(images, augmentation)[:, 0]).numpy()
    original = images[0].numpy()
    flips = [original, original[:, ::-1]] if "flip" in augmentation else [original]
    cuts = {
        np.pad(flip, reach, "reflect")[y : y + side, x : x + side].tobytes(): (f, y, x)
        for f, flip in enumerate(flips)
        for y in range(2 * reach + 1)
        for x in range(2 * reach + 1)
    }
    found = [cuts[image.tobytes()] for image in cropped]  # each is one of them
    counts = [found.count(place) for place in cuts.values()]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_what_is_translated_away_is_black_though_a_crop_reflects() -> None:
    images = noise(8, 400)
    both = pixels(augment(images, "translate+crop_reflect")[:, 0])
    cropped = pixels(augment(images, "crop_reflect")[:, 0])
    moved = np.array(shifts(both, cropped))
    assert (moved.min(), moved.max()) == (-3, 3)


@SIDES
def test_erase_blanks_one_box_of_2_to_40_percent_in_half_of_the_images(side: int) -> None:
    images = noise(side, 3000)
    erased = pixels(augment(images, "erase")[:, 0])
    blank = erased == 0
    assert (blank | (erased == images)).all()
    happened = blank.any(2).any(1)
    assert_share(happened.double(), 0.5)
    rows, columns = blank[happened].any(2), blank[happened].any(1)
    assert torch.equal(blank[happened], rows[:, :, None] & columns[:, None, :])
    for line in (rows, columns):
        edges = line.to(torch.int8).diff(dim=1).clamp(min=0).sum(1) + line[:, 0]
        assert (edges == 1).all()  # without gaps
    assert blank[:, [0, 0, -1, -1], [0, -1, 0, -1]].any(0).all()  # each corner at some time
    height, width = rows.sum(1).double(), columns.sum(1).double()
    # Height and width were rounded: the true ones are up to half a pixel away.
    assert ((height - 0.5) * (width - 0.5) <= 0.4 * side**2).all()
    assert ((height - 0.5) / (width + 0.5) <= 3.3).all()
    assert ((width - 0.5) / (height + 0.5) <= 1 / 0.3).all()
    fits = (height < side) & (width < side)
    assert ((height + 0.5) * (width + 0.5) >= 0.02 * side**2)[fits].all()
    shares = height * width / side**2
    assert shares.min() < 0.05
    assert shares.max() > 0.33


def principal_axis(images: Tensor) -> Tensor:
    """The angle (degrees) of bright shapes, from their second moments."""
    side = images.shape[-1]
    axis = torch.arange(side, dtype=images.dtype) - (side - 1) / 2
    xx, yy = (images * axis**2).sum((1, 2)), (images * axis[:, None] ** 2).sum((1, 2))
    xy = (images * axis * axis[:, None]).sum((1, 2))
    return (torch.atan2(2 * xy, xx - yy) / 2).rad2deg()


def test_rotate_turns_every_image_by_up_to_7_degrees_either_way() -> None:
    bar = torch.zeros(1000, 28, 28, dtype=torch.uint8)
    bar[:, 11:17, 4:24] = 255
    turned = augment(bar, "rotate")[:, 0]
    angles = principal_axis(turned)
    assert 6.5 < angles.max() < 7.5
    assert -7.5 < angles.min() < -6.5
    assert stats.kstest(angles.numpy(), stats.uniform(-7, 14).cdf).pvalue > 1e-3
    torch.testing.assert_close(
        turned.sum((1, 2)) / 120, torch.ones(1000).double(), rtol=0.03, atol=0
    )


def test_rotate_turns_small_images_too() -> None:
    turned = augment(noise(8), "rotate")[:, 0]
    assert (turned != noise(8) / 255).any(2).any(1).double().mean() > 0.95
    assert (turned[:, 3:5, 3:5] - noise(8)[:, 3:5, 3:5] / 255).abs().max() < 0.2  # the middle stays


@SIDES
def test_noise_is_normal_with_a_twentieth_of_the_pixels_range(side: int) -> None:
    grey = torch.full((400, side, side), 128, dtype=torch.uint8)
    added = augment(grey, "noise")[:, 0] - 128 / 255
    assert stats.kstest(added.flatten().numpy(), stats.norm(0, 0.05).cdf).pvalue > 1e-3
    # Every pixel has its own: neighbours, images and the two halves that share their draws.
    flat = added.flatten(1)
    half = side * side // 2
    for first, second in [
        (flat[:, :-1], flat[:, 1:]),
        (flat[:-1], flat[1:]),
        (flat[:, :half], flat[:, half:]),
    ]:
        pairs = first.numel()
        correlation = (first * second).mean().item() / 0.05**2
        assert correlation == pytest.approx(0, abs=4.5 / pairs**0.5)


@pytest.mark.parametrize("value", [0, 255])
def test_noise_stays_within_the_range_of_pixels(value: int) -> None:
    noisy = augment(torch.full((100, 8, 8), value, dtype=torch.uint8), "noise")[:, 0]
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    assert_share((noisy == value / 255).flatten().double(), 0.5)  # the others would leave it


@SIDES
def test_members_that_do_not_rotate_or_move_or_erase_keep_their_exact_pixels(side: int) -> None:
    images = noise(side, 50)
    alone, _, _, _ = augment(images, "none", COMBINATION, "rotate", "noise").unbind(1)
    assert torch.equal(alone, augment(images, "none")[:, 0])


@SIDES
@pytest.mark.parametrize(
    "augmentation", ["none", "flip", "erase", "translate", "crop", "rotate", "noise", COMBINATION]
)
def test_a_members_images_are_the_same_alone_and_in_any_bank(side: int, augmentation: str) -> None:
    images = noise(side, 50)
    alone = augment(images, augmentation, seeds=[5], step=3)[:, 0]
    neighbours = ["flip+translate", "none", augmentation, "erase+rotate", "crop"]
    bank = augment(images, *neighbours, seeds=[1, 2, 5, 3, 4], step=3)
    assert torch.equal(bank[:, 2], alone)


@SIDES
def test_seeds_and_steps_draw_different_images(side: int) -> None:
    images = noise(side, 50)
    first, other_seed = augment(images, "translate", "translate", seeds=[0, 1]).unbind(1)
    assert not torch.equal(first, other_seed)
    assert not torch.equal(first, augment(images, "translate", step=1)[:, 0])
    assert torch.equal(first, augment(images, "translate")[:, 0])


@SIDES
def test_flip_and_erase_together_are_the_flip_then_the_box_of_each_alone(side: int) -> None:
    images = noise(side)
    flip, erase, both = augment(images, "flip", "erase", "flip+erase").unbind(1)
    assert torch.equal(both, flip * (erase > 0))


def test_flip_and_translate_together_shift_the_flipped_image() -> None:
    images = noise(8)
    flip, translate, both = augment(images, "flip", "translate", "flip+translate").unbind(1)
    assert shifts(pixels(both), pixels(flip)) == shifts(pixels(translate), images)


def test_translate_and_crop_together_add_their_shifts() -> None:
    images = noise(8, 300)
    alone = [
        np.array(shifts(pixels(augment(images, kind)[:, 0]), images))
        for kind in ("translate", "crop")
    ]
    both = pixels(augment(images, "translate+crop")[:, 0])
    assert np.array_equal(shifts(both, images), alone[0] + alone[1])


@SIDES
@pytest.mark.parametrize("augmentation", ["flip", "translate+crop", "erase", COMBINATION])
def test_the_images_given_are_left_as_they_are(side: int, augmentation: str) -> None:
    bank = noise(side, 20)[:, None].clone()
    before = bank.clone()
    config = TrainConfig(augmentation=augmentation)
    result = Augmentation([config], side, CPU, torch.float32)(
        bank, torch.tensor(0, dtype=torch.int32)
    )
    assert torch.equal(bank, before)
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1 + 1e-6


def test_what_is_drawn_for_an_epoch_is_what_each_of_its_steps_draws() -> None:
    configs = [
        TrainConfig(seed=seed, augmentation=kinds)
        for seed, kinds in enumerate(["flip+erase+translate", "crop", "none"])
    ]
    augmentation = Augmentation(configs, 8, CPU, torch.float32)
    steps = torch.arange(5, 9, dtype=torch.int32)
    keys = {kind: stream.keys(steps) for kind, stream in augmentation.streams.items()}
    epoch = augmentation.places(keys, 16)
    assert epoch.shape == (4, 16, 3, augmentation.numbers)
    images = noise(8, 16)[:, None].expand(-1, 3, -1, -1)
    for place, step in enumerate(steps):
        of_step = {kind: values[place] for kind, values in keys.items()}
        expected = augmentation(images.clone(), step)
        assert torch.equal(augmentation.apply(images.clone(), epoch[place], of_step), expected)
