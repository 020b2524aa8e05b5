"""The folder of a training run: locked for one run, new or resumed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from glide.checkpoints.model_folder import CONFIG, check_no_model, read_config
from glide.training.checkpoints import Checkpoints
from glide.training.distributed import Processes
from glide.utils.errors import InputError
from glide.utils.file_locks import FolderLock

LOCK = "run.lock"
_NEW, _REFUSED = -1, -2


@contextmanager
def run_folder(
    out: Path,
    processes: Processes,
    *,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Iterator[Path | None]:
    """A context that locks the folder for this run. Yields the checkpoint to resume from, None for a new run.

    The main process decides for all, and holds the lock. A process that its launcher has restarted
    (`torchrun --max-restarts`) resumes from its own checkpoint. overwrite: a new run may replace a model that is there.
    dry_run: lock and check nothing.
    InputError if another process trains there, no intact checkpoint is there to resume from, or one would be lost.
    """
    if dry_run:
        yield None
        return
    with ExitStack() as stack:
        refusal: InputError | None = None
        step = _REFUSED
        if processes.main:
            try:
                step = _lock_and_find(out, resume, overwrite, stack)
            except InputError as error:
                refusal = error
        step = processes.broadcast(step)
        if refusal is not None:
            raise refusal
        if step == _REFUSED:
            raise InputError(f"process {processes.rank} stopped: the first one says why.")
        yield None if step == _NEW else Checkpoints(out / "checkpoints").path(step)


def _lock_and_find(out: Path, resume: bool, overwrite: bool, stack: ExitStack) -> int:
    """Lock the folder; returns the step of the checkpoint to resume from, or `_NEW`."""
    check_run_folder(out, resume, overwrite)  # before any file is made
    if not out.exists():
        stack.callback(_remove_empty, out)
    busy = f"{out} is in use by {{holder}}, which trains there: wait for it, stop it, or give another --out"
    stack.enter_context(FolderLock(out / LOCK, busy))
    if not check_run_folder(out, resume, overwrite):  # another run may have ended in the meantime
        return _NEW
    kept = Checkpoints(out / "checkpoints")
    newest = kept.newest_good()
    if newest is None:
        raise InputError(
            f"--resume: no checkpoint in {kept.folder} that is whole; start a new run, in another --out."
        )
    return int(newest.name.partition("-")[2])


def _remove_empty(out: Path) -> None:
    with suppress(OSError):
        out.rmdir()


def check_run_folder(out: Path, resume: bool, overwrite: bool = False) -> bool:
    """True if the run in `out` is resumed. InputError if there is none to resume, or one would be lost."""
    begun = bool(Checkpoints(out / "checkpoints").steps())
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")):
        return begun
    if resume and not begun:
        raise InputError(f"--resume: no checkpoint in {out}; start the run without --resume.")
    if begun and not resume:
        raise InputError(f"{out} already holds a run; give --resume to go on with it, or another --out.")
    if not resume and not _is_untrained(out):
        check_no_model(out, overwrite)
    return resume


def _is_untrained(out: Path) -> bool:
    """True for the model of a run that ended before its first checkpoint: replacing it loses nothing."""
    try:
        training = read_config(out).get("training")
    except InputError:
        return False
    return isinstance(training, dict) and training.get("step") == 0


def model_folder(checkpoint: Path, out: Path) -> Path:
    """The folder with a run's configuration and tokenizer: its checkpoint, or `out` for runs of older versions."""
    return checkpoint if (checkpoint / CONFIG).is_file() else out
