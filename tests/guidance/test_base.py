"""Guidance: what a list of plug-ins adds to a denoiser, and what it must leave alone."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Predictor, clamp, project, replace_known
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.process import respacing
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.ddpm_ddim import ancestral, ddim
from glide.utils.errors import InputError
from guidance.base import EVERYWHERE, Guidance
from guidance.classifier_free import ClassifierFree
from guidance.guided_denoiser import guide
from guidance.likelihood import LogLikelihood

PROCESS = make_process("cosine")
X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def cond(value):
    return Conditioning(torch.full((1, 1), float(value)))


def net(x, t, cond):
    """A network that predicts x0 and a v, each different for every conditioning."""
    c = cond.vector[:, :, None, None]
    return torch.cat([torch.tanh(x + c), torch.tanh(x - c)], dim=1)


class Counted:
    """A Predict that remembers how many conditionings each call was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, conds):
        self.calls.append([c.vector[0, 0].item() for c in conds])
        return Predictor(net, PROCESS, "x0")(x, t, conds)


def toward(target):
    def log_prob(x, t):
        return -0.5 * (x - target).square().flatten(1).sum(1)

    return log_prob


def plain(x=X, t=500, c=1.0):
    return guide(Counted(), cond(c))(x, t)


# --- what a list means --------------------------------------------------------------------


def test_no_guidance_is_the_conditional_model():
    (expected,) = Predictor(net, PROCESS, "x0")(X, 500, [cond(1)])
    assert torch.equal(plain().x0, expected.x0) and torch.equal(plain().v, expected.v) and plain().grad == 0.0


def test_classifier_free_is_its_equation_and_leaves_v_alone():
    prediction = guide(Counted(), cond(1), [ClassifierFree(3.0, cond(0))])(X, 500)
    null, main = plain(c=0).x0, plain().x0
    torch.testing.assert_close(prediction.x0, null + 3.0 * (main - null))
    assert torch.equal(prediction.v, plain().v)


def test_contrast_in_x0_is_contrast_in_eps():
    """GLIDE guides eps; for one x_t that is the same."""
    eps_net = lambda x, t, cond: torch.tanh(x + cond.vector[:, :, None, None])
    guided = guide(Predictor(eps_net, PROCESS, "eps"), cond(1), [ClassifierFree(3.0, cond(0))])(X, 500).x0
    null, main = (eps_net(X, None, cond(c)) for c in (0, 1))
    alpha, sigma = math.sqrt(PROCESS.alpha_bar[500]), math.sqrt(1 - PROCESS.alpha_bar[500])
    torch.testing.assert_close(guided, (X - sigma * (null + 3.0 * (main - null))) / alpha)


def test_scale_one_is_exactly_the_conditional_model():
    predict = Counted()
    assert torch.equal(guide(predict, cond(1), [ClassifierFree(1.0, cond(0))])(X, 500).x0, plain().x0)
    assert predict.calls == [[1.0]]


def test_scale_zero_is_the_unconditional_model():
    torch.testing.assert_close(
        guide(Counted(), cond(1), [ClassifierFree(0.0, cond(0))])(X, 500).x0, plain(c=0).x0
    )


def test_an_interval_that_never_fires_is_exactly_no_guidance():
    predict = Counted()
    terms = [
        ClassifierFree(5.0, cond(0), interval=(600, 999)),
        LogLikelihood(toward(1.0), 50.0, interval=(0, 400)),
    ]
    prediction = guide(predict, cond(1), terms)(X, 500)
    assert torch.equal(prediction.x0, plain().x0) and prediction.grad == 0.0
    assert predict.calls == [[1.0]]


@pytest.mark.parametrize(("t", "fires"), [(199, False), (200, True), (300, True), (400, True), (401, False)])
def test_intervals_include_their_ends(t, fires):
    denoise = guide(Counted(), cond(1), [ClassifierFree(5.0, cond(0), interval=(200, 400))])
    assert torch.equal(denoise(X, t).x0, plain(t=t).x0) is not fires


def test_order_does_not_matter():
    terms = [
        ClassifierFree(3.0, cond(0)),
        ClassifierFree(2.0, cond(-1)),
        LogLikelihood(toward(0.5), 2.0),
        LogLikelihood(toward(-1.0), 3.0, interval=(400, 600)),
    ]
    first = guide(Counted(), cond(1), terms)(X, 500)
    for order in itertools.permutations(terms):
        other = guide(Counted(), cond(1), order)(X, 500)
        torch.testing.assert_close(other.x0, first.x0, rtol=0, atol=2e-6)
        torch.testing.assert_close(other.grad, first.grad, rtol=0, atol=2e-6)


def test_several_at_once_add_up_to_the_sum_of_each_alone():
    terms = [ClassifierFree(3.0, cond(0)), ClassifierFree(2.0, cond(-1)), LogLikelihood(toward(0.5), 2.0)]
    together = guide(Counted(), cond(1), terms)(X, 500)
    alone = [guide(Counted(), cond(1), [term])(X, 500) for term in terms]
    torch.testing.assert_close(together.x0, plain().x0 + sum(p.x0 - plain().x0 for p in alone))
    torch.testing.assert_close(together.grad, 2.0 * (0.5 - X))


# --- one network call ---------------------------------------------------------------------


def test_identical_references_are_evaluated_once_in_one_call():
    predict, null = Counted(), cond(0)
    terms = [
        ClassifierFree(3.0, null),
        ClassifierFree(2.0, null, interval=(0, 999)),
        ClassifierFree(1.5, cond(0)),  # another object that says the same
        ClassifierFree(2.0, cond(-1)),
    ]
    prediction = guide(predict, cond(1), terms)(X, 500)
    assert predict.calls == [[1.0, 0.0, -1.0]]
    expected = plain().x0 + 3.5 * (plain().x0 - plain(c=0).x0) + 1.0 * (plain().x0 - plain(c=-1).x0)
    torch.testing.assert_close(prediction.x0, expected)


def test_a_reference_that_is_the_condition_itself_changes_nothing():
    predict = Counted()
    assert torch.equal(guide(predict, cond(1), [ClassifierFree(7.0, cond(1))])(X, 500).x0, plain().x0)
    assert predict.calls == [[1.0]]


def test_only_active_references_are_evaluated():
    predict = Counted()
    terms = [
        ClassifierFree(3.0, cond(0), interval=(500, 999)),
        ClassifierFree(2.0, cond(-1), interval=(0, 600)),
    ]
    denoise = guide(predict, cond(1), terms)
    for t in (900, 550, 100):
        denoise(X, t)
    assert predict.calls == [[1.0, 0.0], [1.0, 0.0, -1.0], [1.0, -1.0]]


def test_a_plug_in_of_ones_own_with_two_references():
    @dataclass(frozen=True, eq=False)
    class Between(Guidance):
        """Along the line from one conditioning to another, and pulled to the origin."""

        scale: float
        ends: tuple[Conditioning, Conditioning]
        interval: tuple[int, int] = EVERYWHERE

        @property
        def references(self):
            return self.ends

        def shift(self, main, references):
            return self.scale * (references[1].x0 - references[0].x0)

        def gradient(self, x, t):
            return -self.scale * x

    prediction = guide(Counted(), cond(1), [Between(0.5, (cond(2), cond(3)))])(X, 500)
    torch.testing.assert_close(prediction.x0, plain().x0 + 0.5 * (plain(c=3).x0 - plain(c=2).x0))
    torch.testing.assert_close(prediction.grad, -0.5 * X)


# --- likelihoods --------------------------------------------------------------------------


def test_the_gradient_is_that_of_the_log_likelihood():
    gradient = LogLikelihood(toward(0.5), 2.0).gradient(X, 500)
    torch.testing.assert_close(gradient, 2.0 * (0.5 - X))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradients_work_in_every_mode_and_leave_no_graph(mode):
    weight = torch.nn.Parameter(torch.ones(()))
    with mode():
        x = X.clone()
        gradient = LogLikelihood(lambda x, t: (weight * x).flatten(1).sum(1), 2.0).gradient(x, 0)
    assert (
        torch.equal(gradient, torch.full_like(X, 2.0)) and not gradient.requires_grad and weight.grad is None
    )


def test_log_prob_is_told_the_training_timestep():
    told = []

    def log_prob(x, t):
        told.append(t)
        return x.flatten(1).sum(1)

    process = PROCESS.respaced(respacing("5", 1000))
    denoise = guide(Counted(), cond(1), [LogLikelihood(log_prob, 1.0, interval=(250, 749))])
    list(ddim(process, denoise, X))
    assert process.timesteps.tolist() == [0, 250, 500, 749, 999]
    assert told == [749, 500, 250]


def test_scale_zero_costs_nothing():
    def never(x, t):
        raise AssertionError("asked for a likelihood whose scale is 0")

    assert guide(Counted(), cond(1), [LogLikelihood(never, 0.0)])(X, 500).grad == 0.0


def sharp_classifier(x, t):
    return (x.flatten(1).sum(1) - x.flatten(1).sum(1)).sqrt()  # d sqrt(u) / du at u = 0


def test_a_gradient_that_is_not_finite_names_the_plug_in_and_the_step():
    denoise = guide(
        Counted(), cond(1), [LogLikelihood(toward(0.0), 1.0), LogLikelihood(sharp_classifier, 1.0)]
    )
    with pytest.raises(InputError, match=r"LogLikelihood\(sharp_classifier\) at timestep 750"):
        denoise(X, 750)


def test_a_likelihood_that_ignores_x_is_explained():
    weight = torch.nn.Parameter(torch.ones(2))
    for log_prob in (lambda x, t: torch.zeros(len(x)), lambda x, t: weight * 2):
        with pytest.raises(InputError, match="depends on x_t"):
            LogLikelihood(log_prob, 1.0).gradient(X, 3)


# --- mistakes, and the whole way ----------------------------------------------------------


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf])
def test_impossible_scales_are_refused(scale):
    for term in (ClassifierFree(scale, cond(0)), LogLikelihood(toward(0.0), scale)):
        with pytest.raises(InputError, match=f"scale {scale} for {term.name.split('(')[0]}"):
            guide(Counted(), cond(1), [term])


def test_swapped_intervals_are_refused():
    with pytest.raises(InputError, match=r"\(400, 200\) for ClassifierFree"):
        guide(Counted(), cond(1), [ClassifierFree(3.0, cond(0), interval=(400, 200))])


def test_references_without_planes_see_those_of_the_picture():
    """The null condition differs in words alone; one that has planes of its own keeps them."""
    planes = torch.randn(2, 4, 4, 4)
    asked = []

    def predict(x, t, conds):
        asked.extend(conds)
        return [plain() for _ in conds]

    main, other = (
        cond(1).repeat(2).with_planes(planes),
        cond(2).repeat(2).with_planes(torch.zeros(2, 4, 4, 4)),
    )
    guide(predict, main, [ClassifierFree(3.0, cond(0)), ClassifierFree(2.0, other)])(X, 500)
    assert [c.vector.flatten().tolist() for c in asked] == [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]
    assert torch.equal(asked[1].planes, planes) and torch.equal(asked[2].planes, other.planes)


def test_everything_at_once_through_both_samplers():
    """Guidance by two kinds, inpainting and clamping: known pixels come out bit for bit."""
    image, mask = torch.full((1, 3, 4, 4), 0.25), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    terms = [ClassifierFree(3.0, cond(0)), LogLikelihood(toward(0.9), 5.0, interval=(100, 999))]
    denoise = project(guide(Counted(), cond(1), terms), replace_known(image, mask), clamp)
    process = PROCESS.respaced(respacing("8", 1000))
    for steps in (
        ancestral(process, denoise, X, SeededNoise([0, 1])),
        ddim(process, denoise, X, SeededNoise([0, 1]), eta=0.5),
    ):
        xs = list(steps)
        assert len(xs) == 8 and all(torch.isfinite(x).all() for x in xs)
        assert torch.equal(xs[-1][..., :2], image[..., :2].expand(2, -1, -1, -1))
        assert xs[-1].abs().max() <= 1


def test_guidance_moves_samples_the_way_it_says():
    process = PROCESS.respaced(respacing("25", 1000))

    def mean(terms):
        denoise = project(guide(Counted(), cond(0), terms), clamp)
        return list(ddim(process, denoise, X))[-1].mean().item()

    free = mean([])
    assert mean([LogLikelihood(toward(1.0), 0.5)]) > free > mean([LogLikelihood(toward(-1.0), 0.5)])
