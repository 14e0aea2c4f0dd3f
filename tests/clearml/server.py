# SPDX-License-Identifier: Apache-2.0
"""As much of ClearML's server as an agent needs to take tasks from one queue and to run them: nothing of a real one is here.

usage: server.py PORT-FILE TASKS    TASKS is JSON, task id to {"image": "...", "arguments": "..."}
stdout says 'ID STATUS' of each task that ends.
"""
import base64
import http.server
import json
import os
import sys

with open(sys.argv[2], encoding="utf-8") as file:
    tasks = json.load(file)
waiting = list(tasks)
QUEUE = "0123456789abcdef" * 2
properties = {}


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


# nobody checks its signature here
TOKEN = ".".join([part({"alg": "none"}), part({"exp": 4102444800, "iat": 0, "api_version": "2.30", "feature_set": "basic"}),
                  "c2ln"])


def next_task():
    return {"entry": {"task": waiting.pop(0), "added": "2026-01-01T00:00:00"}} if waiting else {}


def task_of(name):
    return {"id": name, "name": name, "status": "queued", "type": "training", "company": {"id": "c"}, "user": {"id": "u"},
            "container": tasks[name], "execution": {"queue": QUEUE}, "script": {}}


def answer(call, body):
    queue = {"id": QUEUE, "name": "fractions", "tags": [],
             "entries": [{"task": name, "added": "2026-01-01T00:00:00"} for name in waiting]}
    if call == "auth.login":
        return {"token": TOKEN}
    if call == "queues.get_all":
        return {"queues": [queue]}
    if call == "queues.get_by_id":
        return {"queue": queue}
    if call == "queues.get_next_task":
        return next_task()
    if call == "tasks.get_all":
        return {"tasks": [task_of(name) for name in body.get("id", [])]}
    if call == "tasks.get_by_id":
        return {"task": task_of(body["task"])}
    if call == "workers.get_all":
        return {"workers": []}
    if call == "workers.get_runtime_properties":
        return {"runtime_properties": [{"key": key, "value": value} for key, value in properties.items()]}
    if call == "workers.set_runtime_properties":
        properties.update((one["key"], one["value"]) for one in body["runtime_properties"])
        return {"added": [], "removed": [], "errors": []}
    if call.startswith("events."):
        return {"added": 1, "errors": 0, "errors_info": {}}
    if call in ("tasks.completed", "tasks.failed", "tasks.stopped"):
        print(body["task"], call[len("tasks."):], flush=True)
    return {"updated": 1, "fields": {}} if call.startswith("tasks.") else {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        call = self.path.strip("/").split("/")[-1]
        try:
            body = json.loads(text)
        except ValueError:
            body = {}	# a batch, line by line
        meta = {"id": "1", "trx": "1", "result_code": 200, "result_subcode": 0, "result_msg": "OK", "error_stack": "",
                "endpoint": {"name": call, "requested_version": "2.30", "actual_version": "2.30"}}
        data = json.dumps({"meta": meta, "data": answer(call, body)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[1] + ".new", "w", encoding="utf-8") as file:
    print(server.server_port, file=file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
server.serve_forever()
