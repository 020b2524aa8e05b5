"""The server as visitors meet it: who is let in, what is too much, the socket, a full queue, lost connections."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from glide.utils.errors import InputError
from guidance import with_strength
from support.web import noise, png, serving, until_over, worker_of
from toolkit.web.guard import check_access
from toolkit.web.worker import Worker

TOKEN = "0123456789abcdef"
FORM = {"caption": "a red circle", "steps": 3, "seed": "5"}
SOCKET = "ws://localhost/api/socket"


@pytest.fixture(scope="module")
def folder(text_folder: Path) -> Path:
    return text_folder


@pytest.fixture
def worker(folder: Path) -> Worker:
    return worker_of(folder)


def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does, for at most some seconds."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def draw(tag: str = "a", **form: Any) -> dict[str, Any]:
    return {"type": "draw", "tag": tag, "request": FORM | form}


def test_every_answer_forbids_what_is_not_the_servers(worker: Worker) -> None:
    with serving(worker, starts=False) as client:
        for path in (
            "/",
            "/static/app.js",
            "/api/about",
            "/api/pictures/none",
            "/nowhere",
            "/healthz",
            "/v1/models",
        ):
            headers = client.get(path).headers
            assert headers["content-security-policy"].startswith("default-src 'self';"), path
            assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
            assert "server" not in headers


def test_other_names_of_this_machine_are_refused(worker: Worker) -> None:
    """A name that another site lets lead to 127.0.0.1."""
    with serving(worker, starts=False) as client:
        for host in (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "[::1",
            "evil.example:7860",
        ):
            for path in ("/", "/api/about", "/healthz"):
                assert client.get(path, headers={"host": host}).status_code == 403, host
        for host in ("localhost", "localhost:7860", "127.0.0.1:80", "[::1]:7860", "LOCALHOST"):
            assert client.get("/api/about", headers={"host": host}).status_code == 200, host


def test_other_sites_are_refused(worker: Worker) -> None:
    with serving(worker, starts=False) as client:
        for origin in ("http://evil.example", "null", "http://localhost:1", "https://localhost.evil.example"):
            headers = {"origin": origin}
            assert (
                client.post("/v1/images/generations", json={"prompt": "x"}, headers=headers).status_code
                == 403
            )
            assert client.post("/api/pictures", content=b"", headers=headers).status_code == 403
            with pytest.raises(WebSocketDisconnect), client.websocket_connect(SOCKET, headers=headers):
                pass
        assert client.get("/api/about", headers={"sec-fetch-site": "cross-site"}).status_code == 403
        with client.websocket_connect(SOCKET, headers={"origin": "http://localhost"}) as socket:
            socket.send_json({"type": "stop", "job": "none"})
            assert socket.receive_json()["type"] == "refused"
        assert 'glide_refused_total{reason="origin"} 13' in client.get("/metrics").text
    assert len(worker.queue) == 0


def test_a_token_is_asked_for(worker: Worker) -> None:
    with serving(worker, "http://studio.example", token=TOKEN, starts=False) as client:
        assert client.get("/healthz").status_code == 200
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"cookie": "glide-token=wrong"},
            {"cookie": '"\\;=,'},
        ):
            for path in ("/", "/static/app.js", "/api/about", "/metrics", "/v1/models", "/?token=wrong"):
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401 and answer.json()["error"]["code"] == "token"
            with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/socket", headers=headers):
                pass
        assert client.get("/v1/models", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        answer = client.get(f"/?token={TOKEN}")
        assert answer.status_code == 200
        assert all(word in answer.headers["set-cookie"] for word in ("HttpOnly", "SameSite=Strict"))
        assert client.get("/api/about").status_code == 200  # by the cookie
        assert client.get("/api/about", headers={"origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "studio.example"])
def test_an_open_address_needs_a_token(host: str) -> None:
    with pytest.raises(InputError, match="add --auth TOKEN"):
        check_access(host, None)
    check_access(host, TOKEN)
    for token in ("short", "with spaces in it", "semi;colon;semi;colon", "ümläutümläut"):
        with pytest.raises(InputError, match="expected at least 12"):
            check_access(host, token)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machines_own_needs_none(host: str) -> None:
    check_access(host, None)


def test_a_body_is_limited_before_it_is_decoded(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.web.uploads.open_picture", lambda *of: pytest.fail("a picture was opened"))
    with serving(worker, starts=False, most_bytes=1000) as client:
        for path in ("/api/pictures", "/v1/images/edits", "/v1/images/generations"):
            assert client.post(path, content=b"x" * 1001).status_code == 413  # by its length
            parts = (b"x" * 100 for _ in range(20))  # without a length
            answer = client.post(
                path, content=parts, headers={"content-type": "multipart/form-data; boundary=a"}
            )
            assert answer.status_code == 413 and "expected at most" in answer.json()["error"]["message"]
        for length in ("-1", "1e3", "99999999999999999999999999"):
            assert (
                client.post("/api/pictures", content=b"x", headers={"content-length": length}).status_code
                == 413
            )


def test_uploads_are_read_by_the_careful_reader(worker: Worker) -> None:
    bomb = png(noise(8)).replace(b"\x00\x00\x00\x08\x00\x00\x00\x08", b"\x00\x00\xff\xff\x00\x00\xff\xff", 1)
    hostile = {
        "nothing": b"",
        "bomb": bomb,
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "page": b"<!doctype html><script>alert(1)</script>",
        "truncated": png(noise(24))[:300],
    }
    with serving(worker, starts=False) as client:
        for name, data in hostile.items():
            answer = client.post(f"/api/pictures?name={name}.png", content=data)
            assert answer.status_code == 400, name
            assert f"{name}.png" in answer.json()["error"]["message"], answer.text
        assert len(worker.store) == 0
        found = client.post("/api/pictures?name=../../etc/pass%0awd%22.png", content=png(noise(8))).json()
        assert found["name"] == "passwd.png" and (found["width"], found["height"]) == (8, 8)
        back = client.get(f"/api/pictures/{found['id']}?download")
        assert back.content == png(noise(8)) and back.headers["content-type"] == "image/png"
        assert back.headers["content-disposition"] == 'attachment; filename="passwd.png"'


def test_no_path_opens_a_file(worker: Worker, folder: Path) -> None:
    with serving(worker, starts=False) as client:
        for path in (
            "..%2fapp.py",
            "%2e%2e/app.py",
            "..\\app.py",
            "/etc/passwd",
            str(folder / "config.json"),
            "app.py",
        ):
            for place in ("/static/", "/api/pictures/", "/"):
                assert client.get(place + path).status_code in (404, 405), path
        with client.websocket_connect(SOCKET) as socket:
            for form in (
                {"model": str(folder)},
                {"model": "../" + folder.name},
                {"options": {"clip": str(folder)}},
                {"options": {"weak": "../../shapes"}},
                {"options": {"classifier": "org/name"}},
                {"options": {"clip_vocab": "/etc/passwd"}},
                {"init_image": "/etc/passwd"},
                {"out": "/tmp/x"},
            ):
                socket.send_json(draw(**form))
                said = socket.receive_json()
                assert said["type"] == "refused" and "expected" in said["message"], form


def test_a_picture_over_the_socket(worker: Worker) -> None:
    with serving(worker) as client, client.websocket_connect(SOCKET) as socket:
        socket.send_json(draw(tag="mine", count=2))
        assert (accepted := socket.receive_json())["type"] == "accepted" and accepted["tag"] == "mine"
        state = until_over(socket)
        assert state["state"] == "done" and state["job"] == accepted["job"] and state["steps"] == 3
        for shown in state["pictures"]:
            assert client.get(f"/api/pictures/{shown['id']}").headers["content-type"] == "image/png"
        assert [shown["seed"] for shown in state["pictures"]] == ["5", "6"]


@pytest.mark.parametrize(
    "guidance", ["cfg:2.5@10-90", "cfg:2.5~cos@10-90", with_strength("cfg", lambda share: 1 + 3 * share**0.3)]
)
def test_a_dropped_png_fills_the_form_and_repeats_itself(worker: Worker, guidance: str) -> None:
    with serving(worker) as client, client.websocket_connect(SOCKET) as socket:
        socket.send_json(draw(count=3, guidance=[guidance], negative="blue", options={"rescale": 0.5}))
        first = [client.get(f"/api/pictures/{one['id']}").content for one in until_over(socket)["pictures"]]
        found = client.post("/api/pictures?name=one.png", content=first[2]).json()
        form = found["form"]
        assert found["notes"] == [] and form["caption"] == "a red circle" and form["guidance"] == [guidance]
        assert (form["seed"], form["negative"], form["options"]) == ("7", "blue", {"rescale": 0.5})
        socket.send_json({"type": "draw", "request": form})
        (again,) = until_over(socket)["pictures"]
        assert client.get(f"/api/pictures/{again['id']}").content == first[2]


def test_strangers_recipes_are_data(worker: Worker) -> None:
    from glide.utils.images import png_bytes

    good = {
        "model": "x",
        "prompt": "a",
        "seed": 1,
        "sampler": "ddim",
        "respacing": "3",
        "eta": 0.0,
        "guidance": "cfg",
    }
    good |= {"scale": 3.0}
    with serving(worker, starts=False) as client:
        for change, said in (
            ({}, "not served here"),
            ({"made_by": "<b>" * 99}, "It was made by"),
            ({"seed": -1}, "seed"),
            ({"guidance": {}}, "guidance"),
            ({"options": {"clip": 3}}, "options.clip"),
            ({"prompt": ["a"]}, "prompt"),
            ({"enlarged": {}}, "not drawn but enlarged"),
            ({"prompt": "\ud800"}, "not served here"),
        ):
            from PIL import Image

            file = png_bytes(Image.new("RGB", (4, 4)), good | change)
            answer = client.post("/api/pictures", content=file)
            assert answer.status_code == 200 and any(said in note for note in answer.json()["notes"]), change


def test_fifty_wait_and_the_next_one_gets_a_sentence(worker: Worker) -> None:
    with serving(worker, starts=False) as client, ExitStack() as stack:
        sockets = [stack.enter_context(client.websocket_connect(SOCKET)) for _ in range(11)]
        places, first = [], ""
        for number in range(50):
            socket = sockets[number // 5]
            socket.send_json(draw(tag=str(number)))
            while (
                (said := socket.receive_json())["type"] != "state"
                or "place" not in said
                or said["place"] != number
            ):
                pass
            places.append(said["place"])
            first = said["job"] if not number else first
        assert places == list(range(50))
        sockets[10].send_json(draw())
        said = sockets[10].receive_json()
        assert said["type"] == "refused" and "got your request as number 51 of at most 50" in said["message"]
        answer = client.post("/v1/images/generations", json={"prompt": "a"})
        assert answer.status_code == 429 and answer.json()["error"]["code"] == "queue_full"
        assert len(worker.queue) == 50
        sockets[0].send_json({"type": "cancel", "job": first})
        until(lambda: len(worker.queue) == 49)
        sockets[10].send_json(draw())
        assert sockets[10].receive_json()["type"] == "accepted"


def test_one_visitor_does_not_fill_the_queue(worker: Worker) -> None:
    with serving(worker, starts=False) as client, client.websocket_connect(SOCKET) as socket:
        for _ in range(8):
            socket.send_json(draw())
        socket.send_json(draw(tag="ninth"))
        while (said := socket.receive_json())["type"] != "refused":
            pass
        assert said["tag"] == "ninth" and "wait for them" in said["message"]


def test_a_closed_tab_frees_its_place(worker: Worker) -> None:
    with serving(worker, starts=False, grace_left=0.05, grace_lost=60.0) as client:
        with client.websocket_connect(SOCKET) as socket:
            socket.send_json(draw())
            socket.receive_json()
            assert len(worker.queue) == 1
            socket.close(1001)
        until(lambda: len(worker.queue) == 0)


def test_a_lost_connection_comes_back_to_its_job(worker: Worker) -> None:
    with serving(worker, starts=False, grace_left=0.05, grace_lost=60.0) as client:
        with client.websocket_connect(SOCKET) as socket:
            socket.send_json(draw())
            job = socket.receive_json()["job"]
            socket.close(1006)
        time.sleep(0.2)
        assert len(worker.queue) == 1
        with client.websocket_connect(SOCKET) as socket:
            socket.send_json({"type": "watch", "job": job})
            assert socket.receive_json()["type"] == "accepted"
            threading.Thread(
                target=lambda: worker.draw(worker.queue.take(5) or pytest.fail("no job"))
            ).start()
            state = until_over(socket)
            assert state["state"] == "done" and state["job"] == job
        with client.websocket_connect(SOCKET) as socket:  # also when it is over
            socket.send_json({"type": "watch", "job": job})
            assert until_over(socket)["pictures"] == state["pictures"]


def test_a_job_can_be_cancelled_by_message(worker: Worker) -> None:
    with serving(worker) as client, client.websocket_connect(SOCKET) as socket:
        socket.send_json(draw(steps=100, count=8))
        job = socket.receive_json()["job"]
        while socket.receive_json().get("state") != "drawing":
            pass
        socket.send_json({"type": "cancel", "job": job})
        assert until_over(socket)["state"] == "cancelled"
        socket.send_json(draw())
        assert until_over(socket)["state"] == "done"


def test_about_says_what_the_form_offers(worker: Worker) -> None:
    with serving(worker, starts=False) as client:
        about = client.get("/api/about").json()
    assert (
        about["ready"]
        and about["models"][0] | {"size": 8, "captions": True, "classes": []} == about["models"][0]
    )
    assert {"cfg", "pag", "apg"} <= {one["name"] for one in about["guidances"]} and "ddim" in about[
        "samplers"
    ]


def test_health_and_metrics(worker: Worker) -> None:
    with serving(worker) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.post("/v1/images/generations", json={"prompt": "a", "steps": 2}).status_code == 200
        until(lambda: len(worker.queue) == 0)
        lines = client.get("/metrics").text.splitlines()
    assert 'glide_jobs_total{kind="draw",outcome="done"} 1' in lines and "glide_pictures_total 1" in lines
    assert all(line.startswith(("# HELP ", "# TYPE ", "glide_", "process_")) for line in lines)
    unready = Worker(worker.models, worker.queue, worker.store)
    with serving(unready, starts=False) as client:
        assert client.get("/healthz").status_code == 503
