"""Captions that are wrong in one fact, and a CLIP that learns from them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from glide.data.datasets import open_data
from glide.data.hard_negatives import WithHardNegatives, wrong_captions
from glide.shapes.dataset import held_out_scenes, parse_caption
from glide.utils.errors import InputError
from guidance.clip.contrastive import contrast


def test_each_is_wrong_in_exactly_one_fact() -> None:
    rng = np.random.default_rng(0)
    kinds = set()
    for scene in held_out_scenes(60, seed=3):
        captions = wrong_captions(scene, 5, rng)
        assert len(captions) == 5
        for caption in captions:
            facts = parse_caption(caption)
            assert len(facts) == len(scene.facts)
            (wrong,) = {(f.kind, f.thing, f.value) for f in facts} - {
                (f.kind, f.thing, f.value) for f in scene.facts
            }
            kinds.add(wrong[0])
    assert kinds == {"count", "size", "color", "shape", "position", "relation", "background"}


def test_a_batch_is_the_same_with_wrong_captions_beside_it() -> None:
    plain = open_data("shapes", 16, seed=1)
    data = WithHardNegatives(plain, 1, 3)
    batch, again = data.batch(4, 6), data.batch(4, 6)
    assert torch.equal(batch["image"], plain.batch(4, 6)["image"])
    assert batch["caption"] == plain.batch(4, 6)["caption"]
    assert batch["wrong"] == again["wrong"] and [len(w) for w in batch["wrong"]] == [3] * 6
    assert batch["wrong"] != data.batch(5, 6)["wrong"]
    assert data.batch(4, 6, range(2, 4))["wrong"] == batch["wrong"][2:4]
    assert all(own not in wrong for own, wrong in zip(batch["caption"], batch["wrong"], strict=True))


def test_the_loss_with_wrong_captions_is_the_cross_entropy_over_all() -> None:
    generator = torch.Generator().manual_seed(0)
    image, text = (normalize(torch.randn(5, 8, generator=generator)) for _ in range(2))
    wrong = normalize(torch.randn(5, 3, 8, generator=generator), dim=-1)
    terms = contrast(image, text, torch.arange(5)[:, None], torch.tensor(7.0), wrong)
    own = torch.arange(5)
    to_image = torch.nn.functional.cross_entropy(7.0 * text @ image.T, own, reduction="none")
    for n in range(5):
        logits = 7.0 * torch.cat([text, wrong[n]]) @ image[n]
        expected = (torch.nn.functional.cross_entropy(logits, own[n]) + to_image[n]) / 2
        torch.testing.assert_close(terms["loss"][n], expected)
        assert terms["fact"][n] == (logits[5:] < logits[n]).float().mean()
        assert terms["image_to_text"][n] == float(logits.argmax() == n)
    plain = contrast(image, text, torch.arange(5)[:, None], torch.tensor(7.0))
    assert torch.equal(plain["text_to_image"], terms["text_to_image"]) and "fact" not in plain


@pytest.mark.slow
def test_it_trains_and_measures_with_them(tmp_path: Path) -> None:
    from guidance.clip.train import train_clip
    from support.clip_training import settings

    train_clip(settings(tmp_path / "run", wrong_captions=2, train={"steps": 4}))
    line = json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[-1])
    assert 0.0 <= line["fact"] <= 1.0
    levels = [json.loads(line) for line in (tmp_path / "run/levels.jsonl").read_text().splitlines()]
    assert all("fact" in json.dumps(level) for level in levels)


def test_refusals(tmp_path: Path) -> None:
    from guidance.clip.train import train_clip
    from guidance.clip.train_flags import TrainClip
    from support.clip_training import photos, settings

    with pytest.raises(InputError, match="--wrong-captions -1, expected a whole number"):
        train_clip(settings(tmp_path / "run", wrong_captions=-1))
    folder = photos(tmp_path / "data", 20)
    args = TrainClip(tmp_path / "run", data=str(folder), preset="tiny", wrong_captions=2)
    with pytest.raises(InputError, match="of which it is known what would be wrong"):
        train_clip(args)
