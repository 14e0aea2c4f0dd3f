#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""fracgpud's page in a real browser. On the simulator with two cards: page_test.py BUILD-ROOT

With PICTURE as second argument it makes the picture of the docs instead (takes four minutes):
  fracgpu-sim --gpu h200,h100 -- python3 tests/metrics/page_test.py BUILD-ROOT docs/images/fracgpud.png"""
import pathlib
import sys
import time

from browser import Browser, program
from harness import Daemon, Place, equal, eventually, own_place

POLICY = "[default]\nmetrics = 127.0.0.1:0\nmetrics_step = 1\n"
HOSTILE = '</bdi></script><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>{{7*7}}\u202e'
GIB = 1 << 30


def text(browser, selector):
    return browser.evaluate(f"(document.querySelector({selector!r}) || {{}}).textContent || ''")


def contrast(browser, selector):
    """Of text against what is behind it (WCAG 2, relative luminance)."""
    return browser.evaluate("""((selector) => {
        const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
        const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255;
            return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const element = document.querySelector(selector);
        let behind = element;
        while (behind.parentElement && (rgb(getComputedStyle(behind).backgroundColor)[3] === 0)) behind = behind.parentElement;
        const a = light(rgb(getComputedStyle(element).color)), b = light(rgb(getComputedStyle(behind).backgroundColor));
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    })(%r)""" % selector)


def make_slices(place):
    """Two cards, one slice that is measured and held back, one with names that mean harm."""
    box, evil = place.standin("box"), place.standin("evil")
    for gpu in (0, 1):
        box.set("limit", 2 * GIB, gpu)
        evil.set("limit", 3 * GIB, gpu)
    box.set("used", GIB)
    box.set("cap", 500)
    evil.set("refusals", 12)
    evil.set("paused", 1)
    evil.call(id="evil", uid=0, annotations={"io.kubernetes.cri.container-name": HOSTILE,
                                             "io.kubernetes.cri.sandbox-name": HOSTILE,
                                             "io.kubernetes.cri.sandbox-namespace": "<b>lab</b>"})
    return box, evil


def shows_figures(browser, daemon, box, evil):
    row = '[data-slice="box"]'
    ticks = 0

    def computes():
        nonlocal ticks
        ticks += 1
        box.set("busy", ticks * 40_000_000)
        box.set("throttled", ticks * 20_000_000)
        shown = text(browser, row)
        return "1 GiB of 2 GiB" in shown and "at most 50.0 %, held back" in shown and "not measured" not in shown.split("GPU 1")[0]

    eventually("figures of a slice", computes)
    equal(browser.evaluate("document.querySelectorAll('#cards .card').length"), 2, "cards")
    assert "1 GiB held, 5 GiB given of 8 GiB" in text(browser, "#cards"), text(browser, "#cards")
    assert "2 slices" in text(browser, "#cards")
    assert "refused 12" in text(browser, '[data-slice="evil"]')
    waits = text(browser, "#waits")
    assert "box throttled" in waits and "evil paused" in waits, waits
    eventually("a line of the last hour",
               lambda: browser.evaluate(f"document.querySelector('{row} svg .used').getAttribute('d')").count("L") > 3)
    # what changes is shown without a reload
    box.set("used", 2 * GIB)
    eventually("new figures", lambda: "2 GiB of 2 GiB" in text(browser, row))
    evil.set("paused", 0)
    eventually("no pause", lambda: "evil" not in text(browser, "#waits"))


def is_safe(browser):
    """The name is there as it is, as text, and has made nothing."""
    shown = text(browser, '[data-slice="evil"]')
    assert HOSTILE in shown and "<b>lab</b>/" in shown, shown
    equal(browser.evaluate("typeof window.hacked"), "undefined", "what the name would do")
    equal(browser.evaluate("document.querySelectorAll('img, main b, script:not([src]) ~ script, iframe').length"), 0, "elements")
    equal(browser.evaluate("document.querySelectorAll('script').length"), 1, "scripts")
    # and if it had made a script or a style, the policy would not run it
    equal(browser.evaluate("""(() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';
        document.body.append(s); s.remove(); return typeof window.ran; })()"""), "undefined", "a script put in")
    assert any("Content Security Policy" in str(event) for event in browser.complaints()), "the policy says nothing"
    browser.events.clear()


def looks_right(browser, place):
    backs = set()
    for scheme in ("light", "dark"):
        browser.shape(1200, 900, scheme)
        backs.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        for selector in ("h3", "h2", ".soft", ".badge", "#when", ".axis span"):
            if browser.evaluate(f"!!document.querySelector({selector!r})"):
                got = contrast(browser, selector)
                assert got >= 4.5, f"{selector} in {scheme}: contrast {got:.2f}"
        browser.picture(place.folder / f"{scheme}.png")
    equal(len(backs), 2, "light and dark")
    for width in (320, 360, 800, 1600):
        browser.shape(width, 740, is_phone=width < 700)
        equal(browser.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth && "
                               "visualViewport.scale === 1 && window.innerWidth === %d" % width), True, f"{width} wide")
        assert browser.evaluate("[...document.querySelectorAll('main *')].every((e) => "
                                "e.getBoundingClientRect().right <= innerWidth + 1)"), f"something sticks out at {width}"
    assert browser.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 14


def says_when_alone(browser, daemon):
    daemon.process.kill()
    daemon.process.wait()
    eventually("old figures", lambda: "figures are old" in text(browser, "#when.stale"))
    daemon.policy.write_text(POLICY.replace(":0", f":{daemon.port}"), encoding="utf-8")
    daemon.start()
    eventually("new ones", lambda: browser.evaluate("!document.querySelector('#when.stale')"))


def test(place):
    box, evil = make_slices(place)
    daemon = Daemon(place, POLICY)
    browser = Browser(place)
    browser.shape(1200, 900)
    browser.open(daemon.url())
    shows_figures(browser, daemon, box, evil)
    equal(browser.complaints(), [], "complaints")
    equal([url for url in browser.requests() if not url.startswith((daemon.base, "data:", "about:"))], [], "other hosts")
    is_safe(browser)
    looks_right(browser, place)
    equal(browser.complaints(), [], "complaints")
    says_when_alone(browser, daemon)


def picture(place, path):
    """Slices as a host may have them; real figures over four minutes, at a step of a second."""
    slices = [("train-bert", 40, 0.85, 500, 0.5, "lab", "bert-0", "trainer"), ("notebook-anna", 12, 0.3, 0, 0.08, "", "", ""),
              ("infer-7b", 24, 0.6, 250, 0.25, "serving", "llm-7b-5c9f", "server"), ("render", 16, 0.95, 0, 0.0, "", "", "")]
    standins = []
    for name, gib, _, cap, _, space, pod, container in slices:
        standin = place.standin(name)
        standin.set("limit", 0, 1 if name != "render" else 0)
        standin.set("limit", gib * GIB, 0 if name != "render" else 1)
        standin.set("cap", cap)
        standin.set("processes", 1 + len(standins) % 3)
        if pod:
            standin.call(id=name, uid=0, annotations={"io.kubernetes.cri.container-name": container,
                                                      "io.kubernetes.cri.sandbox-name": pod,
                                                      "io.kubernetes.cri.sandbox-namespace": space})
        standins.append(standin)
    standins[3].set("paused", 1)
    standins[2].set("refusals", 3)
    daemon = Daemon(place, POLICY, env={"NODE_NAME": "gpu-node-1"})
    browser = Browser(place)
    browser.shape(1100, 960)
    busy = [0.0] * len(slices)
    began = last = time.monotonic()
    browser.open(daemon.url())
    while (now := time.monotonic()) - began < 245:
        for i, (name, gib, most, cap, share, *_) in enumerate(slices):
            t = (now - began) * (1 + i * 0.3)
            full = min(1.0, (now - began) / 40) if i == 0 else 0.6 + 0.4 * (int(t / 20 + i) % 3 != 0)
            gpu = 1 if name == "render" else 0
            used = int(gib * GIB * most * full) & -(1 << 21)
            standins[i].set("used", used, gpu)
            standins[i].set("peak", int(gib * GIB * most), gpu)
            busy[i] += (now - last) * share * (0.75 + 0.25 * (int(t / 7) % 3) / 2)
            standins[i].set("busy", int(busy[i] * 1e9), gpu)
            if i in (0, 2):
                standins[i].set("throttled", int((now - began) * 1e9 * 0.2), gpu)
        last = now
        time.sleep(0.2)
    browser.picture(pathlib.Path(path))


def main():
    own_place()
    program()
    with Place(sys.argv[1]) as place:
        if len(sys.argv) > 2:
            picture(place, pathlib.Path(sys.argv[2]))
        else:
            test(place)


main()
