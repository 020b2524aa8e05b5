"""Batches made ahead, in order, by a thread that ends with whoever reads them."""

import itertools
import threading
import time

import pytest

from glide.data.datasets import open_data
from glide.data.prefetch import GIL_FREE, prefetch, prefetch_by_processes
from glide.utils.errors import InputError
from support.data_files import captioned, same


def test_prefetch_keeps_the_order_and_ends_its_thread(tmp_path):
    data = open_data(str(captioned(tmp_path, 7)), 4)
    threads = threading.active_count()
    batches = prefetch(data, 5, 3)
    for step, batch in enumerate(itertools.islice(batches, 6), 5):
        assert same(batch, data.batch(step, 3))
    assert threading.active_count() == threads + 1
    batches.close()
    assert threading.active_count() == threads


def test_no_batch_is_begun_while_the_network_needs_python_unless_it_waits_for_it(tmp_path):
    data = open_data(str(captioned(tmp_path, 10)), 4)
    begun: list[int] = []

    class Watched:
        def batch(self, step, size, rows=None):
            begun.append(step)
            return data.batch(step, size, rows)

    GIL_FREE.clear()
    try:
        batches = prefetch(Watched(), 0, 3)
        assert same(next(batches), data.batch(0, 3)) and GIL_FREE.is_set(), "what is waited for is made"
        while len(begun) < 3:  # two ahead
            time.sleep(0.01)
        GIL_FREE.clear()
        assert same(next(batches), data.batch(1, 3)) and not GIL_FREE.is_set(), "it was made already"
        time.sleep(0.1)
        assert begun == [0, 1, 2]
        GIL_FREE.set()
        while len(begun) < 4:
            time.sleep(0.01)
        GIL_FREE.clear()
        batches.close()  # does not wait for its turn
        assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
    finally:
        GIL_FREE.set()


def test_prefetch_raises_an_error_where_the_batch_would_have_come():
    class Failing:
        def batch(self, step: int, size: int) -> dict:
            if step == 2:
                raise InputError("the third is missing")
            return {"step": step}

    batches = prefetch(Failing(), 0, 1)
    assert [next(batches)["step"], next(batches)["step"]] == [0, 1]
    with pytest.raises(InputError, match="the third"):
        next(batches)


def test_processes_make_the_same_batches_and_report_broken_pictures(tmp_path):
    data = open_data(str(captioned(tmp_path, 7)), 4, max_broken=1.0)
    whole = [data.batch(step, 3) for step in range(5, 9)]
    broken: dict[str, str] = {}
    batches = prefetch_by_processes(data, 5, 3, workers=2, broken=broken)
    for expected in whole:
        assert same(next(batches), expected)
    batches.close()
    assert broken == {}
    (tmp_path / sorted(p.name for p in tmp_path.glob("*.png"))[0]).write_bytes(b"no picture")
    data = open_data(str(tmp_path), 4, max_broken=1.0)
    batches = prefetch_by_processes(data, 0, 7, workers=1, rows=range(2, 4), broken=broken)
    found = [next(batches) for _ in range(3)]
    batches.close()
    assert all(same(batch, data.batch(step, 7, range(2, 4))) for step, batch in enumerate(found))
    assert broken == dict(data.broken) and len(broken) <= 1
