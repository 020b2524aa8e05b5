"""The page in a real Chromium, headless: mouse, keys, files; and nothing leaves the machine."""

import shutil
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glide.utils.images import recipe_in
from support.web import drawn, files_of, noise, pixels_of, png, worker_of
from toolkit.web.jobs import Job
from toolkit.web.worker import Worker

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed, which tests the page"
)
uvicorn = pytest.importorskip("uvicorn", reason="the page needs uvicorn (extra web), which is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
    # of the driver's own threads and pipes, when they end
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
WAIT = 60_000  # milliseconds: the machine may be busy


class Site:
    """A server of tiny models at an address of its own, and the browser's requests."""

    def __init__(self, worker: Worker) -> None:
        from toolkit.web.app import build

        config = uvicorn.Config(build(worker), port=0, log_level="error", lifespan="on")
        self.worker, self.server = worker, uvicorn.Server(config)
        self.requests: list[str] = []
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.address = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)

    def file(self, source: str | None) -> bytes:
        """The bytes of a picture that the page shows."""
        assert source is not None
        return self.worker.store.get(source.rpartition("/")[2]).data


@pytest.fixture(scope="module")
def site(text_folder: Path, filler_folder: Path) -> Iterator[Site]:
    site = Site(worker_of(text_folder, filler_folder))
    yield site
    site.close()


@pytest.fixture(scope="module")
def context(site: Site) -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
        context.set_default_timeout(WAIT)
        context.on("request", lambda request: site.requests.append(request.url))
        yield context
        browser.close()


@pytest.fixture
def page(context: Any, site: Site) -> Iterator[Any]:
    page = opened(context, site)
    yield page
    assert page.errors == []
    page.close()


def opened(context: Any, site: Site) -> Any:
    """A new tab whose model is loaded; it collects errors of its scripts, and what its policy has blocked."""
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if "Policy" in message.text else None)
    page.goto(site.address)
    page.wait_for_selector("#draw:not([disabled])")
    page.fill("#caption", "a red circle")
    page.fill("#steps", "3")
    page.fill("#seed", "5")
    page.check("#seed-fixed")
    return page


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of at least 50 ms, so that there is time to act between them."""
    advance = Job.advance

    def slow(job: Job) -> None:
        time.sleep(0.05)
        advance(job)

    monkeypatch.setattr(Job, "advance", slow)


def test_from_a_caption_to_a_picture(page: Any, site: Site, text_folder: Path) -> None:
    page.fill("#count", "2")
    page.press("#caption", "Control+Enter")
    page.wait_for_selector("#stage img >> nth=1")
    files = [site.file(image.get_attribute("src")) for image in page.query_selector_all("#stage img")]
    alone = worker_of(text_folder)
    form = {"caption": "a red circle", "steps": 3, "seed": 5, "count": 2, "guidance": ["cfg:3"]}
    assert files == files_of(alone, drawn(alone, **form))
    assert page.locator("#history img").count() >= 2
    with page.expect_download() as download:
        page.click("#stage figure:nth-child(2) >> text=Download")
    assert Path(download.value.path()).read_bytes() == files[1]
    assert download.value.suggested_filename == "a-red-circle-6.png"


def test_a_dropped_png_fills_the_form_and_is_repeated(page: Any, site: Site, text_folder: Path) -> None:
    alone = worker_of(text_folder)
    form = {"caption": "a blue square", "steps": 4, "seed": "9007199254740993", "count": 3, "sampler": "heun"}
    form |= {
        "guidance": ["cfg:1..2.5..2", "pag:1~exp:2@10-80"],
        "negative": "green",
        "options": {"rescale": 0.3},
    }
    file = files_of(alone, drawn(alone, **form))[1]
    page.evaluate(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "mine.png", { type: "image/png" }));
            dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        list(file),
    )
    until(page, "document.getElementById('caption').value === 'a blue square'")
    assert page.input_value("#seed") == "9007199254740994" and page.input_value("#negative") == "green"
    strengths = page.locator("#chips .chip input:first-of-type")
    assert [strengths.nth(i).input_value() for i in range(strengths.count())] == ["1..2.5..2", "1~exp:2"]
    page.click("#draw")
    page.wait_for_selector("#stage img")
    assert site.file(page.get_attribute("#stage img", "src")) == file


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true. Playwright's own way needs eval, which the page's policy forbids."""
    deadline = time.monotonic() + WAIT / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def open_in_editor(page: Any, pixels: Any) -> None:
    page.click("#tab-edit")
    page.set_input_files("#open-file", {"name": "photo.png", "mimeType": "image/png", "buffer": png(pixels)})
    page.wait_for_selector("#paint:not([disabled])")


def stroke(page: Any, *points: tuple[float, float]) -> None:
    """A stroke over the canvas, points as shares of the picture, which fits the canvas with a margin of 12."""
    box = page.locator("#canvas").bounding_box()
    side = min(box["width"], box["height"]) - 24
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    places = [(left + x * side, top + y * side) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def painted(page: Any) -> str:
    return str(page.inner_text("#mask-size"))


def test_from_a_brush_to_a_painted_picture(page: Any, site: Site, filler_folder: Path) -> None:
    open_in_editor(page, noise())
    page.select_option("#model", filler_folder.name)
    stroke(page, (0.2, 0.2), (0.4, 0.5))
    assert painted(page) != "nothing painted"
    page.fill("#caption", "a blue square")
    before = painted(page)
    page.click("#paint")
    page.wait_for_selector("#results img")
    assert painted(page) == before  # the mask stays, whatever the caption
    data = site.file(page.get_attribute("#results img", "src"))
    masks = [one.data for one in site.worker.store._held.values() if one.name == "mask.png"]
    mask = pixels_of(masks[-1])[..., 0] == 255
    assert 0.02 < mask.mean() < 0.6
    assert np.array_equal(pixels_of(data)[~mask], noise()[~mask])
    assert (pixels_of(data)[mask] != noise()[mask]).any()
    recipe = recipe_in(data, "result")
    assert (
        recipe["made_by"] == "inpaint.py"
        and recipe["image"] == "photo.png"
        and recipe["prompt"] == "a blue square"
    )
    page.click("#results >> text=Edit")  # the result goes into the editor, with the mask as it was
    until(page, "document.getElementById('canvas').getAttribute('aria-label').includes('24 by 24')")
    assert painted(page) == before


def test_the_mask_is_undone_erased_inverted_and_hidden(page: Any) -> None:
    open_in_editor(page, noise())
    states = [painted(page)]
    stroke(page, (0.2, 0.2), (0.6, 0.2))
    states.append(painted(page))
    page.focus("#canvas")
    page.keyboard.press("e")
    page.keyboard.press("]")
    stroke(page, (0.2, 0.2), (0.3, 0.2))
    states.append(painted(page))
    assert all(a != b for a, b in pairwise(states))
    page.focus("#canvas")
    page.keyboard.press("Control+z")
    assert painted(page) == states[1]
    page.keyboard.press("Control+z")
    assert painted(page) == states[0] == "nothing painted"
    page.keyboard.press("Control+Shift+z")
    page.keyboard.press("Control+Shift+z")
    assert painted(page) == states[2]
    share = float(states[2].split("%")[0])
    page.click("#mask-invert")
    assert float(painted(page).split("%")[0]) == pytest.approx(100 - share, abs=0.2)
    page.uncheck("#mask-shown")  # what is hidden paints nothing
    page.click("#paint")
    page.wait_for_selector("#note:not([hidden])")
    assert "The mask is hidden" in page.inner_text("#note")
    page.check("#mask-shown")
    page.click("#mask-clear")
    page.keyboard.press("x")
    stroke(page, (0.25, 0.25), (0.75, 0.5))
    assert painted(page) == "12.5% painted"
    with page.expect_download() as download:
        page.click("#mask-save")
    mask = pixels_of(Path(download.value.path()).read_bytes())[..., 0]
    wanted = np.zeros((24, 24), np.uint8)
    wanted[6:12, 6:18] = 255
    assert np.array_equal(mask, wanted)
    page.click("#mask-clear")
    page.set_input_files("#mask-file", download.value.path())
    until(page, "document.getElementById('mask-size').textContent === '12.5% painted'")


def test_transparency_becomes_the_mask(page: Any) -> None:
    pixels = noise(channels=4)
    pixels[..., 3] = 255
    pixels[:12, :, 3] = 0
    open_in_editor(page, pixels)
    page.click("#mask-alpha")
    assert painted(page) == "50.0% painted"


def test_a_frame_that_is_dragged_outwards_grows_the_picture(
    page: Any, site: Site, filler_folder: Path
) -> None:
    open_in_editor(page, noise())
    page.select_option("#model", filler_folder.name)
    page.focus("#canvas")
    page.keyboard.press("f")
    box = page.locator("#canvas").bounding_box()
    side = min(box["width"], box["height"]) - 24
    stroke(page, (1.0, 0.5), (1.0 + 8 / 24, 0.5))
    assert side > 0 and page.input_value("#extend input[data-side='2']") == "8"
    page.click("#paint")
    page.wait_for_selector("#results img")
    grown = pixels_of(site.file(page.get_attribute("#results img", "src")))
    assert grown.shape == (24, 32, 3) and np.array_equal(grown[:, :24], noise())


def test_stop_keeps_and_cancel_drops(page: Any, site: Site, slowly: None) -> None:
    page.fill("#steps", "100")
    page.click("#draw")
    until(page, "document.querySelector('.job span')?.textContent.includes('step')")
    page.click(".job >> text=Cancel")
    page.wait_for_selector(".job", state="detached")
    assert page.locator("#stage img").count() == 0
    page.click("#draw")
    until(page, "document.querySelector('#stage canvas')?.width === 8")  # a preview has come
    page.click(".job >> text=Stop")
    page.wait_for_selector("#stage img")
    recipe = recipe_in(site.file(page.get_attribute("#stage img", "src")), "result")
    assert recipe["made_by"].startswith("the page, stopped after step")
    until(page, "fetch('/metrics').then((a) => a.text()).then((t) => t.includes('glide_queue_jobs 0'))")


def test_two_tabs_draw_in_turn(page: Any, context: Any, site: Site, slowly: None) -> None:
    other = opened(context, site)
    other.fill("#seed", "77")
    page.fill("#steps", "25")
    page.click("#draw")
    until(page, "document.querySelector('.job span')?.textContent.includes('step')")
    other.click("#draw")
    until(other, "document.querySelector('.job span')?.textContent.includes('1 before you')")
    page.wait_for_selector("#stage img")
    other.wait_for_selector("#stage img")
    seeds = [
        recipe_in(site.file(tab.get_attribute("#stage img", "src")), "x")["seed"] for tab in (page, other)
    ]
    assert seeds == [5, 77]
    other.close()


def test_a_lost_connection_comes_back_to_its_job(context: Any, site: Site, slowly: None) -> None:
    page = context.new_page()
    sockets: list[Any] = []

    def connect(socket: Any) -> None:
        sockets.append((socket, socket.connect_to_server()))

    page.route_web_socket("**/api/socket", connect)
    page.goto(site.address)
    page.wait_for_selector("#draw:not([disabled])")
    page.fill("#caption", "a red circle")
    page.fill("#steps", "30")
    page.click("#draw")
    until(page, "document.querySelector('.job span')?.textContent.includes('step')")
    near, far = sockets[0]
    far.close(code=4000)
    near.close(code=4000)
    page.wait_for_selector("#stage img")
    assert len(sockets) == 2 and page.locator("#history img").count() >= 1
    page.close()


def test_a_page_that_is_loaded_again_finds_its_job(page: Any, site: Site, slowly: None) -> None:
    page.fill("#steps", "30")
    page.click("#draw")
    until(page, "document.querySelector('.job span')?.textContent.includes('step')")
    page.reload()
    page.wait_for_selector("#stage img")
    assert recipe_in(site.file(page.get_attribute("#stage img", "src")), "x")["respacing"] == "30"


def test_hostile_files_are_sentences(page: Any, site: Site) -> None:
    held = len(site.worker.store)
    page.click("#tab-edit")
    script = b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.hacked=1'><script>window.hacked=1</script></svg>"
    for name, data in (
        ("<img src=x onerror=hacked=1>.png", script),
        ("cut.png", png(noise())[:200]),
        ("none.png", b""),
    ):
        page.set_input_files("#open-file", {"name": name, "mimeType": "image/png", "buffer": data})
        until(page, "!document.getElementById('note').hidden")
        said = page.inner_text("#note")
        assert "not a readable picture" in said and "Traceback" not in said
        page.evaluate("document.getElementById('note').hidden = true")
    page.click("#tab-draw")
    page.fill("#caption", "<img src=x onerror='window.hacked=1'>")
    page.click("#draw")
    page.wait_for_selector("#stage img")
    assert page.evaluate("window.hacked") is None and page.locator("#note img").count() == 0
    assert len(site.worker.store) == held + 1


def test_a_grid_and_two_pictures_are_compared(page: Any) -> None:
    page.click("#tab-compare")
    page.select_option("#across", "steps")
    page.fill("#across-values", "1, 2")
    page.select_option("#down", "strength")
    page.fill("#down-values", "0, 1..4")
    page.click("#grid-draw")
    until(page, "document.querySelectorAll('#grid td img').length === 4")
    sources = {image.get_attribute("src") for image in page.query_selector_all("#grid td img")}
    assert len(sources) == 4
    values = [option.get_attribute("value") for option in page.query_selector_all("#left option")]
    page.select_option("#left", values[1])
    page.select_option("#right", values[2])
    page.evaluate(
        "(split) => { split.value = 25; split.dispatchEvent(new Event('input')); }",
        page.query_selector("#split"),
    )
    assert "25%" in page.evaluate("document.getElementById('right-picture').style.clipPath")


def test_a_blind_comparison_counts_for_the_setting_and_not_for_the_side(page: Any, site: Site) -> None:
    page.click("#tab-compare")
    page.select_option("#across", "steps")
    page.fill("#across-values", "1, 4")
    page.fill("#blind-pairs", "3")
    page.click("#blind-draw")
    for pair in range(3):
        page.wait_for_selector("#blind img >> nth=1")
        sources = [image.get_attribute("src") for image in page.query_selector_all("#blind img")]
        files = [site.file(source) for source in sources]
        recipes = [recipe_in(file, "picture") for file in files]
        assert {recipe["respacing"] for recipe in recipes} == {"1", "4"}
        assert [recipe["seed"] for recipe in recipes] == [5 + pair, 5 + pair]
        better = "Left" if recipes[0]["respacing"] == "4" else "Right"
        page.click("#blind >> text=No difference" if pair == 2 else f"#blind >> text={better} is better")
        # the next pair may be there at once
        until(page, f"document.querySelector('#blind img')?.getAttribute('src') !== '{sources[0]}'")
    until(page, "document.getElementById('blind').textContent.includes('Preferred')")
    assert page.inner_text("#blind") == "Preferred: steps 1: 0; steps 4: 2; no difference: 1."


def test_maps_of_guidances_are_shown_step_by_step(page: Any) -> None:
    page.fill("#steps", "6")
    page.click("#tab-compare")
    page.click("#explain")
    until(page, "document.getElementById('explanation').width === 8")
    assert page.text_content("#explained option") == "cfg:3"
    seen = set()
    for step in ("0", "5"):
        page.evaluate(
            "(step) => { const s = document.getElementById('explained-step'); s.value = step;"
            " s.dispatchEvent(new Event('input')); }",
            step,
        )
        assert f"step {int(step) + 1} of 6" in page.inner_text("#explained-words")
        seen.add(page.evaluate("document.getElementById('explanation').toDataURL()"))
    assert len(seen) == 2


def test_everything_has_a_name_for_a_screen_reader(page: Any) -> None:
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, canvas, img")].filter((one) => {
            const label = one.labels?.length && [...one.labels].some((label) => label.textContent.trim());
            const named = one.getAttribute("aria-label") || one.getAttribute("alt") || one.title;
            return !(label || named || one.textContent.trim());
        }).map((one) => one.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_dark_and_light(page: Any, scheme: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme=scheme)
    for tab in ("draw", "edit", "compare"):
        page.click(f"#tab-{tab}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back.strip("rgb()").split(","))) < 200) == (scheme == "dark")


def test_nothing_has_left_the_machine(site: Site) -> None:
    """All requests of all tests above, as Chromium saw them."""
    assert len(site.requests) > 50
    outside = [url for url in site.requests if not url.startswith((f"{site.address}/", "blob:"))]
    assert outside == []
