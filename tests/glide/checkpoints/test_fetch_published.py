"""Published models by name: fetched once, converted once, whole or not at all; made files on a local server."""

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glide.checkpoints import cache, fetch_published
from glide.checkpoints.fetch_published import write_clip_vocabulary
from glide.checkpoints.load import (
    load_model,
    load_with_vocabulary,
    read_config,
    read_model_config,
    save_model,
)
from glide.checkpoints.names import resolve
from glide.checkpoints.openai.convert import from_state_dict, mapping
from glide.checkpoints.openai.options import model_config
from glide.checkpoints.openai.releases import PUBLISHED
from glide.checkpoints.published import MODELS
from glide.networks.tokenizer import Tokenizer
from glide.utils.errors import CannotWrite, InputError
from guidance.classifier.load import load_classifier
from guidance.classifier.openai import from_state_dict as classifier_of
from guidance.classifier.openai import mapping as classifier_mapping
from guidance.clip.load import load_clip
from guidance.clip.openai import from_state_dicts as clip_of
from guidance.clip.pretrained import load_any_clip
from support.openai_nets import GOLDEN, TINY, same_weights, tiny_state
from support.published import (
    MERGES,
    Made,
    as_file,
    byte_letters,
    clip_states,
    clip_vocabulary,
    glide_options,
    glide_state,
    made_models,
    tiny_classifier,
)
from support.sample_script import Capture


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    monkeypatch.chdir(tmp_path)
    with made_models(monkeypatch, tmp_path / "cache") as made:
        yield made


def files_in(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and ".lock" not in path.name
    )


def refused(name: str) -> str:
    """The sentence with which a model is refused; the cache holds no model, and no file that came."""
    with pytest.raises(InputError) as error:
        load_model(name)
    assert not any(Path("cache").rglob("model.safetensors"))
    return str(error.value)


def test_a_model_is_fetched_and_converted_once(made: Made, capsys: Capture) -> None:
    made.adm()
    model = load_model("adm-64")
    assert same_weights(model, from_state_dict(tiny_state(), TINY)) and model.config == model_config(TINY)
    said = capsys.readouterr().out
    size = cache.megabytes(len(as_file(tiny_state())))
    assert f"is fetched once: 64x64_diffusion.pt ({size}), from 127.0.0.1" in said and "licence: MIT" in said
    assert files_in(Path("cache")) == ["models/adm-64/config.json", "models/adm-64/model.safetensors"]
    made.server.asked.clear()
    assert same_weights(load_model("adm-64"), model) and resolve("adm-64").name == "adm-64"
    assert not made.server.asked and not capsys.readouterr().out
    record = read_config(Path("cache/models/adm-64"))["training"]
    assert record["published"] == "adm-64" and record["files"][0]["url"].endswith("/64x64_diffusion.pt")
    assert record["files"][0]["bytes"] == len(as_file(tiny_state()))


def test_the_vocabulary_comes_with_glide(made: Made) -> None:
    made.glide()
    model = load_with_vocabulary("glide", torch.device("cpu"))
    assert same_weights(model, from_state_dict(glide_state("glide_base"), glide_options("glide_base")))
    batch = model.caption_batch(["ab"])
    assert batch["tokens"][0, 0] == 2 and batch["mask"].sum() == 1
    with pytest.raises(InputError, match="got a vocabulary for glide"):
        load_with_vocabulary("glide", torch.device("cpu"), "vocab")
    made.glide("glide-upsampler", "glide_upsampler")
    assert load_model("glide-upsampler").config.low_res
    assert made.server.gets("/encoder.json") == [""]  # shared, and fetched once


def test_a_classifier_and_a_clip(made: Made) -> None:
    made.classifier()
    options, state = tiny_classifier()
    assert same_weights(load_classifier("classifier-64"), classifier_of(state, options))
    made.clip()
    clip = load_clip("glide-clip")
    assert same_weights(clip, clip_of(*clip_states(), head_channels=16))
    assert clip.tokenizer is not None and clip.tokenizer.encode(["abc"])[0][0, :3].tolist() == [515, 513, 516]
    made.server.asked.clear()
    assert same_weights(load_any_clip("glide-clip"), clip) and load_classifier("classifier-64") is not None  # type: ignore[arg-type]
    assert not made.server.asked


@pytest.mark.parametrize(
    ("name", "load", "said"),
    [
        ("classifier-64", load_model, "a published noisy classifier, expected a diffusion model"),
        ("glide-clip", read_model_config, "a published noisy CLIP, expected a diffusion model"),
        (
            "glide",
            load_classifier,
            "a published diffusion model, expected a noisy classifier: give one of classifier-64",
        ),
        ("adm-64", load_clip, "a published diffusion model, expected a noisy CLIP: give one of glide-clip"),
    ],
)
def test_another_kind_is_refused_before_anything_is_fetched(
    made: Made, name: str, load: object, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        load(name)  # type: ignore[operator]
    assert not made.server.asked


def test_a_folder_of_the_name_without_a_model_does_not_hide_it(made: Made) -> None:
    made.adm()
    Path("adm-64/networks").mkdir(parents=True)
    Path("adm-64/networks/unet.py").touch()
    assert resolve("adm-64") == Path("cache/models/adm-64").resolve()
    save_model("adm-64", from_state_dict({n: t + 1 for n, t in tiny_state().items()}, TINY))
    assert resolve("adm-64") == Path("adm-64")
    assert not same_weights(load_model("adm-64"), from_state_dict(tiny_state(), TINY))


def test_settings_need_no_file(made: Made) -> None:
    made.adm()
    assert read_model_config("adm-64") == model_config(TINY) and not made.server.asked


def test_without_a_connection_it_names_the_addresses_and_the_place(made: Made) -> None:
    made.glide()
    kept = dict(made.server.files)
    made.server.files.clear()
    said = refused("glide")
    assert (
        f"put base.pt, encoder.json, vocab.bpe of {made.server.url}/ into {cache.files_folder()}, or" in said
    )
    for path, served in kept.items():
        (cache.files_folder() / path[1:]).write_bytes(served.content)
    made.server.asked.clear()
    assert load_model("glide").tokenizer is not None and not made.server.asked
    assert (cache.files_folder() / "base.pt").is_file()  # of the user, who may want it elsewhere


def test_offline_asks_nothing(made: Made) -> None:
    made.adm()
    made.patch.setenv("HF_HUB_OFFLINE", "1")
    assert "adm-64 cannot be fetched (HF_HUB_OFFLINE is set): put 64x64_diffusion.pt of" in refused("adm-64")
    assert not made.server.asked


@pytest.mark.parametrize("name", MODELS)
def test_the_sentence_holds_every_address(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is cut out of the middle of a long message, of a model with its upsampler neither."""
    monkeypatch.setenv("GLIDE_CACHE", "/home/somebody/.cache/glide")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    reason = "Failed to resolve 'openaipublic.blob.core.windows.net' ([Errno -2] Name or service not known)"

    def look_up(url: str) -> None:
        raise InputError(reason)

    monkeypatch.setattr(fetch_published, "look_up", look_up)
    models = [MODELS[name], *(MODELS[up] for up in [MODELS[name].upsampler] if up)]
    files = list(dict.fromkeys(file for model in models for file in model.files))
    with pytest.raises(InputError) as error:
        fetch_published._lengths(" and ".join(model.name for model in models), files)
    said = str(error.value)
    assert all(file.name in said and file.url.removesuffix(file.name) in said for file in files)
    assert reason in said and said.endswith("into /home/somebody/.cache/glide/files, or connect")


def test_another_length_than_the_published_one_is_refused(made: Made) -> None:
    made.adm()
    served = made.server.files["/64x64_diffusion.pt"]
    (file,) = MODELS["adm-64"].weights
    made.patch.setitem(MODELS, "adm-64", replace(MODELS["adm-64"], weights=(replace(file, length=1234),)))
    assert (
        f"the server has {len(served.content):,} bytes of 64x64_diffusion.pt, published are 1,234"
        in refused("adm-64")
    )
    served.says_length = False
    assert "does not say how long 64x64_diffusion.pt is" in refused("adm-64") and not made.server.gets()


def test_a_disk_that_fills_up_meanwhile_keeps_what_was_fetched(made: Made) -> None:
    made.adm()

    def full(*args: object, **kind: object) -> None:
        raise CannotWrite("no space left")

    with made.patch.context() as patch:
        patch.setattr(fetch_published, "write_folder", full)
        assert refused("adm-64") == "no space left"
    made.server.asked.clear()
    assert load_model("adm-64") is not None and not made.server.asked


def test_leftovers_of_a_killed_conversion_are_removed(made: Made) -> None:
    made.adm()
    stale = Path("cache/models/.adm-64.0123abcd.tmp")
    stale.mkdir(parents=True)
    (stale / "model.safetensors").write_bytes(b"half")
    assert cache.entries()[0].words.startswith("left over")
    load_model("adm-64")
    assert [path.name for path in Path("cache/models").iterdir()] == ["adm-64"]


def test_a_damaged_file_does_not_stay(made: Made) -> None:
    made.adm()
    served = made.server.files["/64x64_diffusion.pt"]
    served.announced = len(served.content) - 1000
    assert "is damaged" in refused("adm-64")
    assert files_in(Path("cache")) == []
    served.announced = None
    assert load_model("adm-64") is not None


@pytest.mark.parametrize("fault", ["missing", "unexpected", "wrong shape", "more than once"])
def test_every_tensor_has_to_fit_once(made: Made, fault: str) -> None:
    made.adm()
    state = dict(tiny_state())
    if fault == "missing":
        del state["out.2.bias"]
    elif fault == "wrong shape":
        state["out.2.bias"] = torch.zeros(7)
    else:
        state["out.2.bias.again"] = state["out.2.bias"]
    made.server.files["/64x64_diffusion.pt"].content = as_file(state)
    said = refused("adm-64")
    assert "out.2.bias" in said and ("unexpected" if fault == "more than once" else fault) in said
    assert files_in(Path("cache")) == []


def test_a_file_that_was_put_there_is_checked_and_stays(made: Made) -> None:
    made.adm()
    cache.check_writable()
    path = cache.files_folder() / "64x64_diffusion.pt"
    path.write_bytes(as_file(tiny_state())[:-1000])
    assert f"{path} is damaged" in refused("adm-64") and path.is_file()
    file = replace(MODELS["adm-64"].weights[0], length=123)
    made.patch.setitem(MODELS, "adm-64", replace(MODELS["adm-64"], weights=(file,)))
    assert "expected the published file of 123" in refused("adm-64")
    file = replace(file, length=None, sha256="0" * 64)
    made.patch.setitem(MODELS, "adm-64", replace(MODELS["adm-64"], weights=(file,)))
    assert "got another file in" in refused("adm-64") and path.is_file()
    assert not made.server.asked


def test_too_little_disk_or_memory_is_said_before_the_download(made: Made) -> None:
    made.adm()
    with made.patch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
        assert "of disk to fetch and convert, expected what fits into the 1 kB that are free" in refused(
            "adm-64"
        )
    assert not made.server.gets()
    made.server.asked.clear()
    made.patch.setattr("glide.utils.memory.available_memory", lambda: 1000)
    assert "got adm-64, which needs" in refused("adm-64") and not made.server.asked


def test_a_cache_that_cannot_be_written(made: Made) -> None:
    made.adm()
    Path("file").touch()
    made.patch.setenv("GLIDE_CACHE", "file/cache")
    said = refused("adm-64")
    assert "got the cache folder file/cache, which cannot be written (Not a directory)" in said
    assert "GLIDE_CACHE" in said and not made.server.asked


def test_an_unknown_name_lists_those_that_are_there(made: Made) -> None:
    with pytest.raises(InputError, match=r"no model 'gleid'.*published ones: glide, .*lsun-horse.*'glide'"):
        load_model("gleid")
    with pytest.raises(InputError, match="published ones: classifier-64, classifier-128"):
        load_classifier("classifier-1024")
    with pytest.raises(
        InputError, match=r"no file base\.pt: check the path, or give glide, which fetches it"
    ):
        load_model("base.pt")


def test_the_users_cache_is_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIDE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.cache_folder() == Path("/somewhere/glide")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache.cache_folder() == Path("/home/somebody/.cache/glide")


def test_the_vocabulary_of_clip_is_made_of_its_merges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_published, "MERGES_OF_CLIP", MERGES)
    (tmp_path / "merges.gz").write_bytes(clip_vocabulary())
    write_clip_vocabulary(tmp_path / "merges.gz", tmp_path)
    table = json.loads((tmp_path / "vocab.json").read_text())
    letters = sorted(byte_letters())
    assert len(table) == 2 * 256 + MERGES + 2 and table["<|endoftext|>"] == len(table) - 1
    assert [table["!"], table["~"], table["¡"], table["ÿ"], table["Ā"]] == [0, 93, 94, 187, 188]
    assert all(table[f"{letter}</w>"] == table[letter] + 256 for letter in letters)
    assert [table["ab"], table["abc</w>"], table["#d"]] == [512, 513, 514]
    tokenizer = Tokenizer.clip(tmp_path, context=8)
    assert tokenizer.encode(["abc #d"])[0][0, :5].tolist() == [515, 513, table["#</w>"], table["d</w>"], 516]
    (tmp_path / "merges.gz").write_bytes(gzip.compress(b"head\na b\n"))
    with pytest.raises(InputError, match="does not hold CLIP's 3 merges"):
        write_clip_vocabulary(tmp_path / "merges.gz", tmp_path)
    (tmp_path / "merges.gz").write_bytes(b"none")
    with pytest.raises(InputError, match="is damaged"):
        write_clip_vocabulary(tmp_path / "merges.gz", tmp_path)


def shapes() -> dict[str, dict[str, list[int]]]:
    """Shapes of every published file's tensors, by the file's name."""
    table = json.loads(gzip.decompress((GOLDEN / "published_checkpoints.json.gz").read_bytes()))
    found = {f"{name.rpartition('/')[2]}.pt": entry["tensors"] for name, entry in table.items()}
    same = dict.fromkeys(
        ("lsun_cat.pt", "lsun_horse.pt", "lsun_horse_nodropout.pt"), found["lsun_bedroom.pt"]
    )
    return found | same


@pytest.mark.parametrize("name", MODELS)
def test_the_table_is_right(name: str) -> None:
    model = MODELS[name]
    tensors = [shapes()[file.name] for file in model.weights]
    assert model.parameters == sum(torch.Size(shape).numel() for table in tensors for shape in table.values())
    if model.kind == "diffusion":
        assert model.options == PUBLISHED[model.weights[0].name]
    for file, table in zip(model.weights, tensors, strict=True):
        assert file.url.startswith("https://openaipublic.blob.core.windows.net/diffusion/")
        if file.length is not None:  # float32, and a little around each tensor
            assert 0 < file.length - model.float32_bytes < 300 * len(table)
    assert model.upsampler is None or model.upsampler in MODELS


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.kind != "clip"])
def test_the_options_make_a_model_of_these_tensors(name: str) -> None:
    model = MODELS[name]
    sources = (mapping if model.kind == "diffusion" else classifier_mapping)(model.options)
    expected = shapes()[model.weights[0].name]
    assert {source.name: list(source.shape) for source in sources.values()} == expected
