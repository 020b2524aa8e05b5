"""Options of single guidances, besides their scale and interval: one dataclass, made from all declarations.

Imports nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, field, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tyro.conf import arg

from glide.utils.errors import InputError
from glide.utils.numbers import Range, real, shown_number
from glide.utils.ranges import check_numbers, flag
from guidance.entry import Option
from guidance.registry import built_in

SHARED = (
    Option(
        "rescale",
        float,
        0.0,
        "SHARE",
        "How much of the contrast that guidance adds is taken back, 0 to 1 (0.7 is usual): against oversaturation.",
        Range(0.0, 1.0),
    ),
    Option(
        "threshold",
        float | None,
        None,
        "SHARE",
        "Dynamic thresholding: the share of pixels (0.995 is usual) whose values the picture keeps within bounds, all "
        "others being scaled with them. By default values out of bounds are cut off.",
        Range(0.0, 1.0, above=True, do="0.995 is usual; leave it out for none"),
    ),
)


class OptionsBase:
    """The methods of `Options`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __post_init__(self) -> None:
        """Numbers of numpy as Python's own, as recipes need them. InputError for another type."""
        for f in fields(self):
            value = getattr(self, f.name)
            if value is None or value == f.default:
                continue
            if f.metadata["range"] is not None:
                object.__setattr__(self, f.name, real(value, flag(f.name)))
            elif f.name != "negative" and not isinstance(value, str):  # a negative class may be a number
                raise InputError(f"got {flag(f.name)} {shown_number(value)}, expected a text: give its name")

    def check(self) -> None:
        """InputError for an option out of its range."""
        check_numbers(self)
        for f in fields(self):
            choices, value = f.metadata["choices"], getattr(self, f.name)
            if choices and value not in choices:
                raise InputError(
                    f"got {flag(f.name)} {value!r}, expected {' or '.join(choices)}: choose one of these"
                )

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    def of(self, names: frozenset[str]) -> Options:
        """The same with all but these as by default."""
        return Options(**{name: value for name, value in asdict(self).items() if name in names})


def _field(option: Option, readers: Iterable[str]) -> tuple[str, Any, Any]:
    names = ", ".join(readers)
    words = f"({names}) {option.help}" if names else option.help
    kind: Any = option.kind
    hint: Any = Annotated[kind, arg(metavar=option.metavar, help=words)]
    return (
        option.name,
        hint,
        field(default=option.default, metadata={"range": option.range, "choices": option.choices}),
    )


def _made() -> Any:
    readers: dict[str, list[str]] = {option.name: [] for option in SHARED}
    options = {option.name: option for option in SHARED}
    for entry in built_in().values():
        for option in entry.options:
            options.setdefault(option.name, option)
            readers.setdefault(option.name, []).append(entry.name)
    made = make_dataclass(
        "Options",
        [_field(option, readers[name]) for name, option in options.items()],
        bases=(OptionsBase,),
        frozen=True,
    )
    made.__module__ = __name__  # so that it can be pickled
    made.__doc__ = "Each option belongs to the guidances in brackets."
    return made


if TYPE_CHECKING:

    class Options(OptionsBase):
        """Each option belongs to the guidances in brackets."""

        def __init__(self, **options: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

else:
    Options = _made()

DEFAULT_OPTIONS = Options()
