"""Weights of convolutions and projections laid out once as a CPU's kernels read them, for networks that only draw.

oneDNN multiplies blocks of weights, interleaved for its vector or tile instructions. PyTorch keeps weights plain, and
they are copied into that order at every call: where a picture is small, as in the deep levels of a U-Net, that takes up
to twice as long as the multiplications themselves. Here the copy is kept in place of the weights, so it takes no more
memory, and a layer's results are the same bit for bit. What goes around a residual block is added by its last
convolution, before that rounds. Where a gradient is taken through a layer, as guidance does, the way back is a layer of
its own, with weights in an order of their own.
"""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

from glide.networks.cpu.allocator import in_own_pages

M = TypeVar("M", bound=nn.Module)
SETTLING = Lock()
"""Held while weights are laid out, by one thread at a time; those that draw meanwhile look each order up at once."""
SMALL = 2**28  # bytes of weights: a network with fewer keeps them in the orders for two shapes


def pack_(network: M) -> M:
    """Have the convolutions of a network on a CPU, and its projections in bfloat16, keep weights in oneDNN's order.

    network: frozen, and from now on for drawing alone: its weights can neither be trained nor moved nor saved. The
    order depends on what a convolution gets, so the first call with pictures of another size or number goes by plain
    weights, and those after it are faster. Of a small network the orders for the last two shapes are kept: a guidance
    that acts in an interval makes calls of two sizes in turn. Where PyTorch is without oneDNN, or the processor without
    the type of the weights, all stays as it is.
    """
    convolutions: list[PackedConv2d] = []
    most = 2 if sum(p.numel() * p.element_size() for p in network.parameters()) < SMALL else 1
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Conv2d and packable(layer):
                convolutions.append(PackedConv2d(layer, most))
                setattr(parent, name, convolutions[-1])
            elif type(layer) is nn.Linear and packable(layer) and layer.weight.dtype == torch.bfloat16:
                setattr(parent, name, PackedLinear(layer))  # in float32 these are MKL's, and as fast plain

    def settle(network: nn.Module, inputs: object, output: object) -> None:
        late = [layer for both in convolutions for layer in (both, both.back) if layer and not layer.settled]
        if late:
            with SETTLING, in_own_pages():
                for layer in late:
                    layer.settle()

    if convolutions:
        network.register_forward_hook(settle)  # no sooner, lest activations lie strewn among weights
    return network


def packable(layer: nn.Conv2d | nn.Linear) -> bool:
    """Whether oneDNN is there for the layer."""
    plain = not isinstance(layer, nn.Conv2d) or (
        layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    )
    weight = layer.weight
    return plain and weight.device.type == "cpu" and weight.layout == torch.strided and _works(weight.dtype)


@cache
def _works(dtype: torch.dtype) -> bool:
    """Tried on small layers, for these operations are not among PyTorch's documented ones."""
    if dtype not in (torch.bfloat16, torch.float32) or not torch.backends.mkldnn.is_available():
        return False
    x = torch.linspace(-1, 1, 16 * 64, dtype=dtype).view(1, 16, 8, 8)
    x = x.contiguous(memory_format=torch.channels_last)
    rows = x[0, :, 0]  # [16,8]
    conv, linear = nn.Conv2d(16, 16, 3, padding=1, dtype=dtype), nn.Linear(8, 16, dtype=dtype)
    strided = nn.Conv2d(16, 16, 3, stride=2, padding=1, dtype=dtype)
    try:
        with torch.no_grad():
            packed, spread = PackedConv2d(conv), _Spread(PackedConv2d(strided))
            packed(x)
            packed.settle()
            g = strided(x)
            spread.multiply(g, x.shape)
            spread.settle()
            pairs = [
                (spread.multiply(g, x.shape), conv2d_input(x.shape, strided.weight, g, 2, 1)),
                (packed(x), conv(x)),
                (packed.added(x, x, onto=False), x + conv(x)),
                (packed.added(x, x.clone(), onto=True), x + conv(x)),
                (PackedLinear(linear)(rows), linear(rows)),
            ]
            return all(torch.allclose(ours, theirs, atol=0.05) for ours, theirs in pairs)
    except (AttributeError, RuntimeError, TypeError):
        return False


class PackedConv2d(nn.Conv2d):
    """A convolution, padded by zeros, whose weights lie in the orders for the last `most` shapes of input."""

    def __init__(self, conv: nn.Conv2d, most: int = 1) -> None:
        with torch.device("meta"):  # no weights of its own
            super().__init__(
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size,  # type: ignore[arg-type]
                conv.stride,  # type: ignore[arg-type]
                conv.padding,  # type: ignore[arg-type]
                conv.dilation,  # type: ignore[arg-type]
                conv.groups,
                conv.bias is not None,
            )
        self.weight, self.bias = _frozen(conv.weight.detach()), conv.bias
        self._where: list[Any] = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self._late: torch.Size | None = None  # what was last given without an order of its own
        self._orders: dict[torch.Size, nn.Parameter] = {}  # by the shape of the input, the oldest first
        self._most = most
        # the weights once more, plain, where there is no way back by one layer
        self._also: Tensor | None = None
        self.__dict__["back"] = None  # no module of this one

    back: PackedConv2d | _Spread | None
    """From the gradient of the output to that of the input, once one has been taken."""

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,out_channels,H',W']."""
        if not _differentiated(x):
            return self.multiply(x)
        if not self.turns:
            if self._also is None:
                self._also = _plain(self.weight)
            return self._conv_forward(x, self._also, self.bias)
        return self.both(x)

    @property
    def turns(self) -> bool:
        """Whether one layer leads back."""
        return self.groups == 1

    def both(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """`multiply`, or with y `added`, and the way back; of a layer that `turns`."""
        if self.back is None:
            self.__dict__["back"] = self._turned() if self.stride == (1, 1) else _Spread(self)
        return _Both.apply(x, self, y)

    def gradient(self, g: Tensor, of: torch.Size) -> Tensor:
        """From the gradient of the output to that of the input, which has the shape `of`."""
        assert self.back is not None
        g = g.contiguous(memory_format=torch.channels_last)
        return self.back.multiply(g, of) if isinstance(self.back, _Spread) else self.back.multiply(g)

    def multiply(self, x: Tensor) -> Tensor:
        """`forward` without a gradient."""
        return torch.ops.mkldnn._convolution_pointwise(x, *self._weights_for(x), "none", [], "")

    def added(self, x: Tensor, y: Tensor, onto: bool) -> Tensor:
        """y [N,out_channels,H',W'] plus `multiply`; onto: in the place of y."""
        what = (*self._weights_for(x), "add", 1.0, None, [], None)
        y = y.contiguous(memory_format=torch.channels_last)
        if onto:
            return torch.ops.mkldnn._convolution_pointwise_.binary(y, x, *what)
        return torch.ops.mkldnn._convolution_pointwise.binary(x, y, *what)

    def _weights_for(self, x: Tensor) -> tuple[Any, ...]:
        order: Tensor | None = self._orders.get(x.shape)
        if order is None:
            # Of another order they would be brought into this one slowly; plain ones are, and multiplied by the same
            # code.
            self._late, order = x.shape, _plain(self.weight)
        return order, self.bias, *self._where

    @property
    def settled(self) -> bool:
        return self._late is None

    def settle(self) -> None:
        """Bring the weights into the order for what came without one."""
        given, self._late = self._late, None
        if given is None or given in self._orders:
            return
        with torch.inference_mode(False), torch.no_grad():
            plain = _plain(self.weight)
            order = _frozen(torch.ops.mkldnn._reorder_convolution_weight(plain, *self._where, list(given)))
        while len(self._orders) >= self._most:
            del self._orders[next(iter(self._orders))]
        self.weight = self._orders[given] = order

    def _turned(self) -> PackedConv2d:
        """The gradient of a convolution is one by the same weights, turned by half a turn, their channels swapped."""
        padding, _, dilation, _ = self._where
        kernel = (self.weight.shape[2], self.weight.shape[3])
        outside = tuple(d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True))
        with torch.device("meta"):
            conv = nn.Conv2d(self.out_channels, self.in_channels, kernel, bias=False)
        conv.padding, conv.dilation = outside, tuple(dilation)
        weight = _plain(self.weight).flip(2, 3).transpose(0, 1)
        conv.weight = _frozen(weight.contiguous(memory_format=torch.channels_last))
        return PackedConv2d(conv, self._most)


class _Spread:
    """The way back through a strided convolution: transposed, its weights in the order for one shape of gradient."""

    def __init__(self, conv: PackedConv2d) -> None:
        self._plain = _plain(conv.weight)
        self._where, self._kernel = conv._where, conv.kernel_size
        self._late: tuple[Any, ...] | None = None  # what was last given without an order of its own
        self._order: tuple[tuple[Any, ...] | None, Tensor] = (
            None,
            self._plain,
        )  # what was given, and weights laid out

    def multiply(self, g: Tensor, of: torch.Size) -> Tensor:
        """g [N,out_channels,H',W'] -> [N,C,H,W] of the shape `of`."""
        padding, stride, dilation, groups = self._where
        ends = [
            (there - 1) * s - 2 * p + d * (k - 1) + 1
            for there, s, p, d, k in zip(g.shape[2:], stride, padding, dilation, self._kernel, strict=True)
        ]
        outside = [size - end for size, end in zip(of[2:], ends, strict=True)]
        where = (padding, outside, stride, dilation, groups)
        given = (*where, list(g.shape))
        of_order, weight = self._order
        if of_order != given:
            self._late, weight = given, self._plain
        return torch.ops.mkldnn._convolution_transpose_pointwise(g, weight, None, *where, "none", [], "")

    @property
    def settled(self) -> bool:
        return self._late is None

    def settle(self) -> None:
        """Bring the weights into the order for what came without one."""
        given, self._late = self._late, None
        if given is None or given == self._order[0]:
            return
        with torch.inference_mode(False), torch.no_grad():
            weight = torch.ops.mkldnn._reorder_convolution_transpose_weight(self._plain, *given)
        self._order = given, weight


def added(conv: nn.Module, x: Tensor, y: Tensor, onto: bool) -> Tensor:
    """conv(x) + y; onto: y is nobody else's, and may be written over."""
    if not isinstance(conv, PackedConv2d):
        return y + conv(x)
    if not _differentiated(x) and not _differentiated(y):
        return conv.added(x, y, onto)
    return conv.both(x, y) if conv.turns else y + conv(x)


class PackedLinear(nn.Linear):
    """A projection whose weights lie in oneDNN's order, one for inputs of all shapes."""

    back: PackedLinear | None

    def __init__(self, linear: nn.Linear) -> None:
        with torch.device("meta"):
            super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        self.weight = _frozen(torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None))
        self.bias = linear.bias
        self.__dict__["back"] = None

    def forward(self, x: Tensor) -> Tensor:
        """[...,in_features] -> [...,out_features]."""
        if not _differentiated(x):
            return self.multiply(x)
        if self.back is None:
            with torch.device("meta"):
                back = nn.Linear(self.out_features, self.in_features, bias=False)
            back.weight = _frozen(_plain(self.weight).mT.contiguous())
            self.__dict__["back"] = PackedLinear(back)
        return _Both.apply(x, self, None)

    def multiply(self, x: Tensor) -> Tensor:
        """`forward` without a gradient."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")

    def gradient(self, g: Tensor, of: torch.Size) -> Tensor:
        """From the gradient of the output to that of the input, which has the shape `of`."""
        assert self.back is not None
        return self.back.multiply(g)


class _Both(torch.autograd.Function):
    """A layer forwards, with what it is added to, and backwards the one that leads back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: PackedConv2d | PackedLinear, y: Tensor | None) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        if y is None:
            return layer.multiply(x)
        assert isinstance(layer, PackedConv2d)
        return layer.added(x, y, onto=False)  # y may be wanted on the way back

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        of_x, _, of_y = ctx.needs_input_grad
        return ctx.layer.gradient(g, ctx.shape) if of_x else None, None, g if of_y else None


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad=False)


def _plain(weight: Tensor) -> Tensor:
    return weight.to_dense() if weight.is_mkldnn else weight


def _differentiated(x: Tensor) -> bool:
    """Whether a gradient is taken through the layer: oneDNN's operations have none."""
    return x.requires_grad and torch.is_grad_enabled()
