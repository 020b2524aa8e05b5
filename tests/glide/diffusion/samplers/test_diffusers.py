"""Every solver against a second implementation: the schedulers of diffusers, on one fixed network function.

Both walk the same twenty timesteps (trailing, of 1000) from the same noise; those with noise draw the same.
"""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F

from glide.diffusion.denoiser import Prediction
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.samplers.ddpm_ddim import ancestral, ddim
from glide.diffusion.samplers.dpm_solver import dpmpp_2m, dpmpp_2m_sde
from glide.diffusion.samplers.euler_heun import euler, euler_ancestral, heun
from glide.diffusion.samplers.linear_multistep import lms, plms
from glide.diffusion.samplers.unipc import unipc
from glide.diffusion.timestep_spacing import space_timesteps
from support.diffusers_pipelines import Gauss, lms_module
from support.gaussian import last

with warnings.catch_warnings():  # of its own imports
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers")
    from diffusers import schedulers

WHOLE = make_process("linear")
STEPS = 20
KEPT = space_timesteps(WHOLE, str(STEPS), "trailing")
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
WEIGHT = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 3

COMMON = {"timestep_spacing": "trailing", "prediction_type": "epsilon"}
CLEAN = {"set_alpha_to_one": True}  # the last step goes to the picture, not to timestep 0
CASES = {
    "ddim": ("DDIMScheduler", {"clip_sample": False, **CLEAN}, lambda d, x, n: ddim(PROCESS, d, x)),
    "ddim-eta": (
        "DDIMScheduler",
        {"clip_sample": False, **CLEAN},
        lambda d, x, n: ddim(PROCESS, d, x, n, 0.6),
    ),
    "ddpm": (
        "DDPMScheduler",
        {"clip_sample": False, "variance_type": "fixed_small"},
        lambda d, x, n: ancestral(PROCESS, d, x, n, "fixed_small"),
    ),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True, **CLEAN}, lambda d, x, n: plms(PROCESS, d, x)),
    "lms": ("LMSDiscreteScheduler", {}, lambda d, x, n: lms(PROCESS, d, x)),
    "euler": ("EulerDiscreteScheduler", {}, lambda d, x, n: euler(PROCESS, d, x)),
    "heun": ("HeunDiscreteScheduler", {}, lambda d, x, n: heun(PROCESS, d, x)),
    "euler-ancestral": (
        "EulerAncestralDiscreteScheduler",
        {},
        lambda d, x, n: euler_ancestral(PROCESS, d, x, n),
    ),
    "dpmpp-2m": ("DPMSolverMultistepScheduler", {"solver_order": 2}, lambda d, x, n: dpmpp_2m(PROCESS, d, x)),
    "dpmpp-2m-sde": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"},
        lambda d, x, n: dpmpp_2m_sde(PROCESS, d, x, n),
    ),
    "unipc": ("UniPCMultistepScheduler", {"solver_order": 2}, lambda d, x, n: unipc(PROCESS, d, x)),
}
IN_RATIO = ("lms", "euler", "heun", "euler-ancestral")  # their state is x / alpha
PROCESS = WHOLE.respaced(KEPT)


def network(x: torch.Tensor, t: int) -> torch.Tensor:
    """x0 of x_t [N,C,H,W], of no likeness to any model's, in float64."""
    alpha_bar = float(WHOLE.alpha_bar[t])
    return torch.tanh(F.conv2d(x.double(), WEIGHT, padding=1)) * math.sqrt(alpha_bar) + 0.2


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_the_same_pictures(name, monkeypatch):
    kind, options, ours = CASES[name]
    if name == "lms":  # scipy integrates there, but need not: Gauss's rule is exact for its cubics
        module = lms_module()
        monkeypatch.setattr(module, "integrate", Gauss, raising=False)
        make = module.LMSDiscreteScheduler  # without scipy the package itself has a stand-in
    else:
        make = getattr(schedulers, kind)
    scheduler = make(trained_betas=WHOLE.betas, **COMMON, **options)
    scheduler.set_timesteps(STEPS)
    told = [int(t) for t in scheduler.timesteps]
    assert sorted(set(told)) == KEPT

    theirs, generator = X.float(), torch.Generator().manual_seed(2)
    more = {"generator": generator} if name in ("ddpm", "ddim-eta", "euler-ancestral", "dpmpp-2m-sde") else {}
    more |= {"eta": 0.6} if name == "ddim-eta" else {}
    if name in IN_RATIO:
        theirs = theirs / math.sqrt(PROCESS.alpha_bar[-1])
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(theirs, t)
        alpha_bar = float(WHOLE.alpha_bar[int(t)])
        eps = (x.double() - math.sqrt(alpha_bar) * network(x, int(t))) / math.sqrt(1 - alpha_bar)
        theirs = scheduler.step(eps.float(), t, theirs, **more).prev_sample

    asked, drawing = [], torch.Generator().manual_seed(2)

    def denoise(x, t):
        asked.append(t)
        return Prediction(network(x, t))

    noise = lambda like: torch.randn(like.shape, generator=drawing).to(like)
    found = last(ours(denoise, X, noise))
    assert asked == told  # call for call
    torch.testing.assert_close(found, theirs.double(), rtol=0, atol=1e-3)
    assert found.std() > 0.1
