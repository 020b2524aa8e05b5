"""Strengths that depend on the timestep: what is written, the closed forms, and what a step costs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction, Predictor
from glide.diffusion.noise_schedules import make_process
from glide.utils.errors import InputError
from guidance import Scheduled, with_strength
from guidance.adaptive_projected import AdaptiveProjected
from guidance.base import EVERYWHERE, Guidance
from guidance.classifier_free import ClassifierFree
from guidance.condition_annealing import ConditionAnnealing
from guidance.guided_denoiser import guide
from guidance.likelihood import LogLikelihood
from guidance.registry import built_in
from guidance.spec import SAMPLES, GuidanceSpec
from guidance.strength_schedule import Schedule, noise_share

PROCESS = make_process("cosine")
STEPS = len(PROCESS)
X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
SHARES = (1.0, 0.9, 0.5, 1 / 3, 0.01, 0.0)


def cond(value: float) -> Conditioning:
    return Conditioning(torch.full((1, 1), float(value)))


def net(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
    assert cond.vector is not None
    return torch.tanh(x + cond.vector[:, :, None, None])


@dataclass(eq=False)
class Counted:
    """A network that remembers the conditionings of each call."""

    calls: list[list[float]] = field(default_factory=list)

    def __call__(self, x: Tensor, t: int, conds: Sequence[Conditioning]) -> list[Prediction]:
        vectors = [c.vector for c in conds]
        self.calls.append([float(v[0, 0]) for v in vectors if v is not None])
        return Predictor(net, PROCESS, "x0")(x, t, conds)


# --- what is written ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("cfg:3~cos", GuidanceSpec("cfg", 3.0, None, Schedule((), "cos"))),
        ("cfg~cos", GuidanceSpec("cfg", None, None, Schedule((), "cos"))),
        ("cfg:3~cos:2", GuidanceSpec("cfg", 3.0, None, Schedule((), "cos", 2.0))),
        ("pag:7~exp:0.5@200-800", GuidanceSpec("pag", 7.0, (200, 800), Schedule((), "exp", 0.5))),
        ("cfg:0..5", GuidanceSpec("cfg", 5.0, None, Schedule((0.0,)))),
        ("cfg:5..1~cos", GuidanceSpec("cfg", 1.0, None, Schedule((5.0,), "cos"))),
        ("cfg:1..3..1.5@0-900", GuidanceSpec("cfg", 1.5, (0, 900), Schedule((1.0, 3.0)))),
    ],
)
def test_written_and_read(text: str, spec: GuidanceSpec) -> None:
    assert GuidanceSpec.parse(text) == spec and str(spec) == text


@pytest.mark.parametrize("text", ["cfg:3..3", "cfg:3..3..3", "cfg:3..3~cos", "cfg:3..3~exp:2"])
def test_a_constant_one_is_the_plain_strength(text: str) -> None:
    assert GuidanceSpec.parse(text) == GuidanceSpec("cfg", 3.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cfg:3~sin", "'sin', expected cos or exp"),
        ("cfg:3~", "shape '', expected cos or exp"),
        ("cfg:3~exp:0", "rate 0.0, expected a finite number above 0"),
        ("cfg:3~cos:-1", "power -1.0, expected a finite number above 0"),
        ("cfg:3~exp:nan", "rate nan, expected"),
        ("cfg:3~exp:x", "rate 'x', expected a number"),
        ("cfg:3~exp:", "rate '', expected a number"),
        ("cfg:1..", "missing, expected one on each side"),
        ("cfg:..1", "missing, expected one on each side"),
        ("cfg:1....3", "missing, expected one on each side"),
        ("cfg:" + "1.." * 1000 + "2", "with 1001 strengths, expected at most 1000"),
        ("cfg:1..x", "scale 'x', expected a number"),
        ("cfg:1..-3", "scale -3.0, expected a finite number from 0"),
        ("cfg:1..2..3~cos", "a shape and 3 strengths, expected one or two"),
        ("cfg:~cos", "scale '', expected a number"),
        ("cfg:3@200-800~cos", "expected NAME:SCALE~SHAPE@FROM-TO"),
        ("cfg:3~cos~exp", "expected NAME:SCALE~SHAPE@FROM-TO"),
    ],
)
def test_bad_input_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(InputError, match=r"^got the guidance") as error:
        GuidanceSpec.parse(text)
    assert said in str(error.value) and "\n" not in str(error.value)


# --- closed forms ---------------------------------------------------------------------------------------------------

FORMS: list[tuple[str, float, Callable[[float], float]]] = [
    ("cfg:3", 1.0, lambda s: 3.0),
    ("cfg:3~cos", 1.0, lambda s: 1 + 2 * (1 + math.cos(math.pi * s)) / 2),
    ("pag:3~cos", 0.0, lambda s: 3 * math.cos(math.pi * s / 2) ** 2),
    ("cfg:4~cos:3", 1.0, lambda s: 1 + 3 * math.sin(math.pi * (1 - s) ** 3 / 2) ** 2),
    ("cfg:7~exp:2", 1.0, lambda s: 1 + 6 * math.exp(-2 * s)),
    ("cfg:7~exp", 1.0, lambda s: 1 + 6 * math.exp(-2 * s)),
    ("pag:7~exp:0.5", 0.0, lambda s: 7 * math.exp(-s / 2)),
    ("cfg:0..5", 1.0, lambda s: 5 * (1 - s)),
    ("cfg:5..2", 1.0, lambda s: 2 + 3 * s),
    ("cfg:0.5..4~cos", 1.0, lambda s: 0.5 + 3.5 * math.cos(math.pi * s / 2) ** 2),
    ("cfg:1..3..1", 1.0, lambda s: 1 + 2 * (1 - abs(2 * s - 1))),
]


@pytest.mark.parametrize(("text", "neutral", "form"), FORMS)
def test_closed_forms(text: str, neutral: float, form: Callable[[float], float]) -> None:
    spec = GuidanceSpec.parse(text)
    for share in SHARES:
        assert spec.strength(share, neutral) == pytest.approx(form(share), abs=1e-12)
    assert spec.strength(0.0, neutral) == spec.scale  # exactly


def test_ends_are_exact() -> None:
    for text in ("cfg:3~cos", "cfg:0.1~cos:2", "cfg:1..0.3"):
        assert GuidanceSpec.parse(text).strength(1.0, 1.0) == 1.0
    flat = GuidanceSpec.parse("cfg:0.1..0.1..3")
    assert {flat.strength(s, 1.0) for s in (1.0, 0.9, 0.77, 0.5)} == {0.1}


def test_shares_are_of_training_timesteps() -> None:
    assert [noise_share(t, 5) for t in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert noise_share(0, 1) == 0.0


def test_strengths_without_effect() -> None:
    contrasts = {name for name, entry in built_in().items() if entry.neutral == 1.0}
    assert contrasts == {"cfg", "apg", "auto", "inner", "picture"}
    assert {entry.neutral for entry in built_in().values()} == {0.0, 1.0}


# --- a step ---------------------------------------------------------------------------------------------------------


def test_each_step_is_the_one_of_its_plain_strength() -> None:
    """Bit for bit, with an interval and beside another guidance; without effect without a call."""
    spec = GuidanceSpec.parse("cfg:1..4@100-999")

    def strength(share: float) -> float:
        return spec.strength(share, 1.0)

    beside = LogLikelihood(lambda x, t: -x.square().flatten(1).sum(1), 2.0)
    for t in (999, 800, 333, 100, 99, 0):
        predict, plain = Counted(), Counted()
        scheduled = Scheduled(ClassifierFree(4.0, cond(0), (100, 999)), strength, STEPS)
        found = guide(predict, cond(1), [scheduled, beside])(X, t)
        same = ClassifierFree(strength(t / 999), cond(0), (100, 999))
        wanted = guide(plain, cond(1), [same, beside])(X, t)
        assert torch.equal(found.x0, wanted.x0)
        assert torch.equal(torch.as_tensor(found.grad), torch.as_tensor(wanted.grad))
        assert predict.calls == plain.calls == ([[1.0, 0.0]] if 100 <= t < 999 else [[1.0]])


def test_a_gradient_is_not_even_taken_without_effect() -> None:
    asked: list[int] = []

    def log_prob(x: Tensor, t: int) -> Tensor:
        asked.append(t)
        return -x.square().flatten(1).sum(1)

    denoise = guide(
        Counted(), cond(1), [Scheduled(LogLikelihood(log_prob, 1.0), lambda share: 3 * (1 - share), STEPS)]
    )
    assert denoise(X, 999).grad == 0.0 and asked == []
    torch.testing.assert_close(denoise(X, 0).grad, -6.0 * X)
    assert asked == [0]


def test_memory_is_of_the_run() -> None:
    """Momentum goes on from step to step while the strength changes, and begins afresh with each run."""

    def momentum(scale: float) -> AdaptiveProjected:
        return AdaptiveProjected(ClassifierFree(scale, cond(0)), eta=1.0, momentum=-0.5)

    plan = Scheduled(momentum(4.0), lambda share: 2.0 + 2.0 * share, STEPS)
    for _ in range(2):
        denoise = guide(Counted(), cond(1), [plan])
        last = torch.zeros(())
        for t, scale in ((999, 4.0), (0, 2.0)):
            main, null = torch.tanh(X + 1), torch.tanh(X)
            last = main - null - 0.5 * last
            torch.testing.assert_close(denoise(X, t).x0, main + (scale - 1.0) * last)


def test_annealing_draws_on() -> None:
    """The same noise as with the plain strength, s times as strong, and drawn on from step to step."""
    tokens = Conditioning(tokens=torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(1)))
    plain, scheduled = (
        ConditionAnnealing(0.3, [7], (0, 999), mix=0.0).start(),
        Scheduled(ConditionAnnealing(0.3, [7], (0, 999), mix=0.0), lambda share: 0.3, STEPS).start(),
    )
    for t in (999, 500):
        one, other = plain.condition(tokens, t), scheduled.at(t).condition(tokens, t)
        assert one.tokens is not None and other.tokens is not None and torch.equal(one.tokens, other.tokens)


def test_a_function_that_gives_no_strength() -> None:
    denoise = guide(Counted(), cond(1), [Scheduled(ClassifierFree(3.0, cond(0)), lambda share: -1.0, STEPS)])
    with pytest.raises(
        InputError, match=r"ClassifierFree at the noise share 1 -1.0, expected a finite number"
    ):
        denoise(X, 999)


def test_a_plug_in_that_knows_nothing_of_it() -> None:
    @dataclass(frozen=True, eq=False)
    class Bright(Guidance):
        scale: float
        interval: tuple[int, int] = EVERYWHERE

        def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor:
            return self.scale * (1 - main.x0)

    found = guide(Counted(), cond(1), [Scheduled(Bright(1.0), lambda share: share, 1000)])(X, 333)
    main = torch.tanh(X + 1)
    torch.testing.assert_close(found.x0, main + (1 - main) / 3)


# --- functions ------------------------------------------------------------------------------------------------------


def test_a_function_is_written_as_a_table() -> None:
    text = with_strength("cfg@100-900", lambda share: 1 + 4 * (1 - share) ** 2)
    spec = GuidanceSpec.parse(text)
    assert spec.interval == (100, 900) and spec.schedule is not None and str(spec) == text
    for share in SHARES:
        assert spec.strength(share, 1.0) == pytest.approx(1 + 4 * (1 - share) ** 2, abs=2e-4)
    for i in range(SAMPLES):
        share = i / (SAMPLES - 1)
        assert spec.strength(share, 1.0) == pytest.approx(1 + 4 * (1 - share) ** 2, rel=1e-5)


def test_a_constant_function_is_the_number() -> None:
    assert with_strength("pag", lambda share: 0.1 + 0.2) == "pag:0.30000000000000004"


def test_bad_functions() -> None:
    with pytest.raises(InputError, match="write it without a strength"):
        with_strength("cfg:3", lambda share: 3.0)
    with pytest.raises(InputError, match="the strength of cfg at the noise share 1 nan, expected"):
        with_strength("cfg", lambda share: math.nan)
