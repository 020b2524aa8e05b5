"""The folder of a training run: whether one begins or goes on there, and that it does so alone."""

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
    """Within, the folder is this run's alone. Yields the checkpoint to go on from, None for a new run.

    The main process decides for all, and holds the lock. A process that its launcher has started again
    (`torchrun --max-restarts`) goes on with what it wrote before. overwrite: a new run may take the place of a model
    that is there. dry_run: nothing is locked or looked at.
    InputError where another process trains there, there is no whole checkpoint to go on with, or one would be lost.
    """
    if dry_run:
        yield None
        return
    with ExitStack() as held:
        refusal: InputError | None = None
        step = _REFUSED
        if processes.main:
            try:
                step = _begin(out, resume, overwrite, held)
            except InputError as error:
                refusal = error
        step = processes.agree(step)
        if refusal is not None:
            raise refusal
        if step == _REFUSED:
            raise InputError(f"process {processes.rank} stopped: the first one says why.")
        yield None if step == _NEW else Checkpoints(out / "checkpoints").path(step)


def _begin(out: Path, resume: bool, overwrite: bool, held: ExitStack) -> int:
    """Lock the folder; returns the step of the checkpoint to go on from, or that this is a new run."""
    check_run_folder(out, resume, overwrite)  # before anything is made
    if not out.exists():
        held.callback(_remove_empty, out)
    busy = f"{out} is in use by {{holder}}, which trains there: wait for it, stop it, or give another --out"
    held.enter_context(FolderLock(out / LOCK, busy))
    if not check_run_folder(out, resume, overwrite):  # another run may have ended meanwhile
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
    """True where the run in `out` is resumed. InputError where there is none to resume, or one would be lost."""
    begun = bool(Checkpoints(out / "checkpoints").steps())
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")):
        return begun
    if resume and not begun:
        raise InputError(f"--resume: no checkpoint in {out}; start the run without --resume.")
    if begun and not resume:
        raise InputError(f"{out} already holds a run; give --resume to go on with it, or another --out.")
    if not resume and not _only_begun(out):
        check_no_model(out, overwrite)
    return resume


def _only_begun(out: Path) -> bool:
    """True for the model of a run that ended before its first checkpoint: nothing is lost of it."""
    try:
        training = read_config(out).get("training")
    except InputError:
        return False
    return isinstance(training, dict) and training.get("step") == 0


def model_folder(checkpoint: Path, out: Path) -> Path:
    """The folder with a run's sizes and tokenizer: its checkpoint, or `out` for runs of older versions."""
    return checkpoint if (checkpoint / CONFIG).is_file() else out
