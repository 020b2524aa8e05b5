"""The report of an automatic training: report.md and report.html, with pictures, figures, and the next steps."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from glide.checkpoints.load import load_model
from glide.utils.atomic_write import write_text
from glide.utils.device import find_device
from glide.utils.program import as_called
from toolkit.commands.train_auto_curve import Choice, read_curve
from toolkit.commands.train_auto_flags import TrainAuto
from toolkit.commands.train_auto_plan import UPSAMPLER_INIT, in_words
from toolkit.commands.train_auto_state import AutoState
from toolkit.evaluation import image_report as html
from toolkit.evaluation.bootstrap import Estimate
from toolkit.evaluation.features import features_named
from toolkit.evaluation.image_report import Shown
from toolkit.evaluation.memorisation import EXPECTED
from toolkit.evaluation.own_pictures import GRID, SCALE, Drawn, Measured, OwnPictures

PAGE, TEXT, FIGURES = "report.html", "report.md", "report.json"
SHOWN = 24
COPIES = 8
CURVE = (
    "captions_right",
    "captions_right_new",
    "memorised",
    "memorised_new",
    "memorised_colours",
    "memorised_colours_new",
    "held_out_distance",
    "training_distance",
)


def write_report(args: TrainAuto, state: AutoState, choice: Choice, folder: Path) -> Measured:
    """Draw, measure and write. folder: the model's. InputError for pictures that cannot be measured."""
    device = find_device(args.device)
    model = load_model(folder, device)
    features = features_named(args.judge, device)
    own = OwnPictures(args.data, model.config, features, state.plan.held_out, args.seed, args.out / "base")
    found = own.measure(model, state.plan.report_pictures)
    itself = own.judge_itself(len(found.trained.rows)) if own.names else None
    lines = _said(args, own, found, itself)
    copied = _copied(own, found.trained)
    next_steps = _next(args, state, folder)
    write_text(args.out / FIGURES, json.dumps(_record(state, choice, found, itself, copied), indent=1) + "\n")
    curve = read_curve(args.out / "base")
    write_text(args.out / TEXT, _markdown(args, state, choice, lines, copied, next_steps, curve))
    write_text(args.out / PAGE, _page(args, state, choice, lines, own, found, next_steps, curve))
    return found


def _said(args: TrainAuto, own: OwnPictures, found: Measured, itself: Estimate | None) -> list[str]:
    """The figures in sentences."""
    one, several = ("caption", "captions") if own.config.reads_captions else ("class", "classes")
    figures, lines = found.figures, []
    drawn_of = several if own.names else "data"
    if own.names and itself is not None:
        lines.append(
            f"Drawn recognisably: {percent(figures['captions_right'])} of {len(found.trained.rows)} {several} of "
            f"training pictures. That is, of all {own.real} real pictures the nearest to the drawn one, in the "
            f"features of {args.judge}, has that {one}. The same judge recognises {percent(itself)} of true pictures "
            "that were scaled to half and back."
        )
    if own.names and found.new is not None:
        lines.append(
            f"Of {len(found.new.rows)} {several} of held-out pictures, which the model has not seen, it is "
            f"{percent(figures['captions_right_new'])}."
        )
    others = "the other training pictures" if own.held_out is None else "held-out pictures"
    lines.append(
        f"Learned by heart: {percent(figures['memorised_colours'])} of the pictures drawn of training {drawn_of} are "
        f"nearer to a training picture than 95% of {others} are, by the colours of a grid of {GRID} by {GRID} cells; "
        f"in the features, which see first that drawn pictures are softer, {percent(figures['memorised'])}. Of new "
        f"pictures it would be {EXPECTED:.0%}."
    )
    if own.held_out is not None:
        lines.append(
            f"Of the pictures drawn of held-out {drawn_of} it is {percent(figures['memorised_colours_new'])} and "
            f"{percent(figures['memorised_new'])}. Their kernel distance to held-out pictures is "
            f"{figures['held_out_distance']}; that of the training pictures is {found.real['held_out_distance']}."
        )
    return lines


def _copied(own: OwnPictures, drawn: Drawn) -> list[tuple[str, float]]:
    """Training pictures that were drawn from memory, the nearest first, with their distances in colours."""
    near, found = drawn.soft_copies, own.training.found
    names = [own.training.pictures.name_of(found.places[int(near.rows[i, 0])]) for i in drawn.copied]
    return list(zip(names, near.distances[drawn.copied, 0].tolist(), strict=True))


def _next(args: TrainAuto, state: AutoState, folder: Path) -> list[tuple[str, str]]:
    """Suggestions for the next steps, each with its command."""
    base = state.plan.stages[0]
    what = {"captions": "--prompt WORDS ", "classes": "--label 0 ", "nothing": ""}[state.facts.described]
    size = f"--size {4 * base.size} " if len(state.plan.stages) > 1 else ""
    guided = "" if state.facts.described == "nothing" else f"--guidance cfg --scale {SCALE:g} "
    found = [("Draw", f"python scripts/sample.py --model {folder} {what}{size}{guided}--num-samples 8")]
    if state.facts.described != "nothing":
        grid = "--x scale=1,1.5,3 --y steps=10,20,50 --out grid.png"
        found.append(
            (
                "See the strength of guidance and the number of steps side by side",
                f"python scripts/settings_grid.py --model {folder} {what}{grid}",
            )
        )
    if len(state.plan.stages) == 1:
        large = f"--size {4 * base.size} --upsampler {UPSAMPLER_INIT}"
        found.append(
            (
                "Enlarge by the embedded upsampler, which knows drawings better than photographs",
                f"python scripts/sample.py --model {folder} {what}{guided}{large}",
            )
        )
    longer = f"--hours {3 * args.hours:g} --init {folder} --size {base.size} --out {args.out}-longer"
    found += [
        (
            "Train longer, in a new training that begins with this model",
            f"python scripts/train_auto.py {args.data} {longer}",
        ),
        (
            "Share it. The folder holds no pictures, but the model can draw those that it learned by heart",
            f"python scripts/share.py {args.out} --to NAME/MODEL --licence LICENCE",
        ),
    ]
    return [(text, as_called(line)) for text, line in found]


def _record(
    state: AutoState,
    choice: Choice,
    found: Measured,
    itself: Estimate | None,
    copied: list[tuple[str, float]],
) -> dict[str, Any]:
    return {
        "step": choice.step,
        "drawn": len(found.trained.rows),
        "drawn_new": 0 if found.new is None else len(found.new.rows),
        "figures": {name: asdict(one) for name, one in found.figures.items()},
        "real": {name: asdict(one) for name, one in found.real.items()},
        "judge_itself": None if itself is None else asdict(itself),
        "copied": [{"picture": name, "distance": round(distance, 4)} for name, distance in copied],
        "pictures": state.facts.pictures,
    }


def _markdown(
    args: TrainAuto,
    state: AutoState,
    choice: Choice,
    lines: list[str],
    copied: list[tuple[str, float]],
    next_steps: list[tuple[str, str]],
    curve: list[dict[str, Any]],
) -> str:
    text = [f"# A model of {Path(args.data).name}", "", "## What was chosen, and why", ""]
    text += in_words(state.plan, state.facts)
    text += ["", "## What came of it", "", *(f"- {line}" for line in (*choice.reasons, *lines))]
    if state.facts.broken:
        text.append(f"- {state.facts.broken} pictures were broken, and are left out.")
    text += ["", "## What was learned by heart", ""]
    text += [f"- {name} ({distance:.3g} away)" for name, distance in copied] or [
        "None of the pictures that were drawn is nearer to a training picture than new ones are."
    ]
    names = [name for name in CURVE if any(name in line for line in curve)]
    if names:
        text += ["", "## The curve", "", f"| step | {' | '.join(name.replace('_', ' ') for name in names)} |"]
        text.append("|" + "---|" * (len(names) + 1))
        text += [
            f"| {line['step']} | {' | '.join(_number(line.get(name)) for name in names)} |" for line in curve
        ]
    text += ["", "## Going on", ""]
    for what, command in next_steps:
        text += [f"{what}:", "", "```", command, "```", ""]
    return "\n".join(text).rstrip() + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _page(
    args: TrainAuto,
    state: AutoState,
    choice: Choice,
    lines: list[str],
    own: OwnPictures,
    found: Measured,
    next_steps: list[tuple[str, str]],
    curve: list[dict[str, Any]],
) -> str:
    parts = [html.heading("What came of it")]
    parts += [html.paragraph(line) for line in (*choice.reasons, *lines)]
    parts.append(html.heading("Drawn, the nearest real picture, the true one"))
    parts += [_row(own, found.trained, i, True) for i in range(min(SHOWN, len(found.trained.rows)))]
    if found.new is not None:
        parts.append(html.heading("The same of held-out pictures"))
        parts += [_row(own, found.new, i, False) for i in range(min(SHOWN, len(found.new.rows)))]
    parts.append(html.heading("Nearest to training pictures"))
    order = np.argsort(found.trained.soft_copies.distances[:, 0], kind="stable").tolist()
    parts += [_row(own, found.trained, i, True) for i in order[:COPIES]]
    parts.append(html.heading("What was chosen, and why"))
    parts += [html.paragraph(line.removeprefix("- ")) for line in in_words(state.plan, state.facts)]
    names = [name for name in CURVE if any(name in line for line in curve)]
    if names:
        parts.append(html.heading("The curve"))
        rows = [
            (
                f"step {line['step']}",
                ", ".join(f"{name.replace('_', ' ')} {_number(line.get(name))}" for name in names),
            )
            for line in curve
        ]
        parts.append(html.facts(rows))
    parts.append(html.heading("Going on"))
    parts.append(html.facts(next_steps))
    return html.page(f"A model of {Path(args.data).name}", parts)


def _row(own: OwnPictures, drawn: Drawn, i: int, trained: bool) -> str:
    """A drawn picture, the nearest real one, and the one whose caption or class it was drawn of."""
    part = own.training if trained or own.held_out is None else own.held_out
    caption, label = drawn.subjects[i]
    asked = caption or ("" if label is None else own.config.class_names[label]) or "drawn"
    near = int(drawn.nearest[i])
    inside = near < len(own.training)
    real = own.training if inside or own.held_out is None else own.held_out
    row = near if inside else near - len(own.training)
    verdict = "" if not len(drawn.right) else (" (right)" if drawn.right[i] else " (another)")
    return html.pictures(
        [
            Shown(drawn.pixels[i], asked[:120]),
            Shown(real.pixels(row), f"nearest{verdict}"),
            Shown(part.pixels(drawn.rows[i]), "true"),
        ]
    )


def percent(one: Estimate) -> str:
    """A share with its interval."""
    between = "" if one.low is None or one.high is None else f" ({one.low:.0%} to {one.high:.0%})"
    return f"{one.value:.0%}{between}"
