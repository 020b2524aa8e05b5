"""Callbacks, progress bar and stop flag of a pipeline's run.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor
from tqdm.auto import tqdm
from tqdm.notebook import tqdm_notebook

from glide.utils.errors import InputError
from glide.utils.progress import progress
from toolkit.pipelines.base import BasePipeline
from toolkit.pipelines.output import Step

Callback = (
    Callable[[BasePipeline, int, int, dict[str, Tensor]], Mapping[str, Tensor] | None]
    | Callable[[int, int, Tensor], object]
)
"""Called after each step with the pipeline, the step's index from 0, its training timestep, and tensors by name, as in
diffusers. A mapping that it returns replaces tensors: {"latents": x}. One that takes three arguments gets the index,
the timestep and x [N,C,H,W]."""

TENSORS = ("latents", "x0")
"""For callbacks: x, from which the next step goes on, and the picture that the model sees behind it."""


def progress_bar(total: int, config: Mapping[str, Any]) -> Any:
    """That of tqdm.auto in notebooks, and wherever the config asks for one by disable=False; else the toolkit's own.

    config: arguments of tqdm's.
    """
    if issubclass(tqdm, tqdm_notebook) or config.get("disable") is False:
        return tqdm(total=total, **config)
    known = {name: value for name, value in config.items() if name in inspect.signature(progress).parameters}
    return progress(total=total, **known)


class Watch:
    """The bar, the callback and the stop flag of one run of a pipeline."""

    def __init__(
        self, pipe: BasePipeline, callback: Callback | None, inputs: Sequence[str] = ("latents",)
    ) -> None:
        """inputs: names of `TENSORS` that the callback gets.

        InputError for names that are none of them, and for a callback that takes another number of arguments.
        """
        inputs = [inputs] if isinstance(inputs, str) or not isinstance(inputs, Sequence) else inputs
        for name in inputs:
            if name not in TENSORS:
                raise InputError(
                    f"got the callback input {name!r}, expected {' or '.join(TENSORS)}: choose of these"
                )
        if callback is not None and not callable(callback):
            raise InputError(
                f"got {type(callback).__name__} as callback_on_step_end, expected a function of "
                "(pipe, step, t, kwargs): define one"
            )
        self.of_x = callback is not None and not _takes(callback, 4)
        if self.of_x and not _takes(cast(Callable[..., object], callback), 3):
            raise InputError(
                "got a callback_on_step_end that does not take four arguments, expected a function of "
                "(pipe, step, t, kwargs): define it with these"
            )
        self.pipe, self.callback, self.inputs = pipe, cast(Callable[..., Any] | None, callback), inputs
        self.mark: dict[str, str] = {}
        """For recipes: why `--like` cannot draw the pictures again, if something has changed the run."""

    @contextmanager
    def run(self, steps: int) -> Iterator[None]:
        """A run of so many steps, with its bar."""
        self.steps = steps
        with self.pipe.interrupts.run(), progress_bar(steps, self.pipe.progress_bar_config) as self.bar:
            yield

    def __call__(self, step: Step) -> None:
        """To be called after each step."""
        self.bar.update()
        if self.callback is None:
            pass
        elif self.of_x:
            self.callback(step.index, step.t, step.x)
        else:
            tensors = {"latents": lambda: step.latents, "x0": lambda: step.x0}
            kwargs = {name: tensors[name]() for name in self.inputs}
            self._replace(step.latents, self.callback(self.pipe, step.index, step.t, kwargs))
        if self.pipe.interrupts.asked and step.index + 1 < self.steps:
            self.mark = {"made_by": f"Python, stopped after step {step.index + 1} of {self.steps}"}

    def _replace(self, x: Tensor, changed: object) -> None:
        new = changed.get("latents") if isinstance(changed, Mapping) else None
        if new is None or new is x:
            return
        if not isinstance(new, Tensor) or new.shape != x.shape:
            raise InputError(
                f"got latents of {getattr(new, 'shape', type(new).__name__)} from callback_on_step_end, expected a "
                f"tensor of {tuple(x.shape)}: return those of its last argument, changed"
            )
        x.copy_(new)  # in place: the sampler goes on from this very tensor
        self.mark = {"made_by": "Python, with latents changed by a callback"}


def _takes(callback: Callable[..., object], count: int) -> bool:
    """True where it can be called with so many arguments by position; one that does not say takes four."""
    try:
        inspect.signature(callback).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return count == 4
    return True
