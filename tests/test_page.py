"""The report's page in a real browser: pictures load, the slider moves, the choices work, nothing is complained of.

Headless Chromium opens a copy of the page to which a script is added that does what a person would, writes down what it
sees, and sends that to the test. The page's time is the clock's: in `--virtual-time-budget`'s, a busy machine has not
decoded the pictures when the budget is spent.
"""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from spatialme.evaluation.page import page
from spatialme.evaluation.protocols import Protocol
from spatialme.evaluation.results import Comparison, Row, Shown
from tests.stereo_files import arrays, crowd

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
TIMEOUT_SECONDS = 240  # a browser's first start on a busy machine
SETTINGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium"),
]

WATCH = """<script>
const seen = {errors: []};
addEventListener("error", event => seen.errors.push(String(event.message)));
console.error = (...said) => seen.errors.push(said.join(" "));
</script>"""

ACT = """<script>
addEventListener("load", async () => {
  const clip = document.querySelector(".clip"), slider = clip.querySelector("input");
  const over = clip.querySelector("img.over"), under = clip.querySelector("img.under");
  const line = clip.querySelector(".line"), choice = clip.querySelector("select.over");
  await Promise.all([...document.images].map(image => image.decode()));
  seen.broken = [...document.images].filter(image => !image.naturalWidth).length;
  seen.images = document.images.length;
  clip.scrollIntoView();
  seen.before = [getComputedStyle(over).clipPath, line.getBoundingClientRect().left];
  slider.value = 250;
  slider.dispatchEvent(new Event("input"));
  seen.after = [getComputedStyle(over).clipPath, line.getBoundingClientRect().left];
  const box = clip.querySelector(".slider").getBoundingClientRect();
  seen.box = [box.left, box.width, box.height];
  seen.overlap = JSON.stringify(over.getBoundingClientRect()) === JSON.stringify(under.getBoundingClientRect());
  const hit = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  seen.hit = hit && hit.tagName;
  const first = over.src;
  choice.value = choice.options[0].value;
  choice.dispatchEvent(new Event("change"));
  await over.decode();
  seen.changed = over.src !== first && over.src === under.src;
  seen.wide = document.documentElement.scrollWidth - innerWidth;
  seen.done = true;
  fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
});
</script>"""


def made_page() -> str:
    """A comparison of two methods on one clip."""
    scene = crowd(width=320, height=240)
    left, right = arrays(scene.left)[0], arrays(scene.right)[0]
    hole = scene.hole[0, 0].numpy()
    filled = np.where(hole[..., None], np.uint8(40), right)
    views = {"copy_left": left, "stretch <fast>": filled}
    rows = [
        Row("crowd", name, 1, {"psnr": 20.0 + index, "lpips": 0.1}, 0.1 * (1 + index), 100.0)
        for index, name in enumerate(views)
    ]
    shown = Shown("crowd & co", 0, left, right, hole, views)
    methods = dict.fromkeys(views, "what it is")
    return page(Comparison(Protocol(), tuple(rows), (shown,), methods, ("copy_left",), {"machine": "this"}))


@contextlib.contextmanager
def served(text: str) -> Iterator[tuple[str, queue.Queue[bytes]]]:
    """The page on this machine's own address, and what its script sends back."""
    sent: queue.Queue[bytes] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(text.encode() if self.path == "/" else b"")

        def do_POST(self) -> None:
            sent.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(b"")

        def log_message(self, *_) -> None:
            """Nothing: the browser's requests are no news."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", sent
        server.shutdown()


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict:
    """What the added script wrote down."""
    assert BROWSER is not None
    profile = tmp_path_factory.mktemp("browser")
    text = made_page().replace("<head>", f"<head>{WATCH}").replace("</body>", f"{ACT}</body>")
    with served(text) as (address, sent):
        command = [BROWSER, *SETTINGS, f"--user-data-dir={profile}", "--window-size=1280,900", address]
        # what the browser says goes nowhere: its complaints about a missing desktop are many
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                return json.loads(sent.get(timeout=TIMEOUT_SECONDS))
            finally:
                browser.terminate()


def test_every_picture_loads_and_nothing_is_complained_of(seen):
    assert seen["errors"] == []
    assert seen["broken"] == 0
    assert seen["images"] >= 2


def test_the_slider_moves_the_line_and_the_border_between_the_pictures(seen):
    left, width, height = seen["box"]
    assert (seen["before"][0], seen["after"][0]) == ("inset(0px 0px 0px 50%)", "inset(0px 0px 0px 25%)")
    assert seen["before"][1] == pytest.approx(left + width / 2, abs=2)
    assert seen["after"][1] == pytest.approx(left + width / 4, abs=2)
    assert width / height == pytest.approx(320 / 240, rel=0.01)
    assert seen["hit"] == "INPUT", "something lies over the slider"


def test_both_pictures_lie_on_each_other_and_are_chosen_by_name(seen):
    assert seen["overlap"]
    assert seen["changed"]


def test_the_page_is_not_wider_than_the_window(seen):
    assert seen["wide"] <= 0


def test_a_screenshot_shows_the_clip(tmp_path):
    (tmp_path / "page.html").write_text(made_page(), encoding="utf-8")
    picture = tmp_path / "page.png"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    shot = ("--window-size=1280,2400", f"--screenshot={picture}", (tmp_path / "page.html").as_uri())
    subprocess.run([BROWSER, *SETTINGS, profile, *shot], capture_output=True, timeout=TIMEOUT_SECONDS, check=True)
    screen = cv2.imread(str(picture)).astype(int)
    assert screen.shape == (2400, 1280, 3)
    colourful = (screen.max(2) - screen.min(2) > 40).sum()
    # the slider alone has 320 x 240 px, half of which are as colourful in the scene
    assert colourful > 20_000
