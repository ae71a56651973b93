"""A bank of any `nn.Module`: K modules that a function of the user's made, computed as one.

`torch.func` computes them together: their parameters and buffers are stacked, and `torch.vmap` maps
the first module's code over them. A module alone is called as it is. Whether the K together are
what each is alone is not assumed: `trainer.fusion` compares them.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainer import user_code
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.layers import by_member
from trainer.stream_dropout import StreamDropout
from trainer.streams import Stream, derive


def build(
    configs: Sequence[TrainConfig], side: int, classes: int, channels: int = 1
) -> "ModuleBank":
    """Make the modules of a bank's members with the user's function, each from its own seed.

    Raises:
        UserError: there is no such function, it raises, or what it returns is no module.
    """
    reference = configs[0].architecture
    function = user_code.load("architecture", reference)
    given = _arguments(function, {"side": side, "classes": classes, "channels": channels})
    modules = []
    for config in configs:
        with _seeded(derive(config.seed, "init"), torch.device("cpu")):
            try:
                module = function(config, **given)
            except (Exception, SystemExit) as error:
                reason = user_code.said(error)
                raise UserError(f"architecture = {reference!r}: {reason}") from error
        if not isinstance(module, nn.Module):
            kind = type(module).__name__
            raise UserError(f"architecture = {reference!r}: returned {kind}, must be a nn.Module")
        if not any(parameter.requires_grad for parameter in module.parameters()):
            raise UserError(f"architecture = {reference!r}: has no parameter to train")
        modules.append(module)
    return ModuleBank(modules, [config.seed for config in configs], reference, classes)


def _arguments(function: Callable[..., Any], offered: dict[str, int]) -> dict[str, int]:
    """Return what a function takes of the shape of the data, by name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of some builtins
        return {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return offered
    names = {parameter.name for parameter in list(parameters)[1:]}
    return {name: value for name, value in offered.items() if name in names}


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators for what is done within, and leave them as they were."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    before = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)


class ModuleBank(nn.Module):
    """K modules as one network: [B, K*C, H, W] -> logits [B, K, classes].

    Args:
        modules: of the members; each takes [B, C, H, W] and returns [B, classes].
        seeds: of the members.
        reference: the function that made them, for messages.
        classes: number of classes.
    """

    active = True  # draws random numbers in training, as a dropout layer of ours
    step: Tensor | None = None  # the bank's clock
    keys: Tensor | None = None  # of the step, int32 [K, 2]

    def __init__(
        self, modules: Sequence[nn.Module], seeds: Sequence[int], reference: str, classes: int
    ) -> None:
        super().__init__()
        self.members, self.seeds, self.reference = len(modules), seeds, reference
        self.classes = classes
        self.stream: Stream | None = None
        self.places: dict[str, str] = {}  # name of a tensor of the module's -> name here
        if self.members == 1:
            self.module = modules[0]
        else:
            # The code that is mapped: not registered, its own tensors are never used.
            self.code = (modules[0],)
            self._stack(modules)

    def _stack(self, modules: Sequence[nn.Module]) -> None:
        """Stack the members' tensors: a member's [n, ...] is [K*n, ...] here, a number [K]."""
        each = [_tensors_of(module) for module in modules]
        for number, (name, first) in enumerate(each[0].items()):
            parts = [tensors[name].detach() for tensors in each]
            joined = torch.cat([part if part.dim() else part.view(1) for part in parts])
            self.places[name] = place = f"tensor{number}"
            if isinstance(first, nn.Parameter):
                self.register_parameter(place, nn.Parameter(joined, first.requires_grad))
            else:
                self.register_buffer(place, joined)

    def train(self, mode: bool = True) -> "ModuleBank":
        """Set the mode of the code too."""
        super().train(mode)
        for module in getattr(self, "code", ()):
            module.train(mode)
        return self

    def prepared(self, device: torch.device) -> Stream:
        """Return the stream of random numbers, made where they are needed."""
        if self.stream is None:
            self.stream = Stream(self.seeds, "dropout of a module", device)
        return self.stream

    def member(self, k: int) -> dict[str, Tensor]:
        """View what is kept of member k, by the names and in the shapes of the user's module."""
        module = self.module if self.members == 1 else self.code[0]
        kept = {
            name: tensor
            for name, tensor in module.state_dict(keep_vars=True).items()
            if isinstance(tensor, Tensor)
        }
        if self.members == 1:
            return kept
        names = {id(tensor): name for name, tensor in _tensors_of(module).items()}
        return {name: self._stacked(names[id(tensor)], tensor)[k] for name, tensor in kept.items()}

    def _stacked(self, name: str, like: Tensor) -> Tensor:
        """View the members' tensors of a name, each shaped as a member's: [K, ...]."""
        tensor: Tensor = getattr(self, self.places[name])
        return tensor.view(self.members, *like.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits.

        Raises:
            UserError: a module returns something else than logits [B, classes], or exits.
        """
        stream = self.prepared(x.device)
        keys = self.keys
        if keys is None:  # of a network that is not in training, nobody drops anything
            keys = torch.zeros(self.members, 2, dtype=torch.int32, device=x.device)
        try:
            return self._logits(x, stream, keys)
        except SystemExit as error:  # it would end the worker, and be tried again
            reason = user_code.said(error)
            raise UserError(f"architecture = {self.reference!r}: {reason}") from error

    def _logits(self, x: Tensor, stream: Stream, keys: Tensor) -> Tensor:
        if self.members > 1:
            return self._together(x, stream, keys)
        step = int(self.step) if self.training and self.step is not None else -1
        with (
            _seeded(derive(self.seeds[0], "forward", step), x.device),
            StreamDropout(stream, keys[0]),
        ):
            logits = self.module(x)
        self._check(logits, len(x))
        return logits[:, None]  # type: ignore[no-any-return] # a module may return anything

    def _together(self, x: Tensor, stream: Stream, keys: Tensor) -> Tensor:
        code = self.code[0]
        tensors = {name: self._stacked(name, like) for name, like in _tensors_of(code).items()}

        def logits_of(values: dict[str, Tensor], keys: Tensor, images: Tensor) -> Tensor:
            with StreamDropout(stream, keys, mapped=True):
                logits: Tensor = functional_call(code, values, (images,))
            self._check(logits, len(images))
            return logits

        images = by_member(x, self.members, 1)  # [B, K, C, H, W]
        together = torch.vmap(logits_of, (0, 0, 1), 1, randomness="error")
        with warnings.catch_warnings():
            # It says which operations are mapped as a loop over the members.
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            logits: Tensor = together(tensors, keys, images)
        return logits

    def _check(self, logits: Any, batch: int) -> None:
        shape = tuple(getattr(logits, "shape", ())) or type(logits).__name__
        if not isinstance(logits, Tensor) or shape != (batch, self.classes):
            raise UserError(
                f"architecture = {self.reference!r}: its module returned {shape} for a batch of "
                f"{batch} images, must be logits {(batch, self.classes)}"
            )


def _tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers of a module by name, each tensor once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
