# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, by its DevTools protocol over pipes: no other program, and no port."""
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

from harness import PATIENCE_S, skip


def program():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return name
    return skip("chromium is not installed")


class Browser:
    def __init__(self, place):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16) for fd in (theirs_in, theirs_out, ours_in, ours_out)]
        for fd in (ours_in, theirs_out, theirs_in, ours_out):
            os.close(fd)
        self.ours_in, self.ours_out = ends[2:]
        env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}

        def join():  # the protocol's descriptors are 3 and 4
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        with open(place.folder / "chromium.log", "wb") as log:
            place.program(program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                          "--no-first-run", "--disable-background-networking", "--disable-component-update",
                          f"--user-data-dir={place.folder / 'chromium'}", "--remote-debugging-pipe", "about:blank",
                          stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**env, "HOME": str(place.folder)},
                          preexec_fn=join, pass_fds=(3, 4))
        os.close(ends[0])
        os.close(ends[1])
        place.callback(os.close, self.ours_in)
        place.callback(os.close, self.ours_out)
        self.rest = b""
        self.number = 0
        self.session = None
        self.events = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def read(self):
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self.rest:
            if not select.select([self.ours_in], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError("the browser does not answer")
            data = os.read(self.ours_in, 1 << 20)
            if not data:
                raise AssertionError("the browser has ended")
            self.rest += data
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method, **params):
        self.number += 1
        request = {"id": self.number, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        data = json.dumps(request).encode() + b"\0"
        while data:
            data = data[os.write(self.ours_out, data):]
        while True:
            message = self.read()
            if message.get("id") == self.number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]
            if "method" in message:
                self.events.append(message)

    def evaluate(self, expression):
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise AssertionError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def open(self, url):
        self.ask("Page.navigate", url=url)

    def shape(self, width, height, scheme="light", is_phone=False):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path, whole=True):
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def complaints(self):
        """What went wrong in the page: exceptions, errors on its console, what its policy forbade."""
        found = []
        for event in self.events:
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"])
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(params["entry"])
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append(params["args"])
        return found

    def requests(self):
        return [event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
