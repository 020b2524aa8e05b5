"""The images interface: answers and errors in its form, masks, formats, and a client that leaves."""

import base64
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.web import drawn, files_of, noise, pixels_of, png, serving, worker_of
from toolkit.web.worker import Worker

FORM = {"prompt": "a red circle", "steps": 3, "seed": 5}


@pytest.fixture(scope="module")
def worker(text_folder: Path) -> Worker:
    return worker_of(text_folder)


def decoded(answer: Any) -> list[bytes]:
    assert answer.status_code == 200, answer.text
    return [base64.b64decode(one["b64_json"]) for one in answer.json()["data"]]


def test_pictures_are_those_of_the_page(text_folder: Path) -> None:
    worker = worker_of(text_folder)
    wanted = [
        files_of(worker, drawn(worker, caption=FORM["prompt"], steps=3, seed=seed))[0] for seed in (5, 6, 7)
    ]
    with serving(worker) as client:
        answer = client.post("/v1/images/generations", json=FORM | {"n": 3, "user": "me", "quality": "high"})
        assert decoded(answer) == wanted
        assert isinstance(answer.json()["created"], int)
        alone = client.post("/v1/images/generations", json=FORM | {"response_format": "png"})
        assert alone.headers["content-type"] == "image/png" and alone.content == wanted[0]
        assert (
            client.post("/v1/images/generations", json=FORM, headers={"accept": "image/png"}).content
            == wanted[0]
        )
        (entry,) = client.post("/v1/images/generations", json=FORM | {"response_format": "url"}).json()[
            "data"
        ]
        assert client.get(entry["url"]).content == wanted[0]
        assert decoded(client.post("/v1/images/generations", json=FORM | {"size": "8x8"})) == wanted[:1]


def test_requests_without_a_seed_differ(worker: Worker, text_folder: Path) -> None:
    with serving(worker_of(text_folder)) as client:
        sent = {"prompt": "a red circle", "steps": 2}
        assert decoded(client.post("/v1/images/generations", json=sent)) != decoded(
            client.post("/v1/images/generations", json=sent)
        )


def test_models(text_folder: Path, class_folder: Path) -> None:
    with serving(worker_of(text_folder, class_folder), starts=False) as client:
        listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [one["id"] for one in listed["data"]] == [text_folder.name, class_folder.name]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"prompt": None}, 400, "expected a text"),
        ({"prompt": 3}, 400, "expected a text"),
        ({"n": 0}, 400, "expected a whole number from 1 to 10"),
        ({"n": 11}, 400, "from 1 to 10"),
        ({"model": "dall-e-2"}, 404, "expected"),
        ({"size": "64x32"}, 400, "square"),
        ({"size": "1024x1024"}, 400, "no embedded upsampler"),
        ({"response_format": "tiff"}, 400, "b64_json or png"),
        ({"stream": True}, 400, "expected false"),
        ({"seed": -1}, 400, "seed"),
        ({"steps": 10**9}, 400, "steps"),
        ({"colour": "red"}, 400, "colour"),
        ({"guidance": "cfg"}, 400, "guidance"),
        ({"guidance": ["cfg:nan"]}, 400, "cfg:nan"),
    ],
)
def test_errors_are_in_the_interfaces_form(
    text_folder: Path, change: dict[str, Any], status: int, said: str
) -> None:
    with serving(worker_of(text_folder)) as client:
        answer = client.post("/v1/images/generations", json=FORM | change)
    error = answer.json()["error"]
    assert answer.status_code == status and said in error["message"], answer.text
    assert error["type"] == "invalid_request_error" and set(error) == {"message", "type", "param", "code"}


def test_other_bodies_and_addresses(worker: Worker, text_folder: Path) -> None:
    with serving(worker_of(text_folder), starts=False) as client:
        for body in (b"", b"{", b"[]", b"\xff", b'{"prompt": NaN}', b"[" * 9999, b'{"a": 1, "a": 2}'):
            answer = client.post("/v1/images/generations", content=body)
            assert answer.status_code == 400 and "\n" not in answer.json()["error"]["message"], body
            assert client.post("/v1/images/edits", content=body).status_code == 400
        assert client.post("/v1/images/generations", content=b" " * (2**20 + 1)).status_code == 413
        assert client.get("/v1/images/generations").status_code == 405
        assert client.get("/v1/nothing").json()["error"]["code"] == "not_found"


def test_an_edit_paints_where_the_mask_is_transparent(filler_folder: Path) -> None:
    mask = np.zeros((24, 24, 4), np.uint8)
    mask[:, 12:, 3] = 255
    with serving(worker_of(filler_folder)) as client:
        files = {"image": ("photo.png", png(noise())), "mask": ("mask.png", png(mask))}
        sent = {"prompt": "a red circle", "n": "2", "steps": "3", "seed": "5"}
        results = [pixels_of(one) for one in decoded(client.post("/v1/images/edits", files=files, data=sent))]
        assert len(results) == 2 and not np.array_equal(*results)
        for result in results:
            assert np.array_equal(result[:, 12:], noise()[:, 12:])
            assert not np.array_equal(result[:, :12], noise()[:, :12])
        photo = np.concatenate([noise(), mask[..., 3:]], axis=2)  # its own transparency
        files = {"image": ("photo.png", png(photo))}
        (own,) = [
            pixels_of(one)
            for one in decoded(client.post("/v1/images/edits", files=files, data=sent | {"n": "1"}))
        ]
        assert np.array_equal(own[:, 12:], photo[:, 12:]) and (own[:, :12, 3] == 255).all()
        files = {"image": ("photo.png", png(noise()))}  # without a mask all of it changes
        (whole,) = decoded(
            client.post("/v1/images/edits", files=files, data=sent | {"n": "1", "strength": "0.5"})
        )
        assert pixels_of(whole).shape == (8, 8, 3)


def test_bad_edits_are_refused(filler_folder: Path) -> None:
    good = ("photo.png", png(noise()))
    with serving(worker_of(filler_folder)) as client:
        for files, said in (
            ({}, "multipart"),
            ({"mask": good}, "got no image"),
            ({"image": ("photo.png", b"no picture")}, "not a readable picture"),
            ({"image": good, "mask": ("mask.png", png(np.zeros((24, 24), np.uint8)))}, "covers nothing"),
            ({"image": good, "mask": ("mask.png", png(np.full((20, 24), 255, np.uint8)))}, "same shape"),
        ):
            answer = client.post("/v1/images/edits", files=files or None, data={"prompt": "a", "steps": "2"})
            assert answer.status_code == 400, answer.text
            assert said in answer.json()["error"]["message"] or not files
        many = [("image", good)] * 50
        assert client.post("/v1/images/edits", files=many, data={"prompt": "a"}).status_code == 400


def test_a_defect_is_a_500_in_that_form(text_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = worker_of(text_folder)
    monkeypatch.setattr("toolkit.web.together.requests_of", lambda *of: 1 // 0)
    with serving(worker) as client:
        answer = client.post("/v1/images/generations", json=FORM)
        assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
        assert "Traceback" not in answer.text
        monkeypatch.undo()
        assert client.post("/v1/images/generations", json=FORM).status_code == 200


def test_many_clients_at_once_are_all_answered(text_folder: Path) -> None:
    worker, answers = worker_of(text_folder), dict[int, bytes]()
    with serving(worker) as client:

        def ask(seed: int) -> None:
            answers[seed] = decoded(client.post("/v1/images/generations", json=FORM | {"seed": seed}))[0]

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    alone = worker_of(text_folder)
    for seed in (0, 15):
        assert answers[seed] == files_of(alone, drawn(alone, caption=FORM["prompt"], steps=3, seed=seed))[0]
    assert len(answers) == 16 and worker.outcomes == {("draw", "done"): 16}
