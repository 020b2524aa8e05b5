"""Hundreds of malformed uploads, forms and messages: every answer is a sentence, and the server stays up."""

import json
import random
from pathlib import Path
from typing import Any

from support.web import noise, png, serving, until_over, worker_of
from toolkit.web.draw_request import DrawRequest

CASES = 120  # of each kind
FIELDS = tuple(DrawRequest.__dataclass_fields__)
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e308, 0.5, "", "x" * 5000, "\ud800", "../../etc/passwd", "\u0000\u202e", [], [[]], {},
    {"a": {}}, ["cfg:3@"], ["cfg:1e999"], "fast27", "10,10,3", "1" * 50, [1, 2, 3, 4], [10**9] * 4,
)  # fmt: skip


def odd_request(random_: random.Random) -> dict[str, Any]:
    """A request of which some fields hold odd values, and some are unknown."""
    names = random_.sample([*FIELDS, "steps", "negative", "model", "colour"], random_.randint(1, 4))
    return {"caption": "a red circle", "steps": 1} | {name: random_.choice(ODD) for name in names}


def garbled(data: bytes, random_: random.Random) -> bytes:
    """The bytes with some changed, cut off or put in."""
    changed = bytearray(data)
    for _ in range(random_.randint(1, 6)):
        place = random_.randrange(max(len(changed), 1))
        what = random_.randrange(3)
        if what == 0:
            changed[place : place + 1] = random_.randbytes(1)
        elif what == 1:
            del changed[place : place + random_.randint(1, 40)]
        else:
            changed[place:place] = random_.randbytes(random_.randint(1, 40))
    return bytes(changed)


def is_sentence(text: str) -> None:
    assert text and "\n" not in text and "Traceback" not in text, text
    assert 'File "' not in text and len(text) <= 520, text


def answered(answer: Any) -> None:
    """Good, or refused in a sentence of the interface's form; never an error of the server."""
    assert answer.status_code in (200, 400, 401, 403, 404, 405, 413, 422, 429), (
        answer.status_code,
        answer.text,
    )
    if answer.status_code != 200:
        is_sentence(answer.json()["error"]["message"])


def test_forms_and_uploads(text_folder: Path) -> None:
    random_ = random.Random(0)
    photo, up = png(noise(8)), worker_of(text_folder)
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    form = part + photo + b"\r\n--b--\r\n"
    kinds = ["multipart/form-data; boundary=b", "multipart/form-data", "text/plain"]
    with serving(up) as client:
        for case in range(CASES):
            answered(client.post("/api/pictures?name=a.png", content=garbled(photo, random_)))
            odd = {random_.choice(["n", "size", "seed", "model", "x"]): random_.choice(ODD)}
            body = json.dumps({"prompt": "a", "steps": 1, "n": 1} | odd).encode()
            body = garbled(body, random_) if case % 2 else body
            answered(client.post("/v1/images/generations", content=body))
            head = {"content-type": random_.choice(kinds)}
            answered(client.post("/v1/images/edits", content=garbled(form, random_), headers=head))
        assert client.post("/v1/images/generations", json={"prompt": "a", "steps": 1}).status_code == 200


def test_messages_of_the_socket(text_folder: Path) -> None:
    random_ = random.Random(1)
    with (
        serving(worker_of(text_folder)) as client,
        client.websocket_connect("ws://localhost/api/socket") as socket,
    ):
        for _ in range(CASES):
            what = random_.randrange(4)
            message = json.dumps({"type": "draw", "tag": "x", "request": odd_request(random_)})
            if what == 0:
                socket.send_bytes(random_.randbytes(20))
            elif what == 1:
                message = garbled(message.encode(), random_).decode("latin-1")
                socket.send_text(message)
            elif what == 2:
                socket.send_json(
                    {"type": random_.choice(ODD), "job": random_.choice(ODD), "tag": random_.choice(ODD)}
                )
            else:
                socket.send_text(message)
            said = until_over(socket)
            if said["type"] == "refused" or said["state"] == "failed":
                is_sentence(said["message"])
                assert "the drawing failed" not in said["message"], message
        socket.send_json({"type": "draw", "request": {"caption": "a red circle", "steps": 1}})
        assert until_over(socket)["state"] == "done"
