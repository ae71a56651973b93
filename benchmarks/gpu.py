"""What only a GPU can tell, in one go: under 8 minutes, printed as it is measured, and as JSON.

    python benchmarks/gpu.py --data-dir DIR [--device cuda] [--quick] [--only PART ...] [--out FILE]

Its parts: milliseconds of a step, for banks of 1 to 64 beside plain PyTorch, eager and in a CUDA
graph; ways to convolve; memory over trainings, and one that is too small; the cells of the plan
`pooling`; one long training; a worker killed in a run; a small ablation; the tests that need a GPU.
At the end it says which goals hold. A part that fails is said to have failed, and the others go on.

On a CPU (`--device cpu --quick`) the same code runs on little data, to see that it does run: what
it prints there says nothing about a GPU, and no goal is judged.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[0] = str(ROOT)  # not this folder: here `study` is a script

import argparse
import contextlib
import gc
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain import Graphed, Plain, Steps, layers_of, random_data
from fmnist_common.environment import variable
from study.plans.plan import load_plan
from trainer import data as datasets
from trainer import device as devices
from trainer.bank import Bank
from trainer.config import TrainConfig
from trainer.cuda_graph import GRAPHS, WARM_UP
from trainer.data import ImageData
from trainer.train import train

TINY = TrainConfig(epochs=1, subset=640)  # what a CPU trains for a try
Table = dict[str, float | str]  # what was measured -> its figure


@dataclass
class Run:
    """What is to be measured, and what was."""

    device: torch.device
    data_dir: Path | None
    quick: bool
    results: dict[str, Table] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether figures mean anything."""
        return self.device.type == "cuda"

    def images(self) -> ImageData:
        """The real images where they are given, else as many of noise; few on a CPU."""
        if self.on_gpu and self.data_dir is not None:
            return datasets.load("fashion-mnist", self.data_dir).to(self.device)
        return random_data(60_000 if self.on_gpu else 1280).to(self.device)


def milliseconds(take: Steps, run: Run, steps: int) -> float:
    """Return the median milliseconds of a step over five rounds."""
    rounds = []
    take(3)
    for _ in range(5 if run.on_gpu else 1):
        devices.synchronise(run.device)
        started = time.perf_counter()
        take(steps)
        devices.synchronise(run.device)
        rounds.append((time.perf_counter() - started) / steps * 1000)
    return median(rounds)


def gpu_tests(run: Run) -> Table:
    """Run `pytest -m gpu`."""
    if not run.on_gpu:
        return {"pytest -m gpu": "needs a GPU"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/trainer"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    return {"pytest -m gpu": f"exit code {done.returncode}: {last}"}


@contextlib.contextmanager
def graphs(wanted: bool) -> Iterator[None]:
    """Capture steps, or run every kernel by itself."""
    name, before = variable(GRAPHS)
    os.environ[name] = str(int(wanted))
    try:
        yield
    finally:
        os.environ[name] = before  # an empty one is as good as none


def steps(run: Run) -> Table:
    """Milliseconds of a step of 64 images per member, and what that is beside plain PyTorch."""
    data, table = run.images(), Table()
    many = 200 if run.on_gpu else 1
    sizes = (1, 4, 16, 64) if run.on_gpu else (1, 2)
    for depth in (2, 4):
        config = TrainConfig(depth=depth, epochs=1000)
        plain = milliseconds(Plain(layers_of(config), config, data, run.device), run, many)
        table[f"{depth} conv, plain PyTorch, eager, ms"] = plain
        if run.on_gpu:
            graphed = Graphed(layers_of(config), config, data, run.device)
            table[f"{depth} conv, plain PyTorch, graphed, ms"] = milliseconds(graphed, run, many)
            del graphed
        for members in sizes:
            configs = [config.replace(seed=seed) for seed in range(members)]
            for captured in (True, False) if run.on_gpu else (False,):
                if not captured and members > 4:
                    continue
                spent = _bank_step(run, configs, data, many, captured=captured)
                name = f"{depth} conv, bank of {members}, {'graphed' if captured else 'eager'}"
                table[f"{name}, ms"] = spent
                table[f"{name}, times plain eager"] = members * plain / spent
    return table


def _bank_step(
    run: Run, configs: Sequence[TrainConfig], data: ImageData, many: int, *, captured: bool
) -> float:
    with graphs(captured):
        bank = Bank(configs, data, run.device)

    bank.begin_epoch(1)

    def take(count: int) -> None:
        bank.position.zero_()  # the same batches again: drawing others is no part of a step
        for _ in range(min(count, bank.steps_per_epoch)):
            bank.next_step()

    take(WARM_UP + 1)
    return milliseconds(take, run, min(many, bank.steps_per_epoch))


def convolutions(run: Run) -> Table:
    """Milliseconds of K convolutions, forward and both gradients: the ways to do them."""
    table = Table()
    shapes = [("32 to 64, 14 x 14", 32, 64, 14), ("1 to 32, 28 x 28", 1, 32, 28)]
    for members in (4, 16) if run.on_gpu else (2,):
        for title, inputs, outputs, side in shapes if run.on_gpu else shapes[:1]:
            ways = _Convolutions(run, members, inputs, outputs, side)
            on_gpu = ("forked", "triton") if run.on_gpu else ()
            for name in ("grouped", "separate", "products", *on_gpu):
                way: Callable[[], object] = getattr(ways, name)
                spent = milliseconds(_captured(way, run), run, 50 if run.on_gpu else 1)
                table[f"{members} of {title}: {name}, ms"] = spent
    return table


def _captured(work: Callable[[], object], run: Run) -> Steps:
    """Repeat a work, in a CUDA graph on GPUs."""
    replay = work
    if run.on_gpu:
        stream = torch.cuda.Stream(run.device)
        stream.wait_stream(torch.cuda.current_stream(run.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream(run.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            work()
        replay = graph.replay

    def take(count: int) -> None:
        for _ in range(count):
            replay()

    return take


class _Convolutions:
    """K convolutions of 3x3, batch 64, bf16: the result and both gradients."""

    def __init__(self, run: Run, members: int, inputs: int, outputs: int, side: int) -> None:
        self.members, self.device = members, run.device
        batch = 64 if run.on_gpu else 4

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, device=run.device, dtype=torch.bfloat16)

        def images(channels: int) -> Tensor:
            tensor = random(batch, channels, side, side)
            return tensor.contiguous(memory_format=torch.channels_last)

        self.x, self.upstream = images(members * inputs), images(members * outputs)
        self.weight = random(members * outputs, inputs, 3, 3)
        self.xs = [images(inputs) for _ in range(members)]
        self.upstreams = [images(outputs) for _ in range(members)]
        self.weights = [random(outputs, inputs, 3, 3) for _ in range(members)]
        pixels = batch * side * side
        self.patches = random(members, pixels, 9 * inputs)
        self.kernels = random(members, 9 * inputs, outputs)
        self.gradients = random(members, pixels, outputs)

    def grouped(self) -> None:
        """One grouped convolution."""
        self._all(self.x, self.weight, self.upstream, self.members)

    def separate(self) -> None:
        """One after the other."""
        for x, weight, upstream in zip(self.xs, self.weights, self.upstreams, strict=True):
            self._all(x, weight, upstream, 1)

    def forked(self) -> None:
        """Each on a stream of its own, side by side."""
        here = torch.cuda.current_stream(self.device)
        sides = [torch.cuda.Stream(self.device) for _ in self.xs]
        tensors = zip(self.xs, self.weights, self.upstreams, strict=True)
        for side, (x, weight, upstream) in zip(sides, tensors, strict=True):
            side.wait_stream(here)
            with torch.cuda.stream(side):
                self._all(x, weight, upstream, 1)
        for side in sides:  # not before: whoever forks later would wait for them
            here.wait_stream(side)

    def triton(self) -> None:
        """One grouped convolution, by our kernels."""
        from trainer.triton_convolution import convolution

        x, weight = (t.detach().requires_grad_() for t in (self.x, self.weight))
        out = convolution(x, weight, self.members, torch.bfloat16)
        torch.autograd.grad(out, (x, weight), self.upstream)

    def products(self) -> None:
        """Batched products over unfolded patches; the unfolding is not in it."""
        _ = self.patches @ self.kernels
        _ = self.gradients @ self.kernels.mT
        _ = self.patches.mT @ self.gradients

    @staticmethod
    def _all(x: Tensor, weight: Tensor, upstream: Tensor, groups: int) -> None:
        F.conv2d(x, weight, padding=1, groups=groups)
        torch.ops.aten.convolution_backward(
            upstream, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], groups,
            [True, True, False],
        )  # fmt: skip


def memory(run: Run) -> Table:
    """MB that are allocated after each of several trainings: they should not grow."""
    data, table = run.images(), Table()
    for turn in range(8 if run.on_gpu else 2):
        configs = [
            TrainConfig(
                epochs=5 if run.on_gpu else 1, subset=6400 if run.on_gpu else 640, seed=seed
            )
            for seed in range(8 * turn, 8 * turn + (8 if run.on_gpu else 2))
        ]
        train(configs, data, device=run.device)
        gc.collect()
        if run.on_gpu:
            table[f"allocated after training {turn + 1}, MB"] = (
                torch.cuda.memory_allocated(run.device) / 1e6
            )
        else:
            table[f"training {turn + 1}"] = "done"
    return table


def small_memory(run: Run) -> Table:
    """Whether a bank that does not fit ends as out of memory, and a smaller one trains after it."""
    if not run.on_gpu:
        return {"capped memory": "needs a GPU"}
    table = Table()
    context = multiprocessing.get_context("spawn")
    for members in (64, 8):  # in processes of their own, as the workers' replacement does it
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_train_capped, args=(members, str(run.device), sender))
        process.start()
        sender.close()
        try:
            outcome = receiver.recv()
        except EOFError:
            outcome = "the process died"
        process.join()
        table[f"bank of {members} in 1.5 GB"] = outcome
    return table


def _train_capped(members: int, device: str, pipe: Any) -> None:
    place = torch.device(device)
    share = 1.5e9 / torch.cuda.get_device_properties(place).total_memory
    torch.cuda.set_per_process_memory_fraction(share, place)
    configs = [TrainConfig(epochs=2, subset=3200, width=64, seed=seed) for seed in range(members)]
    try:
        results = train(configs, random_data(3200), device=place)
        pipe.send(f"trained, outcome {results[0].outcome}")
    except torch.OutOfMemoryError:
        pipe.send("out of memory, and said so")
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def _fmnist_study(run: Run, folder: Path, *words: str) -> subprocess.Popen[str]:
    where = ["--device", run.device.type]
    if run.on_gpu and run.data_dir is not None:
        where += ["--data-dir", str(run.data_dir)]
    else:
        where += ["--dataset", "digits"]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "study.cli", *words, *where],
        cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def killed_worker(run: Run) -> Table:
    """Kill a worker in the midst of a run: the run should end with every trial."""
    import psutil

    plan = "name = 'killed'\nseeds = 2\nepochs = 6\n[factors]\nwidth = [8, 16]\n"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "killed.toml").write_text(plan, encoding="utf-8")
        process = _fmnist_study(run, Path(folder), "run", "killed.toml", "--bank", "2")
        killed = 0
        deadline = time.monotonic() + 600
        while process.poll() is None and not killed and time.monotonic() < deadline:
            time.sleep(0.1)
            if not Path(folder, "studies.db").exists():
                continue  # nothing is trained yet
            with contextlib.suppress(psutil.Error):
                children = psutil.Process(process.pid).children(recursive=True)
                # Workers are those that start no others, and hold PyTorch.
                leaves = [child for child in children if not child.children()]
                worker = max(leaves, key=lambda child: child.memory_info().rss, default=None)
                if worker is not None and worker.memory_info().rss > 1e8:
                    worker.send_signal(signal.SIGKILL)
                    killed += 1
        text, _ = process.communicate(timeout=900)
    last = (text.strip().splitlines() or [""])[-1]
    return {"killed workers": float(killed), "the run": f"exit code {process.returncode}: {last}"}


def ablation(run: Run) -> Table:
    """Seconds of `run ablation` at a small budget."""
    budget = ["--epochs", "2", "--seeds", "1", "--subset", "6400"] if run.on_gpu else [
        "--epochs", "1", "--seeds", "1", "--subset", "400",
    ]  # fmt: skip
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        process = _fmnist_study(run, Path(folder), "run", "ablation", *budget)
        text, _ = process.communicate(timeout=900)
    last = (text.strip().splitlines() or [""])[-1]
    spent = time.perf_counter() - started
    return {"seconds": spent, "the run": f"exit code {process.returncode}: {last}"}


def pooling(run: Run) -> Table:
    """Seconds of the cells of the plan `pooling`, one seed, as planned."""
    if not run.on_gpu or run.data_dir is None:
        return {"cells of pooling": "needs a GPU and --data-dir"}
    plan, data = load_plan("pooling").override(seeds=1), run.images()
    groups: dict[tuple[Any, ...], list[TrainConfig]] = {}
    for config in map(plan.config_of, plan.cells):
        groups.setdefault(config.fusion_key, []).append(config)
    started = time.perf_counter()
    for configs in groups.values():
        train(configs, data, device=run.device)
    return {"cells": float(len(plan.cells)), "seconds": time.perf_counter() - started}


def single(run: Run) -> Table:
    """Seconds of one 4-conv training of 20 epochs on all images."""
    if not run.on_gpu or run.data_dir is None:
        return {"4 conv, 20 epochs": "needs a GPU and --data-dir"}
    data = run.images()
    started = time.perf_counter()
    (result,) = train([TrainConfig(depth=4, epochs=20)], data, device=run.device)
    spent = time.perf_counter() - started
    return {"seconds": spent, "validation accuracy": result.val_accuracy or 0.0}


PARTS: dict[str, Callable[[Run], Table]] = {
    part.__name__: part
    for part in (
        steps, convolutions, memory, small_memory, pooling, single, killed_worker, ablation,
        gpu_tests,
    )
}  # fmt: skip


def goals(results: dict[str, Table]) -> dict[str, bool | None]:
    """Say which goals hold; None: it was not measured."""

    def holds(part: str, name: str, judge: Callable[[float], bool]) -> bool | None:
        value = results.get(part, {}).get(name)
        return judge(value) if isinstance(value, float) else None

    captured = "bank of 16, graphed, times plain eager"
    return {
        "2 conv: a bank of 16 is at least 20 times sequential plain PyTorch": holds(
            "steps", f"2 conv, {captured}", lambda times: times >= 20
        ),
        "4 conv: a bank of 16 is at least 6 times sequential plain PyTorch": holds(
            "steps", f"4 conv, {captured}", lambda times: times >= 6
        ),
        "the cells of pooling in under 60 s": holds("pooling", "seconds", lambda s: s < 60),
        "4 conv, 20 epochs of all images in under 10 s": holds(
            "single", "seconds", lambda s: s < 10
        ),
    }


def measure(run: Run, parts: Sequence[str]) -> None:
    """Measure part by part, and print each as soon as it is there."""
    for name in parts:
        started = time.perf_counter()
        try:
            table = PARTS[name](run)
        except Exception as error:  # the others go on
            traceback.print_exc()
            table = {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
        run.results[name] = table
        print(f"\n{name} ({time.perf_counter() - started:.0f} s)")
        for title, value in table.items():
            print(
                f"  {title:60} {value if isinstance(value, str) else f'{value:12,.3f}'}", flush=True
            )
        gc.collect()
        if run.on_gpu:
            torch.cuda.empty_cache()


def main() -> int:
    """Measure, print, write; 1 if a part failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu for a try")
    parser.add_argument("--data-dir", type=Path, default=None, help="the real images")
    parser.add_argument("--quick", action="store_true", help="without the runs of whole studies")
    parser.add_argument("--only", nargs="*", choices=PARTS, help="these parts")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the figures as JSON")
    options = parser.parse_args()
    device = devices.resolve(options.device)
    devices.use(device)
    if device.type == "cpu":
        devices.prepare_process(1)
    run = Run(device, options.data_dir, options.quick)
    whole = {"killed_worker", "ablation", "gpu_tests"}
    parts = options.only or [name for name in PARTS if not (run.quick and name in whole)]
    about = {
        "device": devices.describe(device),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "precision": devices.precision(TrainConfig(), device),
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    measure(run, parts)
    judged = goals(run.results) if run.on_gpu else {}
    print("\ngoals" if run.on_gpu else "\nno goal is judged on a CPU")
    for goal, holds in judged.items():
        print(f"  {goal}: {'not measured' if holds is None else 'holds' if holds else 'MISSED'}")
    written = {**about, "results": run.results, "goals": judged}
    options.out.write_text(json.dumps(written, indent=1), encoding="utf-8")
    return int(any("failed" in table for table in run.results.values()))


if __name__ == "__main__":
    sys.exit(main())
