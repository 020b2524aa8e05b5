"""Conditioning: the inputs of a U-Net besides x_t and t.

Shape letters: N batch, E embedding width, L tokens, D token width, K widths of keys and values, P planes, H W pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from glide.utils.errors import InputError


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The inputs of a network besides x_t and t. A missing part is None; Conditioning() is unconditional."""

    vector: Tensor | None = None  # [N,E]     added to the time embedding (label, pooled text)
    tokens: Tensor | None = None  # [N,L,D]   extra attention keys and values
    planes: Tensor | None = None  # [N,P,H,W] concatenated to x_t (low-res image; masked image and mask)
    level: Tensor | None = (
        None  # [N,E]     added to the time embedding: noise of the low-res image, image embedding
    )
    estimate: Tensor | None = None  # [N,C,H,W] the network's own last x0, if it is self-conditioned
    keys: Tensor | None = None  # [N,L,K]   keys and values of the tokens (`glide.networks.key_cache`)

    def parts(self) -> dict[str, Tensor]:
        """The parts that are present, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in found.items() if part is not None}

    @property
    def rows(self) -> int | None:
        """N, or None where there is no part to count."""
        return next((len(part) for part in self.parts().values()), None)

    def with_planes(self, *planes: Tensor) -> "Conditioning":
        """A copy with planes [N,p,H,W] joined, in order, after its own."""
        joined = [*([] if self.planes is None else [self.planes]), *planes]
        return replace(self, planes=joined[0] if len(joined) == 1 else torch.cat(joined, dim=1))  # [N,P,H,W]

    def joined(self, other: "Conditioning") -> "Conditioning":
        """The same with the image-shaped parts of `other`: its planes after those here, levels added, its estimate."""
        cond = self if other.planes is None else self.with_planes(other.planes)
        if other.level is not None:
            cond = replace(cond, level=other.level if cond.level is None else cond.level + other.level)
        return cond if other.estimate is None else replace(cond, estimate=other.estimate)

    def sharing_planes(self, other: "Conditioning") -> "Conditioning":
        """A copy with the planes of `other` and their level, where it has none of both itself.

        A conditioning of one row is then repeated to as many rows as the planes have.
        """
        images = [part for part in (other.planes, other.level) if part is not None]
        if self.planes is not None or self.level is not None or not images:
            return self
        return replace(self.rows_of(len(images[0])), planes=other.planes, level=other.level)

    def rows_of(self, n: int) -> "Conditioning":
        """The same with n rows, where it has one."""
        return self._map(lambda part: part.expand(n, *part.shape[1:]))

    @staticmethod
    def cat(conds: Sequence["Conditioning"]) -> "Conditioning":
        """All rows of several conditionings. Raises InputError unless all have the same parts."""
        if len(conds) == 1:
            return conds[0]  # planes can be large: do not copy them
        if any(cond.keys is None for cond in conds):  # keys repeat what the tokens hold
            conds = [replace(cond, keys=None) for cond in conds]
        names = [list(cond.parts()) for cond in conds]
        if any(other != names[0] for other in names):
            found = " against ".join("+".join(parts) or "none" for parts in names)
            raise InputError(
                f"got conditionings with different parts ({found}), expected the same parts in each: "
                "build all of them with the same model, planes included"
            )
        return Conditioning(**{name: torch.cat([cond.parts()[name] for cond in conds]) for name in names[0]})

    def __getitem__(self, rows: slice) -> "Conditioning":
        return self._map(lambda part: part[rows])

    def repeat(self, n: int) -> "Conditioning":
        """All rows n times: rows 0, 1, 0, 1, ... of a conditioning with two rows."""
        return self._map(lambda part: part.repeat(n, *[1] * (part.ndim - 1)))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Conditioning":
        """A copy on another device, in another floating-point type; None keeps the present one."""
        return self._map(lambda part: part.to(device=device, dtype=dtype))

    def same(self, other: "Conditioning") -> bool:
        """True if both have equal parts, bit for bit."""
        mine, theirs = self.parts(), other.parts()
        return self is other or (
            list(mine) == list(theirs)
            and all(
                part.device == theirs[name].device and torch.equal(part, theirs[name])
                for name, part in mine.items()
            )
        )

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Conditioning":
        return Conditioning(**{name: change(part) for name, part in self.parts().items()})
