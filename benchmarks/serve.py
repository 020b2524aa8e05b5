"""The figures of `glide serve`: a server in a process of its own, and clients that ask it.

python benchmarks/serve.py
python benchmarks/serve.py --pictures 500 --clients 16 --messages 2000
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glide.utils.cli import parse, run

SCRIPT = Path(__file__).resolve().parents[1] / "scripts/serve.py"

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**30,
    0.5,
    "",
    "x" * 5000,
    "../../etc/passwd",
    [],
    {},
    {"a": {}},
    ["cfg:3@"],
)
FIELDS = (
    "prompt",
    "n",
    "size",
    "model",
    "seed",
    "steps",
    "sampler",
    "guidance",
    "options",
    "label",
    "strength",
    "x",
)
ROUNDS = 6
"""Pictures of each client in the measurement of many clients at once."""


@dataclass(frozen=True)
class Serve:
    """The flags."""

    model: str = "shapes"
    steps: int = 20
    dtype: str = "auto"
    pictures: int = 100
    """Pictures between the two looks at the server's memory."""
    clients: int = 16
    """Clients that ask at once."""
    messages: int = 400
    """Malformed requests."""


def main() -> None:
    for line in measure(parse(Serve, __doc__)):
        print(line, flush=True)


def measure(args: Serve) -> Iterator[str]:
    """A line for each figure."""
    began = time.perf_counter()
    with serving(args) as (address, pid):
        until(lambda: fetch(f"{address}/") is not None)
        yield f"page: {time.perf_counter() - began:.1f} s after the start of the process, {used(pid):.1f} s of a core"
        until(lambda: fetch(f"{address}/healthz") is not None)
        yield f"model loaded: {time.perf_counter() - began:.1f} s, {used(pid):.1f} s of a core"
        began, before = time.perf_counter(), used(pid)
        draw(address, args, seed=0)
        took = f"{time.perf_counter() - began:.2f} s after it was asked for, {used(pid) - before:.2f} s of a core"
        yield f"first picture, {args.steps} steps: {took}"
        yield from previews(address, args)
        yield from throughput(address, args, pid)
        yield from memory(address, args)
        yield from fuzz(address, args)
    with serving(args, "--together", "1") as (address, pid):
        until(lambda: fetch(f"{address}/healthz") is not None)
        draw(address, args, seed=0)
        yield "one after the other: " + next(throughput(address, args, pid))


@contextmanager
def serving(args: Serve, *flags: str) -> Iterator[tuple[str, int]]:
    """The address of a new server and its process, which is stopped at the end."""
    command = [sys.executable, str(SCRIPT), "--model", args.model, "--dtype", args.dtype, "--port", "0"]
    process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"(http://[^/]+)/", process.stdout.readline())
        assert found is not None
        yield found[1], process.pid
    finally:
        process.terminate()
        process.communicate(timeout=30)


def used(pid: int) -> float:
    """Seconds of processor time that a process has used, which others beside it do not change; 0 where unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0


def previews(address: str, args: Serve) -> Iterator[str]:
    """Pictures with and without previews in turn, over the page's socket: their time, and whether they are the same."""
    from websockets.sync.client import connect

    times: dict[bool, list[float]] = {True: [], False: []}
    files: dict[bool, bytes | None] = {}
    with connect(address.replace("http", "ws") + "/api/socket", max_size=None) as socket:
        for turn in range(10):
            preview, began = turn % 2 == 0, time.perf_counter()
            request = {
                "caption": "a red ring",
                "steps": args.steps,
                "seed": 1,
                "count": 4,
                "preview": preview,
            }
            socket.send(json.dumps({"type": "draw", "request": request}))
            while True:
                message = socket.recv()
                state = json.loads(message) if isinstance(message, str) else {}
                if state.get("state") in ("done", "failed"):
                    break
            times[preview].append(time.perf_counter() - began)
            files[preview] = fetch(f"{address}/api/pictures/{state['pictures'][0]['id']}")
    on, off = (sorted(times[which])[len(times[which]) // 2] for which in (True, False))
    same = "the same bytes" if files[True] == files[False] else "OTHER BYTES"
    numbers = metrics(address)
    share = numbers["glide_preview_seconds_total"] / numbers["glide_sampling_seconds_total"]
    yield f"4 pictures with previews {on:.2f} s, without {off:.2f} s (medians of 5), {same}"
    yield f"previews took {100 * share:.2f}% of the time of sampling so far"


def throughput(address: str, args: Serve, pid: int) -> Iterator[str]:
    """Pictures a second for many clients at once, after a round that nobody counts."""
    with ThreadPoolExecutor(args.clients) as pool:
        list(pool.map(lambda seed: draw(address, args, seed), range(args.clients)))
        loops, began, before = metrics(address)["glide_loops_total"], time.perf_counter(), used(pid)
        list(pool.map(lambda seed: draw(address, args, seed), range(100, 100 + ROUNDS * args.clients)))
        took = time.perf_counter() - began
    loops, count = metrics(address)["glide_loops_total"] - loops, ROUNDS * args.clients
    each = f"{(used(pid) - before) / count:.3f} s of a core each"
    yield f"{args.clients} clients, {count} pictures: {count / took:.2f} a second, {each}, {loops:.0f} loops"


def memory(address: str, args: Serve) -> Iterator[str]:
    """The server's memory before and after many pictures."""
    before = metrics(address)["process_resident_memory_bytes"]
    with ThreadPoolExecutor(args.clients) as pool:
        list(pool.map(lambda seed: draw(address, args, seed, steps=2), range(1000, 1000 + args.pictures)))
    after = metrics(address)["process_resident_memory_bytes"]
    size = f"{after / 2**20:.0f} MiB"
    yield f"memory after {args.pictures} more pictures: {after / before:.3f} times that before ({size})"


def fuzz(address: str, args: Serve) -> Iterator[str]:
    """Malformed uploads, forms and JSON: the statuses of the answers."""
    random_, statuses = random.Random(0), dict[int, int]()
    for turn in range(args.messages):
        body = json.dumps(
            {"prompt": "a", "steps": 1} | {random_.choice(FIELDS): random_.choice(ODD) for _ in range(2)}
        )
        data = bytearray(body.encode())
        if turn % 2:
            for _ in range(random_.randint(1, 5)):
                data[random_.randrange(len(data))] = random_.randrange(256)
        path = random_.choice(["/v1/images/generations", "/v1/images/edits", "/api/pictures?name=a.png"])
        asked = urllib.request.Request(
            address + path, bytes(data), {"content-type": "multipart/form-data; boundary=b"}
        )
        try:
            with urllib.request.urlopen(asked, timeout=300) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
            assert "Traceback" not in error.read().decode()
        statuses[status] = statuses.get(status, 0) + 1
    draw(address, args, seed=0)
    yield f"{args.messages} malformed requests: {statuses}; the server draws on"


def draw(address: str, args: Serve, seed: int, steps: int | None = None) -> None:
    """One picture by the images interface."""
    body = {"prompt": "a red ring", "seed": seed, "steps": steps or args.steps, "response_format": "png"}
    asked = urllib.request.Request(f"{address}/v1/images/generations", json.dumps(body).encode())
    with urllib.request.urlopen(asked, timeout=600) as answer:
        assert answer.read(8) == b"\x89PNG\r\n\x1a\n"


def metrics(address: str) -> dict[str, float]:
    """The server's numbers."""
    lines = (fetch(f"{address}/metrics") or b"").decode().splitlines()
    return {line.split()[0]: float(line.split()[-1]) for line in lines if not line.startswith("#")}


def fetch(url: str) -> bytes | None:
    """The body of an answer, None where there is none yet."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            body: bytes = answer.read()
            return body
    except (urllib.error.URLError, OSError):
        return None


def until(true: Any) -> None:
    while not true():
        time.sleep(0.02)


if __name__ == "__main__":
    run(main)
