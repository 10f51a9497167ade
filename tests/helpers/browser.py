"""A headless Chromium for tests of pages, and what is wrong with the layout of one.

Found: what sticks out of the window or of its plot, parts that overlap, cells that run into each other,
words broken in two, texts of plots that are too small to read or lie on each other, errors of the console.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest

FAULTS = """
const width = document.documentElement.clientWidth, found = [];
const words = (one) => one.textContent.trim().slice(0, 30);
const all = (what) => [...document.querySelectorAll(what)];
const apart = (p, q, by) => p.right <= q.left + by || q.right <= p.left + by || p.bottom <= q.top + by ||
  q.bottom <= p.top + by;
function printed(one) {
  const range = document.createRange();
  range.selectNodeContents(one);
  return range;
}

if (document.documentElement.scrollWidth > width + 1) found.push("the page is wider than the window");
for (const one of all("button, td, th, h1, h2, h3, p, figcaption, .tiles div, input, img, figure")) {
  const box = one.getBoundingClientRect();
  if (box.width && one.closest(".scroll") === null && (box.right > width + 1 || box.left < -1))
    found.push(`${one.tagName} ${words(one)} sticks out`);
}

const parts = all("button, .picture, .tiles div").map((part) => [part, part.getBoundingClientRect()]);
for (const [a, p] of parts) for (const [b, q] of parts)
  if (a !== b && !a.contains(b) && !b.contains(a) && p.width && q.width && !apart(p, q, 1))
    found.push(`${words(a)} overlaps ${words(b)}`);

for (const row of all("tr")) {  // cells run into each other where only their boxes are apart
  const cells = [...row.cells].map((cell) => [cell, printed(cell).getBoundingClientRect()]);
  cells.filter(([, box]) => box.width).reduce((before, now) => {
    if (before && now[1].left < before[1].right + 4)
      found.push(`${words(before[0])} runs into ${words(now[0])}`);
    return now;
  }, null);
}

for (const cell of all("td, th")) {  // a word that is broken in two stands on two lines
  const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  for (let text; (text = walk.nextNode());)
    for (const word of text.data.matchAll(/[^\\s\\/-]{2,20}(?=[\\s\\/-]|$)/g)) {
      const range = document.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (word[0].length < 21 && !/[^\\s]/.test(text.data[word.index - 1] || " ") &&
          new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1)
        found.push(`${word[0]} is broken in two`);
    }
}

for (const svg of all("svg.plot")) {
  const frame = svg.getBoundingClientRect();
  if (!frame.width) continue;
  const texts = [...svg.querySelectorAll("text")].filter((text) => text.textContent.trim());
  const boxes = texts.map((text) => text.getBoundingClientRect());
  const scale = frame.width / svg.viewBox.baseVal.width;
  texts.forEach((text, i) => {
    const size = parseFloat(getComputedStyle(text).fontSize) * scale;
    if (size < 9) found.push(`${words(text)} is ${size.toFixed(1)} px high`);
    if (boxes[i].left < frame.left - 1 || boxes[i].right > frame.right + 1)
      found.push(`${words(text)} leaves its plot`);
    for (let j = 0; j < i; j++)
      if (!apart(boxes[i], boxes[j], 2)) found.push(`${words(text)} lies on ${words(texts[j])}`);
  });
  for (const one of svg.querySelectorAll("rect, circle, line")) {
    const box = one.getBoundingClientRect();
    if (box.left < frame.left - 1 || box.right > frame.right + 1)
      found.push(`a ${one.tagName} leaves its plot`);
  }
}
return [...new Set(found)];
"""


@contextlib.contextmanager
def chromium(width: int = 1400, height: int = 1000) -> Iterator[object]:
    """Yield a selenium driver of a headless Chromium; skips the test where there is none."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium and chromium-driver on this machine")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for word in ("--headless=new", "--disable-gpu", f"--window-size={width},{height}"):
        options.add_argument(word)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    running = webdriver.Chrome(options=options, service=service)
    try:
        yield running
    finally:
        running.quit()


def layout_faults(driver: object, width: int, height: int = 1000) -> list[str]:
    """Return what sticks out or overlaps in the present page at a width of the window [px]."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)  # type: ignore[attr-defined]
    return list(driver.execute_script(FAULTS))  # type: ignore[attr-defined]


def console_errors(driver: object) -> list[str]:
    """Return the errors of the console since the last call."""
    log = driver.get_log("browser")  # type: ignore[attr-defined]
    return [line["message"] for line in log if line["level"] == "SEVERE"]
