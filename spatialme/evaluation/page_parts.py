"""Style and script of the report's page."""

from __future__ import annotations

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; color: #222; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { border: 1px solid #ccc; padding: .25rem .5rem; text-align: left; vertical-align: top; white-space: nowrap; }
th { background: #f2f2f2; }
small { color: #666; font-weight: normal; font-size: 11px; }
td:last-child { white-space: normal; }
.slider { position: relative; width: 100%; }
.slider img { position: absolute; inset: 0; width: 100%; height: 100%; }
.slider .line { position: absolute; top: 0; bottom: 0; width: 2px; background: #fff; box-shadow: 0 0 2px #000; }
.slider .line::after { content: ""; position: absolute; top: 50%; left: -9px; width: 16px; height: 16px;
  border: 2px solid #fff; border-radius: 50%; box-shadow: 0 0 2px #000; }
.slider input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.crops { display: flex; flex-wrap: wrap; gap: .5rem; margin: .5rem 0; }
figure { margin: 0; } figcaption { font-size: 12px; } .crops img { width: 160px; image-rendering: pixelated; }
svg text { font: 12px system-ui, sans-serif; }
"""

SCRIPT = """
for (const clip of document.querySelectorAll(".clip")) {
  const sources = JSON.parse(clip.querySelector("script").textContent);
  const over = clip.querySelector("img.over"), line = clip.querySelector(".line");
  for (const role of ["under", "over"]) {
    const choice = clip.querySelector("select." + role);
    const show = () => { clip.querySelector("img." + role).src = sources[choice.value]; };
    choice.addEventListener("change", show);
    show();
  }
  const slider = clip.querySelector("input");
  const move = () => {
    const share = slider.value / 10;
    over.style.clipPath = `inset(0 0 0 ${share}%)`;
    line.style.left = `${share}%`;
  };
  slider.addEventListener("input", move);
  move();
}
"""
