"""Samplers by name: built-in ones, those of other packages, and their help."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from glide.diffusion.noise_schedules import make_process
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.registry import (
    SAMPLERS,
    default_spacing,
    find_sampler,
    sampler_help,
    spacing_help,
    translate_sampler,
)
from glide.diffusion.timestep_spacing import space_timesteps
from glide.utils.entry_points import plug_ins
from glide.utils.errors import InputError
from support.gaussian import Gaussian, start

MODULE = """
def halve(process, denoise, x, noise):
    for t in reversed(process.timesteps.tolist()):
        x = (denoise(x, t).x0 + x) / 2
        yield x

def four(process, denoise, x, noise, temperature):
    yield x
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with entry points, as pip installs it."""
    info = tmp_path / "halves-1.0.dist-info"
    info.mkdir()
    (tmp_path / "halves.py").write_text(MODULE)
    (tmp_path / "explodes.py").write_text("raise RuntimeError('no license')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: halves\nVersion: 1.0\n")
    points = {
        "halves": "halves:halve",
        "ddim": "halves:halve",
        "absent": "nowhere:halve",
        "nameless": "halves:third",
        "explodes": "explodes:halve",
        "four": "halves:four",
    }
    lines = [f"{name} = {where}\n" for name, where in points.items()]
    (info / "entry_points.txt").write_text("".join(["[glide.samplers]\n", *lines]))
    monkeypatch.syspath_prepend(tmp_path)
    plug_ins.cache_clear()
    yield
    plug_ins.cache_clear()


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_runs_by_its_name(name):
    data = Gaussian(make_process("cosine"), mean=0.3, std=0.5)
    process = data.process.respaced(space_timesteps(data.process, "6"))
    x = start(2, 3, 4, 4)
    sampler = find_sampler(name)

    def run(eta):
        *_, last = sampler.run(process, data.denoise, x, SeededNoise([1, 2]), eta=eta, variance="fixed_small")
        return last

    plain = run(0.0)
    assert torch.isfinite(plain).all()
    drawn = []

    def zeros(x):
        drawn.append(x)
        return torch.zeros_like(x)

    steps = sampler.run(process, data.denoise, x, zeros, eta=0.0, variance="fixed_small")
    assert len(list(steps)) == len(process)
    assert sampler.draws_noise == bool(drawn)
    if sampler.takes_eta:
        assert not torch.equal(run(1.0), plain)
    else:
        with pytest.raises(InputError, match=f"got eta 0.5 for the sampler {name}"):
            run(0.5)


def test_an_unknown_name():
    with pytest.raises(InputError, match=r"got the sampler 'dimm', expected ddim or ddpm or .* or unipc"):
        find_sampler("dimm")


def test_help_lists_all_with_their_orders():
    text = sampler_help()
    assert "ddim  order 1; DDIM" in text and "dpmpp-2m  order 2; DPM-Solver++" in text
    assert all(f"\n{name}  " in text for name in SAMPLERS)
    assert (
        "By default log-snr for dpmpp-2m, trailing for consistency and uniform for others" in spacing_help()
    )


def test_a_sampler_of_another_package(package):
    assert "halves  of the package halves" in sampler_help()
    assert find_sampler("ddim") is SAMPLERS["ddim"]  # a built-in name cannot be taken
    assert default_spacing("halves", "20") == "uniform" and translate_sampler("Halves") == ("halves", None)
    data = Gaussian(make_process("cosine"), mean=0.3, std=0.5)
    process = data.process.respaced(space_timesteps(data.process, "4"))
    x = start(2, 3, 4, 4)
    steps = list(
        find_sampler("halves").run(process, data.denoise, x, SeededNoise([1, 2]), eta=0.0, variance="learned")
    )
    assert len(steps) == 4
    torch.testing.assert_close(steps[0], (data.denoise(x, int(process.timesteps[-1])).x0 + x) / 2)


@pytest.mark.parametrize("name", ["absent", "nameless", "explodes", "four"])
def test_a_package_that_is_broken(package, name):
    with pytest.raises(
        InputError, match=rf"the sampler '{name}' cannot be loaded from .*: install its package again"
    ):
        find_sampler(name).load()
