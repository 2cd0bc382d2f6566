#!/usr/bin/env python3
"""Times pages of the dashboard beside many tasks: `bench/dashboard/pages.py ROTA [TASKS]`.

Starts the program ROTA with an empty embedded store, creates TASKS tasks and cancels them, creates as many that wait, and
asks for each page 100 times, one after the other. Prints the time from the request to the end of the answer, and the
compressed size. TASKS is 1000000 by default.
"""

import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

URL = "http://127.0.0.1:7592"
BATCH = 1000
ROUNDS = 100
PAGES = [
    "/ui/",
    "/ui/tasks",
    "/ui/tasks?status=cancelled",
    "/ui/tasks?queue=live&kind=k",
    "/ui/tasks?search=nowhere",
    "/ui/tasks?status=failed",
    "/ui/failures",
    "/ui/queues",
]


def post(path, body):
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request))


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


def page(path):
    headers = {"accept": "text/html", "accept-encoding": "gzip"}
    began = time.perf_counter()
    body = urllib.request.urlopen(urllib.request.Request(URL + path, headers=headers)).read()
    return (time.perf_counter() - began) * 1000, len(body)


def wait_until_ready():
    for _ in range(100):
        try:
            urllib.request.urlopen(URL + "/readyz")
            return
        except urllib.error.URLError:
            time.sleep(0.1)
    sys.exit("the server is not ready after 10 s")


def main():
    rota, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    with tempfile.TemporaryDirectory() as home:
        command = [rota, "server", "--store", f"file://{home}/data", "--listen", URL.removeprefix("http://")]
        with open(f"{home}/log", "w") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until_ready()
            create(number, "ended")
            cancel("ended")
            create(number, "live")
            print(f"{number} live and {number} ended tasks, {ROUNDS} requests for each page")
            for path in PAGES:
                times, sizes = zip(*sorted(page(path) for _ in range(ROUNDS)))
                p50, p99 = times[ROUNDS // 2], times[ROUNDS * 99 // 100]
                print(f"{path:34} p50 {p50:7.1f} ms   p99 {p99:7.1f} ms   {max(sizes):6} bytes")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
