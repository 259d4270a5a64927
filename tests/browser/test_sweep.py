"""The sweep's page in a real browser: it opens without errors, hover tells the numbers, a family can be hidden."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from hifi_ref.sweep import command

# Where a configuration is drawn, in pixels from the page's corner.
PLACE = """
const drawing = document.getElementById("loss"), {xaxis, yaxis} = drawing._fullLayout;
for (const trace of drawing.data) {
  const i = trace.mode == "markers" ? trace.text.indexOf(arguments[0]) : -1;
  if (i >= 0) {
    const box = drawing.getBoundingClientRect(), point = drawing.calcdata[drawing.data.indexOf(trace)][i];
    return [box.left + xaxis._offset + xaxis.c2p(point.x), box.top + yaxis._offset + yaxis.c2p(point.y)];
  }
}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sweep.html, and sweep.json of the same."""
    folder = tmp_path_factory.mktemp("sweep")
    families = "--families=llama.cpp,hifi,hyper-single,neighbours"
    arguments = ["gauss", "--sample=2048", families, f"--html={folder}/sweep.html", f"--json={folder}/sweep.json"]
    assert command.main(arguments) == 0
    return folder


@pytest.fixture
def page(browser: Chrome, made: Path) -> Chrome:
    browser.set_window_size(1300, 1000)
    browser.get_log("browser")
    browser.get((made / "sweep.html").as_uri())
    WebDriverWait(browser, 60).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#loss .point"))
    return browser


def points(page: Chrome) -> int:
    return len(page.find_elements(By.CSS_SELECTOR, "#loss .point"))


def test_it_opens(page: Chrome, made: Path) -> None:
    assert page.get_log("browser") == []
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    report = json.loads((made / "sweep.json").read_text())
    assert points(page) == len(report["configurations"])
    text = page.find_element(By.TAG_NAME, "body").text
    assert f"{len(report['configurations'])} configurations on 2,048 weights of gauss" in text
    assert "Which to choose" in text and all(verdict["sentence"] in text for verdict in report["verdicts"])
    assert all(gap["name"] in text for gap in report["ggml"])


@pytest.mark.parametrize("name", ["Q4_K", "TQ1_0", "Q8_0", "hyper 6s/64 fp16", "mlx.affine bits=3 group_size=64"])
def test_hover_tells_the_numbers(page: Chrome, made: Path, name: str) -> None:
    report = json.loads((made / "sweep.json").read_text())
    (known,) = [c for c in report["configurations"] if c["name"] == name]
    if known["family"] != "llama.cpp":
        # Others lie too close together to be met without zoom.
        at, loss = known["bits"], math.log10(known["losses"]["normalized"])
        ranges = {"xaxis.range": [at - 0.02, at + 0.02], "yaxis.range": [loss - 0.003, loss + 0.003]}
        page.execute_async_script("Plotly.relayout('loss', arguments[0]).then(arguments[1])", ranges)
    x, y = page.execute_script(PLACE, name)
    chain = ActionChains(page, duration=50)
    chain.w3c_actions.pointer_action.move_to_location(round(x) - 2, round(y))
    chain.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    chain.perform()
    wanted = (name, f"{known['bits']:.5g} bits", f"loss {known['losses']['normalized']:.5g}")

    def has_all(b: Chrome) -> bool:
        shown = "".join(each.text for each in b.find_elements(By.CSS_SELECTOR, "#loss .hovertext"))
        return all(part in shown for part in wanted)

    WebDriverWait(page, 60).until(has_all)


def test_a_family_is_hidden(page: Chrome, made: Path) -> None:
    report = json.loads((made / "sweep.json").read_text())
    number = sum(c["family"] == "hyper-single" for c in report["configurations"])
    before = points(page)
    entry = page.find_element(By.XPATH, "//*[@class='legendtext' and starts-with(text(), 'hyper-single')]/..")
    toggle = entry.find_element(By.CLASS_NAME, "legendtoggle")
    ActionChains(page).move_to_element(toggle).click().perform()
    WebDriverWait(page, 60).until(lambda b: points(b) == before - number)


def test_zoom(page: Chrome) -> None:
    before = page.execute_script("return document.getElementById('loss')._fullLayout.xaxis.range")
    (x, y), (right, below) = page.execute_script(PLACE, "Q4_K"), page.execute_script(PLACE, "Q5_K")
    mouse = ActionChains(page, duration=200)
    mouse.w3c_actions.pointer_action.move_to_location(round(x) - 30, round(y) - 30)
    mouse.w3c_actions.pointer_action.pointer_down().move_to_location(round(right) + 30, round(below) + 60).pointer_up()
    mouse.perform()

    def zoomed(b: Chrome) -> bool:
        low, high = b.execute_script("return document.getElementById('loss')._fullLayout.xaxis.range")
        return before[0] < low < 4.5 < 5.5 < high < before[1]

    WebDriverWait(page, 60).until(zoomed)


def test_on_a_phone_and_in_print(page: Chrome) -> None:
    page.set_window_size(500, 900)
    page.execute_script("document.documentElement.style.width = '380px'; window.dispatchEvent(new Event('resize'))")
    WebDriverWait(page, 60).until(lambda b: b.find_element(By.ID, "loss").size["width"] <= 380)
    page.refresh()
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert base64.b64decode(page.print_page())[:5] == b"%PDF-"
