"""The few-step solvers against the exact answers for Gaussian data: their errors, their orders, their distributions."""

import math
from itertools import islice, pairwise

import numpy as np
import pytest
import torch

from glide.diffusion.denoiser import Prediction, pin_known
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.process import Process
from glide.diffusion.repaint import repaint
from glide.diffusion.samplers.base import MAX_CORRECTED_RATIO, SeededNoise, noise_levels
from glide.diffusion.samplers.ddpm_ddim import ancestral, ddim
from glide.diffusion.samplers.dpm_solver import dpmpp_2m, dpmpp_2m_sde
from glide.diffusion.samplers.euler_heun import euler, euler_ancestral, heun
from glide.diffusion.samplers.linear_multistep import adams_bashforth, lms, plms
from glide.diffusion.samplers.registry import SAMPLERS
from glide.diffusion.samplers.unipc import moment_weights, unipc
from glide.diffusion.timestep_spacing import space_timesteps
from glide.utils.errors import InputError
from support.gaussian import Gaussian, last, no_noise, observed, start

ORDERS = {  # as measured below; a network call more or less in the warm-up changes none
    "ddim": (ddim, 1),
    "euler": (euler, 1),
    "heun": (heun, 2),
    "plms": (plms, 2),
    "lms": (lms, 3.7),  # of fourth order but for its first steps, which these are fine enough to show
    "dpmpp-2m": (dpmpp_2m, 2),
    "unipc-1": (lambda process, denoise, x: unipc(process, denoise, x, 1), 2),
    "unipc": (unipc, 3),
    "unipc-3": (lambda process, denoise, x: unipc(process, denoise, x, 3), 3.9),
}
PLAIN = {name: solver for name, (solver, _) in ORDERS.items()}
NOISY = {"euler-ancestral": euler_ancestral, "dpmpp-2m-sde": dpmpp_2m_sde}
ALL = {
    **{
        name: (lambda solver: lambda p, d, x, noise: solver(p, d, x))(solver)
        for name, solver in PLAIN.items()
    },
    **NOISY,
}


def smooth(steps: int, ends: tuple[float, float] = (3.0, -3.0)) -> Process:
    """Entries even in lambda, and told as timesteps 0, 1, ...: as a finer and finer cut of one continuous process."""
    alpha_bar = 1 / (1 + np.exp(-2 * np.linspace(*ends, steps)))
    return Process(alpha_bar, np.arange(steps))


def flow_error(solver, steps: int) -> float:
    """Largest error at the cleanest entry: the flow without noise keeps (x_t - mean_t) / std_t."""
    process = smooth(steps)
    data = Gaussian(process, mean=0.3, std=0.5)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).view(1, 1, 3, 3)
    (above, var_above), (below, var_below) = data.marginal(steps - 1), data.marginal(0)
    exact = below + math.sqrt(var_below / var_above) * (x - above)
    *_, found = islice(solver(process, data.denoise, x), steps - 1)
    return (found - exact).abs().max().item()


# --- order and error ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_convergence(name):
    solver, order = ORDERS[name]
    coarse, fine = flow_error(solver, 81), flow_error(solver, 161)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
    assert name not in SAMPLERS or SAMPLERS[name].order == round(order)


def test_the_error_of_twenty_steps():
    errors = {name: flow_error(solver, 21) for name, solver in PLAIN.items()}
    bounds = {"ddim": 0.08, "heun": 0.013, "plms": 0.0045, "lms": 0.007, "dpmpp-2m": 0.0055, "unipc": 0.0025}
    assert all(errors[name] < bound for name, bound in bounds.items()), errors
    assert errors["euler"] == pytest.approx(errors["ddim"], rel=1e-9)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "quadratic", "log-snr", "karras"])
def test_of_twenty_calls_the_higher_orders_make_more(schedule, spacing):
    """Down to the picture, on a model's own process, whatever the spacing. Bounds in shares of DDIM's error."""
    data = Gaussian(make_process(schedule), mean=0.3, std=0.5)
    x = start(1, 1, 4, 4)
    mean, variance = data.marginal(999)
    exact = data.mean + data.std * (x - mean) / math.sqrt(variance)

    def error(solver, steps):
        process = data.process.respaced(space_timesteps(data.process, str(steps), spacing))
        return (last(solver(process, data.denoise, x)) - exact).abs().max().item()

    plain = error(ddim, 20)
    for solver, steps in ((heun, 10), (plms, 19), (lms, 20), (dpmpp_2m, 20), (unipc, 20)):
        share = 1.7 if solver is heun else 0.4  # ten steps are too few for Heun on some ladders
        assert error(solver, steps) < share * plain, solver.__name__


def test_euler_is_ddim_and_its_ancestral_form_is_ddpm():
    data = Gaussian(make_process("cosine"), mean=-0.2, std=0.4)
    process = data.process.respaced(space_timesteps(data.process, "20"))
    x = start(2, 3, 4, 4)
    pairs = [(euler(process, data.denoise, x), ddim(process, data.denoise, x))]
    noises = [SeededNoise([1, 2]) for _ in range(2)]
    one = euler_ancestral(process, data.denoise, x, noises[0])
    pairs.append((one, ancestral(process, data.denoise, x, noises[1], "fixed_small")))
    for pair in pairs:
        for a, b in zip(*pair, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# --- weights --------------------------------------------------------------------------------------------------------


def test_adams_bashforth_weights():
    np.testing.assert_allclose(adams_bashforth([100, 120], 80), [1.5, -0.5])
    np.testing.assert_allclose(adams_bashforth([9, 10, 11, 12], 8), np.array([55, -59, 37, -9]) / 24)
    # exact for cubics over uneven nodes
    nodes, end, cubic = [2.0, 3.5, 4.0, 9.0], 0.5, np.polynomial.Polynomial([1.0, -2.0, 0.5, 0.25])
    mean = (cubic.integ()(end) - cubic.integ()(nodes[0])) / (end - nodes[0])
    assert np.dot(adams_bashforth(nodes, end), cubic(np.array(nodes))) == pytest.approx(mean)


@pytest.mark.parametrize("h", [1e-3, 0.5, 4.0])
def test_unipc_weights(h):
    """Exact for parabolas: e^-h times the integral of e^tau tau^k, against its antiderivatives."""
    r = [-0.8, 1.0]
    weights = np.array(moment_weights(r, h))
    first = h - 1 + math.exp(-h)
    second = h**2 - 2 * h + 2 - 2 * math.exp(-h)
    assert weights @ (np.array(r) * h) == pytest.approx(first, rel=1e-6)
    assert weights @ (np.array(r) * h) ** 2 == pytest.approx(second, rel=1e-4)
    (alone,) = moment_weights([-0.7], h)
    assert alone * -0.7 == pytest.approx((1 - math.exp(-h)) / 2)


def test_lms_is_exact_for_cubic_slopes():
    """eps that is a cubic of the noise ratio, whatever x: after three steps of warm-up the error stays."""
    cubic = np.polynomial.Polynomial([0.3, -0.5, 0.2, 0.1])
    process = smooth(12, (2.0, -1.0))
    levels = {level.t: level for level in noise_levels(process)}

    def denoise(x, t):
        at = levels[t]
        return Prediction((x - at.sigma * float(cubic(at.ratio))) / at.alpha)

    errors = []
    for x, at in zip(lms(process, denoise, start(1, 1, 1, 1)), noise_levels(process)[1:], strict=True):
        errors.append((x / at.alpha - cubic.integ()(at.ratio)).item())
    assert max(errors[3:]) - min(errors[3:]) < 1e-12 < abs(errors[1] - errors[2])


def test_near_the_picture_lms_takes_the_predicted_x0():
    """Rounding of x0, which eps is over next to no noise, does not grow in the last step."""
    process = make_process("cosine")
    process = process.respaced(space_timesteps(process, "60", "karras"))
    noise = torch.Generator().manual_seed(0)
    seen = []

    def denoise(x, t):
        seen.append(0.3 + 0.004 * torch.randn(x.shape, generator=noise, dtype=x.dtype))
        return Prediction(seen[-1])

    drawn = last(lms(process, denoise, start(2, 1, 4, 4)))
    torch.testing.assert_close(drawn, seen[-1])


# --- noise ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "steps", "tolerance"), [("euler-ancestral", 100, 0.08), ("dpmpp-2m-sde", 30, 0.07)]
)
def test_the_distribution_of_final_samples(name, steps, tolerance):
    data = Gaussian(make_process("cosine"), mean=0.3, std=0.5)
    process = data.process.respaced(space_timesteps(data.process, str(steps)))
    found = last(
        NOISY[name](process, data.denoise, start(2, 1, 160, 160, dtype=torch.float32), SeededNoise([0, 1]))
    )
    assert found.mean().item() == pytest.approx(data.mean, abs=0.01)
    assert found.var().item() == pytest.approx(data.std**2, rel=tolerance)


def test_the_second_order_sde_solver_is_nearer_than_the_first():
    data = Gaussian(make_process("cosine"), mean=0.3, std=0.5)
    process = data.process.respaced(space_timesteps(data.process, "15"))
    x, errors = start(2, 1, 100, 100, dtype=torch.float32), {}
    for name, solver in NOISY.items():
        errors[name] = abs(last(solver(process, data.denoise, x, SeededNoise([0, 1]))).var().item() - 0.25)
    assert errors["dpmpp-2m-sde"] < errors["euler-ancestral"] / 2


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_drawn_at_every_step_but_the_last(name):
    data = Gaussian(make_process("cosine"), mean=0.3, std=0.5)
    process = data.process.respaced(space_timesteps(data.process, "5"))
    draws = []

    def noise(like):
        draws.append(like.shape)
        return torch.zeros_like(like)

    xs = list(NOISY[name](process, data.denoise, start(2, 1, 4, 4), noise))
    assert len(xs) == 5 and len(draws) == 4
    torch.testing.assert_close(xs[-1], data.denoise(xs[-2], 0).x0)


@pytest.mark.parametrize("name", NOISY)
def test_a_sample_does_not_depend_on_its_batch(name):
    data = Gaussian(make_process("cosine"), mean=0.3, std=0.5)
    process = data.process.respaced(space_timesteps(data.process, "5"))

    def sample(seeds):
        noise = SeededNoise(seeds)
        return last(NOISY[name](process, data.denoise, noise.randn((3, 8, 8)), noise))

    together = sample([5, 6, 7, 8])
    assert torch.equal(together, torch.cat([sample([5]), sample([6, 7]), sample([8])]))


# --- gradients and known pixels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_is_spent_exactly(name):
    """Bayes' rule holds for the scores at every t, so the guided trajectory is that of the posterior."""
    guided, posterior = observed(Gaussian(make_process("cosine"), mean=0.3, std=0.5), value=-0.4, noise=0.3)
    process = posterior.process.respaced(space_timesteps(posterior.process, "10"))
    x = start(2, 1, 4, 4)
    one = ALL[name](process, guided, x, SeededNoise([0, 1]))
    other = ALL[name](process, posterior.denoise, x, SeededNoise([0, 1]))
    for ours, exact in zip(one, other, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_known_pixels(name):
    """Pinned in x0 they come out, and RePaint, which asks for one step at a time, has them exactly."""
    data = Gaussian(make_process("cosine"), mean=0.3, std=0.5)
    process = data.process.respaced(space_timesteps(data.process, "12"))
    x, image = start(2, 1, 4, 4, dtype=torch.float32), start(2, 1, 4, 4, seed=1, dtype=torch.float32)
    mask = torch.zeros(2, 1, 4, 4)
    mask[..., :2] = 1.0
    denoise = pin_known(data.denoise, image, mask)
    found = last(ALL[name](process, denoise, x, SeededNoise([0, 1])))
    torch.testing.assert_close(found * mask, image * mask, rtol=0, atol=2e-3)
    noise = SeededNoise([2, 3])
    steps = lambda process, x: ALL[name](process, denoise, x, noise)
    found = last(repaint(process, steps, x, noise, image, mask, jump=3, times=2))
    assert torch.equal(found * mask, image * mask) and found.isfinite().all()
    assert found.abs().max() < 4


# --- what all have in common ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("spacing", ["uniform", "karras", "log-snr"])
@pytest.mark.parametrize("name", ALL)
def test_from_zero_terminal_snr(name, spacing):
    """x_T is noise alone, its ratio infinite: all leave it along x0, by a step of first order."""
    data = Gaussian(make_process("linear", zero_terminal_snr=True), mean=0.3, std=0.5)
    process = data.process.respaced(space_timesteps(data.process, "40", spacing))
    assert process.alpha_bar[-1] == 0.0
    x = start(1, 1, 8, 8)
    found = last(ALL[name](process, data.denoise, x, SeededNoise([0])))
    assert found.isfinite().all()
    if name not in NOISY:
        bound = 0.15 if name in ("ddim", "euler") else 0.07
        torch.testing.assert_close(found, data.mean + data.std * x, rtol=0, atol=bound)


@pytest.mark.parametrize("name", ALL)
def test_two_steps_from_zero_terminal_snr(name):
    """From noise alone right to the last step: infinite on either side."""
    data = Gaussian(make_process("linear", zero_terminal_snr=True), mean=0.3, std=0.5)
    found = list(ALL[name](data.process.respaced([300, 999]), data.denoise, start(1, 1, 4, 4), no_noise))
    assert len(found) == 2 and all(x.isfinite().all() for x in found)


@pytest.mark.parametrize("name", ALL)
def test_one_step_returns_the_prediction(name):
    for process in (make_process("cosine"), make_process("cosine", zero_terminal_snr=True)):
        steps = ALL[name](
            process.respaced([999]),
            lambda x, t: Prediction(torch.full_like(x, t / 1000)),
            start(2, 1, 4, 4),
            no_noise,
        )
        (x,) = steps
        torch.testing.assert_close(x, torch.full_like(x, 0.999))


@pytest.mark.parametrize("name", ALL)
def test_calls_timesteps_gradients_and_types(name):
    told, weight = [], torch.nn.Parameter(torch.ones(()))

    def denoise(x, t):
        assert x.dtype == torch.float32
        told.append(t)
        return Prediction(x * weight)

    whole = make_process("linear")
    kept = space_timesteps(whole, "12", "trailing")
    for x in ALL[name](whole.respaced(kept), denoise, start(1, 1, 2, 2).bfloat16(), no_noise):
        assert not x.requires_grad and x.dtype == torch.float32
        assert torch.is_grad_enabled()  # the caller's own setting, between the steps
    expected = kept[::-1]
    if name == "heun":
        expected = [expected[0], *(t for t in expected[1:] for _ in range(2))]
    if name == "plms":
        expected = [*expected[:2], *expected[1:]]
    assert told == expected


def textbook(process, denoise, x):
    """Heun's method as EDM and k-diffusion write it (2206.00364, algorithm 1), in z."""
    z = x / noise_levels(process)[0].alpha
    for here, below in pairwise(noise_levels(process)):
        slope = (z - denoise(here.alpha * z, here.t).x0) / here.ratio
        tried = z + (below.ratio - here.ratio) * slope
        if below.ratio == 0.0:
            z = tried
        else:
            slope_below = (tried - denoise(below.alpha * tried, below.t).x0) / below.ratio
            z = z + (below.ratio - here.ratio) * (slope + slope_below) / 2
        yield below.alpha * z


@pytest.mark.slow
@pytest.mark.parametrize("std", [1.0, 0.5, 0.25, 0.1, 0.02])
@pytest.mark.parametrize("schedule", ["linear", "quadratic", "cosine"])
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "quadratic", "log-snr", "karras"])
def test_heun_is_no_worse_than_the_textbooks(std, schedule, spacing):
    """Nor than Euler's method where the textbook's is unstable: at a leap of sharp data."""
    data = Gaussian(make_process(schedule), mean=0.3, std=std)
    x = start(1, 1, 8, 8)
    for steps in (10, 20, 50):
        process = data.process.respaced(space_timesteps(data.process, str(steps), spacing))
        mean, variance = data.marginal(int(process.timesteps[-1]))
        exact = data.mean + data.std * (x - mean) / math.sqrt(variance)
        ours, theirs, plain = (
            (last(solver(process, data.denoise, x)) - exact).square().mean().sqrt().item()
            for solver in (heun, textbook, euler)
        )
        assert ours <= 1.001 * theirs or ours <= 1.001 * plain, steps
        # where it is stable; from next to nothing but noise it magnifies what it corrects
        if theirs < plain and schedule != "cosine":
            assert ours <= 1.001 * theirs, steps


def test_a_leap_is_corrected_where_that_holds():
    """Heun divides by the noise that is left: over a leap, on sharp data, it would be off by more than Euler is."""
    found = {}
    for std in (0.5, 0.02):
        data = Gaussian(make_process("cosine"), mean=0.3, std=std)
        process = data.process.respaced([0, 500, 600])
        levels = noise_levels(process)
        assert (
            levels[0].ratio < MAX_CORRECTED_RATIO * levels[1].ratio
            and levels[1].ratio > MAX_CORRECTED_RATIO * levels[2].ratio
        )
        told, x = [], start(1, 1, 2, 2)

        def denoise(x, t, data=data, told=told):
            told.append(t)
            return data.denoise(x, t)

        found[std] = list(heun(process, denoise, x))
        assert told == [600, 500, 500, 0, 0]  # the last step begins with one of the two answers at 0
        theirs = list(textbook(process, data.denoise, x))
        torch.testing.assert_close(found[std][0], theirs[0])
        assert torch.allclose(found[std][2], theirs[2]) == (std == 0.5)
    # each picture by itself
    rows = [Gaussian(make_process("cosine"), mean=0.3, std=std) for std in (0.5, 0.02)]
    mixed = lambda x, t: Prediction(
        torch.cat([data.denoise(row[None], t).x0 for data, row in zip(rows, x, strict=True)])
    )
    together = list(heun(process, mixed, x.repeat(2, 1, 1, 1)))
    assert all(
        torch.equal(both, torch.cat([a, b])) for both, a, b in zip(together, *found.values(), strict=True)
    )


def test_mistakes_are_explained():
    process = make_process("cosine").respaced([0, 999])
    with pytest.raises(InputError, match="order 0"):
        next(unipc(process, lambda x, t: Prediction(x), start(1, 1, 2, 2), order=0))
