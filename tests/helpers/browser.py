"""A headless Chromium for tests of pages, and what is wrong with the layout of one."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest

FAULTS = """
const width = document.documentElement.clientWidth, found = [];
if (document.documentElement.scrollWidth > width + 1) found.push("the page is wider than the window");
for (const one of document.querySelectorAll("button, td, th, h2, figcaption, .tiles div, input")) {
  const box = one.getBoundingClientRect();
  if (box.width && one.closest(".scroll") === null && (box.right > width + 1 || box.left < -1))
    found.push(`${one.tagName} ${one.textContent.slice(0, 30)} sticks out`);
}
const parts = [...document.querySelectorAll("button, .picture, .tiles div")];
const boxes = parts.map((part) => [part, part.getBoundingClientRect()]);
for (const [a, p] of boxes) for (const [b, q] of boxes)
  if (a !== b && !a.contains(b) && !b.contains(a) && p.width && q.width && p.left < q.right - 1 &&
      q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1)
    found.push(`${a.textContent.slice(0, 20)} overlaps ${b.textContent.slice(0, 20)}`);
return found;
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
