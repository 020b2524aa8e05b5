"""The model card: its head is the hub's YAML, and its text says what is known and what is not."""

from typing import Any

import pytest
import yaml

from glide.networks.model import Model
from toolkit.pipelines.model_card import CardFacts, Drawn, Figure, model_card


def record(model: Model, **training: Any) -> dict[str, Any]:
    return {"format": 1, "kind": "diffusion", "model": model.config.to_dict(), "training": training}


def head(card: str) -> dict[str, Any]:
    _, text, _ = card.split("---\n", 2)
    return yaml.safe_load(text)


def test_a_model_of_captions(text_model: Model) -> None:
    training = {
        "command": "python scripts/train_base.py --data photos",
        "data": "photos",
        "held_out": 0.1,
        "step": 1500,
        "train": {"batch_size": 16},
        "init": "emoji",
    }
    facts = CardFacts(
        "me/stamps",
        record(text_model, **training),
        licence="cc-by-4.0",
        about="Stamps of animals.",
        parameters=1_234_567,
        drawn=(Drawn("samples/0.png", "a | b"), Drawn("samples/1.png", 'a "red" $apple`')),
        drawn_by="Samples, not chosen.",
        figures=(Figure("captions drawn right", 0.125, 0.02, 0.47, True), Figure("distance", 0.1836)),
        judged="Of 8 pictures.",
        copies=(Figure("by colours", 0.5, 0.12, 0.87, True),),
        seconds=3000,
        pictures=300,
        parts={"upsampler": "emoji", "clip": "shapes-clip", "weak": "early"},
        attribution=True,
    )
    card = model_card(facts)
    assert head(card) == {
        "license": "cc-by-4.0",
        "library_name": "glide-toolkit",
        "tags": ["diffusion", "guided-diffusion"],
        "pipeline_tag": "text-to-image",
    }
    for line in (
        "# stamps",
        "A diffusion model that draws pictures of 8 by 8 pixels from captions. It has 1.2 million parameters.",
        "Stamps of animals.",
        '| ![a \\| b](samples/0.png) | ![a "red" $apple\\`](samples/1.png) |',
        'pipe = Pipeline.from_pretrained("me/stamps")',
        'glide sample --model me/stamps --prompt "a | b" --size 32',
        'glide sample --model me/stamps --prompt "a | b" --guidance clip --clip me/stamps',
        'glide sample --model me/stamps --prompt "a | b" --guidance auto --weak me/stamps',
        "`photos`, 300 pictures. 10% of them were held out. The training began with the weights of `emoji`, so its "
        "data count, too.",
        "1,500 steps of 16 pictures, about 50 minutes.",
        "| captions drawn right | 12.5% (2.0% to 47.0%) |",
        "| distance | 0.1836 |",
        "Of 8 pictures.",
        "| by colours | 50.0% (12.0% to 87.0%) |",
        "cc-by-4.0. The weights that it began with ask for attribution: [ATTRIBUTION.md](ATTRIBUTION.md).",
    ):
        assert line in card.splitlines(), line


def test_it_says_what_is_not_known(class_model: Model) -> None:
    card = model_card(CardFacts("m.zip", record(class_model)))
    assert head(card)["license"] == "unknown" and head(card)["tags"][-1] == "class-conditional"
    assert "Unknown: its author has not named one." in card and "None were measured." in card
    assert "It was not measured whether" in card and "The data are not recorded." in card
    assert "5 classes (apple, banana, golden retriever, gold fish, tench)" in card
    assert "glide sample --model m.zip --label 0" in card


def test_an_upsampler(upsampler_model: Model) -> None:
    card = model_card(CardFacts("me/large", record(upsampler_model)))
    assert head(card)["pipeline_tag"] == "image-to-image"
    assert "glide upsample small.png --model me/large --out large.png" in card


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("My: own, licence", {"license": "other", "license_name": "my-own-licence"}),
        ("gpl-3.0", {"license": "gpl-3.0"}),
    ],
)
def test_licences_are_the_hub_s(text_model: Model, licence: str, expected: dict[str, str]) -> None:
    found = head(model_card(CardFacts("me/x", record(text_model), licence=licence)))
    assert {key: value for key, value in found.items() if key.startswith("license")} == expected


def test_data_of_the_hub_are_named_in_the_head(text_model: Model) -> None:
    card = model_card(CardFacts("me/x", record(text_model, data="hf:org/pictures@main")))
    assert head(card)["datasets"] == ["org/pictures"]
    assert (
        head(model_card(CardFacts("c", {"kind": "clip", "model": {}, "training": None})))["tags"][-1]
        == "clip"
    )
