"""No tensor is left on the CPU where the model lies on another device: the scripts, run on one that is pretended."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.fake_device import NAME, possible
from support.paths import ROOT

HERE = ROOT / "tests"
FEW = ["--steps", "2"]
GUIDANCES = ("cfg:3@200-900", "classifier:2", "clip:1", "pag:1", "auto:1", "cads")
GUIDED = [
    *("--prompt", "a red heart", "--label", "heart", "--num-samples", "2", "--weak", "shapes"),
    *(flag for line in GUIDANCES for flag in ("--guidance", line)),
    *("--rescale", "0.5", "--threshold", "0.99"),
]
ENLARGED = [
    *("--prompt", "a red ring", "--num-samples", "2", "--guidance", "apg:3", "--sampler", "ddpm"),
    *("--deep-every", "2", "--rerank", "clip", "--keep", "1", "--size", "256", "--upsample-steps", "2"),
]
PLAIN = ["--prompt", "a red ring", "--num-samples", "2", "--dtype", "float32", *FEW]
TRAINED = ["--batch-size", "4", "--log-every", "1"]
TINY = ["--data", "shapes:one", "--preset", "tiny"]


def commands(out: Path, picture: Path, mask: Path) -> dict[str, list[str]]:
    """What is run, in this order, by a name; --device comes after it."""
    base = ["train_base.py", *TINY, "--muon-lr", "0.01", "--dtype", "bfloat16", "--self-condition", *TRAINED]
    classifier = ["train_classifier.py", *TINY, "--target", "shape", "--dtype", "float16", "--levels", "2"]
    clip = ["--data", "shapes:one", "--preset", "shapes-64", "--like", "shapes", "--gradient-weight", "1"]
    clip += ["--levels", "1", "--held-out-pairs", "4"]
    edited = ["inpaint.py", "--image", str(picture), "--mask", str(mask), "--prompt", "a blue star", *FEW]
    return {
        "guided": ["sample.py", *GUIDED, *FEW, "--out", str(out / "guided")],
        "plain": ["sample.py", *PLAIN, "--out", str(out / "plain")],
        "enlarged": ["sample.py", *ENLARGED, *FEW, "--out", str(out / "enlarged")],
        "inpainted": [*edited, "--out", str(out / "inpainted.png")],
        "repainted": [*edited, "--method", "repaint", "--out", str(out / "repainted.png")],
        "interpolated": [
            *("interpolate.py", "--image", str(picture), "--image", str(picture), "--frames", "3", *FEW),
            *("--out", str(out / "strip.png")),
        ],
        "nll": [
            *("nll.py", "--data", "shapes", "--images", "2", "--batch-size", "2", "--respacing", "2"),
            *("--out", str(out / "nll.json")),
        ],
        "evaluated": [
            *("evaluate.py", "--captions", "2", "--kinds", "one", "--scales", "3", *FEW),
            *("--out", str(out / "evaluated")),
        ],
        "base": [*base, "--steps", "2", "--out", str(out / "base")],
        "base, resumed": [*base, "--resume", "--steps", "3", "--out", str(out / "base")],
        "upsampler": [
            *("train_upsampler.py", "--data", "shapes", "--init", "shapes", "--crop-size", "64"),
            *("--batch-size", "2", "--watched", "1", "--steps", "1", "--out", str(out / "upsampler")),
        ],
        "classifier": [*classifier, *TRAINED, "--steps", "2", "--out", str(out / "classifier")],
        "clip": [
            *("train_clip.py", *clip, "--wrong-captions", "1", *TRAINED, "--steps", "2"),
            *("--out", str(out / "clip")),
        ],
    }


NAMES = tuple(commands(Path(), Path(), Path()))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything was written."""
    out = tmp_path_factory.mktemp("device")
    picture, mask = out / "picture.png", out / "mask.png"
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(picture)
    known = np.full((64, 64), 255, np.uint8)
    known[16:48, 16:48] = 0
    Image.fromarray(known).save(mask)
    asked = {name: [*argv, "--device", NAME] for name, argv in commands(out, picture, mask).items()}
    asked["on the CPU"] = ["sample.py", *PLAIN, "--device", "cpu", "--out", str(out / "cpu")]
    (out / "commands.json").write_text(json.dumps(asked))
    program = [
        sys.executable,
        str(HERE / "support" / "fake_device.py"),
        str(out / "commands.json"),
        str(out / "failures.json"),
    ]
    done = subprocess.run(program, capture_output=True, text=True, cwd=out, timeout=1200)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def failures(outputs: Path) -> Mapping[str, str]:
    found: Mapping[str, str] = json.loads((outputs / "failures.json").read_text())
    return found


pytestmark = pytest.mark.skipif(not possible(), reason="this PyTorch has no devices written in Python")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "on the CPU"])
def test_a_script_keeps_its_tensors_together(name: str, failures: Mapping[str, str]) -> None:
    assert name not in failures, failures[name]


@pytest.mark.slow
def test_a_device_draws_the_pictures_of_the_cpu(outputs: Path) -> None:
    for name in ("00000.png", "00001.png"):
        near, far = (np.asarray(Image.open(outputs / where / name), np.int32) for where in ("cpu", "plain"))
        assert near.std() > 10 and np.abs(near - far).max() <= 1


@pytest.mark.slow
def test_the_device_refuses_what_a_gpu_would() -> None:
    """Else the tests above could not fail."""
    program = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import torch
from support.fake_device import NAME, make_device
make_device()
near, far = torch.ones(2), torch.ones(2, device=NAME)
assert (far + 1).device.type == NAME and float(far.sum()) == 2.0 and torch.equal(far.cpu(), near)
assert torch.tensor([1.0, 1.0], device=NAME).add_(near.to(NAME)).tolist() == [2.0, 2.0]
for wrong in (lambda: near + far, lambda: far.copy_(near).add_(near), lambda: far.numpy(), lambda: far[near.long()]):
    try:
        wrong()
    except RuntimeError:
        continue
    sys.exit("not refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
