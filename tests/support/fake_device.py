"""A device that is not there, to run this project's scripts on: what a GPU would refuse is refused, without a GPU.

Its tensors are computed on the CPU but say that they lie on it, and mix with none of the CPU's: an operation on tensors
of both, or numpy on one of its, is an error. Numbers are real, so results can be held against the CPU's.

python tests/support/fake_device.py COMMANDS RESULTS: runs each of a JSON file's {"name": ["script.py", "--flag", ...]}
and writes {"name": "what it said, or how it failed"} of those that did not end well.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NAME = "npu"  # one of the names that PyTorch's own tests take
CPU = torch.device("cpu")
aten = torch.ops.aten


def possible() -> bool:
    """Whether this PyTorch lets a device be written in Python."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


class FakeTensor(Tensor):
    """A tensor of the device, around the CPU's that holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> FakeTensor:
        assert not isinstance(inner, FakeTensor)
        return Tensor._make_wrapper_subclass(  # type: ignore[return-value]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
            requires_grad=inner.requires_grad,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"FakeTensor({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(op, args, kwargs or {})

    # What PyTorch refuses of every subclass, and a GPU does.

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)


def _compute(op: Any, args: Any, kwargs: Any) -> Any:
    """One operation, of which some tensor is the device's, or whose result shall be."""
    flat, spec = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, Tensor)]
    far = any(isinstance(x, FakeTensor) for x in tensors)
    copies = op is aten.copy_.default
    if far and not copies and any(x.ndim and not isinstance(x, FakeTensor) for x in tensors):
        of = ", ".join(f"{x.device} {list(x.shape)}" for x in tensors)
        raise RuntimeError(f"{op}: expected tensors of one device, got {of}")
    if copies:
        far = isinstance(args[0], FakeTensor)
    elif kwargs.get("device") is not None:
        far = torch.device(kwargs["device"]).type == NAME
    elif op is aten._local_scalar_dense.default:
        far = False
    near = [x.inner if isinstance(x, FakeTensor) else CPU if isinstance(x, torch.device) else x for x in flat]
    near_args, near_kwargs = tree_unflatten(near, spec)
    out = op(*near_args, **near_kwargs)
    if far:
        out = tree_map(
            lambda x: FakeTensor(x) if isinstance(x, Tensor) and not isinstance(x, FakeTensor) else x, out
        )
    if op.is_view or op._schema.is_mutable:
        return return_and_correct_aliasing(op, args, kwargs, out)
    return out


def _empty(size: Any, dtype: Any = None, memory_format: Any = None, **kwargs: Any) -> Tensor:
    return FakeTensor(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def _empty_strided(size: Any, stride: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
    return FakeTensor(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(x: Tensor, to: Tensor, non_blocking: bool = False) -> Tensor:
    near, there = (y.inner if isinstance(y, FakeTensor) else y for y in (x, to))
    there.copy_(near)
    return to


class _Backend(backend_registration._DummyBackendModule if possible() else object):  # type: ignore[misc]
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_libraries: list[torch.library.Library] = []  # what they register is gone with them


def make_device() -> None:
    """From now on `NAME` is a device of this process."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Backend())
    torch.__future__.set_swap_module_params_on_conversion(True)  # the CPU's tensors within are swapped, too
    aten_of, all_of = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    for name, made in (
        ("empty.memory_format", _empty),
        ("empty_strided", _empty_strided),
        ("_copy_from", _copy_from),
    ):
        aten_of.impl(name, made, "PrivateUse1")
    all_of.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")  # computes in float32
    _libraries.extend((aten_of, all_of))


def save_from_device(save: Callable[..., None]) -> Callable[..., None]:
    """safetensors reads a tensor's memory by its address, which none of this device has."""

    def save_file(tensors: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> None:
        save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, *args, **kwargs)

    return save_file


def run_script(argv: list[str]) -> str:
    """What it said where it failed; nothing if it ended well."""
    said = io.StringIO()
    sys.argv = [str(SCRIPTS / argv[0]), *argv[1:]]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return said.getvalue()[-2000:] if end.code else ""
    except Exception:
        return traceback.format_exc()
    return ""


def main() -> None:
    commands, results = map(Path, sys.argv[1:])
    sys.path.insert(0, str(SCRIPTS))
    torch.set_num_threads(1)
    make_device()
    safetensors.torch.save_file = save_from_device(safetensors.torch.save_file)
    failures = {
        name: said for name, argv in json.loads(commands.read_text()).items() if (said := run_script(argv))
    }
    results.write_text(json.dumps(failures))


if __name__ == "__main__":
    main()
