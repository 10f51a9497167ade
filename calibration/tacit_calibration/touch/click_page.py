"""A page on which to click gel corners: one HTML file with the pictures inside, no server, no library.

It shows where the rig expects the gel, so the order of the corners is plain, and saves `corners.csv`.
"""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path

import numpy as np

from tacit.images import encode_png
from tacit.record.samples import load_samples
from tacit.rig import Rig
from tacit_calibration.samples import joints_in_order, picture, state_of
from tacit_calibration.touch.clicks import FILE_NAME, HEADER

PAGE_NAME = "corners.html"


def write_click_page(rig: Rig, camera: str, folder: Path) -> Path:
    """Write `corners.html` beside the samples and return its path."""
    listed = load_samples(folder)
    joints = joints_in_order(listed, rig, folder)
    shots = []
    for sample, q in zip(listed.samples, joints, strict=True):
        state = state_of(rig, listed.arm, q, sample.gripper_raw)
        expected = {
            name: _listed(footprint.corners) for name, footprint in rig.sensor_boxes(state, camera).items()
        }
        data = base64.b64encode(encode_png(picture(folder, sample)).tobytes()).decode()
        shots.append({"image": sample.image, "png": data, "expected": expected})
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
<style>
body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem;background:#f7f7f5;color:#22262c}
canvas{border:1px solid #bbb;cursor:crosshair;max-width:100%;image-rendering:pixelated}
button{font:inherit;margin-right:.5rem} b{color:#0a5}
</style></head><body>
<h1>@TITLE@</h1>
<p>For each picture and sensor click the four corners of the gel face in the order of the small numbers
0 to 3 (where the rig expects them now, dashed). <kbd>Backspace</kbd> takes the last one back,
<kbd>Space</kbd> skips a gel that is hidden.</p>
<p id="ask"></p><canvas id="view"></canvas>
<p><button id="save">Save @FILE@</button> put it beside this page, then run
<code>tacit calibrate sensor</code>.</p>
<script>
"use strict";
const shots = @SHOTS@, sensors = @SENSORS@, zoom = 2;
const tasks = shots.flatMap(s => sensors.map(name => ({shot: s, name, points: [], skipped: false})));
const canvas = document.getElementById("view"), pen = canvas.getContext("2d");
let at = 0;
function draw() {
  const task = tasks[Math.min(at, tasks.length - 1)], image = new Image();
  document.getElementById("ask").innerHTML = at < tasks.length
    ? `${at + 1} of ${tasks.length}: ${task.shot.image}, sensor <b></b>, corner ${task.points.length}`
    : "done; save the file";
  const b = document.querySelector("#ask b"); if (b) b.textContent = task.name;
  image.onload = () => {
    canvas.width = image.width * zoom; canvas.height = image.height * zoom;
    pen.imageSmoothingEnabled = false; pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    outline(task.shot.expected[task.name], "#fa0", [5, 5]); outline(task.points, "#0f6", []);
  };
  image.src = "data:image/png;base64," + task.shot.png;
}
function outline(points, colour, dash) {
  if (!points || !points.length) return;
  pen.strokeStyle = pen.fillStyle = colour; pen.setLineDash(dash); pen.beginPath();
  points.forEach(([u, v], i) => {
    const x = (u + .5) * zoom, y = (v + .5) * zoom;
    i ? pen.lineTo(x, y) : pen.moveTo(x, y); pen.fillText(i, x + 3, y - 3);
  });
  if (points.length === 4) pen.closePath(); pen.stroke();
}
canvas.onclick = event => {
  if (at >= tasks.length) return;
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width / zoom;
  tasks[at].points.push([(event.clientX - box.left) * scale - .5, (event.clientY - box.top) * scale - .5]);
  if (tasks[at].points.length === 4) at++;
  draw();
};
document.onkeydown = event => {
  if (event.key === " " && at < tasks.length) { tasks[at].points = []; tasks[at].skipped = true; at++; }
  else if (event.key === "Backspace") {
    if (at >= tasks.length || (!tasks[at].points.length && at > 0)) at--;
    tasks[at].points.pop();
  } else return;
  event.preventDefault(); draw();
};
document.getElementById("save").onclick = () => {
  const rows = tasks.filter(t => t.points.length === 4)
    .map(t => [t.shot.image, t.name, ...t.points.flat().map(x => x.toFixed(3))].join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["@HEADER@\\n" + rows.join("\\n") + "\\n"], {type: "text/csv"}));
  link.download = "@FILE@"; link.click();
};
draw();
</script></body></html>
"""
