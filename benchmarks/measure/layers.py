"""The time of a network, layer by layer: by kind of layer, and by block.

Every module is timed by itself: its own time is what it takes without the modules inside of it. So what an attention
layer does besides its norm and its projections is attention, and what a residual block does besides its layers is
activations and sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure.drawing import load, one_call_a_step, pictures_of
from benchmarks.measure.machine import Clock, begin, step_seconds
from benchmarks.measure.plan import Plan
from benchmarks.measure.results import Found, Table
from benchmarks.measure.turns import WARM_UP
from benchmarks.measure.work import attention_work, conv_work, linear_work
from glide.networks.blocks import Attention, TokenAttention, UNetBlock

KINDS = ("conv", "linear", "norm", "attention", "activation and rest")


@dataclass
class Layer:
    """The time that one module took by itself, over all calls."""

    name: str
    kind: str
    shape: str = ""
    """Shape of its last output: C@HxW, or L x D."""
    seconds: float = 0.0
    work: int = 0


@dataclass
class _Call:
    name: str
    module: nn.Module
    start: int
    """Index of its mark."""
    end: int = 0
    inside: list[_Call] = field(default_factory=list)
    shape: str = ""
    work: int = 0


class LayerTimes:
    """Within this context every module of a network is timed; `layers` tells afterwards."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.clock = network, Clock(device)
        self.done: list[_Call] = []
        self.open: list[_Call] = []

    def __enter__(self) -> LayerTimes:
        self.hooks = []
        for name, module in self.network.named_modules():
            self.hooks.append(module.register_forward_pre_hook(self._before(name)))
            self.hooks.append(module.register_forward_hook(self._after))
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _before(self, name: str) -> Any:
        def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.open.append(_Call(name, module, len(self.clock.marks)))
            self.clock.mark()

        return before

    def _after(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        call = self.open.pop()
        call.end = len(self.clock.marks)
        self.clock.mark()
        if isinstance(output, Tensor):
            call.shape, call.work = _shape(output), _work(module, inputs, output)
        (self.open[-1].inside if self.open else self.done).append(call)

    def layers(self, last: int) -> tuple[list[Layer], float]:
        """Every module in the order in which it is first called, and the seconds of the whole network, both over its
        last so many calls."""
        between = self.clock.seconds()
        until = [0.0]
        for seconds in between:
            until.append(until[-1] + seconds)
        found: dict[str, Layer] = {}

        def visit(call: _Call) -> float:
            layer = found.setdefault(call.name, Layer(call.name, _kind(call.module)))
            took = until[call.end] - until[call.start]
            layer.seconds += took - sum(visit(inner) for inner in call.inside)
            layer.work += call.work
            layer.shape = call.shape
            return took

        calls = [
            call for call in self.done if call.module is self.network
        ]  # keys of captions are made before
        whole = sum(visit(call) for call in calls[-last:])
        return list(found.values()), whole


def _kind(module: nn.Module) -> str:
    for kind, classes in {
        "conv": (nn.Conv2d,),
        "linear": (nn.Linear,),
        "norm": (nn.GroupNorm, nn.LayerNorm),
        "attention": (Attention, TokenAttention),
    }.items():
        if isinstance(module, classes):
            return kind
    return "activation and rest"


def _work(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> int:
    """Work of the module by itself."""
    if isinstance(module, nn.Conv2d):
        return conv_work(module, output)
    if isinstance(module, nn.Linear):
        return linear_work(module, output)
    if isinstance(module, Attention | TokenAttention):
        n, channels, height, width = output.shape
        tokens = inputs[1].shape[1] if len(inputs) > 1 and inputs[1] is not None else 0
        own = height * width if isinstance(module, Attention) else 0
        return attention_work(n, channels, height * width, own + tokens)
    return 0


def _shape(output: Tensor) -> str:
    if output.ndim == 4:
        return f"{output.shape[1]}@{output.shape[2]}x{output.shape[3]}"
    return "x".join(str(side) for side in output.shape[1:])


def profile_steps(plan: Plan, case: str, name: str | Path, dtype: str, batch: int) -> list[Found]:
    """Steps of a model, first unobserved, then observed: the mean step, by kind of layer and by block."""
    device = begin(plan)
    pipe = load(plan, name, device, dtype, batch)
    settings = one_call_a_step(plan, pipe, plan.repeats + 1 + WARM_UP)
    pictures = pictures_of(pipe.model, batch, plan.seed)
    plain = mean(step_seconds(pipe.draw(pictures, settings), device, WARM_UP))
    with LayerTimes(pipe.unet, device) as times:
        watched = mean(step_seconds(pipe.draw(pictures, settings), device, WARM_UP))
    layers, network = times.layers(plan.repeats)
    title = f"{case}, {dtype}, batch {batch}"
    return tables(title, pipe.unet, layers, network, plan.repeats, watched, plain)


def tables(
    title: str,
    unet: nn.Module,
    layers: list[Layer],
    network: float,
    repeats: int,
    watched: float,
    plain: float,
) -> list[Found]:
    """By kind and by block, a step. network: seconds in it over all `repeats` steps; watched, plain: of one step."""
    blocks = [name for name, module in unet.named_modules() if isinstance(module, UNetBlock)]
    of_kind: dict[str, list[Layer]] = {kind: [] for kind in KINDS}
    of_block: dict[str, list[Layer]] = {}
    for layer in layers:
        of_kind[layer.kind].append(layer)
        inside = next(
            (name for name in blocks if layer.name == name or layer.name.startswith(f"{name}.")), ""
        )
        of_block.setdefault(inside or layer.name or "the rest of the network", []).append(layer)
    whole = network / repeats
    outside = Layer("", "", seconds=(watched - whole) * repeats)

    def row(name: str, shape: str, parts: list[Layer]) -> tuple[str, ...]:
        seconds, work = (
            sum(part.seconds for part in parts) / repeats,
            sum(part.work for part in parts) / repeats,
        )
        rate = f"{work / seconds / 1e9:.0f}" if work and seconds > 0 else "-"
        return name, shape, f"{1000 * seconds:.3g}", f"{seconds / watched:.1%}", f"{work / 1e9:.3g}", rate

    header = ("", "output", "ms", "of the step", "GFLOP", "GFLOP/s")
    rest = [row("sampler and guidance", "", [outside])]
    kinds = [row(kind, "", parts) for kind, parts in of_kind.items()]
    rows = [row(name, parts[0].shape or parts[-1].shape, parts) for name, parts in of_block.items()]
    note = f"{1000 * watched:.4g} ms a step, {1000 * plain:.4g} ms without looking on"
    return [
        Table(f"{title}, by kind of layer ({note})", header, tuple(kinds + rest)),
        Table(f"{title}, by block", header, tuple(rows + rest)),
    ]
