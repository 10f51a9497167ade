"""A page on which to click gel corners: one HTML file with the pictures inside, no server, no library.

It shows where the rig expects the gel, so the order of the corners is plain, and saves `corners.csv`.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tacit.images import encode_png
from tacit.record.samples import load_samples
from tacit.rig import Rig
from tacit_calibration.samples import joints_in_order, picture, state_of
from tacit_calibration.touch.clicks import FILE_NAME, HEADER

PAGE_NAME = "corners.html"


def write_click_page(
    rig: Rig, camera: str, folder: Path, guesses: Mapping[tuple[str, str], np.ndarray] | None = None
) -> Path:
    """Write `corners.html` beside the samples and return its path.

    Args:
        rig: Its boxes are drawn as what is expected.
        camera: Which took the pictures.
        folder: With `samples.yaml`.
        guesses: {(picture, sensor): corners (4, 2) [px]} that were found and only need a look.
    """
    found = {} if guesses is None else guesses
    listed = load_samples(folder)
    joints = joints_in_order(listed, rig, folder)
    shots = []
    for sample, q in zip(listed.samples, joints, strict=True):
        state = state_of(rig, listed.arm, q, sample.gripper_raw)
        expected = {
            name: _listed(footprint.corners) for name, footprint in rig.sensor_boxes(state, camera).items()
        }
        data = base64.b64encode(encode_png(picture(folder, sample)).tobytes()).decode()
        mine = {name: _listed(corners) for (image, name), corners in found.items() if image == sample.image}
        shots.append({"image": sample.image, "png": data, "expected": expected, "found": mine})
    sensors = [name for name, spec in rig.tactile.items() if spec.mount.startswith(f"{listed.arm}.")]
    text = _PAGE.replace("@TITLE@", html.escape(f"{rig.name}: gel corners in {camera}"))
    text = text.replace("@FILE@", FILE_NAME).replace("@HEADER@", ",".join(HEADER))
    text = text.replace("@SHOTS@", _script(shots)).replace("@SENSORS@", _script(sensors))
    path = folder / PAGE_NAME
    path.write_text(text, encoding="utf-8")
    return path


def _listed(corners: np.ndarray) -> list[list[float]] | None:
    return corners.round(2).tolist() if np.isfinite(corners).all() else None


def _script(value: object) -> str:
    """Return JSON that cannot end a script element."""
    return json.dumps(value).replace("<", "\\u003c")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;margin:1rem;background:#f7f7f5;color:#22262c;overflow-wrap:anywhere}
canvas{display:block;width:100%;height:70vh;background:#333;cursor:crosshair;touch-action:none}
canvas:focus{outline:3px solid #2563b0} button{font:inherit;margin:0 .5rem .3rem 0} ul{padding-left:1.2rem}
.swatch{display:inline-block;width:.9em;height:.9em;border:1px solid #22262c;margin-right:.4em}
</style></head><body>
<h1>@TITLE@</h1>
<p>For each picture and sensor click the four corners of the gel face in the order and colours of the list;
small numbers and dashes show where the rig expects them now, or where they were found.</p>
<ul id="legend"></ul>
<p><kbd>wheel</kbd>, <kbd>+</kbd>, <kbd>-</kbd> zoom, <kbd>0</kbd> shows the whole picture, <kbd>g</kbd> the
gel. Without a mouse: <kbd>arrows</kbd> move the cross by a pixel (with <kbd>Shift</kbd> by ten),
<kbd>Enter</kbd> sets a corner there, <kbd>k</kbd> keeps the four that were found.
<kbd>Backspace</kbd> takes the last one back, <kbd>Space</kbd> skips a gel that is hidden.</p>
<p id="ask" aria-live="polite"></p><canvas id="view" tabindex="0"></canvas>
<p><button id="keep">Keep what was found</button>
<button id="save">Save @FILE@</button> put it beside this page, then run
<code>tacit calibrate sensor</code>.</p>
<script>
"use strict";
const shots = @SHOTS@, sensors = @SENSORS@;
const colours = ["#ff9f1c", "#40c4ff", "#7ce05c", "#ff6392"];
const corners = ["-x -y", "+x -y", "+x +y", "-x +y"];
const tasks = shots.flatMap(s => sensors.map(name => ({shot: s, name, points: [], skipped: false})));
const canvas = document.getElementById("view"), pen = canvas.getContext("2d"), image = new Image();
// A pixel (u, v) of the picture, its centre at an integer, lies at left + (u + .5) * scale on the canvas.
const view = {scale: 1, left: 0, top: 0}, cross = [0, 0];
let at = 0;
document.getElementById("legend").innerHTML = corners.map((name, i) =>
  `<li><span class="swatch" style="background:${colours[i]}"></span>${i}: ${name} of the sensor</li>`
).join("");
const guess = t => t.shot.found[t.name] || null;
const task = () => tasks[Math.min(at, tasks.length - 1)];
const toCanvas = ([u, v]) => [view.left + (u + .5) * view.scale, view.top + (v + .5) * view.scale];
const toPicture = (x, y) => [(x - view.left) / view.scale - .5, (y - view.top) / view.scale - .5];
function show(box, margin) {
  const [u0, v0, u1, v1] = box, width = u1 - u0 + 1, height = v1 - v0 + 1;
  view.scale = Math.min(canvas.width / width, canvas.height / height) / margin;
  view.left = canvas.width / 2 - (u0 + u1 + 1) / 2 * view.scale;
  view.top = canvas.height / 2 - (v0 + v1 + 1) / 2 * view.scale;
}
const whole = () => show([0, 0, image.width - 1, image.height - 1], 1);
function gel() {
  const expected = guess(task()) || task().shot.expected[task().name];
  if (!expected) return whole();
  const u = expected.map(p => p[0]), v = expected.map(p => p[1]);
  show([Math.min(...u), Math.min(...v), Math.max(...u), Math.max(...v)], 2.5);
}
function zoom(factor, x, y) {
  const scale = Math.min(64, Math.max(.1, view.scale * factor)), by = scale / view.scale;
  view.left = x - (x - view.left) * by; view.top = y - (y - view.top) * by; view.scale = scale;
  draw();
}
function begin() {
  image.onload = () => {
    canvas.width = canvas.clientWidth; canvas.height = canvas.clientHeight; gel();
    cross[0] = Math.round(toPicture(canvas.width / 2, 0)[0]);
    cross[1] = Math.round(toPicture(0, canvas.height / 2)[1]);
    draw();
  };
  image.src = "data:image/png;base64," + task().shot.png;
}
function draw() {
  document.getElementById("ask").textContent = at < tasks.length
    ? `${at + 1} of ${tasks.length}: ${task().shot.image}, sensor ${task().name}, corner ` +
      `${task().points.length} (${corners[task().points.length]})`
    : "done; save the file";
  pen.clearRect(0, 0, canvas.width, canvas.height); pen.imageSmoothingEnabled = false;
  pen.drawImage(image, view.left, view.top, image.width * view.scale, image.height * view.scale);
  outline(guess(task()) || task().shot.expected[task().name], [5, 5]); outline(task().points, []);
  const [x, y] = toCanvas(cross);
  pen.setLineDash([]); pen.strokeStyle = "#fff"; pen.beginPath();
  pen.moveTo(x - 9, y); pen.lineTo(x + 9, y); pen.moveTo(x, y - 9); pen.lineTo(x, y + 9); pen.stroke();
}
function outline(points, dash) {
  if (!points || !points.length) return;
  const placed = points.map(toCanvas);
  pen.strokeStyle = "#fff"; pen.setLineDash(dash); pen.beginPath();
  placed.forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y));
  if (points.length === 4) pen.closePath(); pen.stroke();
  pen.font = "bold 15px sans-serif"; pen.setLineDash([]);
  placed.forEach(([x, y], i) => {
    pen.fillStyle = colours[i]; pen.fillText(i, x + 6, y - 6);
    pen.beginPath(); pen.arc(x, y, dash.length ? 3 : 5, 0, 7); pen.fill();
  });
}
function set(point) {
  if (at >= tasks.length) return;
  task().points.push(point);
  if (task().points.length === 4) { at++; begin(); } else draw();
}
function pointed(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width,
          (event.clientY - box.top) * canvas.height / box.height];
}
function keep() {
  if (at >= tasks.length || !guess(task())) return;
  task().points = guess(task()).map(point => [...point]); at++; begin();
}
document.getElementById("keep").onclick = keep;
canvas.onclick = event => set(toPicture(...pointed(event)));
canvas.addEventListener("wheel", event => {
  event.preventDefault(); zoom(event.deltaY < 0 ? 1.25 : .8, ...pointed(event));
}, {passive: false});
window.onresize = begin;
const moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
document.onkeydown = event => {
  const key = event.key;
  if (event.target && ["save", "keep"].includes(event.target.id) && (key === " " || key === "Enter")) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (moves[key]) { moves[key].forEach((d, i) => cross[i] += d * (event.shiftKey ? 10 : 1)); draw(); }
  else if (key === "Enter") set([...cross]);
  else if (key === "+" || key === "=") zoom(1.25, ...toCanvas(cross));
  else if (key === "-") zoom(.8, ...toCanvas(cross));
  else if (key === "0") { whole(); draw(); }
  else if (key === "k") keep();
  else if (key === "g") { gel(); draw(); }
  else if (key === " " && at < tasks.length) { task().points = []; task().skipped = true; at++; begin(); }
  else if (key === "Backspace") {
    if (at >= tasks.length || (!task().points.length && at > 0)) { at--; begin(); }
    task().points.pop(); draw();
  } else return;
  event.preventDefault();
};
document.getElementById("save").onclick = () => {
  const rows = tasks.filter(t => t.points.length === 4)
    .map(t => [t.shot.image, t.name, ...t.points.flat().map(x => x.toFixed(3))].join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["@HEADER@\\n" + rows.join("\\n") + "\\n"], {type: "text/csv"}));
  link.download = "@FILE@"; link.click();
};
begin();
</script></body></html>
"""
