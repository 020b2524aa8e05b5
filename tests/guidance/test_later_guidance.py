"""The guidances after the classic ones: each against its paper's equation, and what all of them promise."""

import itertools
from collections.abc import Sequence
from functools import partial

import pytest
import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction, Predictor
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.x0_transforms import dynamic_threshold, rescaled
from glide.networks.blocks import Attention
from glide.networks.model import Model
from glide.networks.unet import UNet
from glide.utils.errors import InputError
from guidance.adaptive_projected import AdaptiveProjected
from guidance.autoguidance import Autoguidance
from guidance.base import Guidance, Reference
from guidance.classifier_free import ClassifierFree
from guidance.condition_annealing import ConditionAnnealing
from guidance.guided_denoiser import guide
from guidance.likelihood import LogLikelihood
from guidance.perturbed_attention import PerturbedAttention, choose_layers, perturbed
from support.models import tiny_unet
from support.predictions import X

PROCESS = make_process("cosine")


def cond(*values: float) -> Conditioning:
    """A row for each value."""
    spread = torch.linspace(-1, 1, 8)
    return Conditioning(torch.stack([value + spread for value in values]))


class Counted:
    """A Predict of a network whose x0 is tanh(factor * x + the condition's first number); it counts its calls."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.calls: list[int] = []
        self.told: list[Conditioning] = []

    def __call__(self, x: Tensor, t: int, conds: Sequence[Conditioning]) -> list[Prediction]:
        self.calls.append(len(conds))
        self.told = list(conds)

        def net(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
            assert cond.vector is not None
            return torch.tanh(self.factor * x + cond.vector[:, :1, None, None])

        return Predictor(net, PROCESS, "x0")(x, t, conds)


MAIN, NULL = cond(1.0, 2.0), cond(0.0)


def x0_of(
    guidances: Sequence[Guidance] = (), t: int = 500, x: Tensor = X, main: Conditioning = MAIN
) -> Tensor:
    return guide(Counted(), main, guidances)(x, t).x0


PLAIN, WORSE = x0_of(), x0_of(main=NULL)
WEAK = Reference(Counted(0.5), MAIN)


# --- rescaling and thresholding -------------------------------------------------------------------------------------


def test_rescaling_is_its_equations() -> None:
    """2305.08891, eq. 15 and 16, picture by picture."""
    share, guided = 0.7, WORSE + 5.0 * (PLAIN - WORSE)
    found = guide(Counted(), MAIN, [ClassifierFree(5.0, NULL)], rescale=share)(X, 500).x0
    for i in range(2):
        back = guided[i] * PLAIN[i].std() / guided[i].std()
        torch.testing.assert_close(found[i], share * back + (1 - share) * guided[i])
    torch.testing.assert_close(rescaled(PLAIN, guided, 1.0).std(dim=(1, 2, 3)), PLAIN.std(dim=(1, 2, 3)))


def test_rescaling_one_colour_keeps_it() -> None:
    grey = torch.full((2, 3, 4, 4), 0.5)
    assert torch.equal(rescaled(PLAIN[:2], grey, 0.3), grey)
    assert torch.equal(rescaled(grey, grey.clone(), 1.0), grey)


def test_rescaling_nothing_is_exactly_nothing() -> None:
    assert rescaled(PLAIN, WORSE, 0.0) is WORSE
    for terms in ([], [ClassifierFree(1.0, NULL)], [LogLikelihood(lambda x, t: x.flatten(1).sum(1), 1.0)]):
        assert torch.equal(guide(Counted(), MAIN, terms, rescale=0.7)(X, 500).x0, PLAIN)


def test_dynamic_thresholding() -> None:
    """2205.11487, section 2.3: the share that is kept within [-1, 1], and the rest of the picture with it."""
    x0 = torch.arange(-10.0, 10.0).reshape(1, 1, 4, 5) / 4  # |x0| from 0 to 2.5, each but 0 and 2.5 twice
    torch.testing.assert_close(dynamic_threshold(1.0)(x0), x0 / 2.5)
    torch.testing.assert_close(dynamic_threshold(0.9)(x0), x0.clamp(-2.25, 2.25) / 2.25)
    inside = x0 / 4
    both = dynamic_threshold(0.9)(torch.cat([inside, x0]))
    assert torch.equal(both[:1], inside) and torch.equal(both[1:], dynamic_threshold(0.9)(x0))
    assert torch.equal(dynamic_threshold(0.1)(x0), x0.clamp(-1, 1))  # never brighter than it was
    for share in (0.0, 1.1, -1.0):
        with pytest.raises(InputError, match=f"threshold {share}"):
            dynamic_threshold(share)


# --- adaptive projected guidance ------------------------------------------------------------------------------------


def test_projection_takes_the_part_along_the_picture() -> None:
    shift = x0_of([AdaptiveProjected(ClassifierFree(5.0, NULL), momentum=0.0)]) - PLAIN
    along = (shift * PLAIN).flatten(1).sum(1)
    torch.testing.assert_close(along, torch.zeros(2), rtol=0, atol=1e-4)
    whole = x0_of([AdaptiveProjected(ClassifierFree(5.0, NULL), eta=1.0, momentum=0.0)])
    torch.testing.assert_close(whole, x0_of([ClassifierFree(5.0, NULL)]))
    # eta goes from the one to the other on a straight line
    half = x0_of([AdaptiveProjected(ClassifierFree(5.0, NULL), eta=0.5, momentum=0.0)])
    torch.testing.assert_close(half - PLAIN, 0.5 * (shift + whole - PLAIN))


def test_the_norm_has_a_threshold() -> None:
    difference = PLAIN - WORSE
    norms = difference.flatten(1).norm(dim=1)
    norm = norms.mean().item()  # above the one, below the other
    shift = x0_of([AdaptiveProjected(ClassifierFree(3.0, NULL), 1.0, norm, 0.0)]) - PLAIN
    torch.testing.assert_close(shift.flatten(1).norm(dim=1), 2.0 * norms.clamp(max=norm))


def test_momentum_is_a_running_average_of_one_run() -> None:
    term = AdaptiveProjected(ClassifierFree(3.0, NULL), eta=1.0, momentum=-0.5)
    xs = [X, 0.5 * X, -X]

    def shifts() -> list[Tensor]:
        denoise = guide(Counted(), MAIN, [term])
        return [denoise(x, t).x0 - x0_of(x=x, t=t) for x, t in zip(xs, (800, 500, 200), strict=True)]

    first, average = shifts(), torch.zeros(())
    for x, t, shift in zip(xs, (800, 500, 200), first, strict=True):
        average = x0_of(x=x, t=t) - x0_of(x=x, t=t, main=NULL) - 0.5 * average
        torch.testing.assert_close(shift, 2.0 * average)
    # the next run begins anew, with the same plug-in
    assert all(torch.equal(a, b) for a, b in zip(first, shifts(), strict=True))


# --- autoguidance ---------------------------------------------------------------------------------------------------


def test_autoguidance_is_its_equation_and_one_call_of_each_network() -> None:
    weak, predict = Counted(0.5), Counted()
    terms = [
        Autoguidance(3.0, Reference(weak, MAIN)),
        ClassifierFree(2.0, NULL),
        ClassifierFree(2.0, cond(0.0)),
    ]
    prediction = guide(predict, MAIN, terms)(X, 500)
    worse = guide(Counted(0.5), MAIN)(X, 500).x0
    torch.testing.assert_close(prediction.x0, worse + 3.0 * (PLAIN - worse) + 2.0 * (PLAIN - WORSE))
    assert (predict.calls, weak.calls) == ([2], [1])


# --- perturbed attention --------------------------------------------------------------------------------------------


def test_perturbed_attention_is_the_identity_map() -> None:
    torch.manual_seed(0)
    layer = Attention(32, heads=2, token_width=8)
    torch.nn.init.normal_(layer.proj.weight)
    x, kv = torch.randn(2, 32, 3, 3), layer.token_kv(torch.randn(2, 5, 8))
    before = layer(x, kv)
    places = layer.norm(x).flatten(2).mT  # [N,HW,C]
    expected = x + layer.proj(layer.qkv(places)[..., 64:]).mT.reshape(x.shape)
    torch.testing.assert_close(layer(x, kv, identity=True), expected)
    assert torch.equal(layer(x, kv), before)


def test_layers_by_name() -> None:
    unet = UNet(tiny_unet(3))
    layers = unet.attention_layers()
    assert list(layers) == ["down.2", "middle", "up.0", "up.1"]
    assert layers["middle"] is unet.middle_in.attn and layers["up.1"] is unet.up[1].attn
    assert choose_layers(unet, "middle, up.1") == ("middle", "up.1")
    with pytest.raises(InputError, match=r"'up.2', expected some of down.2, middle, up.0, up.1"):
        choose_layers(unet, "middle,up.2")


@pytest.mark.parametrize("name", ["down.2", "middle", "up.0", "up.1"])
def test_only_the_named_layer_of_the_call_is_perturbed(text_model: Model, name: str) -> None:
    """As with that layer's own map made the identity; the network is as it was."""
    unet = text_model.unet
    x, t = torch.randn(1, 3, 8, 8), torch.tensor([50])
    with torch.no_grad():
        c = text_model.condition(text_model.caption_batch([""]))
        plain = unet(x, t, c)
        changed = perturbed(unet, [name])(x, t, c)
        layer = unet.attention_layers()[name]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layer, "forward", partial(layer.forward, identity=True))
            assert torch.equal(changed, unet(x, t, c))
        assert torch.equal(unet(x, t, c), plain)
    assert not torch.allclose(changed, plain, atol=1e-3)


def test_perturbed_attention_guidance_is_its_equation() -> None:
    worse = Counted(0.1)
    found = x0_of([PerturbedAttention(2.0, Reference(worse, MAIN))])
    torch.testing.assert_close(found, PLAIN + 2.0 * (PLAIN - guide(Counted(0.1), MAIN)(X, 500).x0))


# --- condition annealing --------------------------------------------------------------------------------------------


def annealed(
    t: int, seeds: Sequence[int] = (3, 4), main: Conditioning = MAIN, **changes: float
) -> Conditioning:
    return ConditionAnnealing(**{"scale": 0.5, "seeds": seeds, "interval": (400, 800), **changes}).condition(
        main, t
    )  # type: ignore[arg-type]


def test_annealing_is_its_equations() -> None:
    term = ConditionAnnealing(0.5, [3, 4], (400, 800), mix=0.0)
    assert [term.gamma(t) for t in (0, 400, 500, 600, 800, 999)] == [1.0, 1.0, 0.75, 0.5, 0.0, 0.0]
    noise = annealed(999, mix=0.0, scale=1.0).vector  # nothing else
    half = annealed(600, mix=0.0).vector
    assert noise is not None and half is not None and MAIN.vector is not None
    torch.testing.assert_close(half, 0.5**0.5 * MAIN.vector + 0.5 * 0.5**0.5 * noise)
    level = annealed(600, mix=1.0).vector
    assert level is not None
    for i in range(2):
        torch.testing.assert_close(level[i].mean(), MAIN.vector[i].mean())
        torch.testing.assert_close(level[i].std(), MAIN.vector[i].std())
    mixed = annealed(600, mix=0.3).vector
    torch.testing.assert_close(mixed, 0.3 * level + 0.7 * half)


def test_annealing_depends_on_a_pictures_seed_alone() -> None:
    both, one = annealed(700).vector, annealed(700, [4], cond(2.0)).vector
    assert both is not None and one is not None and torch.equal(both[1:], one)
    other = annealed(700, [5], cond(2.0)).vector
    assert other is not None and not torch.equal(one, other)
    # and is not the noise that the picture is drawn from
    drawn = torch.randn(8, generator=torch.Generator().manual_seed(4))
    noise = annealed(999, [4], cond(2.0), mix=0.0, scale=1.0).vector
    assert noise is not None and not torch.allclose(noise, drawn)


def test_annealing_draws_anew_at_each_step_and_again_in_each_run() -> None:
    term = ConditionAnnealing(0.5, [3, 4], (400, 800))

    def told() -> list[Tensor]:
        predict, found = Counted(), []
        denoise = guide(predict, MAIN, [term, ClassifierFree(2.0, NULL)])
        for t in (950, 900, 600):
            denoise(X, t)
            assert predict.told[1] is NULL or torch.equal(predict.told[1].vector[:1], NULL.vector)  # type: ignore
            found.append(predict.told[0].vector)
        return found  # type: ignore[return-value]

    first = told()
    assert not torch.equal(first[0], first[1])
    assert all(torch.equal(a, b) for a, b in zip(first, told(), strict=True))


def test_annealing_is_of_every_question_about_the_condition() -> None:
    predict, weak = Counted(), Counted(0.5)
    terms = [ConditionAnnealing(0.5, [3, 4], (400, 800)), PerturbedAttention(2.0, Reference(weak, MAIN))]
    guide(predict, MAIN, terms)(X, 700)
    assert predict.told[0].same(weak.told[0]) and not predict.told[0].same(MAIN)


def test_annealing_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="1 seeds for a condition of 2 rows"):
        annealed(700, [3])
    with pytest.raises(InputError, match="without a condition"):
        annealed(700, [3], Conditioning())
    twice = [ConditionAnnealing(0.5, [3, 4], (0, 800)), ConditionAnnealing(0.1, [3, 4], (600, 800))]
    denoise = guide(Counted(), MAIN, twice)
    denoise(X, 600)  # where only one of them acts
    with pytest.raises(InputError, match="2 guidances that change the condition at timestep 700"):
        denoise(X, 700)


# --- what all of them promise ---------------------------------------------------------------------------------------

NEVER = (0, 10)


@pytest.mark.parametrize(
    "term",
    [
        AdaptiveProjected(ClassifierFree(1.0, NULL)),
        AdaptiveProjected(ClassifierFree(5.0, NULL, NEVER)),
        Autoguidance(1.0, WEAK),
        Autoguidance(5.0, WEAK, NEVER),
        PerturbedAttention(0.0, WEAK),
        PerturbedAttention(5.0, WEAK, NEVER),
        ConditionAnnealing(0.0, [0, 1]),
        ConditionAnnealing(5.0, [0, 1], (600, 900)),
    ],
)
def test_no_strength_and_no_time_are_exactly_no_guidance(term: Guidance) -> None:
    predict = Counted()
    assert torch.equal(guide(predict, MAIN, [term])(X, 500).x0, PLAIN)
    assert predict.calls == [1] and not WEAK.predict.calls  # type: ignore[attr-defined]


def test_the_order_of_a_list_does_not_matter() -> None:
    terms = [
        ClassifierFree(3.0, NULL),
        AdaptiveProjected(ClassifierFree(2.0, cond(-1.0))),
        Autoguidance(2.0, Reference(Counted(0.5), MAIN)),
        PerturbedAttention(1.0, Reference(Counted(0.1), MAIN)),
        ConditionAnnealing(0.5, [3, 4]),
        LogLikelihood(lambda x, t: -x.square().flatten(1).sum(1), 2.0),
    ]
    first = [guide(Counted(), MAIN, terms, rescale=0.5)(X, t) for t in (700, 500)]
    for order in itertools.islice(itertools.permutations(terms), 0, 720, 41):
        for expected, t in zip(first, (700, 500), strict=True):
            other = guide(Counted(), MAIN, order, rescale=0.5)(X, t)
            torch.testing.assert_close(other.x0, expected.x0, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(other.grad, expected.grad)


@pytest.mark.parametrize("scale", [-1.0, float("nan")])
def test_impossible_scales_are_refused(scale: float) -> None:
    for term in (AdaptiveProjected(ClassifierFree(scale, NULL)), Autoguidance(scale, WEAK)):
        with pytest.raises(InputError, match=f"scale {scale} for {term.name}"):
            guide(Counted(), MAIN, [term])
