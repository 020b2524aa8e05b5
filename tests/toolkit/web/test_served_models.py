"""The models of a server: one that brings an upsampler in its folder, or its zip, is enlarged by that."""

import shutil
from pathlib import Path

import pytest

from toolkit.web.served_models import ServedModels, labels


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_model_is_enlarged_by_the_upsampler_that_it_brings(
    text_folder: Path, upsampler_folder: Path, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(text_folder, folder)
    shutil.copytree(upsampler_folder, folder / "upsampler")
    name = str(folder) if kind == "folder" else shutil.make_archive(str(folder), "zip", folder)
    served = ServedModels(labels([name, str(text_folder)]), "cpu", "float32")
    mine, plain = served.labels
    assert served.upsampler_of(mine) is None  # not known before the model is loaded
    for label in served.labels:
        served.pipe(label)
    assert served.upsampler_of(mine) == name and served.upsampler_of(plain) is None
    assert served.about(mine)["enlarged"] == 32 and "enlarged" not in served.about(plain)
    assert served.upscaler(mine).scale == 4 and served.upscaler(mine).pipe.name == name
    other = ServedModels(labels([name]), "cpu", "float32", upsampler="shapes")
    other.pipe(mine)
    assert other.upsampler_of(mine) == "shapes"
