"""What happens between the steps of a run: its log, checkpoints, the model's folder, pictures; and its end."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import nn

from glide.checkpoints.model_folder import description
from glide.data.datasets import Batch
from glide.training.checkpoints import Checkpoints, read_manifest
from glide.training.curves import draw_curves
from glide.training.metrics import LogFile, Meters
from glide.training.posthoc_ema_snapshots import write_snapshot
from glide.training.resume import RunFlags, changes
from glide.training.run_folder import model_folder
from glide.training.step import Outcome, Stepper
from glide.training.trackers import Tracker, numbers, open_trackers
from glide.training.train_state import write_files
from glide.utils.errors import CannotWrite, InputError, warn
from glide.utils.hardware import measured_peak, memory_in_use
from glide.utils.printable import say
from glide.utils.signals import Signals, Stopped

if TYPE_CHECKING:
    from glide.training.config import TrainConfig

M = TypeVar("M", bound=nn.Module)
_HAS_PLOTS = importlib.util.find_spec("matplotlib") is not None
MEASURED_AFTER = 20  # steps, after which the share of the peak is worth the while it takes to measure


class Run(Generic[M]):
    """What happens between the steps: the log, checkpoints, the model's folder, pictures; and the end."""

    def __init__(
        self,
        stepper: Stepper[M],
        config: TrainConfig,
        out: Path,
        save: Callable[[M, Path, int], None],
        sample: Callable[[M, Path], None] | None,
        validate: Callable[[M], dict[str, Any]] | None,
        note: Callable[[], object] | None,
        settings: RunFlags,
    ) -> None:
        self.stepper, self.config, self.out = stepper, config, out
        self.save, self.sample, self.validate, self.note = save, sample, validate, note
        self.settings = settings
        self.main = stepper.processes.main
        self.kept = Checkpoints(out / "checkpoints", config.keep, config.keep_every)
        self.meters = Meters()
        self.due = False  # a checkpoint that was put off
        self.done = 0  # steps
        self.saved = 0  # of the newest checkpoint
        self.described: dict[str, bytes] = {}  # files that tell the model's sizes and words
        self.trackers: list[Tracker] = []
        self.share = 0.0  # of the machine's peak that one step a second would be

    def begin(self, resume: Path | None) -> int:
        """Take up a checkpoint, or write the folder of a new run; returns the step to begin with."""
        start = self._resume(resume) if resume is not None else 0
        self.done = self.saved = start
        if self.main:
            self.trackers = open_trackers(
                self.config.track, self.out, self.settings.values, resume is not None
            )
            if resume is None:
                with self._averaged() as model:
                    assert model is not None
                    self.save(model, self.out, 0)
            place = self.out if resume is None else model_folder(resume, self.out)
            self.described = description(place)
            self.log = LogFile(self.out / "log.jsonl", start)
            self.held_out = LogFile(self.out / "validation.jsonl", start)
        elif resume is None:
            with self._averaged():
                pass
        self.meters.restore(read_manifest(resume).get("meters") if resume is not None else None)
        return start

    def _averaged(self) -> Any:
        return self.stepper.weights.averaged()

    def _resume(self, path: Path) -> int:
        settings = read_manifest(path).get("settings", {})
        said = changes(settings if isinstance(settings, dict) else {}, self.settings)
        if self.main:
            for line in said:
                say(f"changed: {line}")
        return self.stepper.weights.load(path)

    @contextmanager
    def rescued(self) -> Iterator[None]:
        """Within: an error after a step leaves the checkpoint that a signal would; a second Ctrl-C leaves none.

        Of several processes the main one writes it, where it has all that belongs in it.
        """
        try:
            yield
        except Exception:
            sound = self.stepper.whole and self.stepper.bad_in_a_row == 0
            if self.main and sound and self.done > self.saved and not self.stepper.weights.sharded:
                with suppress(Exception):  # the first error is the one to tell
                    self._write_all(self.done)
                if self.saved == self.done:
                    said = (
                        f"ended by an error after step {self.done}; the newest checkpoint is {self._last()}"
                    )
                    say(f"{said}: go on with --resume", stream=sys.stderr)
            raise

    def after(self, done: int, outcome: Outcome, bar: Any, signals: Signals) -> None:
        """After the step that made it `done` steps."""
        config, stepper = self.config, self.stepper
        last = done == config.steps
        self.done = done
        self.meters.add(outcome.terms, outcome.t, stepper.timesteps.steps, outcome.norm, outcome.good)
        if done % config.log_every == 0 or last:
            self._write_line(done, bar)
        if stepper.bad_in_a_row >= config.max_skipped:
            self._diverged(done - 1, outcome)
        self.due |= done % config.save_every == 0 or last or outcome.stop
        # what made a loss that is not finite may be in the weights: no checkpoint until one is again
        saving = self.due and (stepper.bad_in_a_row == 0 or last)
        if saving:
            self._checkpoint(done, must=last)
        if done % config.snapshot_every == 0 or last:
            self._snapshot(done)
        if (done % config.sample_every == 0 or last) and not outcome.stop:
            self._watch(done, signals)
        if saving:
            self._write_model(done, must=last)
            self.due = False
        if outcome.stop and not last:
            self._stop(done, signals.caught)

    def _write_all(self, done: int) -> None:
        self._checkpoint(done, must=True)
        self._write_model(done, must=False)

    def _write_model(self, done: int, must: bool) -> None:
        """The model's folder, and what this process alone knows."""
        if self.note is not None:
            self._attempt(self.note, must)
        with self._averaged() as model:
            if model is not None:
                self._attempt(partial(self.save, model, self.out, done), must)

    def _snapshot(self, done: int) -> None:
        """Keep the power-function averages as they are now."""
        for width, parts in self.stepper.weights.averages.powers.items():
            weights = self.stepper.weights.whole(parts)
            if self.main:
                self._attempt(partial(write_snapshot, self.out, done, width, weights))

    def _watch(self, done: int, signals: Signals) -> None:
        """Measure the averaged model on held-out data, and draw with it; a signal breaks that off."""
        with self._averaged() as model:
            if model is not None and self.validate is not None:
                signals.break_off(partial(self._validate, model, self.validate, done))
            if model is not None and self.sample is not None:
                draw = partial(self.sample, model, self.out / "samples" / f"{done:07d}.png")
                signals.break_off(partial(self._attempt, draw))
        self._draw_curves()
        self.meters.restart_clock()

    def _validate(self, model: M, validate: Callable[[M], dict[str, Any]], done: int) -> None:
        line = {"step": done, **validate(model)}
        self.held_out.add(line)
        self._track(line)

    def measure(self, step: int, batch: Batch) -> None:
        """Find out which share of the machine's peak the run has; nothing of the run depends on it."""
        stepper = self.stepper
        work = stepper.flops(step, batch)
        if self.main:
            peak = measured_peak(stepper.processes.device, self.config.dtype)
            self.share = work / (peak * stepper.processes.world)
        self.meters.restart_clock()

    def end(self) -> None:
        """After the last step: the log as a picture, where there is matplotlib."""
        if not self.main:
            return
        for tracker in self.trackers:
            tracker.close()
        self._draw_curves()
        if not _HAS_PLOTS:
            say(
                f"{self.out / 'curves.png'} was not drawn, which needs matplotlib: pip install 'glide-toolkit[plot]'"
            )

    def _draw_curves(self) -> None:
        """The log as a picture, as the run goes, where there is matplotlib."""
        if self.main and _HAS_PLOTS:
            self._attempt(partial(draw_curves, self.out))

    def _track(self, line: dict[str, Any]) -> None:
        values = dict(numbers(line))
        for tracker in self.trackers:
            tracker.log(values, line["step"])

    def _write_line(self, done: int, bar: Any) -> None:
        config = self.config
        line = self.meters.line(done, config.optim.rate(done - 1, config.steps), config.batch_size)
        if self.main:
            if self.share:
                speed = line["images_per_second"] / config.batch_size
                line["share_of_peak"] = round(self.share * speed, 4)
            line["memory_gib"] = round(memory_in_use(self.stepper.processes.device), 3)
            self.log.add(line)
            self._track(line)
            shown = "none" if line["loss"] is None else f"{line['loss']:.4f}"
            bar.set_postfix(loss=shown, img_s=f"{line['images_per_second']:.0f}")

    def _checkpoint(self, done: int, must: bool) -> None:
        tensors, state = self.stepper.weights.gathered()
        if not self.main:
            return
        about = {
            "settings": dict(self.settings.values),
            "processes": self.stepper.processes.world,
            "torch": torch.__version__,
            "meters": self.meters.state(),
        }
        files = partial(write_files, step=done, tensors=tensors, state=state, others=self.described)

        def write() -> None:
            self.kept.write(done, files, about)
            self.saved = done

        self._attempt(write, must)

    def _attempt(self, write: Callable[[], object], must: bool = False) -> None:
        """Write; what cannot be written costs a warning, and is tried again when it is due next. must: an error."""
        try:
            write()
        except (CannotWrite, OSError) as error:
            if must:
                raise
            warn(f"{error}; the last checkpoint is {self._last()}; training goes on", stacklevel=2)

    def _last(self) -> str:
        steps = self.kept.steps()
        return str(self.kept.path(steps[-1])) if steps else "none"

    def _diverged(self, step: int, outcome: Outcome) -> None:
        """End a run whose loss is no longer finite."""
        stepper = self.stepper
        stepper.processes.wait()
        good = self.kept.newest_to(stepper.last_good)
        if self.main:
            self.kept.set_aside(stepper.last_good)
        loss = outcome.terms["loss"].mean().item()
        way = (
            "There is no good checkpoint: begin anew,"
            if good is None
            else f"The last good checkpoint is {good}: go on from it by --resume,"
        )
        raise InputError(
            f"the loss is {loss} and its gradient {outcome.norm} at step {step}, the last of {stepper.bad_in_a_row} in "
            f"a row that are not finite; training stopped. {way} with a lower learning rate or float32."
        )

    def _stop(self, done: int, caught: int) -> None:
        """End a run that was asked to."""
        number = caught or signal.SIGTERM  # another process was asked, and will say so
        self.stepper.processes.wait()
        if self.main:
            name = signal.Signals(number).name
            say(
                f"stopped by {name} after step {done}; the newest checkpoint is {self._last()}: go on with --resume",
                stream=sys.stderr,
            )
        raise Stopped(number)
