"""The benchmark of students: a student that knows nothing yet is its teacher without guidance."""

from dataclasses import replace
from pathlib import Path

from benchmarks.students import Students, errors, times
from glide.checkpoints.load import save_model
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.student_config import StudentConfig
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import captions_for_tokenizer
from support.models import randomised
from toolkit import Pipeline


def test_it_measures_error_and_time(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(captions_for_tokenizer(), 512, 24)
    text = replace(PRESETS["tiny"].text, vocab=tokenizer.n_vocab, context=24)  # type: ignore[type-var]
    teacher = randomised(Model(replace(PRESETS["tiny"], text=text), tokenizer), seed=4)
    student = Model(
        replace(teacher.config, student=StudentConfig("halving", (1.0, 4.0), 2, "ddim")), tokenizer
    )
    student.load_state_dict(teacher.state_dict(), strict=False)
    for name, model in (("teacher", teacher), ("student", student)):
        save_model(tmp_path / name, model)
    args = Students(str(tmp_path / "student"), str(tmp_path / "teacher"), pictures=2, repeats=1, device="cpu")
    pipes = [Pipeline.from_pretrained(tmp_path / name, "cpu") for name in ("student", "teacher")]
    found = errors(args, *pipes, [1.0, 3.0])
    assert found[1.0] == 0.0 and found[3.0] > 0.01
    line = times(args, *pipes)
    assert "student" in line and "(2 steps)" in line and "(20 steps)" in line and "ratio" in line
