"""The report's page in a real browser: pictures load, the slider moves, the choices work, nothing is complained of.

Headless Chromium opens a copy of the page to which a script is added that does what a person would and writes down what
it sees; `--dump-dom` brings that back.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

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
ATTEMPTS = 3  # there the page's time, which is not the clock's, may run out before its pictures are decoded

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
  document.body.insertAdjacentHTML("beforeend", `<pre id=seen>${JSON.stringify(seen)}</pre>`);
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


def browse(path: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page, wait for what its scripts do, and close."""
    assert BROWSER is not None
    settings = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
    command = [BROWSER, *settings, f"--user-data-dir={profile}", "--virtual-time-budget=20000", *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True)


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict:
    """What the added script wrote down."""
    folder = tmp_path_factory.mktemp("browser")
    text = made_page().replace("<head>", f"<head>{WATCH}").replace("</body>", f"{ACT}</body>")
    (folder / "page.html").write_text(text, encoding="utf-8")
    for attempt in range(ATTEMPTS):
        profile = folder / f"profile{attempt}"
        dumped = browse(folder / "page.html", profile, "--window-size=1280,900", "--dump-dom").stdout
        if found := re.search(r"<pre id=\"seen\">(.*?)</pre>", dumped):
            return json.loads(html.unescape(found[1]))
    pytest.fail(f"the script did not come to its end: {dumped[-500:]}")


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
    browse(tmp_path / "page.html", tmp_path / "profile", "--window-size=1280,2400", f"--screenshot={picture}")
    screen = cv2.imread(str(picture)).astype(int)
    assert screen.shape == (2400, 1280, 3)
    colourful = (screen.max(2) - screen.min(2) > 40).sum()
    # the slider alone has 320 x 240 px, half of which are as colourful in the scene
    assert colourful > 20_000
