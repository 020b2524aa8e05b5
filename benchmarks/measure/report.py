"""The results as lines while they come, and as Markdown in the end.

Decimal units: 1 GB is 10**9 bytes, 1 GFLOP 10**9 operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

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
are of the seconds of a step at the same batch size, with the same number of evaluations: a guided step of a base model
is two of them. Those of one case, type and batch size take a step each in turn; a ratio of the same type is the median
over the rounds, with the least and the most. That to the fastest type compares types, which the row names."""


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
        same, fastest = self.same_type(one), self.fastest_type(one)
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
            "-" if same is None else spread(same),
            "-" if fastest is None else f"{fastest:.2f}",
        )

    def here(self, one: Measured) -> list[Measured]:
        """This project's steps of the same case and batch size, in all types; none for one of them."""
        if one.by.startswith("here"):
            return []
        alike = [other for other in self.measured if (other.case, other.batch) == (one.case, one.batch)]
        return [other for other in alike if other.by.startswith("here")]

    def same_type(self, one: Measured) -> list[float] | None:
        """Its time as a multiple of this project's step in the same type, in each round that both took part in."""
        ours = next((other for other in self.here(one) if other.dtype == one.dtype), None)
        if ours is None:
            return None
        if one.rounds and len(one.rounds) == len(ours.rounds):
            return [a / b for a, b in zip(one.rounds, ours.rounds, strict=True)]
        return [one.seconds / ours.seconds]

    def fastest_type(self, one: Measured) -> float | None:
        """Its time as a multiple of this project's step in the type that is fastest."""
        ours = self.here(one)
        return one.seconds / min(other.seconds for other in ours) if ours else None

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
        """The time of a full-size picture, from the medians of all that took steps of both networks.

        By the steps that a picture of theirs takes, and by as many as one takes here.
        """
        made = []
        steps = {(one.by, one.dtype, one.case): one for one in self.measured if one.batch == 1}
        ours = {one.case: one.steps for one in steps.values() if one.by.startswith("here")}
        for (by, dtype, case), base in steps.items():
            upsampler = steps.get((by, dtype, "upsampler"))
            if case != "base" or upsampler is None:
                continue
            both = (base, upsampler)
            if not by.startswith("here"):
                made.append(_computed(f"picture, {by}, {dtype}", both, [one.steps for one in both]))
            if len(ours) == len(both):
                counts = [ours[one.case] for one in both]
                made.append(_computed(f"picture of as many steps as here, {by}, {dtype}", both, counts))
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


def spread(ratios: Sequence[float]) -> str:
    """The median, and in brackets the least and the most of several."""
    middle = f"{median(ratios):.2f}"
    return f"{middle} ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else middle


def _computed(what: str, networks: Sequence[Measured], counts: Sequence[int]) -> Spent:
    pairs = list(zip(counts, networks, strict=True))
    note = " + ".join(f"{count} steps of {one.seconds:.3g} s" for count, one in pairs)
    return Spent(what, sum(count * one.seconds for count, one in pairs), f"computed: {note}")


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
