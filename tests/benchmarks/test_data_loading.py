"""benchmarks/data_loading.py runs at tiny size, and what it loads is what it wrote."""

import io

import pytest
from PIL import Image

pytest.importorskip("webdataset")

import data_loading
from data_loading import DataLoading, jpegs, measure


def test_it_measures(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GLIDE_CACHE", str(tmp_path / "cache"))
    args = DataLoading(
        pictures=12, side=32, small=16, different=3, batch_size=4, per_shard=5, repeats=1, folder=True
    )
    rates = measure(args, tmp_path)
    assert set(rates) == {"bare decoder", "shards", "as floats", "shards at 16", "folder"}
    assert min(rates.values()) > 0
    assert "12 JPEGs of 32x32" in capsys.readouterr().out


def test_pictures_are_as_large_as_photographs():
    file = jpegs(1, 256)[0]
    with Image.open(io.BytesIO(file)) as picture:
        assert picture.size == (256, 256)
    assert 15_000 < len(file) < 60_000


def test_nonsense_exits_with_2(monkeypatch):
    monkeypatch.setattr("sys.argv", ["data_loading.py", "--pictures", "10"])
    with pytest.raises(ValueError, match="--pictures 10"):
        data_loading.main()
