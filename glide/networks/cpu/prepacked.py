"""Weights of convolutions and projections stored in oneDNN's blocked layout, for networks that only sample.

oneDNN multiplies blocks of weights, interleaved for its vector or tile instructions. PyTorch stores plain weights,
which are copied into that layout in every call: for small pictures, as in the deep levels of a U-Net, that takes up to
twice as long as the multiplications themselves. Here the copy replaces the weights, so it takes no more memory, and a
layer's results do not depend on the layout, bit for bit. The residual of a block is added by its last convolution,
before the result is rounded. Where a gradient is taken through a layer, as guidance does, the backward pass is a layer
of its own, with weights in a layout of their own. README.md beside this file holds figures.

Shape letters: N batch, C channels, O output channels, H W pixels.
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
REORDER_LOCK = Lock()
"""Held while a thread reorders weights; threads that sample meanwhile read each layout once, as it is."""
SMALL_PROJECTION = 2**15
"""Weights of a projection for which oneDNN's longer way to a kernel takes what the kernel gains."""
SMALL_NETWORK = 2**28  # bytes of weights: a smaller network keeps the layouts for two shapes


def pack_(network: M) -> M:
    """Store the weights of a network on a CPU in oneDNN's layout: of convolutions and projections.

    network: frozen, and from now on for sampling alone: its weights can neither be trained nor moved nor saved. The
    layout depends on the input of a convolution, so the first call with another size or number of pictures uses plain
    weights, and later calls are faster. A small network keeps the layouts for the last two shapes: a guidance that acts
    in an interval alternates between calls of two sizes. Without oneDNN in PyTorch, or the weights' type in the
    processor, the network is unchanged.
    """
    convolutions: list[PackedConv2d] = []
    layouts = 2 if sum(p.numel() * p.element_size() for p in network.parameters()) < SMALL_NETWORK else 1
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Conv2d and packable(layer):
                convolutions.append(PackedConv2d(layer, layouts))
                setattr(parent, name, convolutions[-1])
            elif type(layer) is nn.Linear and packable(layer) and _gains(layer):
                setattr(parent, name, PackedLinear(layer))
    if convolutions:
        network.__dict__["packed_convolutions"] = convolutions
        network.register_forward_hook(lambda network, inputs, output: reorder_weights(network))
    return network


def reorder_weights(network: nn.Module) -> None:
    """Reorder the weights of those convolutions whose last input had a new shape; of a network by `pack_`.

    It follows each call of the network: within the call, activations would lie scattered among the weights.
    """
    convolutions: list[PackedConv2d] = network.__dict__.get("packed_convolutions", [])
    pending = [
        layer for conv in convolutions for layer in (conv, conv.backward_layer) if layer and layer.pending
    ]
    if pending:
        with REORDER_LOCK, in_own_pages():
            for layer in pending:
                layer.reorder()


def packable(layer: nn.Conv2d | nn.Linear) -> bool:
    """True where oneDNN has a kernel for the layer."""
    plain = not isinstance(layer, nn.Conv2d) or (
        layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    )
    weight = layer.weight
    return (
        plain and weight.device.type == "cpu" and weight.layout == torch.strided and _onednn_has(weight.dtype)
    )


def _gains(layer: nn.Linear) -> bool:
    """True where oneDNN multiplies packed weights faster than PyTorch plain ones, in float32 by MKL."""
    return layer.weight.dtype == torch.bfloat16 or layer.weight.numel() > SMALL_PROJECTION


@cache
def _onednn_has(dtype: torch.dtype) -> bool:
    """Try small layers, as these operations are not among PyTorch's documented ones."""
    if dtype not in (torch.bfloat16, torch.float32) or not torch.backends.mkldnn.is_available():
        return False
    x = torch.linspace(-1, 1, 16 * 64, dtype=dtype).view(1, 16, 8, 8)
    x = x.contiguous(memory_format=torch.channels_last)
    rows = x[0, :, 0]  # [16,8]
    conv, linear = nn.Conv2d(16, 16, 3, padding=1, dtype=dtype), nn.Linear(8, 16, dtype=dtype)
    strided = nn.Conv2d(16, 16, 3, stride=2, padding=1, dtype=dtype)
    try:
        with torch.no_grad():
            packed, transposed = PackedConv2d(conv), _TransposedConv(PackedConv2d(strided))
            packed(x)
            packed.reorder()
            g = strided(x)
            transposed.compute(g, x.shape)
            transposed.reorder()
            pairs = [
                (transposed.compute(g, x.shape), conv2d_input(x.shape, strided.weight, g, 2, 1)),
                (packed(x), conv(x)),
                (packed.add_to(x, x, overwrite=False), x + conv(x)),
                (packed.add_to(x.clone(), x, overwrite=True), x + conv(x)),
                (PackedLinear(linear)(rows), linear(rows)),
            ]
            return all(torch.allclose(ours, theirs, atol=0.05) for ours, theirs in pairs)
    except (AttributeError, RuntimeError, TypeError):
        return False


class PackedConv2d(nn.Conv2d):
    """A zero-padded convolution whose weights are in the layouts for the last `layouts` shapes of input."""

    backward_layer: PackedConv2d | _TransposedConv | None
    """From the gradient of the output to that of the input, once one has been taken."""

    def __init__(self, conv: nn.Conv2d, layouts: int = 1) -> None:
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
        self._geometry: list[Any] = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self._pending: torch.Size | None = None  # the last input shape without a layout of its own
        self._layouts: dict[torch.Size, nn.Parameter] = {}  # by the shape of the input, the oldest first
        self._max_layouts = layouts
        self._plain_weight: Tensor | None = None  # a second copy, where the backward pass is PyTorch's
        self.__dict__["backward_layer"] = None  # no submodule of this layer

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,O,H',W']."""
        if not _needs_gradient(x):
            return self.compute(x)
        if not self.has_backward_layer:
            if self._plain_weight is None:
                self._plain_weight = _plain(self.weight)
            return self._conv_forward(x, self._plain_weight, self.bias)
        return self._with_backward(x)

    def add_to(self, residual: Tensor, x: Tensor, overwrite: bool) -> Tensor:
        """residual [N,O,H',W'] + forward(x). overwrite: in the memory of `residual`, where no gradient is taken."""
        if not _needs_gradient(x) and not _needs_gradient(residual):
            return self.compute_sum(residual, x, overwrite)
        return self._with_backward(x, residual) if self.has_backward_layer else residual + self(x)

    @property
    def has_backward_layer(self) -> bool:
        """True where the gradient of the input is computed by one layer."""
        return self.groups == 1

    def _with_backward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """`compute`, or `compute_sum` with a residual, and the backward pass by `backward_layer`."""
        if self.backward_layer is None:
            unit_stride = self.stride == (1, 1)
            self.__dict__["backward_layer"] = self._mirrored() if unit_stride else _TransposedConv(self)
        return _WithBackward.apply(x, self, residual)

    def gradient(self, g: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of the input, which has that shape, from the gradient of the output g [N,O,H',W']."""
        layer = self.backward_layer
        assert layer is not None
        g = g.contiguous(memory_format=torch.channels_last)
        return layer.compute(g, shape) if isinstance(layer, _TransposedConv) else layer.compute(g)

    def compute(self, x: Tensor) -> Tensor:
        """`forward` without a gradient."""
        return torch.ops.mkldnn._convolution_pointwise(x, *self._weights_for(x), "none", [], "")

    def compute_sum(self, residual: Tensor, x: Tensor, overwrite: bool) -> Tensor:
        """`add_to` without a gradient."""
        arguments = (*self._weights_for(x), "add", 1.0, None, [], None)
        residual = residual.contiguous(memory_format=torch.channels_last)
        if overwrite:
            return torch.ops.mkldnn._convolution_pointwise_.binary(residual, x, *arguments)
        return torch.ops.mkldnn._convolution_pointwise.binary(x, residual, *arguments)

    def _weights_for(self, x: Tensor) -> tuple[Any, ...]:
        """Weights, bias and geometry for an input, as oneDNN's operations take them."""
        weight: Tensor | None = self._layouts.get(x.shape)
        if weight is None:
            # From the layout of another shape oneDNN would reorder slowly; plain weights go through the same code.
            self._pending, weight = x.shape, _plain(self.weight)
        return weight, self.bias, *self._geometry

    @property
    def pending(self) -> bool:
        """True where an input came without a layout of its own."""
        return self._pending is not None

    def reorder(self) -> None:
        """Reorder the weights for the pending input shape."""
        shape, self._pending = self._pending, None
        if shape is None or shape in self._layouts:
            return
        with torch.inference_mode(False), torch.no_grad():
            plain = _plain(self.weight)
            blocked = torch.ops.mkldnn._reorder_convolution_weight(plain, *self._geometry, list(shape))
        while len(self._layouts) >= self._max_layouts:
            del self._layouts[next(iter(self._layouts))]
        self.weight = self._layouts[shape] = _frozen(blocked)

    def _mirrored(self) -> PackedConv2d:
        """The gradient of a convolution of stride 1: a convolution by the mirrored kernel with channels swapped."""
        padding, _, dilation, _ = self._geometry
        kernel = (self.weight.shape[2], self.weight.shape[3])
        outside = tuple(d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True))
        with torch.device("meta"):
            conv = nn.Conv2d(self.out_channels, self.in_channels, kernel, bias=False)
        conv.padding, conv.dilation = outside, tuple(dilation)
        weight = _plain(self.weight).flip(2, 3).transpose(0, 1)  # [C,O,.,.]
        conv.weight = _frozen(weight.contiguous(memory_format=torch.channels_last))
        return PackedConv2d(conv, self._max_layouts)


class _TransposedConv:
    """The gradient of a strided convolution: transposed, its weights in the layout for one shape of gradient."""

    def __init__(self, conv: PackedConv2d) -> None:
        self._plain_weight = _plain(conv.weight)
        self._geometry, self._kernel = conv._geometry, conv.kernel_size
        self._pending: tuple[Any, ...] | None = None  # the last geometry without a layout of its own
        self._layout: tuple[tuple[Any, ...] | None, Tensor] = (None, self._plain_weight)  # geometry, weights

    def compute(self, g: Tensor, shape: torch.Size) -> Tensor:
        """g [N,O,H',W'] -> [N,C,H,W] of that shape."""
        padding, stride, dilation, groups = self._geometry
        ends = [
            (there - 1) * s - 2 * p + d * (k - 1) + 1
            for there, s, p, d, k in zip(g.shape[2:], stride, padding, dilation, self._kernel, strict=True)
        ]
        output_padding = [size - end for size, end in zip(shape[2:], ends, strict=True)]
        arguments = (padding, output_padding, stride, dilation, groups)
        geometry = (*arguments, list(g.shape))
        of_layout, weight = self._layout
        if of_layout != geometry:
            self._pending, weight = geometry, self._plain_weight
        return torch.ops.mkldnn._convolution_transpose_pointwise(g, weight, None, *arguments, "none", [], "")

    @property
    def pending(self) -> bool:
        """True where a gradient came without a layout of its own."""
        return self._pending is not None

    def reorder(self) -> None:
        """Reorder the weights for the pending gradient."""
        geometry, self._pending = self._pending, None
        if geometry is None or geometry == self._layout[0]:
            return
        with torch.inference_mode(False), torch.no_grad():
            weight = torch.ops.mkldnn._reorder_convolution_transpose_weight(self._plain_weight, *geometry)
        self._layout = geometry, weight


class PackedLinear(nn.Linear):
    """A projection whose weights are in oneDNN's layout, one for inputs of all shapes."""

    backward_layer: PackedLinear | None
    """From the gradient of the output to that of the input, once one has been taken."""

    def __init__(self, linear: nn.Linear) -> None:
        with torch.device("meta"):
            super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        self.weight = _frozen(torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None))
        self.bias = linear.bias
        self.__dict__["backward_layer"] = None

    def forward(self, x: Tensor) -> Tensor:
        """[...,in_features] -> [...,out_features]."""
        if not _needs_gradient(x):
            return self.compute(x)
        if self.backward_layer is None:
            with torch.device("meta"):
                transposed = nn.Linear(self.out_features, self.in_features, bias=False)
            transposed.weight = _frozen(_plain(self.weight).mT.contiguous())
            self.__dict__["backward_layer"] = PackedLinear(transposed)
        return _WithBackward.apply(x, self, None)

    def compute(self, x: Tensor) -> Tensor:
        """`forward` without a gradient."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")

    def gradient(self, g: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of the input, which has that shape, from the gradient of the output g."""
        assert self.backward_layer is not None
        return self.backward_layer.compute(g)


class _WithBackward(torch.autograd.Function):
    """A packed layer, with a residual that it is added to, and its backward layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: PackedConv2d | PackedLinear, residual: Tensor | None) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        if residual is None:
            return layer.compute(x)
        assert isinstance(layer, PackedConv2d)
        return layer.compute_sum(residual, x, overwrite=False)  # the backward pass may need the residual

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        of_x, _, of_residual = ctx.needs_input_grad
        return ctx.layer.gradient(g, ctx.shape) if of_x else None, None, g if of_residual else None


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad=False)


def _plain(weight: Tensor) -> Tensor:
    return weight.to_dense() if weight.is_mkldnn else weight


def _needs_gradient(x: Tensor) -> bool:
    """True where a gradient is taken through the layer: oneDNN's operations have none."""
    return x.requires_grad and torch.is_grad_enabled()
