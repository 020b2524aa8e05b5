"""Features: the activations of a U-Net's named blocks, read and changed while a pipeline draws.

with pipe.features("middle") as f:
    pipe("a red circle", seed=0)
f["middle"]  # {timestep: [N,C,H,W]}

Shape letters: N pictures of a drawing, n pictures of one network call, K conditionings, C channels, H W pixels.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.networks.unet import UNet
from glide.utils.errors import InputError
from glide.utils.numbers import shown_number
from guidance.context import ModelContext
from toolkit.pipelines.padding import Padding

if TYPE_CHECKING:
    from toolkit.pipelines.settings import SamplingConfig

Change = Callable[[Tensor, int], Tensor]
"""From a block's output h [n,C,H,W] at training timestep t to another of the same shape. It treats each picture by
itself, and is called once for each conditioning of a network call."""


class Features:
    """The features of some blocks of a U-Net, as the last drawing made them, and what is done to them.

    Blocks: "down.0", ..., "middle", "up.0", ... in the order in which they run. A change of "down.i" also reaches the
    decoder, by the skip connection. Where `with` blocks are nested, the inner one sees what the outer one has changed.
    """

    def __init__(self, names: Sequence[str], known: Sequence[str]) -> None:
        """InputError for a name that is none of the known ones."""
        for name in names:
            _check(name, known)
        self.names = tuple(names) or tuple(known)
        self._known = known
        self._read: dict[str, dict[int, Tensor]] = {}
        self._changes: dict[str, list[Callable[[Tensor, int, slice], Tensor]]] = {}

    def __getitem__(self, name: str) -> dict[int, Tensor]:
        """The block's own output in the last drawing, [N,C,H,W] by timestep, of the main conditioning.

        In the network's number type, before it is changed here. Where a solver or RePaint comes to a timestep again,
        the last time. InputError for a block that is not read, or where nothing was drawn.
        """
        _check(name, self.names)
        if not self._read:
            raise InputError("got no drawing whose features could be read: draw within the `with` block")
        return self._read[name]

    def __setitem__(self, name: str, features: Mapping[int, Tensor]) -> None:
        """Put features, [N,C,H,W] or [1,C,H,W] by timestep, in place of the block's at these timesteps.

        InputError, in the drawing, for another shape.
        """
        if not isinstance(features, Mapping):
            raise InputError(
                f"got {type(features).__name__} as features of {name}, expected tensors by timestep: write f[{name!r}] "
                f"= other[{name!r}], or f.change({name!r}, function)"
            )
        self._add(name, partial(_replaced, dict(features)))

    def change(self, name: str, function: Change) -> None:
        """Send a block's output through function(h, t), in every conditioning of the main network's calls.

        Later ones of the same block follow earlier ones. InputError for an unknown block; in the drawing, for a
        result of another shape.
        """
        self._add(name, lambda h, t, rows: function(h, t))

    def _add(self, name: str, function: Callable[[Tensor, int, slice], Tensor]) -> None:
        _check(name, self._known)
        self._changes.setdefault(name, []).append(function)

    @property
    def changed(self) -> tuple[str, ...]:
        """The blocks whose features are changed."""
        return tuple(self._changes)

    def begin(self) -> None:
        """Forget what the drawing before has left."""
        self._read = {name: {} for name in self.names}

    def read(self, name: str, t: int, h: Tensor, more: bool) -> None:
        """Keep h [n,C,H,W]; more: True after the first call of a step, which began with other pictures."""
        if name in self._read:
            of = self._read[name]
            h = h.detach().clone(memory_format=torch.contiguous_format)
            of[t] = torch.cat([of[t], h]) if more else h

    def apply(self, name: str, t: int, h: Tensor, rows: slice) -> Tensor:
        """h [n,C,H,W] with what is changed; rows: which pictures of the drawing it is of."""
        for function in self._changes.get(name, ()):
            new = function(h, t, rows)
            if not isinstance(new, Tensor) or new.shape != h.shape:
                came = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
                raise InputError(
                    f"got features of {came} for {name} at timestep {t}, expected {tuple(h.shape)}: change the values "
                    "and keep the shape"
                )
            h = new
        return h


class ActiveFeatures:
    """The `with` blocks of a pipeline that are open, by thread: each thread sees its own alone."""

    def __init__(self) -> None:
        self._open: dict[int, list[Features]] = {}

    @contextmanager
    def watch(self, features: Features) -> Iterator[Features]:
        """Open the block; it is closed on errors, too."""
        thread = get_ident()
        self._open.setdefault(thread, []).append(features)
        try:
            yield features
        finally:
            self._open[thread].remove(features)
            if not self._open[thread]:
                del self._open[thread]

    @property
    def here(self) -> tuple[Features, ...]:
        """Those of this thread, the outermost first."""
        return tuple(self._open.get(get_ident(), ()))

    def mark(self) -> dict[str, Any]:
        """For recipes: how a picture was made that no recipe repeats."""
        changed = dict.fromkeys(name for one in self.here for name in one.changed)
        return {"made_by": f"Python, with changed features of {', '.join(changed)}"} if changed else {}


@contextmanager
def features(context: ModelContext, active: ActiveFeatures, names: Sequence[str]) -> Iterator[Features]:
    """Read, and change, features of the named blocks, or of all, in what this thread draws meanwhile.

    InputError for an unknown block, and for a network that is compiled or runs in tiles.
    """
    if context.compiled or context.wrap is not None:
        kind = "is compiled" if context.compiled else "runs in tiles"
        raise InputError(
            f"got features of a network that {kind}, expected one as it is: load the model without that"
        )
    with active.watch(Features(names, context.unet.block_names())) as found:
        yield found


def observed(
    context: ModelContext, watching: Sequence[Features], padding: Padding, settings: SamplingConfig
) -> ModelContext:
    """The context of one drawing whose network's features are watched; the same one where none are.

    InputError where DeepCache leaves deep levels out.
    """
    if not watching:
        return context
    if settings.deep_every > 1:
        raise InputError(
            f"got features of a drawing by --deep-every {settings.deep_every}, which leaves deep blocks out at some "
            "steps, expected all of them: leave it out"
        )
    for one in watching:
        one.begin()
    assert context.call_size is not None
    return replace(context, runner=_ObservedUNet(context.unet, watching, padding, context.call_size))


class _ObservedUNet:
    """A U-Net for one drawing, whose blocks' outputs are read and changed; called as the U-Net is."""

    def __init__(self, unet: UNet, watching: Sequence[Features], padding: Padding, size: int) -> None:
        """size: pictures in a network call, of one conditioning."""
        self.unet, self.watching, self.padding, self.size = unet, watching, padding, size
        self.calls = (padding.front + padding.pictures + padding.back) // size
        self._called: dict[tuple[str, ...], int] = {}  # by the perturbed layers: each is a network of its own

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        cond: Conditioning,
        identity: Collection[str] = (),
        inner: bool = False,
    ) -> Tensor:
        """x [K*size,C,H,W], t [K*size], cond -> [K*size,out_channels,H,W]; the main conditioning is the first."""
        of = tuple(identity)
        call = self._called.get(of, 0)
        self._called[of] = (call + 1) % self.calls
        real = self.padding.real
        # the pictures among the places of this call, and which pictures of the drawing they are
        first = max(call * self.size, real.start)
        last = min((call + 1) * self.size, real.stop)
        here = slice(first - call * self.size, last - call * self.size)
        rows = slice(first - self.padding.front, last - self.padding.front)
        step = int(t[0])

        def on_block(name: str, h: Tensor) -> Tensor:
            for one in self.watching:
                if not of:
                    one.read(name, step, h[: self.size][here], more=call > 0)
                if name in one.changed:
                    h = h.clone()  # in the same memory format
                    for part in h.split(self.size):  # K x [size,C,H,W]
                        part[here] = one.apply(name, step, part[here], rows)
            return h

        return self.unet(x, t, cond, identity, on_block, inner)


def _replaced(features: Mapping[int, Tensor], h: Tensor, t: int, rows: slice) -> Tensor:
    """h [n,C,H,W], or the features [N or 1,C,H,W] of these rows where there are some at timestep t."""
    new = features.get(t)
    if new is None:
        return h
    return new.expand(len(h), *new.shape[1:]) if len(new) == 1 else new[rows]


def _check(name: object, known: Sequence[str]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
    raise InputError(
        f"got the block {shown_number(name)}, expected one of {', '.join(known)}: did you mean {near[0]!r}?"
    )
