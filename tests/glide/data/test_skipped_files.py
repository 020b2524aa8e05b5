"""A training goes through a damaged data set, and what it says was skipped is exactly what is damaged."""

import json
import shutil

import pytest
import torch

from glide.data.datasets import open_data
from glide.data.prefetch import default_workers, prefetch
from glide.data.shards.writer import write_shards
from glide.data.skipped_files import reasons, record_broken, summary
from glide.data.wrappers import Encoded, caption_inputs
from glide.training.config import TrainConfig
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from support.damaged_data import BAD, WRONG, damaged
from support.launch import finished, started


@pytest.fixture(params=["folder", "shards"])
def data(request, tmp_path, monkeypatch):
    monkeypatch.setenv("GLIDE_CACHE", str(tmp_path / "cache"))
    if request.param == "shards":
        pytest.importorskip("webdataset")
        write_shards(tmp_path / "set", damaged().items(), 40)
        return str(tmp_path / "set" / "*.tar")
    (tmp_path / "set").mkdir()
    for key, files in damaged().items():
        for suffix, content in files.items():
            (tmp_path / "set" / f"{key}.{suffix}").write_bytes(content)
    return str(tmp_path / "set")


@pytest.mark.slow
def test_training_goes_through_and_the_count_is_exact(data, tmp_path, capsys):
    args = TrainBase(
        tmp_path / "run",
        data=data,
        preset="tiny",
        workers=2,
        train=TrainConfig(
            steps=7, batch_size=16, dtype="float32", log_every=7, sample_every=99, save_every=99
        ),
    )  # 112 of 95 to 99 pictures: all of an epoch
    train_base(args)
    lines = (tmp_path / "run" / "broken.jsonl").read_text().splitlines()
    skipped = {json.loads(line)["file"]: json.loads(line)["reason"] for line in lines}
    assert [name.rpartition("/")[2].removesuffix(".jpg") for name in sorted(skipped)] == list(WRONG)
    said = capsys.readouterr().out
    assert f"{BAD} pictures were skipped, listed in" in said


@pytest.mark.slow
@pytest.mark.parametrize("data", ["shards"], indirect=True)
def test_two_processes_learn_and_skip_as_one(data, tmp_path):
    train = TrainConfig(
        steps=7, batch_size=16, dtype="float32", ema=(0.9,), log_every=1, sample_every=99, save_every=3
    )
    train_base(TrainBase(tmp_path / "one", data=data, preset="tiny", train=train, device="cpu"))
    flags = (
        "--preset tiny --steps 7 --batch-size 16 --dtype float32 --ema 0.9 --log-every 1 --sample-every 99"
    )
    command = ["scripts/train_base.py", "--out", str(tmp_path / "two"), "--data", data, *flags.split()]
    done = finished(started(2, *command, "--save-every", "3", "--device", "cpu"))
    assert [code for code, _ in done] == [0, 0], done
    assert [f"{BAD} pictures were skipped" in said for _, said in done] == [True, False]
    lines = {
        name: [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    }
    assert lines["two"] == pytest.approx(lines["one"], rel=1e-5)
    seen = [
        [json.loads(line)["file"] for line in path.read_text().splitlines()]
        for path in (tmp_path / "two").glob("broken*.jsonl")
    ]
    assert len({name for names in seen for name in names}) == BAD


@pytest.mark.slow
def test_a_run_resumes_in_the_middle_of_an_epoch(data, tmp_path):
    def args(resume: bool) -> TrainBase:
        train = TrainConfig(steps=4, batch_size=8, dtype="float32", sample_every=9, save_every=2)
        return TrainBase(
            tmp_path / "run", data=data, preset="tiny", crop="random", resume=resume, train=train
        )

    train_base(args(resume=False))
    last = tmp_path / "run" / "checkpoints" / "step-0000004"
    whole = {path.name: path.read_bytes() for path in last.glob("*.safetensors")}
    shutil.rmtree(last)
    train_base(args(resume=True))
    assert len(whole) == 2 and whole == {path.name: path.read_bytes() for path in last.glob("*.safetensors")}


def test_the_limit_of_damage_is_kept(data):
    whole = open_data(data, 16, max_broken=0.05)
    seen = [caption for step in range(8) for caption in whole.batch(step, 14)["caption"]]
    assert len(whole.broken) == BAD and set(seen) == {f"noise {i}" for i in range(100)} - {
        f"noise {int(key)}" for key in WRONG
    }
    with pytest.raises(ValueError, match=r"of 100 pictures in .* are broken, more than the 4\.00%"):
        strict = open_data(data, 16, max_broken=0.04)
        [strict.batch(step, 14) for step in range(8)]


@pytest.mark.slow
def test_several_threads_make_the_same_batches_and_count(data):
    one, many = open_data(data, 16), open_data(data, 16)
    batches = prefetch(many, 2, 10, workers=4)
    for step in range(2, 23):  # an epoch and more: who reads ahead meets what the other did
        batch, expected = next(batches), one.batch(step, 10)
        assert torch.equal(batch["image"], expected["image"]) and batch["caption"] == expected["caption"]
    batches.close()
    assert dict(many.broken) == dict(one.broken)
    rows = prefetch(one, 1, 10, workers=2, rows=range(1, 10, 2))
    assert torch.equal(next(rows)["image"], one.batch(1, 10)["image"][1::2])
    rows.close()


def test_workers_leave_cores_for_the_processes_of_a_machine(monkeypatch):
    assert default_workers(torch.device("cpu")) == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert default_workers(torch.device("cuda")) == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert default_workers(torch.device("cuda")) == 3


def test_skipped_pictures_of_all_processes_survive_a_restart(tmp_path, monkeypatch):
    record_broken(tmp_path, {})
    assert not (tmp_path / "broken.jsonl").exists()
    record_broken(tmp_path, {"b.png": "b.png is not a readable picture (x): repair or remove it"})
    with (tmp_path / "broken.jsonl").open("a") as file:
        file.write('{"file": "cut')
    monkeypatch.setenv("RANK", "1")
    every = record_broken(
        tmp_path, {"a.png": "has no caption", "c.png": "c.png is not a readable picture (x)"}
    )
    assert list(every) == ["a.png", "b.png", "c.png"]
    assert summary(every) == "2 is not a readable picture (x), 1 has no caption"
    assert len((tmp_path / "broken-1.jsonl").read_text().splitlines()) == 2


def test_captions_encoded_ahead_tell_the_model_the_same(text_model):
    class Short:
        class_names = ()

        def batch(self, step, size, rows=None):
            return {"caption": ["a red circle", "a blue square", "three yellow stars", "a ring"]}

    plain, encoded = Short().batch(3, 4), Encoded(Short(), text_model.tokenizer).batch(3, 4)
    assert plain["caption"] == encoded["caption"] and encoded["tokens"].shape == (4, 12)
    dropped = torch.tensor([True, False, False, True])
    told, again = (caption_inputs(text_model, batch, dropped) for batch in (plain, encoded))
    assert told.keys() == again.keys() and all(torch.equal(told[k], again[k]) for k in told)


def test_a_truncated_caption_warns_once(text_model):
    class Long:
        class_names = ()

        def batch(self, step, size, rows=None):
            return {"caption": ["a red circle " * 20, "a red circle", "a blue square " * 20]}

    data = Encoded(Long(), text_model.tokenizer)
    with pytest.warns(UserWarning, match="longer than 12 tokens") as said:
        data.batch(0, 3), data.batch(1, 3)
    assert len(said) == 1


def test_reasons_are_counted_by_kind():
    text = "is not UTF-8 text: save it as UTF-8"
    assert reasons({"a.png": f"a.txt {text}", "b.png": "has no caption"}) == [
        (1, "a.txt is not UTF-8 text"),
        (1, "has no caption"),
    ]
    assert reasons({"a.png": f"a.txt {text}", "b.png": f"b.txt {text}"}) == [(2, "...txt is not UTF-8 text")]
    cut = "is cut off (12 bytes of 3x4 missing)"
    assert reasons({"a.png": f"a.png {cut}"}) == [(1, cut)]
    assert reasons({"a.png": cut, "b.png": cut.replace("12", "7"), "c.png": "x"}) == [
        (2, "is cut off (... bytes of 3x4 missing)"),
        (1, "x"),
    ]
    assert (
        summary({"a.png": "captions.csv, line 3, names it twice"}) == "1 captions.csv, line 3, names it twice"
    )
