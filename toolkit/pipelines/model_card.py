"""The card of a shared model: a README.md with the hub's YAML head, from the record of its training and figures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glide.checkpoints.shared_folder import ATTRIBUTION
from glide.networks.config import ModelConfig
from glide.networks.picture_sizes import default_size
from glide.utils.hub import hub_package
from glide.utils.picture_size import size_text
from glide.version import __version__

UNKNOWN = "unknown"
LIBRARY = "glide-toolkit"
HUB_LICENCES = re.compile(
    r"apache-2\.0|mit|openrail|afl-3\.0|artistic-2\.0|bsl-1\.0|bsd(-[23]-clause)?|cc|cc0-1\.0|cc-by-(2\.[05]|[34]\.0)"
    r"|cc-by-sa-[34]\.0|cc-by-nc-[234]\.0|cc-by-nd-4\.0|cc-by-nc-nd-[34]\.0|cc-by-nc-sa-[234]\.0|ecl-2\.0|epl-[12]\.0"
    r"|eupl-1\.[12]|agpl-3\.0|gfdl|gpl(-[23]\.0)?|lgpl(-2\.1|-3\.0)?|isc|mpl-2\.0|odc-by|odbl|osl-3\.0|pddl|ofl-1\.1"
    r"|ncsa|unlicense|wtfpl|zlib|unknown|other"
)
"""The hub's own names of licences; any other is "other" with a name."""
COLUMNS = 4
CLASSES_SHOWN = 12


@dataclass(frozen=True)
class Figure:
    """A figure with the interval in which it lies with 95%, where that is known."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    is_share: bool = False

    def __str__(self) -> str:
        shown = f"{self.value:.1%}" if self.is_share else f"{self.value:.4g}"
        if self.low is None or self.high is None:
            return shown
        between = (
            f"{self.low:.1%} to {self.high:.1%}" if self.is_share else f"{self.low:.4g} to {self.high:.4g}"
        )
        return f"{shown} ({between})"


@dataclass(frozen=True)
class Drawn:
    """A sample of the card: its file, and its caption or class."""

    file: str
    words: str


@dataclass(frozen=True)
class CardFacts:
    """All that a card says."""

    name: str
    """The name by which the model is loaded: org/name, or a file."""
    record: Mapping[str, Any]
    """The config.json that is shared."""
    licence: str | None = None
    about: str = ""
    """The author's own words on what it draws."""
    parameters: int | None = None
    drawn: Sequence[Drawn] = ()
    large: Drawn | None = None
    """The first of them, enlarged."""
    scale: float | None = None
    """Of their guidance, where it is not the default."""
    drawn_by: str = ""
    """The settings of the samples, in words."""
    figures: Sequence[Figure] = ()
    judged: str = ""
    """The pictures and features that the figures are of."""
    copies: Sequence[Figure] = ()
    seconds: float | None = None
    pictures: int | None = None
    """Number of pictures that it learned from."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Further networks in the folder, by their place, with their names."""
    attribution: bool = False

    @property
    def config(self) -> ModelConfig | None:
        """Of a diffusion model; None for any other."""
        return ModelConfig.from_dict(self.record["model"]) if self.record["kind"] == "diffusion" else None

    @property
    def training(self) -> Mapping[str, Any]:
        found = self.record.get("training")
        return found if isinstance(found, Mapping) else {}


def model_card(facts: CardFacts) -> str:
    """The text of the card."""
    title = facts.name.rpartition("/")[2].removesuffix(".zip").partition("@")[0]
    parts = [f"---\n{_head(facts)}\n---", f"# {title}", _draws(facts)]
    if facts.about:
        parts.append(facts.about.strip())
    if facts.large is not None:
        parts.append(_picture(facts.large))
    if facts.drawn:
        parts += [_samples(facts.drawn), facts.drawn_by]
    parts += ["## How to use", *_usage(facts), "## Data", _data(facts), "## Training", *_trained(facts)]
    parts += ["## Figures", *_figures(facts), "## Memorisation", *_memorised(facts)]
    parts += ["## Licence", _licence(facts)]
    return "\n\n".join(parts) + "\n"


def _head(facts: CardFacts) -> str:
    """The YAML between the two lines of dashes."""
    licence = (facts.licence or UNKNOWN).strip()
    known = HUB_LICENCES.fullmatch(licence.lower()) is not None
    config, data = facts.config, str(facts.training.get("data", ""))
    tags = ["diffusion", "guided-diffusion", *_kinds(config, facts.record["kind"])]
    values: dict[str, Any] = {
        "license": licence.lower() if known else "other",
        "license_name": None if known else re.sub(r"[^\w.-]+", "-", licence.lower()).strip("-"),
        "library_name": LIBRARY,
        "tags": tags,
        "datasets": [data.removeprefix("hf:").partition("@")[0]] if data.startswith("hf:") else None,
        "pipeline_tag": _task(config),
    }
    head = hub_package("a model card").ModelCardData(
        **{key: one for key, one in values.items() if one is not None}
    )
    return str(head.to_yaml()).rstrip()


def _task(config: ModelConfig | None) -> str | None:
    if config is None:
        return None
    if config.low_res or config.conditions:
        return "image-to-image"
    return "text-to-image" if config.reads_captions else "unconditional-image-generation"


def _kinds(config: ModelConfig | None, kind: str) -> list[str]:
    if config is None:
        return [kind]
    found = ["class-conditional"] * bool(config.num_classes) + ["inpainting"] * config.inpaint
    found += ["super-resolution"] * config.low_res + ["latent-diffusion"] * (config.first_stage is not None)
    return found


def _draws(facts: CardFacts) -> str:
    """One paragraph on what it draws."""
    config, kind = facts.config, facts.record["kind"]
    size = "" if facts.parameters is None else f" It has {facts.parameters / 1e6:.1f} million parameters."
    if config is None:
        return f"A {kind} network of the guided diffusion toolkit.{size}"
    pixels = size_text(default_size(config)).replace("x", " by ")
    what = f"A diffusion model that draws pictures of {pixels} pixels"
    if config.low_res:
        what = f"An upsampler that enlarges pictures {config.scale} times, to {pixels} pixels"
    if config.reads_captions and not config.low_res:
        what += " from captions"
    if config.num_classes:
        names = ", ".join(_plain(name) for name in config.class_names[:CLASSES_SHOWN])
        more = ", ..." if len(config.class_names) > CLASSES_SHOWN else ""
        what += f" of {config.num_classes} classes" + (f" ({names}{more})" if names else "")
    if config.conditions:
        what += f", conditioned on pictures ({', '.join(config.conditions)})"
    if config.image_encoder is not None:
        what += ", and varies pictures that it is shown"
    found = [f"{what}.{size}"]
    if config.inpaint:
        found.append("It also inpaints.")
    if config.first_stage is not None:
        found.append("It draws in the latents of an autoencoder.")
    return " ".join(found)


def _samples(drawn: Sequence[Drawn]) -> str:
    """The pictures in a table, each above its words."""
    columns = min(COLUMNS, len(drawn))
    lines = []
    for start in range(0, len(drawn), columns):
        row = list(drawn[start : start + columns])
        row += [Drawn("", "")] * (columns - len(row))
        cells = [_picture(one) if one.file else "" for one in row]
        lines.append(f"| {' | '.join(cells)} |")
        if not start:
            lines.append("|" + "---|" * columns)
        if any(one.words for one in drawn):
            lines.append(f"| {' | '.join(_plain(one.words) for one in row)} |")
    return "\n".join(lines)


def _picture(one: Drawn) -> str:
    return f"![{_plain(one.words) or 'a sample'}]({one.file})"


def _usage(facts: CardFacts) -> list[str]:
    if facts.config is None:
        flag = {"classifier": "--classifier", "clip": "--clip"}.get(facts.record["kind"], "--model")
        return [f"Version {__version__} of the guided diffusion toolkit takes it as `{flag} {facts.name}`."]
    config, given = facts.config, ""
    ask: list[str] = []
    if config.low_res:
        return [_block("", f"glide upsample small.png --model {facts.name} --out large.png")]
    if config.reads_captions:
        caption = next((one.words for one in facts.drawn if one.words), "a caption")
        given, ask = json.dumps(caption, ensure_ascii=False), ["--prompt", _quoted(caption)]
    elif config.num_classes:
        given, ask = "label=[0]", ["--label", "0"]
    if facts.scale is not None:
        given += f"{', ' * bool(given)}guidance_scale={facts.scale:g}"
        ask += ["--guidance", "cfg", "--scale", f"{facts.scale:g}"]
    code = (
        "from toolkit import Pipeline\n\n"
        f'pipe = Pipeline.from_pretrained("{facts.name}")\n'
        f'pipe({given}{", " if given else ""}seed=0).images[0].save("picture.png")'
    )
    line = " ".join(["glide sample", "--model", facts.name, *ask])
    lines = [line]
    if "upsampler" in facts.parts:
        factor = 4
        lines.append(f"{line} --size {factor * default_size(config)[0]}")
    guides = {"clip": "clip", "classifier": "classifier", "weak": "auto"}
    plain = line.partition(" --guidance")[0]
    lines += [
        f"{plain} --guidance {guidance} --{part} {facts.name}"
        for part, guidance in guides.items()
        if part in facts.parts
    ]
    found = [_block("python", code), _block("", "\n".join(lines))]
    needs = f"This is for version {__version__} or newer of the guided diffusion toolkit."
    if facts.drawn:
        needs += (
            f" `glide sample --model {facts.name} --like {facts.drawn[0].file}` draws the first sample again, on a "
            "machine set alike bit for bit: every sample carries its recipe."
        )
    return [needs, *found]


def _data(facts: CardFacts) -> str:
    training, found = facts.training, []
    data = training.get("data") or _from_command(training)
    if data:
        found.append(f"`{data}`" + (f", {facts.pictures} pictures" if facts.pictures else "") + ".")
    elif "converted" in training:
        found.append("The weights were converted from a published checkpoint.")
    else:
        found.append("The data are not recorded.")
    if isinstance(held := training.get("held_out"), float) and held:
        found.append(f"{held:.0%} of them were held out.")
    if isinstance(init := training.get("init"), str):
        found.append(f"The training began with the weights of `{init}`, so its data count, too.")
    return " ".join(found)


def _from_command(training: Mapping[str, Any]) -> str | None:
    match = re.search(r"--data[ =](\S+)", str(training.get("command", "")))
    return match[1].strip("'\"") if match else None


def _trained(facts: CardFacts) -> list[str]:
    training = facts.training
    command = training.get("command")
    found = [_block("", str(command))] if command else ["The command is not recorded."]
    steps, batch = training.get("step"), (training.get("train") or {}).get("batch_size")
    words = []
    if isinstance(steps, int):
        words.append(f"{steps:,} steps" + (f" of {batch} pictures" if isinstance(batch, int) else ""))
    if facts.seconds is not None:
        words.append(f"about {_duration(facts.seconds)}")
    if words:
        found.append(_sentence(", ".join(words)))
    if isinstance(hardware := training.get("hardware"), str):
        found.append(_sentence(hardware))
    return found


def _figures(facts: CardFacts) -> list[str]:
    if not facts.figures:
        return ["None were measured."]
    rows = ["| figure | value, with its 95% interval |", "|---|---|"]
    rows += [f"| {_plain(one.label)} | {one} |" for one in facts.figures]
    return ["\n".join(rows), *([facts.judged] if facts.judged else [])]


def _memorised(facts: CardFacts) -> list[str]:
    if not facts.copies:
        return [
            "It was not measured whether this model draws its training pictures from memory. A model of few pictures, "
            "or of a long training, often does."
        ]
    rows = ["| share of drawn pictures | value, with its 95% interval |", "|---|---|"]
    rows += [f"| {_plain(one.label)} | {one} |" for one in facts.copies]
    return ["\n".join(rows), "Of pictures that are not copied it would be 5%, so a larger share is memory."]


def _licence(facts: CardFacts) -> str:
    if facts.licence is None:
        text = "Unknown: its author has not named one. Without a licence nobody else may use or pass it on."
    else:
        text = f"{_plain(facts.licence)}."
    if facts.attribution:
        text += f" The weights that it began with ask for attribution: [{ATTRIBUTION}]({ATTRIBUTION})."
    return text


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} minutes"
    return f"{seconds / 3600:.1f} hours"


def _plain(text: str) -> str:
    """A text for a table of Markdown: one line, in which no character is markup."""
    return re.sub(r"([\\|<>\[\]*_`!])", r"\\\1", " ".join(str(text).split()))


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\$`])', r"\\\1", text) + '"'


def _block(kind: str, text: str) -> str:
    fence = "`" * max(3, *(1 + len(run) for run in re.findall(r"`+", text)), 3)
    return f"{fence}{kind}\n{text}\n{fence}"
