"""Starts a node with an embedded store, and fills it, for the measurements of the dashboard."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

URL = "http://127.0.0.1:7592"
BATCH = 1000


def post(path, body):
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request))


def get(path):
    return json.load(urllib.request.urlopen(URL + path))


def get_page(path):
    """The compressed body of a page, and the milliseconds until its end."""
    headers = {"accept": "text/html", "accept-encoding": "gzip"}
    began = time.perf_counter()
    body = urllib.request.urlopen(urllib.request.Request(URL + path, headers=headers)).read()
    return body, (time.perf_counter() - began) * 1000


def create(number, queue):
    """Creates tasks that wait for a month."""
    due = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 30 * 86400))
    for first in range(0, number, BATCH):
        tasks = [
            {"kind": "k", "queue": queue, "payload": {"n": first + at, "text": "an order"}, "run_at": due}
            for at in range(BATCH)
        ]
        post("/v1/tasks/batch", {"tasks": tasks})


def cancel(queue):
    request = {"action": "cancel", "filter": {"queue": queue}}
    while request.get("cursor", "") is not None:
        request["cursor"] = post("/v1/tasks/bulk", request).get("next_cursor")


def wait_until_ready():
    for _ in range(100):
        try:
            urllib.request.urlopen(URL + "/readyz")
            return
        except urllib.error.URLError:
            time.sleep(0.1)
    sys.exit("the server is not ready after 10 s")


@contextlib.contextmanager
def running(rota, number):
    """A node with this many live and as many ended tasks, until the end of the block."""
    with tempfile.TemporaryDirectory() as home:
        command = [rota, "server", "--store", f"file://{home}/data", "--listen", URL.removeprefix("http://")]
        with open(f"{home}/log", "w") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until_ready()
            create(number, "ended")
            cancel("ended")
            create(number, "live")
            print(f"{number} live and {number} ended tasks")
            yield server
        finally:
            server.terminate()
            server.wait()
