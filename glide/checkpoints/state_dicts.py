"""Read PyTorch files of tensors, without running code in them, and in any usual wrapper."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from glide.utils.errors import InputError, reason_of, warn
from glide.utils.filesystem import check_regular, file_stamp, is_remote, read_bytes
from glide.utils.memory import check_file_fits

WRAPPERS: tuple[str, ...] = ("ema", "model_ema", "ema_state_dict", "params_ema")
WRAPPERS += ("state_dict", "model_state_dict", "model", "params", "module")
"""Keys under which training programs keep a state dict. Averaged weights are better, so they come first."""
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes of all names, from DistributedDataParallel and torch.compile."""


def read_state_dict(path: str) -> Mapping[str, Any]:
    """The tensors by name in a PyTorch file, local or remote. No code in it is ever executed.

    A state dict inside a training checkpoint is unwrapped, and the prefixes "module." and "_orig_mod." are removed,
    with a warning. InputError if the file cannot be read, is damaged, holds code or anything else than tensors, or
    more than fits in memory.
    """
    state = _load(path)
    if not isinstance(state, Mapping):
        raise InputError(f"{path} holds a {type(state).__name__}: a state dict of tensors is expected.")
    state, notes = unwrap(state)
    if notes:
        warn(f"{path}: the weights are read {' and '.join(notes)}", stacklevel=3)
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    check_file_fits(sum(4 * tensor.numel() for tensor in tensors), path, "its weights")
    return state


def unwrap(state: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], list[str]]:
    """The plain state dict inside a wrapped one, and notes on what was removed, for a message."""
    notes: list[str] = []
    for _ in range(4):  # nested wrappers
        if any(isinstance(value, Tensor) for value in state.values()):
            break
        key = next((key for key in WRAPPERS if _holds_tensors(state.get(key))), None)
        if key is None:
            break
        state = state[key]
        notes.append(f"from {key!r}")
    bare = dict(state)
    taken = []
    while bare and all(isinstance(name, str) and name.startswith(PREFIXES) for name in bare):
        prefix = next(prefix for prefix in PREFIXES if next(iter(bare)).startswith(prefix))
        if not all(name.startswith(prefix) for name in bare):
            break
        bare = {name.removeprefix(prefix): value for name, value in bare.items()}
        taken.append(prefix)
    return (bare, [*notes, f"without {''.join(taken)!r} before their names"]) if taken else (state, notes)


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """InputError that names the first of the weights that are nan or infinite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and tensor.device.type != "meta":
            low, high = torch.aminmax(tensor.detach())  # one pass, and nan comes through
            if not (torch.isfinite(low) and torch.isfinite(high)):
                raise InputError(
                    f"the weights {name} are not finite numbers (nan or infinite): the training that made them "
                    "diverged, or the file is damaged; give an earlier checkpoint"
                )


def _holds_tensors(value: Any, depth: int = 2) -> bool:
    """True for a table of tensors, or of such tables."""
    if not isinstance(value, Mapping) or not depth:
        return False
    return any(isinstance(one, Tensor) or _holds_tensors(one, depth - 1) for one in value.values())


def _load(path: str) -> Any:
    """The content of a PyTorch file; tensors of a local archive are memory-mapped."""
    if is_remote(path):
        check_file_fits(file_stamp(path)[0], path, "its weights")
    else:
        check_regular(path)
    remote = io.BytesIO(read_bytes(path)) if is_remote(path) else None
    file = remote or path
    try:
        archive = zipfile.is_zipfile(file)
        if archive:
            _check_archive(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files of other kinds, which are rejected below
            if remote:
                remote.seek(0)
            return torch.load(file, "cpu", weights_only=True, mmap=archive and remote is None)
    except OSError as error:
        raise InputError(f"cannot read {path} ({reason_of(error)}): check the path.") from None
    except MemoryError:
        raise InputError(
            f"{path} asks for more memory than there is: the file is damaged, or this machine is too small for it"
        ) from None
    except Exception as error:  # the unpickler and the archive reader raise anything on a broken file
        raise InputError(f"{path} {_why_unreadable(error)}") from None


def _check_archive(file: Any) -> None:
    """BadZipFile for damaged members, or packed ones, which PyTorch never writes and could unpack to any size."""
    with zipfile.ZipFile(file) as members:
        if any(name.endswith("/constants.pkl") for name in members.namelist()):
            raise zipfile.BadZipFile("TorchScript")
        if packed := next((m for m in members.infolist() if m.compress_type != zipfile.ZIP_STORED), None):
            raise zipfile.BadZipFile(f"{packed.filename} is packed")
        if damaged := members.testzip():  # PyTorch itself does not look at the checksums
            raise zipfile.BadZipFile(f"checksum of {damaged}")


def _why_unreadable(error: Exception) -> str:
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and "global" in text.lower():
        return "holds Python objects, which can run code, so it was not loaded: give a plain state dict."
    if "TorchScript" in text:
        return "is a TorchScript program: give a plain state dict."
    return "is damaged, or no PyTorch file of tensors (nothing in it was run): fetch it again, or check the path."
