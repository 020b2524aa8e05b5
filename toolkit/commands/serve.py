"""Serve the page and the images interface: the server answers in a thread, this one draws."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import FrameType

from glide.utils.errors import InputError, reason_of
from glide.utils.printable import say
from toolkit.commands.serve_flags import Serve
from toolkit.web.jobs import JobQueue
from toolkit.web.picture_store import PictureStore
from toolkit.web.served_models import DEFAULT, ServedModels, labels
from toolkit.web.worker import Worker

WAITING_CONNECTIONS = 128


def serve(args: Serve) -> None:
    """Answer until Ctrl-C. Prints the address. InputError for one that is taken, or a model that is not there."""
    try:
        import uvicorn

        from toolkit.web.app import build
        from toolkit.web.runs import check_runs
    except ImportError as error:
        raise InputError(
            f"got serve without the package {error.name}, expected it: pip install 'glide-toolkit[web]'"
        ) from error
    models = ServedModels(labels(args.model or DEFAULT), args.device, args.dtype, args.upsampler)
    worker = Worker(models, JobQueue(args.queue), PictureStore(), args.together)
    watched = check_runs(labels(args.run))
    app = build(worker, args.auth, args.max_upload * 2**20, starts=False, runs=watched)
    with closing(_bound(args.host, args.port)) as bound:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws_max_size=2**16,
            timeout_graceful_shutdown=3,
        )
        server = uvicorn.Server(config)
        answering = threading.Thread(target=server.run, args=([bound],), name="answering", daemon=True)
        answering.start()
        host = f"[{args.host}]" if ":" in args.host else args.host
        address = f"http://{host}:{bound.getsockname()[1]}/"
        try:
            with _stopping(worker):
                say(f"open {address}{'?token=TOKEN' if args.auth else ''}, stop with Ctrl-C", result=True)
                worker.run()
        finally:
            worker.queue.close()
            server.should_exit = True
            answering.join(5.0)


@contextmanager
def _stopping(worker: Worker) -> Iterator[None]:
    """A context that Ctrl-C or SIGTERM ends: between two steps, or at once while a model is being loaded."""
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        again, asked = asked, True
        worker.queue.close()
        if again or not worker.ready:
            raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException:
        if not asked:
            raise  # else it is of an import that was interrupted, which may take any form
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        say("stopped")


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket. InputError where the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.create_server((host, port), family=family, backlog=WAITING_CONNECTIONS)
    except OSError as error:
        raise InputError(
            f"got the address {host} and port {port}, which cannot be used ({reason_of(error)}), expected a free one: "
            "choose another --port, or stop the program that has it"
        ) from error
    found.setblocking(False)
    return found
