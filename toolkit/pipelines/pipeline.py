"""`Pipeline`: a model that draws, with the names of methods and arguments that diffusers has.

from toolkit import Pipeline

pipe = Pipeline.from_pretrained("shapes")
pipe("a red ring", guidance_scale=3.0, seed=0).images[0].save("ring.png")
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from glide.networks.picture_sizes import default_size
from glide.utils.picture_size import size_text
from toolkit.pipelines.base import BAR, BasePipeline
from toolkit.pipelines.call import call
from toolkit.pipelines.features import Features, features
from toolkit.pipelines.keyword_arguments import refuse_part
from toolkit.pipelines.output import Result, Step
from toolkit.pipelines.save import push_to_hub, rebuilt, save_pretrained, to

__all__ = ["Pipeline", "Result", "Step"]


class Pipeline(BasePipeline):
    """A model that draws. Threads may share one.

    pipe = Pipeline.from_pretrained("shapes")
    pipe("a red ring", guidance_scale=3.0, seed=0).images[0].save("ring.png")
    """

    __call__ = call
    to = to
    save_pretrained = save_pretrained
    push_to_hub = push_to_hub

    def set_progress_bar_config(self, **config: Any) -> None:
        """Set arguments of the bars that calls show, which are tqdm's: disable=True for none."""
        self.progress_bar_config = BAR | config

    def features(self, *blocks: str) -> AbstractContextManager[Features]:
        """Read or change the activations of the network's blocks ("middle", "up.0", ...) in this thread's drawings.

        with pipe.features("middle") as f:
            pipe("a red circle", seed=0)
        f["middle"]  # {timestep: [N,C,H,W]}; f.change("middle", lambda h, t: 0 * h) changes them

        blocks: by default all. InputError for an unknown one, and for a network that is compiled or runs in tiles.
        """
        return features(self.context, self.active_features, blocks)

    @property
    def interrupt(self) -> bool:
        """True once a callback, or another thread, has set `_interrupt`: the run stops after this step."""
        return self.interrupts.asked

    @property
    def _interrupt(self) -> bool:
        return self.interrupts.asked

    @_interrupt.setter
    def _interrupt(self, stop: bool) -> None:
        self.interrupts.ask(stop)

    def __getattr__(self, name: str) -> Any:
        raise refuse_part(name)

    @property
    def scheduler(self) -> Any:
        """Always an error that says how to choose a solver: setting diffusers' attribute would change nothing here."""
        raise refuse_part("scheduler")

    @scheduler.setter
    def scheduler(self, scheduler: object) -> None:
        raise refuse_part("scheduler")

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as the call by which it was made: an unpickled one reads its model again."""
        return rebuilt, (self.made_by, self.fingerprint, self.progress_bar_config)

    def __repr__(self) -> str:
        size, dtype = default_size(self.model.config), str(self.dtype).removeprefix("torch.")
        return f"Pipeline({self.name!r}, {size_text(size)}, {self.device}, {dtype})"
