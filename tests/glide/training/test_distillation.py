"""Distillation against closed forms: Gaussian data, whose guided and unguided predictions are known."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glide.data.wrappers import TRAINING_STEP
from glide.diffusion.denoiser import Prediction, Predictor
from glide.diffusion.loss_config import LossConfig
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.process import Process
from glide.diffusion.samplers.consistency import consistency
from glide.diffusion.samplers.ddpm_ddim import ddim
from glide.networks.config import ModelConfig
from glide.networks.guidance_strength import GuidanceStrength
from glide.networks.model import Model
from glide.networks.student_config import StudentConfig
from glide.training.distillation import (
    ConsistencyTuning,
    Distillation,
    GuidanceDistillation,
    Moment,
    StepHalving,
    halving_walks,
    less_noisy,
    step_down,
)
from glide.training.objectives import DiffusionObjective, Noised
from glide.training.row_rng import RowRng
from glide.training.teacher import Teacher
from guidance import ClassifierFree, guide
from support.gaussian import Gaussian, last, no_noise, start
from support.models import CAPTIONS, CLASSES, randomised

PROCESS = make_process("squaredcos_cap_v2", 100)
DATA = Gaussian(PROCESS, 0.3, 0.5)


class Oracle:
    """A teacher that knows Gaussian data exactly."""

    process: Process = PROCESS
    receives_strength = has_null = False

    def __init__(self) -> None:
        self.model = self
        self.alpha, self.sigma = np.sqrt(PROCESS.alpha_bar), np.sqrt(1 - PROCESS.alpha_bar)

    def x0(self, x: Tensor, t: Tensor, *inputs: Any) -> Tensor:
        return torch.stack([DATA.denoise(row, int(one)).x0 for row, one in zip(x, t, strict=True)])


ORACLE: Any = Oracle()


def halving(kept: tuple[int, ...], substeps: int) -> StepHalving:
    return StepHalving(DiffusionObjective(), ORACLE, (), kept, substeps)


def moment(x: Tensor, t: Tensor, batch: dict[str, Any] | None = None) -> Moment:
    return Moment(batch or {}, Noised(x, x, x, {}), t, None, None)


@pytest.mark.parametrize("substeps", [2, 3, 4])
def test_one_step_of_the_student_ends_where_the_teachers_end(substeps: int) -> None:
    kept = (24, 49, 74, 99)
    task, model = halving(kept, substeps), Model(ModelConfig())
    for place, t in enumerate(kept):
        x, times = start(3, 1, 2, 2, seed=t), torch.full((3,), t)
        walk = halving_walks(PROCESS, kept, substeps)[0][place].tolist()
        below = kept[place - 1] if place else -1
        assert walk[0] == t and walk[-1] == below and walk == sorted(walk, reverse=True)
        visited = [one for one in walk if one >= below and one >= 0][::-1]
        # the toolkit's own sampler over the same timesteps
        ends = list(ddim(PROCESS.respaced(visited), DATA.denoise, x, no_noise))
        expected = ends[substeps - 1]
        found = step_down(PROCESS, x, task.target(model, moment(x, times)), times, torch.full((3,), below))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_target_is_the_papers() -> None:
    kept = (49, 99)
    x, t = start(2, 1, 2, 2), torch.tensor([99, 99])
    target = halving(kept, 2).target(Model(ModelConfig()), moment(x, t))
    middle, end = torch.tensor([74, 74]), torch.tensor([49, 49])
    half = step_down(PROCESS, x, ORACLE.x0(x, t), t, middle)
    z = step_down(PROCESS, half, ORACLE.x0(half, middle), middle, end)
    # 2202.00512, appendix G, eq. 41
    alpha, sigma = np.sqrt(PROCESS.alpha_bar), np.sqrt(1 - PROCESS.alpha_bar)
    ratio = sigma[49] / sigma[99]
    torch.testing.assert_close(target, (z - ratio * x) / (alpha[49] - ratio * alpha[99]), rtol=0, atol=1e-10)


def test_a_chain_of_halvings_keeps_the_teachers_picture() -> None:
    """A student that meets every target draws in two steps what its teacher draws in four."""
    kept = (49, 99)
    task, model = halving(kept, 2), Model(ModelConfig())
    x = start(4, 1, 2, 2)
    teacher = last(ddim(PROCESS.respaced([24, 49, 74, 99]), DATA.denoise, x, no_noise))
    for t, below in ((99, 49), (49, -1)):
        times = torch.full((4,), t)
        x = step_down(PROCESS, x, task.target(model, moment(x, times)), times, torch.full((4,), below))
    torch.testing.assert_close(x, teacher, rtol=0, atol=1e-2)  # 24.5 and 74.5 are no timesteps


def test_timesteps_are_brought_to_those_of_the_student() -> None:
    task = halving((24, 49, 99), 2)
    drawn = torch.tensor([0, 24, 25, 49, 50, 99])
    assert task.snapped(drawn).tolist() == [24, 24, 49, 49, 99, 99]


def test_the_schedule_of_r_is_the_papers() -> None:
    t = np.array([0.01, 0.5, 1.0, 8.0, 80.0])
    for stage in range(6):
        n = 1 + 8 / (1 + np.exp(t))
        np.testing.assert_allclose(less_noisy(t, stage, 2, 8, 1), np.maximum(t * (1 - n / 2**stage), 0))
    assert not less_noisy(t, 0, 2, 8, 1).any()  # as diffusion: down to the picture
    stages = np.stack([less_noisy(t, stage, 2, 8, 1) for stage in range(30)])
    assert (np.diff(stages, axis=0) >= 0).all() and (stages < t).all()
    np.testing.assert_allclose(stages[-1], t, rtol=1e-6)


class Consistent(torch.nn.Module):
    """The consistency function of Gaussian data: the end of the ODE through x_t, in closed form."""

    config = ModelConfig()

    class Stage:
        clamp = staticmethod(lambda x: x)

    first_stage = Stage()

    def forward(self, x: Tensor, t: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        rows = []
        for row, one in zip(x, t, strict=True):
            mean, variance = DATA.marginal(int(one))
            rows.append(DATA.mean + DATA.std * (row - mean) / variance**0.5)
        return torch.stack(rows).double()


def test_the_exact_consistency_function_is_a_fixed_point_in_late_stages() -> None:
    process = make_process("squaredcos_cap_v2", 4000)
    data = Gaussian(process, DATA.mean, DATA.std)
    oracle: Any = Oracle()
    oracle.process, oracle.alpha = process, np.sqrt(process.alpha_bar)
    oracle.sigma = np.sqrt(1 - process.alpha_bar)
    oracle.x0 = lambda x, t, *_: torch.stack([data.denoise(r, int(i)).x0 for r, i in zip(x, t, strict=True)])
    model: Any = Consistent()
    model.config = replace(model.config, process=replace(model.config.process, prediction="x0"))
    model.forward = lambda x, t, inputs: torch.stack(
        [
            DATA.mean + DATA.std * (row - data.marginal(int(i))[0]) / data.marginal(int(i))[1] ** 0.5
            for row, i in zip(x, t, strict=True)
        ]
    )
    x, t = start(3, 3, 2, 2), torch.tensor([800, 2000, 3200])
    errors = []
    for stage in (0, 3, 6):
        task = ConsistencyTuning(DiffusionObjective(), oracle, (1.0, 2.0), 10, 9)
        at = Moment({TRAINING_STEP: torch.tensor([10 * stage])}, Noised(x, x, x, {}), t, None, torch.ones(3))
        errors.append((task.target(model, at) - model.forward(x, t, {})).abs().max().item())
    # a step of Euler's has an error of the square of its length, which each stage halves
    assert errors[0] > 6 * errors[1] > 6 * 20 * errors[2], errors


def test_consistency_sampling_of_the_exact_function_draws_the_data() -> None:
    def jump(x: Tensor, t: int) -> Prediction:
        mean, variance = DATA.marginal(t)
        return Prediction(DATA.mean + DATA.std * (x - mean) / variance**0.5)

    x = start(4000, 1, 2, 2)
    noise = torch.Generator().manual_seed(1)
    for kept in ([99], [24, 49, 99]):
        steps = consistency(
            PROCESS.respaced(kept), jump, x, lambda like: torch.randn(like.shape, generator=noise)
        )
        final = last(steps)
        assert abs(final.mean().item() - DATA.mean) < 0.02 and abs(final.std().item() - DATA.std) < 0.02
    assert torch.equal(last(consistency(PROCESS.respaced([99]), jump, x, no_noise)), jump(x, 99).x0)


def test_stages_follow_the_training_step_and_start_at_the_teacher() -> None:
    task = ConsistencyTuning(DiffusionObjective(), ORACLE, (1.0, 2.0), 10, 3)
    assert [task.stage({TRAINING_STEP: torch.tensor([step])}) for step in (0, 9, 10, 25, 99)] == [
        0,
        0,
        1,
        2,
        2,
    ]
    assert task.stage({}) == 2
    x, t = start(2, 1, 2, 2), torch.tensor([10, 90])
    at = Moment({TRAINING_STEP: torch.tensor([0])}, Noised(x, x, x, {}), t, None, torch.ones(2))
    found = task.target(Consistent(), at)  # type: ignore[arg-type]
    torch.testing.assert_close(found, ORACLE.x0(x, t), rtol=0, atol=1e-12)
    assert torch.equal(task.weight({TRAINING_STEP: torch.tensor([0])}, t), torch.ones(2))


@dataclass(frozen=True)
class Pair:
    """A student that begins with the weights of its teacher."""

    teacher: Model
    student: Model
    batch: dict[str, Any]


def student_of(model: Model) -> Model:
    config = replace(model.config, student=StudentConfig(strengths=(1.0, 8.0)))
    student = Model(config, model.tokenizer)
    missing = student.load_state_dict(model.state_dict(), strict=False)
    assert not missing.unexpected_keys and all(name.startswith("strength_") for name in missing.missing_keys)
    return student.eval()


@pytest.fixture(params=["text", "classes"])
def pair(request: pytest.FixtureRequest, text_model: Model, class_model: Model) -> Pair:
    teacher = text_model if request.param == "text" else class_model
    image = 0.5 * torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    words = (
        {"caption": CAPTIONS} if request.param == "text" else {"y": torch.tensor([0, 1, len(CLASSES) - 1])}
    )
    return Pair(teacher, student_of(teacher), {"image": image, **words})


def copy_of(model: Model) -> Model:
    other = Model(model.config, model.tokenizer)
    other.load_state_dict(model.state_dict())
    return other


def noised_of(pair: Pair, t: Tensor) -> Noised:
    objective = DiffusionObjective(null_captions=0.0)
    return objective.noised(pair.student, pair.batch, t, RowRng(0, range(3)))


def test_a_student_begins_as_its_teacher_at_any_strength(pair: Pair) -> None:
    t = torch.tensor([3, 50, 97])
    at = noised_of(pair, t)
    with torch.no_grad():
        expected = pair.teacher(at.x_t, t, at.inputs)
        for w in (1.0, 2.5, 8.0):
            found = pair.student(at.x_t, t, at.inputs | {"guidance_strength": torch.full((3,), w)})
            assert torch.equal(found, expected)


def test_strength_1_adds_exactly_nothing_whatever_was_learned(pair: Pair) -> None:
    student = randomised(pair.student, seed=9)
    part = next(part for part in student.parts if isinstance(part, GuidanceStrength))
    ones, twos = (part.embedded(torch.full((3,), w), student, torch.float32) for w in (1.0, 2.0))
    assert not ones.any() and twos.abs().min() > 0


def test_the_target_is_the_guided_prediction_of_the_library(pair: Pair) -> None:
    t, w = torch.tensor([60, 60, 60]), 3.0
    at = noised_of(pair, t)
    task = GuidanceDistillation(
        DiffusionObjective(null_captions=0.0), Teacher(copy_of(pair.teacher)), (1.0, 8.0)
    )
    strength = torch.full((3,), w)
    null = task._null(pair.batch, strength)
    found = task.target(pair.student, Moment(pair.batch, at, t, null, strength))

    model, empty = pair.teacher, {"y": torch.full((3,), len(CLASSES))}
    if model.config.text is not None:
        empty = model.caption_batch([""] * 3)
    predict = Predictor(model.unet, model.process, model.config.process.prediction)
    with torch.no_grad():
        cond, none = model.condition(at.inputs), model.condition(empty)
        expected = guide(predict, cond, [ClassifierFree(w, none)])(at.x_t, 60).x0.clamp(-1, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def tasks_of(pair: Pair) -> dict[str, Distillation]:
    objective = DiffusionObjective(LossConfig(prediction=pair.teacher.config.process.prediction), 0.0)
    guided = (objective, Teacher(copy_of(pair.teacher)), (1.0, 8.0))
    return {
        "guidance": GuidanceDistillation(*guided),
        "halving": StepHalving(*guided, (49, 99), 2),
        "consistency": ConsistencyTuning(*guided, 10, 4),
        "consistency of data": ConsistencyTuning(objective, Teacher(copy_of(pair.teacher)), (), 10, 4),
    }


@pytest.mark.parametrize("name", ["guidance", "halving", "consistency", "consistency of data"])
def test_gradients_reach_the_student_alone(pair: Pair, name: str) -> None:
    task = tasks_of(pair)[name]
    student = student_of(pair.teacher)
    terms = task(
        student,
        {**pair.batch, TRAINING_STEP: torch.full((3,), 25)},
        torch.tensor([30, 60, 90]),
        RowRng(1, range(3)),
    )
    assert terms["loss"].shape == (3,) and bool(terms["loss"].isfinite().all())
    terms["loss"].mean().backward()
    grads = [weight.grad for name, weight in student.unet.named_parameters() if "head" in name]
    assert all(grad is not None and grad.abs().max() > 0 for grad in grads)
    teachers = list(task.teacher.model.parameters())
    assert teachers and all(weight.grad is None and not weight.requires_grad for weight in teachers)


def test_the_second_pass_of_consistency_has_the_dropout_of_the_first(pair: Pair) -> None:
    """Two passes at one timestep with the same rows of dropout are one: so differences are those of x alone."""
    from glide.training.row_rng import DropoutRows

    config = replace(pair.student.config, unet=replace(pair.student.config.unet, dropout=0.3))
    student = randomised(Model(config, pair.student.tokenizer), seed=4).train()
    dropout = DropoutRows(student)
    dropout.at(seed=7, first=0)
    t = torch.tensor([30, 60, 90])
    at = noised_of(pair, t)
    with torch.no_grad():
        assert torch.equal(student(at.x_t, t, at.inputs), student(at.x_t, t, at.inputs))
        dropout.off()
        assert not torch.equal(student(at.x_t, t, at.inputs), student(at.x_t, t, at.inputs))
