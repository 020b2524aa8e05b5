"""The work between training steps: log, checkpoints, model folder, previews, and the end of a run."""

from __future__ import annotations

import importlib.util
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import nn

from glide.checkpoints.model_folder import metadata_files
from glide.data.datasets import Batch
from glide.training.checkpoints import Checkpoints, read_manifest
from glide.training.curves import draw_curves
from glide.training.evaluation_curves import EVALUATION, draw_evaluation, figures_of
from glide.training.metrics import LogFile, Meters
from glide.training.posthoc_ema_snapshots import write_snapshot
from glide.training.resume import RunFlags, changes
from glide.training.run_folder import model_folder
from glide.training.step import Outcome, Stepper
from glide.training.trackers import Tracker, open_trackers, scalars
from glide.training.train_state import write_files
from glide.utils.errors import CannotWrite, InputError, warn
from glide.utils.hardware import measured_peak, memory_in_use
from glide.utils.printable import say
from glide.utils.signals import Signals, Stopped

if TYPE_CHECKING:
    from glide.training.config import TrainConfig

M = TypeVar("M", bound=nn.Module)
_HAS_PLOTS = importlib.util.find_spec("matplotlib") is not None
MEASURED_AFTER = 20  # steps; a shorter run is not worth the time of the measurement


class Run(Generic[M]):
    """The work between training steps: log, checkpoints, model folder, previews, and the end of a run."""

    def __init__(
        self,
        stepper: Stepper[M],
        config: TrainConfig,
        out: Path,
        save: Callable[[M, Path, int], None],
        sample: Callable[[M, Path], None] | None,
        validate: Callable[[M], dict[str, Any]] | None,
        evaluate: Callable[[M], Mapping[str, Any]] | None,
        note: Callable[[], object] | None,
        settings: RunFlags,
    ) -> None:
        self.stepper, self.config, self.out = stepper, config, out
        self.save, self.sample, self.validate, self.note = save, sample, validate, note
        self.evaluate = evaluate if config.evaluate_every else None
        self.settings = settings
        self.main = stepper.processes.main
        self.checkpoints = Checkpoints(out / "checkpoints", config.keep, config.keep_every)
        self.meters = Meters()
        self.checkpoint_due = False
        self.done = 0  # steps done
        self.saved = 0  # step of the newest checkpoint
        self.model_files: dict[str, bytes] = {}  # configuration and tokenizer
        self.trackers: list[Tracker] = []
        self.peak_share = 0.0  # share of the machine's peak at one step a second

    def begin(self, resume: Path | None) -> int:
        """Load a checkpoint, or write the folder of a new run; returns the first step."""
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
            self.model_files = metadata_files(place)
            self.log = LogFile(self.out / "log.jsonl", start)
            self.validation_log = LogFile(self.out / "validation.jsonl", start)
            if self.evaluate is not None or (self.out / EVALUATION).exists():
                self.evaluation_log = LogFile(self.out / EVALUATION, start)
        elif resume is None:
            with self._averaged():
                pass
        self.meters.restore(read_manifest(resume).get("meters") if resume is not None else None)
        return start

    def _averaged(self) -> Any:
        return self.stepper.weights.averaged()

    def _resume(self, path: Path) -> int:
        settings = read_manifest(path).get("settings", {})
        lines = changes(settings if isinstance(settings, dict) else {}, self.settings)
        if self.main:
            for line in lines:
                say(f"changed: {line}")
        return self.stepper.weights.load(path)

    @contextmanager
    def checkpoint_on_error(self) -> Iterator[None]:
        """A context in which an error leaves a checkpoint, as a signal would; a second Ctrl-C leaves none.

        The main process writes it, if it holds the whole state.
        """
        try:
            yield
        except Exception:
            consistent = self.stepper.consistent and self.stepper.bad_in_a_row == 0
            if self.main and consistent and self.done > self.saved and not self.stepper.weights.sharded:
                with suppress(Exception):  # report the first error
                    self._write_all(self.done)
                if self.saved == self.done:
                    say(
                        f"ended by an error after step {self.done}; the newest checkpoint is {self._last()}: go on "
                        "with --resume",
                        stream=sys.stderr,
                    )
            raise

    def after_step(self, done: int, outcome: Outcome, bar: Any, signals: Signals) -> None:
        """Log, save and preview what is due after `done` steps."""
        config, stepper = self.config, self.stepper
        last = done == config.steps
        self.done = done
        self.meters.add(outcome.terms, outcome.t, stepper.timesteps.steps, outcome.norm, outcome.good)
        if done % config.log_every == 0 or last:
            self._write_line(done, bar)
        if stepper.bad_in_a_row >= config.max_skipped:
            self._diverged(done - 1, outcome)
        self.checkpoint_due |= done % config.save_every == 0 or last or outcome.stop
        # the cause of a loss that is not finite may be in the weights: no checkpoint until it is finite again
        saving = self.checkpoint_due and (stepper.bad_in_a_row == 0 or last)
        if saving:
            self._checkpoint(done, must=last)
        if done % config.snapshot_every == 0 or last:
            self._snapshot(done)
        if (done % config.sample_every == 0 or last) and not outcome.stop:
            self._preview(done, signals)
        if config.evaluate_every and (done % config.evaluate_every == 0 or last) and not outcome.stop:
            self._evaluate(done, signals)
        if saving:
            self._write_model(done, must=last)
            self.checkpoint_due = False
        if outcome.stop and not last:
            self._stop(done, signals.caught)

    def _write_all(self, done: int) -> None:
        self._checkpoint(done, must=True)
        self._write_model(done, must=False)

    def _write_model(self, done: int, must: bool) -> None:
        """Write the model's folder, and the notes of this process."""
        if self.note is not None:
            self._try_write(self.note, must)
        with self._averaged() as model:
            if model is not None:
                self._try_write(partial(self.save, model, self.out, done), must)

    def _snapshot(self, done: int) -> None:
        """Save a snapshot of the power-function averages."""
        for width, parts in self.stepper.weights.averages.powers.items():
            weights = self.stepper.weights.gather_tensors(parts)
            if self.main:
                self._try_write(partial(write_snapshot, self.out, done, width, weights))

    def _preview(self, done: int, signals: Signals) -> None:
        """Validate the averaged model and draw previews with it; a signal interrupts both."""
        with self._averaged() as model:
            if model is not None and self.validate is not None:
                signals.run_optional(partial(self._validate, model, self.validate, done))
            if model is not None and self.sample is not None:
                draw = partial(self.sample, model, self.out / "samples" / f"{done:07d}.png")
                signals.run_optional(partial(self._try_write, draw))
        self._draw_curves()
        self.meters.restart_clock()

    def _validate(self, model: M, validate: Callable[[M], dict[str, Any]], done: int) -> None:
        line = {"step": done, **validate(model)}
        self.validation_log.add(line)
        self._track(line)

    def _evaluate(self, done: int, signals: Signals) -> None:
        """Evaluate the averaged model and draw the curves so far; a signal interrupts it."""
        with self._averaged() as model:
            if model is not None and self.evaluate is not None:
                signals.run_optional(partial(self._add_evaluation, model, self.evaluate, done))
        self.meters.restart_clock()

    def _add_evaluation(self, model: M, evaluate: Callable[[M], Mapping[str, Any]], done: int) -> None:
        """Measure, write and track one line. What cannot be measured is a warning: training goes on."""
        start = time.perf_counter()
        try:
            found = dict(evaluate(model))
        except (InputError, OSError) as error:
            warn(f"no evaluation after step {done}: {error}", stacklevel=2)
            return
        seconds = round(time.perf_counter() - start, 1)
        self.evaluation_log.add({"step": done, **found, "seconds": seconds})
        self._track({"step": done, **{f"evaluation/{name}": value for name, value in found.items()}})
        shown = (f"{name.replace('_', ' ')} {found[name]:.4g}" for name in figures_of([found]))
        say(f"step {done}: {', '.join(shown)}")
        if _HAS_PLOTS:
            self._try_write(partial(draw_evaluation, self.out))

    def measure(self, step: int, batch: Batch) -> None:
        """Measure the share of the machine's peak that the run reaches, for the log alone."""
        stepper = self.stepper
        work = stepper.flops(step, batch)
        if self.main:
            peak = measured_peak(stepper.processes.device, self.config.dtype)
            self.peak_share = work / (peak * stepper.processes.world)
        self.meters.restart_clock()

    def end(self) -> None:
        """Close the trackers and draw the curves after the last step."""
        if not self.main:
            return
        for tracker in self.trackers:
            tracker.close()
        self._draw_curves()
        if not _HAS_PLOTS:
            say(
                f"{self.out / 'curves.png'} was not drawn, which needs matplotlib: pip install 'glide-toolkit[plot]'"
            )
        say(f"trained to step {self.config.steps}; the model is in {self.out}")

    def _draw_curves(self) -> None:
        """Draw the curves so far, if matplotlib is installed."""
        if self.main and _HAS_PLOTS:
            self._try_write(partial(draw_curves, self.out))

    def _track(self, line: dict[str, Any]) -> None:
        values = dict(scalars(line))
        for tracker in self.trackers:
            tracker.log(values, line["step"])

    def _write_line(self, done: int, bar: Any) -> None:
        config = self.config
        line = self.meters.line(done, config.optim.rate(done - 1, config.steps), config.batch_size)
        if self.main:
            if self.peak_share:
                speed = line["images_per_second"] / config.batch_size
                line["share_of_peak"] = round(self.peak_share * speed, 4)
            line["memory_gib"] = round(memory_in_use(self.stepper.processes.device), 3)
            self.log.add(line)
            self._track(line)
            shown = "none" if line["loss"] is None else f"{line['loss']:.4f}"
            bar.set_postfix(loss=shown, img_s=f"{line['images_per_second']:.0f}")

    def _checkpoint(self, done: int, must: bool) -> None:
        tensors, state = self.stepper.weights.gather()
        if not self.main:
            return
        about = {
            "settings": dict(self.settings.values),
            "processes": self.stepper.processes.world,
            "torch": torch.__version__,
            "meters": self.meters.state(),
        }
        files = partial(write_files, step=done, tensors=tensors, state=state, others=self.model_files)

        def write() -> None:
            self.checkpoints.write(done, files, about)
            self.saved = done

        self._try_write(write, must)

    def _try_write(self, write: Callable[[], object], must: bool = False) -> None:
        """Call `write`; a failure is a warning, and the next due time tries again. must: it is an error."""
        try:
            write()
        except (CannotWrite, OSError) as error:
            if must:
                raise
            warn(f"{error}; the last checkpoint is {self._last()}; training goes on", stacklevel=2)

    def _last(self) -> str:
        steps = self.checkpoints.steps()
        return str(self.checkpoints.path(steps[-1])) if steps else "none"

    def _diverged(self, step: int, outcome: Outcome) -> None:
        """End a run after too many losses that are not finite."""
        stepper = self.stepper
        stepper.processes.barrier()
        good = self.checkpoints.newest_to(stepper.last_good)
        if self.main:
            self.checkpoints.set_aside(stepper.last_good)
        loss = outcome.terms["loss"].mean().item()
        way = (
            "There is no good checkpoint: start again,"
            if good is None
            else f"The last good checkpoint is {good}: go on from it by --resume,"
        )
        raise InputError(
            f"the loss is {loss} and its gradient {outcome.norm} at step {step}, the last of {stepper.bad_in_a_row} in "
            f"a row that are not finite; training stopped. {way} with a lower learning rate or float32."
        )

    def _stop(self, done: int, caught: int) -> None:
        """End a run that received a signal."""
        number = caught or signal.SIGTERM  # another process received it, and names it
        self.stepper.processes.barrier()
        if self.main:
            name = signal.Signals(number).name
            say(
                f"stopped by {name} after step {done}; the newest checkpoint is {self._last()}: go on with --resume",
                stream=sys.stderr,
            )
        raise Stopped(number)
