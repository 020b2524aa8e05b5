"""Changed captions, and that a network which reads a fact is told apart from one that does not."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glide.checkpoints.load import save_model
from glide.data.hard_negatives import change_fact
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import captions_for_tokenizer, held_out_scenes, parse_caption, render
from glide.utils.errors import InputError
from support.models import randomised
from toolkit.commands.binding import bind
from toolkit.commands.binding_flags import Bind
from toolkit.evaluation.attribute_binding import VALUES, binding, table


@pytest.fixture(scope="module", params=["draws", "inpaints too"])
def tiny(request: pytest.FixtureRequest) -> Model:
    text = PRESETS["tiny"].text
    tokenizer = Tokenizer.train(captions_for_tokenizer(), 512, 24)
    assert text is not None
    config = replace(
        PRESETS["tiny"], text=replace(text, vocab=tokenizer.n_vocab), inpaint=request.param == "inpaints too"
    )
    return randomised(Model(config, tokenizer), seed=0)


def test_one_fact_is_changed_and_no_other() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for scene in held_out_scenes(200, seed=5):
        for kind in VALUES:
            caption = change_fact(scene, kind, rng)
            facts = [fact for fact in scene.facts if fact.kind == kind]
            if caption is None:
                assert not facts or (kind == "count" and scene.kind != "count")
                continue
            seen.add(kind)
            new = parse_caption(caption)
            different = [(a, b) for a, b in zip(scene.facts, new, strict=True) if a != b]
            assert len(different) == 1 and different[0][0].kind == kind
    assert seen == set(VALUES)


def test_a_network_that_reads_the_background_alone(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    size = tiny.config.unet.image_size
    scenes = held_out_scenes(40, ("one",), 3)
    plain = {scene.background: render([scene], size)[0, 0, 0] for scene in scenes}

    def forward(self: Model, x: torch.Tensor, t: torch.Tensor, batch: dict[str, list[str]]) -> torch.Tensor:
        pixels = []
        for caption in batch["captions"]:
            said = (
                [fact.value for fact in parse_caption(caption) if fact.kind == "background"]
                if caption
                else []
            )
            colour = torch.tensor(plain[said[0]]) / 127.5 - 1 if said and said[0] in plain else torch.zeros(3)
            pixels.append(colour[:, None, None].expand(3, size, size))
        return torch.stack(pixels).float()

    monkeypatch.setattr(Model, "forward", forward)
    monkeypatch.setattr(Model, "caption_batch", lambda self, captions: {"captions": captions})
    found = {b.fact: b for b in binding(tiny, scenes, [900])}
    assert found["background"].wrong > 1.5 * found["background"].right
    assert found["caption"].wrong > 1.1 * found["caption"].right
    assert all(found[kind].wrong == found[kind].right for kind in ("size", "color", "shape", "position"))
    assert "| 900 |" in table(list(found.values())) and "relation" not in found


@pytest.mark.slow
def test_the_command(tiny: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(tmp_path / "model", tiny)
    out = tmp_path / "binding.json"
    args = Bind(str(tmp_path / "model"), pictures=4, timesteps=(900, 10), dtype="float32", out=out)
    bind(args)
    assert "position" in capsys.readouterr().out
    assert {line["t"] for line in json.loads(out.read_text())} == {900, 10}
    with pytest.raises(InputError, match=r"binding\.json exists already"):
        bind(args)
    bind(replace(args, timesteps=(10,), overwrite=True))
    assert {line["t"] for line in json.loads(out.read_text())} == {10}
    with pytest.raises(InputError, match="expected 0 to 999"):
        bind(Bind(str(tmp_path / "model"), pictures=4, timesteps=(1000,)))
    with pytest.raises(InputError, match="pictures 0"):
        bind(Bind(str(tmp_path / "model"), pictures=0))
    with pytest.raises(InputError, match="without captions"):
        binding(Model(replace(tiny.config, text=None)), held_out_scenes(2), [5])
