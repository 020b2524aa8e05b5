"""Model folders: written whole, read back exactly, and refused with one clear sentence when something is wrong."""

import json
import multiprocessing
import os
import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glide.checkpoints import names
from glide.checkpoints.load import load_model, read_config, resolve, save_model
from glide.checkpoints.model_folder import load_weights, write_folder
from glide.checkpoints.openai import convert as openai
from glide.networks.config import ModelConfig, ProcessConfig, TextConfig, UNetConfig
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer
from glide.utils.errors import InputError
from glide.utils.hub import at_revision
from glide.version import __version__
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.recipe_reader import Recorded
from toolkit.pipelines.settings import SamplingConfig

UNET = UNetConfig(
    image_size=8,
    out_channels=3,
    channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention=(2,),
    head_channels=16,
)
TEXT = TextConfig(vocab=300, context=8, width=32, layers=1, heads=2)
CAPTIONS = ["a red ring", "a green star", "a red star", "a green ring"]


def small_model(seed: int = 0, text: bool = True) -> Model:
    """A text model, or one of three classes, with weights drawn by `seed`."""
    process = ProcessConfig(schedule="linear", variance="fixed_small")
    if text:
        config = ModelConfig(UNET, TEXT, process=process)
    else:
        config = ModelConfig(
            UNET, num_classes=3, null_class=True, class_names=("cat", "dog", "猫"), process=process
        )
    generator = torch.Generator().manual_seed(seed)
    model = Model(config, Tokenizer.train(CAPTIONS, 300, 8) if text else None)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def output(model: Model) -> torch.Tensor:
    """What the model makes of fixed inputs."""
    x = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
    inputs = model.caption_batch(["a red star", ""]) if model.text is not None else model.label_batch([0, 3])
    with torch.no_grad():
        return model(x, torch.tensor([3, 700]), inputs)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    save_model(folder, small_model(), {"steps": 7, "data": "shapes"})
    return folder


@pytest.fixture
def broken(saved, tmp_path):
    """A copy of a good folder, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "broken"))


@pytest.mark.parametrize("text", [True, False])
def test_a_model_comes_back_exactly(tmp_path, text):
    model = small_model(text=text).to(memory_format=torch.channels_last)
    save_model(tmp_path / "deep" / "m", model)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    loaded = load_model(tmp_path / "deep" / "m")
    assert torch.equal(torch.random.get_rng_state(), before)  # loading draws nothing
    assert loaded.config == model.config and not loaded.training
    assert torch.equal(output(loaded), output(model.to(memory_format=torch.contiguous_format)))
    assert all(p.requires_grad and p.dtype == torch.float32 for p in loaded.parameters())
    names = ["config.json", "model.safetensors"] + ["tokenizer.json"] * text
    assert sorted(p.name for p in (tmp_path / "deep" / "m").iterdir()) == names
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["m"]


def test_the_config_describes_the_folder(saved):
    record = read_config(saved, "diffusion")
    assert (record["format"], record["kind"], record["version"]) == (1, "diffusion", __version__)
    assert record["training"] == {"steps": 7, "data": "shapes"}
    assert record["model"]["process"]["schedule"] == "linear"
    assert ModelConfig.from_dict(record["model"]) == small_model().config


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_load_as_float32(tmp_path, dtype):
    model = small_model()
    save_model(tmp_path / "half", model, dtype=dtype)
    assert {t.dtype for t in load_file(tmp_path / "half" / "model.safetensors").values()} == {dtype}
    loaded = load_model(tmp_path / "half")
    for mine, its in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(mine.to(dtype).float(), its)
    assert {p.dtype for p in load_model(tmp_path / "half", dtype=dtype).parameters()} == {dtype}


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    model = small_model(text=False)
    with torch.no_grad():
        model.label.weight[0, 0] = 1e5
    with pytest.raises(InputError, match=r"label\.weight are too large for torch\.float16"):
        save_model(tmp_path / "m", model, dtype=torch.float16)
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_an_older_model_is_exchanged_and_other_files_stay(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.jsonl").write_text("log")
    save_model(run, small_model(0))
    save_model(run, small_model(1))
    assert torch.equal(output(load_model(run)), output(small_model(1)))
    save_model(run, small_model(2, text=False))  # one without a tokenizer
    assert torch.equal(output(load_model(run)), output(small_model(2, text=False)))
    assert sorted(p.name for p in run.iterdir()) == ["config.json", "log.jsonl", "model.safetensors"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_failed_write_changes_nothing(saved, tmp_path, exists):
    folder = tmp_path / "m"
    if exists:
        shutil.copytree(saved, folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # as when the disk is full
    try:
        with pytest.raises(InputError, match=r"was not written .*an earlier file of this name is unchanged"):
            save_model(folder, small_model(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["m"] * exists
    if exists:
        assert len(list(folder.iterdir())) == 3
        assert torch.equal(output(load_model(folder)), output(small_model(0)))


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "m"):
        with pytest.raises(InputError, match="was not written"):
            save_model(folder, small_model())
    assert (tmp_path / "file").read_text() == "x"


class KilledError(BaseException):
    """Stands for kill -9."""


@pytest.mark.slow
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_write_killed_between_its_renames_never_leaves_a_mix(saved, tmp_path, monkeypatch, renames):
    folder = Path(shutil.copytree(saved, tmp_path / "m"))
    newer = small_model(1)
    newer.tokenizer = Tokenizer.train(["a red star red star"], 300, 8)
    assert not torch.equal(output(newer), output(small_model(1)))
    done = []

    def replace(source: Path, target: Path) -> None:
        if not target.name.endswith(".tmp"):
            if len(done) == renames:
                raise KilledError
            done.append(target)
        os.rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(os, "replace", replace)
        patch.setattr(Path, "unlink", lambda path, missing_ok=False: None)  # the dead tidy nothing up
        save_model(folder, newer)
    expected = small_model(0) if renames == 0 else newer
    assert torch.equal(output(load_model(folder)), output(expected))
    assert load_model(folder).tokenizer.n_vocab == expected.tokenizer.n_vocab
    save_model(folder, newer)
    assert len(list(folder.iterdir())) == 3  # what the killed write left is gone


def marked(folder: Path, write: str) -> None:
    """Let the weights say that they are of the write of that name."""
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt", "write": write})


def test_reading_changes_nothing(saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "m"))
    marked(folder, "0123abcd")  # killed after the first rename
    (folder / "config.json").rename(folder / ".config.json.0123abcd.tmp")
    (folder / "config.json").write_text("{}")
    (folder / ".write-0123abcd").mkdir()  # killed while the library wrote
    (folder / ".write-0123abcd/.tmpAb12Cd").touch()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    folder.chmod(0o555)
    assert torch.equal(output(load_model(folder)), output(small_model(0)))
    (folder / "config.json").unlink()  # a new folder
    assert torch.equal(output(load_model(folder)), output(small_model(0)))
    folder.chmod(0o755)
    del before["config.json"]
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    save_model(folder, small_model(1))
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.mark.slow
@pytest.mark.parametrize("write", ["x/../../home/draft", "../home/draft", "0123ABCD", "0123abc", "*", ""])
def test_weights_cannot_name_files_of_others(saved, tmp_path, write):
    folder = Path(shutil.copytree(saved, tmp_path / "m"))
    marked(folder, write)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/draft.tmp").write_text("the user's own")
    (folder / ".config.json.x").mkdir()
    if "/" not in write and write:
        (folder / f".config.json.{write}.tmp").write_text("the user's own")
    before = sorted(tmp_path.rglob("*"))
    assert torch.equal(output(load_model(folder)), output(small_model(0)))
    save_model(folder, small_model(1))
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "home/draft.tmp").exists()


@pytest.mark.slow
def test_two_writers_of_one_folder_never_leave_a_mix(saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "m"))
    fork = multiprocessing.get_context("fork")

    def write(seed: int) -> None:
        torch.set_num_threads(1)  # a forked process has no other threads, and would wait for them
        model = small_model(seed)
        for _ in range(5):
            save_model(folder, model, {"seed": seed})

    both = [fork.Process(target=write, args=(seed,)) for seed in (1, 2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0] and len(list(folder.iterdir())) == 3
    assert torch.equal(
        output(load_model(folder)), output(small_model(read_config(folder)["training"]["seed"]))
    )


def test_files_of_another_library_are_not_written_over(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "tokenizer.json").write_text("precious")
    with pytest.raises(
        InputError, match=r"holds config\.json, tokenizer\.json that this toolkit has not written"
    ):
        save_model(tmp_path, small_model(text=False))
    assert (tmp_path / "tokenizer.json").read_text() == "precious" and len(list(tmp_path.iterdir())) == 2
    save_model(tmp_path, small_model(text=False), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_names_are_looked_up_in_order(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(names, "EMBEDDED", tmp_path / "embedded")
    shutil.copytree(saved, tmp_path / "embedded" / "shapes")
    shutil.copytree(saved, tmp_path / "embedded" / "emoji")
    monkeypatch.chdir(tmp_path)
    assert resolve("shapes") == tmp_path / "embedded" / "shapes"
    (tmp_path / "shapes").mkdir()  # say, a data folder: no model
    assert resolve("shapes") == tmp_path / "embedded" / "shapes"
    save_model("shapes", small_model(1))
    assert resolve("shapes") == Path("shapes")
    with pytest.raises(
        InputError, match="no model 'shape'; embedded models: emoji, shapes: did you mean 'shapes'"
    ):
        resolve("shape")
    with pytest.raises(InputError, match=r"no model '/no/such/place'.*give a folder"):
        resolve("/no/such/place")
    with pytest.raises(InputError, match=r"there is no file missing/base\.pt: check the path"):
        resolve("missing/base.pt")
    with pytest.raises(InputError, match=r"model\.safetensors is a file: give the model's folder"):
        resolve(saved / "model.safetensors")


def test_a_published_file_is_read_by_openai(tmp_path, monkeypatch):
    (tmp_path / "base.pt").write_bytes(b"")
    calls = []

    def load(path, options=None, vocab=None):
        calls.append((str(path), vocab))
        return small_model().train()

    monkeypatch.setattr(openai, "load", load)
    assert not load_model(tmp_path / "base.pt", vocab="folder").training
    load_model("https://account.blob.core.windows.net/models/base.pt")
    assert calls == [
        (str(tmp_path / "base.pt"), "folder"),
        ("https://account.blob.core.windows.net/models/base.pt", None),
    ]


def test_a_hub_id_is_fetched_without_pickles(saved, monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    asked = []

    def download(hub_id, revision, allow_patterns):
        asked.append((hub_id, revision))
        own = [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "vocab.json",
            "model-00001-of-00002.safetensors",
        ]
        others = [
            "checkpoints/step-1/model.safetensors",
            "a/config.json",
            "pytorch_model.bin",
            "training.jsonl",
        ]
        others += ["ema.safetensors", "checkpoints/config.json", "x.pt", "optimizer.safetensors"]
        wanted = list(filter_repo_objects([*own, *others], allow_patterns=allow_patterns))
        # the settings first, which say whether it is a pipeline of diffusers
        assert wanted == (["config.json"] if len(asked) % 2 else own)
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert torch.equal(output(load_model("someone/shapes")), output(small_model()))
    load_model("someone/shapes@v1.2")
    load_model(at_revision("someone/shapes@v1", "main"))
    assert asked[::2] == [("someone/shapes", None), ("someone/shapes", "v1.2"), ("someone/shapes", "main")]
    assert asked[1::2] == asked[::2]
    for name, revision in ("shapes", "main"), ("someone/shapes", "a b"), (str(saved), "main"):
        with pytest.raises(InputError, match="got the revision"):
            at_revision(name, revision)

    def offline(hub_id, revision, allow_patterns):
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(InputError, match=r"hub did not give it \(offline\): check the name"):
        load_model("someone/shapes")


def test_the_commit_of_a_hub_model_is_in_its_recipes(saved, tmp_path, monkeypatch):
    import huggingface_hub

    commit = "0123456789abcdef" * 2 + "01234567"
    shutil.copytree(saved, tmp_path / "snapshots" / commit)
    asked = []

    def download(hub_id, revision, allow_patterns):
        asked.append((hub_id, revision))
        return str(tmp_path / "snapshots" / commit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    pipe = Pipeline.from_pretrained("someone/shapes", revision="main")
    recipe = pipe.recipe(ImageRequest(0, "a red ring"), SamplingConfig(), 0)
    assert recipe["model"] == "someone/shapes@main" and recipe["commit"] == commit
    assert Recorded(recipe, "x.png").network() == f"someone/shapes@{commit}"
    assert asked == [("someone/shapes", "main"), ("someone/shapes", commit)]
    assert "commit" not in Pipeline.from_pretrained(saved).recipe(
        ImageRequest(0, "a red ring"), SamplingConfig(), 0
    )
    with pytest.raises(InputError, match=r"has commit '\.\./x', expected 40 hexadecimal digits"):
        Recorded(recipe | {"commit": "../x"}, "x.png").network()


def test_a_config_names_no_local_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = {
        "command": f"python scripts/train_base.py --data {tmp_path}/own/pictures --out=/home/me/secret/run --lr 1e-4",
        "data": f"{tmp_path}/own/pictures",
        "init": "/home/me/My Models/shapes/",
        "stages": [{"data": "C:\\Users\\me\\x", "url": "gs://bucket/a/b.tar", "shards": "own/{0..9}.tar"}],
        "log": {"loss": 0.5, "rate": 1},
        "ratio": "1/2 and/or 3",
    }
    save_model("m", small_model(), training)
    record = read_config("m")["training"]
    assert record == {
        "command": "python scripts/train_base.py --data own/pictures --out=run --lr 1e-4",
        "data": "own/pictures",
        "init": "shapes",
        "stages": [{"data": "x", "url": "gs://bucket/a/b.tar", "shards": "own/{0..9}.tar"}],
        "log": {"loss": 0.5, "rate": 1},
        "ratio": "1/2 and/or 3",
    }


def damage(folder: Path, **changes) -> None:
    """Change entries of a folder's config.json; None removes one."""
    record = json.loads((folder / "config.json").read_text())
    record |= changes
    record = {key: value for key, value in record.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(record))


def change_weights(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


BAD_FOLDERS = {
    "no config": (lambda f: (f / "config.json").unlink(), "is no model folder: there is no config.json"),
    "config cut short": (
        lambda f: os.truncate(f / "config.json", 50),
        "config.json is not JSON",
    ),
    "config not text": (
        lambda f: (f / "config.json").write_bytes(b"\xff\xfe"),
        "config.json is not JSON",
    ),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "config.json holds a list, expected"),
    "foreign config": (
        lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'),
        "config.json is not this toolkit's",
    ),
    "newer format": (lambda f: damage(f, format=2, version="9.9"), r"newer version, 9\.9 .*: update"),
    "another kind": (
        lambda f: damage(f, kind="classifier"),
        "holds a classifier model, expected a diffusion",
    ),
    "unknown setting": (
        lambda f: damage(f, model=small_model().config.to_dict() | {"colour": 1}),
        "describes no model that can be built: .*colour",
    ),
    "impossible setting": (
        lambda f: damage(f, model={"unet": {"channels": "many"}}),
        "describes no model that can be built",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "empty weights": (lambda f: os.truncate(f / "model.safetensors", 0), "is damaged or cut short"),
    "weights cut short": (lambda f: os.truncate(f / "model.safetensors", 60_000), "is damaged or cut short"),
    "a pickle": (lambda f: torch.save({}, f / "model.safetensors"), "is damaged or cut short"),
    "missing tensor": (
        lambda f: change_weights(f, lambda t: t.pop("text_vector.bias")),
        r"1 tensors missing: text_vector\.bias\)",
    ),
    "unknown tensors": (
        lambda f: change_weights(f, lambda t: t.update({f"z{i}": torch.zeros(1) for i in range(4)})),
        r"4 tensors unknown: z0, z1, z2 and 1 more",
    ),
    "another shape": (
        lambda f: change_weights(f, lambda t: t.update({"text_vector.bias": torch.zeros(3)})),
        r"1 tensors of another shape: text_vector\.bias is \(3,\), expected \(128,\)",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "cannot read .*tokenizer.json"),
    "another tokenizer": (
        lambda f: Tokenizer.train(CAPTIONS, 300, 9).save(f / "tokenizer.json"),
        "context 9, the model 300 and 8",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_bad_folder_is_one_clear_sentence(broken, name):
    spoil, message = BAD_FOLDERS[name]
    spoil(broken)
    with pytest.raises(InputError, match=message) as caught:
        load_model(broken)
    assert "\n" not in str(caught.value) and "broken" in str(caught.value)


def test_other_modules_live_in_folders_too(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    write_folder(tmp_path / "c", "classifier", {"width": 3}, module.state_dict())
    assert read_config(tmp_path / "c", "classifier")["model"] == {"width": 3}
    with torch.device("meta"):
        other = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    load_weights(other, tmp_path / "c")
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in module.state_dict().items())
    assert other[1].num_batches_tracked.dtype == torch.int64
    with pytest.raises(InputError, match="holds a classifier model, expected a diffusion model"):
        load_model(tmp_path / "c")
