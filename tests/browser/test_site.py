"""The site, built as docs/site.md says, in a real browser: whole, quiet, and for everybody to use."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import axe_core_python
import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from hifi_ref.formats import FORMATS
from tests.paths import ROOT

# One process builds the site and has the browser.
pytestmark = pytest.mark.xdist_group("browser")

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
# The rules of WCAG, levels A and AA; in the dark, what depends on colours.
AXE_OPTIONS = {
    # That listings can be reached by key the theme sees to, where there is a pointer that can hover, and here is none.
    "default": {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
                "rules": {"scrollable-region-focusable": {"enabled": False}}},
    "slate": {"runOnly": {"type": "rule", "values": ["color-contrast"]}},
}  # fmt: skip
# Folders of pages that a program writes alike: one stands for all.
ALIKE = ("source/", "conformance/")
# One page of each kind.
KINDS = ("index.html", "formats/q8_0.html", "api.html", "families.html", "porting.html", "glossary.html")


class Site(NamedTuple):
    folder: Path
    address: str

    def pages(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*.html"))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    command = (
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        f"--config-file={ROOT}/mkdocs.yml",
        f"--site-dir={folder}",
    )
    env = os.environ | {"JAX_PLATFORMS": "cpu", "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Site(folder, f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()


class Links(HTMLParser):
    """The addresses that a page names, those among them that a browser fetches by itself, and its anchors."""

    def __init__(self, page: str):
        super().__init__()
        self.names: list[str] = []
        self.fetches: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.anchors |= {found[key] for key in ("id", "name") if key in found}
        address = found.get("href", found.get("src"))
        if address is not None and tag not in ("base", "use"):
            self.names.append(address)
            if tag != "a":
                self.fetches.append(address)


# THE FILES


def wrong_links(folder: Path, pages: dict[str, Links]) -> list[tuple[str, str]]:
    """Page and address: what leads nowhere, or would be fetched from elsewhere."""
    wrong = []
    for page, links in pages.items():
        for name in links.names:
            parts = urllib.parse.urlsplit(name)
            if parts.scheme or parts.netloc or page == "404.html":
                continue
            target = os.path.normpath(os.path.join(os.path.dirname(page), urllib.parse.unquote(parts.path)))
            target = page if not parts.path else target
            whole = (folder / target).is_file() and (
                target not in pages or urllib.parse.unquote(parts.fragment) in pages[target].anchors
            )
            if not whole:
                wrong.append((page, name))
        wrong += [(page, name) for name in links.fetches if urllib.parse.urlsplit(name).netloc]
    return wrong


def test_links_lead_somewhere_and_nothing_is_fetched_from_elsewhere(site: Site) -> None:
    pages = {page: Links((site.folder / page).read_text()) for page in site.pages()}
    assert wrong_links(site.folder, pages) == [] and len(pages) > 100


def test_links_that_lead_nowhere_are_seen(tmp_path: Path) -> None:
    text = (
        '<a href="none.html"></a><a href="#none"></a><a id="one" href="#one"></a><img src="https://example.org/x.png">'
    )
    (tmp_path / "page.html").write_text(text)
    found = [address for _, address in wrong_links(tmp_path, {"page.html": Links(text)})]
    assert found == ["none.html", "#none", "https://example.org/x.png"]


def test_every_format_has_a_page_with_its_source(site: Site) -> None:
    for name in FORMATS:
        page = (site.folder / "formats" / f"{name.lower()}.html").read_text()
        assert 'id="source"' in page and "<svg" in page and f'<h1 id="{name.lower()}">{name}' in page, name


# IN THE BROWSER


# What a page fetched, whether it came or not; and pictures that did not, or that say nothing to who cannot see them.
ASKED = "return performance.getEntriesByType('resource').map(entry => entry.name)"
BARE = """return [...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).map(i => i.src)
    .concat([...document.querySelectorAll('article svg[role=img]')].filter(s => !s.ariaLabel).map(s => s.outerHTML))"""


def faults(browser: webdriver.Chrome, site: Site, page: str) -> list[str]:
    """What is wrong with a page: messages in the console, requests to elsewhere, pictures that are not there."""
    browser.get(site.address + page)
    # A page that fetched nothing at all has not begun yet.
    asked = WebDriverWait(browser, 30).until(lambda b: b.execute_script(ASKED))
    found = [address for address in asked if not address.startswith(site.address)] + browser.execute_script(BARE)
    return found + [entry["message"] for entry in browser.get_log("browser") if entry["level"] != "INFO"]


def test_every_page_opens(site: Site, browser: webdriver.Chrome) -> None:
    browser.get_log("browser")
    left_out = {page for folder in ALIKE for page in [page for page in site.pages() if page.startswith(folder)][1:]}
    opened = {page: faults(browser, site, page) for page in site.pages() if page not in left_out}
    assert len(opened) > 80 and {page: found for page, found in opened.items() if found} == {}


def test_faults_are_seen(site: Site, browser: webdriver.Chrome) -> None:
    path = site.folder / "planted.html"
    pictures = '<img src="http://localhost:1/x.png" alt="x"><img src="families.svg">'
    path.write_text(f'<link rel="icon" href="data:,">{pictures}<script>nothing()</script>')
    try:
        found = "\n".join(faults(browser, site, "planted.html"))
    finally:
        path.unlink()
    assert "http://localhost:1/x.png" in found and "families.svg" in found and "nothing is not defined" in found


@pytest.mark.parametrize("scheme", ["default", "slate"])
def test_contrast_names_and_structure(scheme: str, site: Site, browser: webdriver.Chrome) -> None:
    browser.set_script_timeout(120)
    found = []
    for page in KINDS if scheme == "default" else KINDS[:3]:
        browser.get(site.address + page)
        browser.execute_script("document.body.setAttribute('data-md-color-scheme', arguments[0])", scheme)
        browser.execute_script(AXE)
        result = browser.execute_async_script("axe.run(arguments[0]).then(arguments[1])", AXE_OPTIONS[scheme])
        assert result["passes"]
        found += [
            (page, violation["id"], node["target"], node["failureSummary"])
            for violation in result["violations"]
            for node in violation["nodes"]
        ]
    assert found == []


def test_the_keyboard(site: Site, browser: webdriver.Chrome) -> None:
    """The first key leads past the navigation, a slash to the search, which finds without a network."""
    browser.get(site.address + "check.html")
    keys = webdriver.ActionChains(browser)
    keys.send_keys(Keys.TAB).perform()
    assert browser.switch_to.active_element.get_attribute("href").endswith("#check-a-file-and-what-it-was-made-from")
    keys.send_keys(Keys.ENTER).perform()
    assert urllib.parse.urlsplit(browser.current_url).fragment

    keys.send_keys("/").perform()
    WebDriverWait(browser, 5).until(lambda b: b.switch_to.active_element.get_attribute("type") == "text")
    keys.send_keys("subnormal").perform()
    results = "[...document.querySelectorAll('.md-search-result__link')].map(a => a.href)"
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(f"return {results}.length"))
    assert any("glossary.html" in link for link in browser.execute_script(f"return {results}"))


def test_a_phone(site: Site, browser: webdriver.Chrome) -> None:
    """No page is wider than the screen: what is wide scrolls by itself."""
    size = browser.get_window_size()
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True})  # fmt: skip
    wide = []
    for page in KINDS:
        browser.get(site.address + page)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        wide += [(page, width)] * (width > 390)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.set_window_size(size["width"], size["height"])
    assert wide == []
