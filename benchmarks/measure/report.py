"""The results as lines while they come, and as Markdown in the end.

Decimal units: 1 GB is 10**9 bytes, 1 GFLOP 10**9 operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.measure.peaks import Peaks
from benchmarks.measure.results import Found, Measured, Note, Spent, Table

STEPS = (
    "case",
    "by",
    "type",
    "batch",
    "s a step",
    "pictures/s (steps)",
    "GFLOP a step",
    "GFLOP/s",
    "of the convolution peak",
    "of the matmul peak",
    "weights, GB",
    "peak memory once loaded, GB",
    "and with loading, GB",
    "times the step here, same type",
    "times the step here, fastest type",
)
ABOUT = """\
`here` is this project. A step is one network call with all that the sampler does around it, or one training step.
GFLOP are those of convolutions, matrix products and attention. Memory of a CPU is the resident set of the process,
interpreter and libraries included; weights are those of all networks that are held in memory, in their types. Ratios
are of the seconds of a step at the same batch size."""


@dataclass
class Report:
    """Everything that one run found."""

    command: str
    date: str
    machine: dict[str, str]
    peaks: Peaks
    found: list[Found] = field(default_factory=list)

    @property
    def measured(self) -> list[Measured]:
        return [one for one in self.found if isinstance(one, Measured)]

    def cells(self, one: Measured) -> tuple[str, ...]:
        """One for each of STEPS."""
        memory = one.memory
        training = one.case == "train"
        same, fastest = self.ratios(one)
        return (
            one.case,
            one.by,
            one.dtype,
            str(one.batch),
            f"{one.seconds:.4g}",
            f"{one.pictures:.3g}" if training else f"{one.pictures:.3g} ({one.steps})",
            f"{one.work / 1e9:.4g}",
            f"{one.rate / 1e9:.0f}",
            _share(one.rate, self.peaks.convolution.get(one.dtype)),
            _share(one.rate, self.peaks.matmul.get(one.dtype)),
            f"{one.weights / 1e9:.3f}",
            "-" if memory.drawing is None else f"{memory.drawing / 1e9:.3f}",
            f"{memory.loading / 1e9:.3f}",
            "-" if same is None else f"{same:.2f}",
            "-" if fastest is None else f"{fastest:.2f}",
        )

    def ratios(self, one: Measured) -> tuple[float | None, float | None]:
        """Its time as a multiple of this project's step, in the same type, and in the fastest one."""
        if one.by.startswith("here"):
            return None, None
        ours = [
            other
            for other in self.measured
            if other.by.startswith("here") and (other.case, other.batch) == (one.case, one.batch)
        ]
        same = [other.seconds for other in ours if other.dtype == one.dtype]
        return (
            one.seconds / same[0] if same else None,
            one.seconds / min(other.seconds for other in ours) if ours else None,
        )

    def line(self, one: Found) -> str:
        """The line that is printed as soon as the result is known."""
        if isinstance(one, Measured):
            cells = dict(zip(STEPS, self.cells(one), strict=True))
            parts = [f"{cells['s a step']} s a step", f"{cells['GFLOP/s']} GFLOP/s"]
            parts += [f"{cells[name]} {name}" for name in STEPS[8:10] if cells[name] != "-"]
            parts.append(f"{cells['peak memory once loaded, GB']} GB of memory once loaded")
            parts.append(
                f"{cells['and with loading, GB']} GB with loading, for {cells['weights, GB']} GB of weights"
            )
            parts += [f"{cells[name]} {name}" for name in STEPS[13:] if cells[name] != "-"]
            return f"{one.case}, {one.by}, {one.dtype}, batch {one.batch}: {', '.join(parts)}"
        if isinstance(one, Spent):
            return f"{one.what}: {one.seconds:.3g} s" + (f" ({one.note})" if one.note else "")
        if isinstance(one, Table):
            return "\n" + one.title + "\n" + _aligned([one.header, *one.rows])
        return one.text

    def peak_rows(self) -> list[tuple[str, ...]]:
        return [
            (name, f"{self.peaks.convolution[name] / 1e9:.0f}", f"{self.peaks.matmul[name] / 1e9:.0f}")
            for name in self.peaks.convolution
        ]

    def picture_by_steps(self) -> list[Spent]:
        """The time of a full-size picture, from the medians of all that took steps of both networks."""
        made = []
        steps = {(one.by, one.dtype, one.case): one for one in self.measured if one.batch == 1}
        for (by, dtype, case), base in steps.items():
            upsampler = steps.get((by, dtype, "upsampler"))
            if case == "base" and upsampler is not None and not by.startswith("here"):
                parts = [(one.steps, one.seconds) for one in (base, upsampler)]
                note = " + ".join(f"{count} steps of {seconds:.3g} s" for count, seconds in parts)
                made.append(
                    Spent(f"picture, {by}, {dtype}", sum(a * b for a, b in parts), f"computed: {note}")
                )
        return made

    def markdown(self) -> str:
        spent = [one for one in self.found if isinstance(one, Spent)] + self.picture_by_steps()
        parts = [
            "# What the last run measured",
            f"`{self.command}`",
            markdown(["", ""], [("date", self.date), *self.machine.items()]),
            "## The machine's peak\n\nThe best of several runs, before and after everything else, in GFLOP/s.",
            markdown(("type", "3x3 convolution", "matmul"), self.peak_rows()),
        ]
        if self.measured:
            parts += ["## Steps", ABOUT, markdown(STEPS, [self.cells(one) for one in self.measured])]
        if spent:
            rows = [(one.what, f"{one.seconds:.3g}", one.note) for one in spent]
            parts += [
                "## Whole pictures, the default training step, start-up",
                markdown(("what", "s", ""), rows),
            ]
        notes = [one.text for one in self.found if isinstance(one, Note)]
        if notes:
            parts += ["## Not measured", "\n".join(f"- {text}" for text in notes)]
        tables = [one for one in self.found if isinstance(one, Table)]
        if tables:
            parts.append("## Where the time goes")
        for table in tables:
            parts += [f"### {table.title}", markdown(table.header, table.rows)]
        return "\n\n".join(parts) + "\n"


def _share(rate: float, peak: float | None) -> str:
    return f"{rate / peak:.0%}" if peak else "-"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
