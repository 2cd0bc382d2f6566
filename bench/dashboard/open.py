#!/usr/bin/env python3
"""Measures what open pages of the dashboard cost, and how soon they show a change: `bench/dashboard/open.py ROTA [TASKS]`.

Starts the program ROTA with an empty embedded store that holds TASKS live and as many ended tasks (100000 by default).
Each page here is a thread that does what the script of the dashboard does: it listens to the stream of changes, and asks
for its page when the page shows what has changed, at most once a second.

1. Ten times, creates a task while one page is open, and prints how long it took until the page had it.
2. In turns, measures the throughput with no page and with twenty open pages, and prints both and their ratio; and the
   processor time of the server for each task. The clients that stand for browsers and for workers share the machine with
   the server, so its own time says better what pages cost it.
"""

import gzip
import os
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

import node

ROUNDS = 5
TASKS = 100_000
PAGES = ["/ui/", "/ui/tasks", "/ui/queues", "/ui/workers", "/ui/failures"]


class Page:
    """An open page. Its browser has a stream of its own."""

    def __init__(self, path):
        self.path, self.changed, self.text, self.fetched = path, threading.Condition(), "", 0
        self.over = False
        self.topics = set(" ".join(re.findall(r'data-live="([^"]*)"', self.fetch())).split())
        self.stream = urllib.request.urlopen(node.URL + "/ui/live")
        self.thread = threading.Thread(target=self.follow)
        self.thread.start()

    def fetch(self):
        body, _ = node.get_page(self.path)
        with self.changed:
            self.text, self.fetched = gzip.decompress(body).decode(), self.fetched + 1
            self.changed.notify_all()
        return self.text

    def follow(self):
        last = 0
        for line in self.stream:
            if self.over:
                return
            if line.startswith(b"data: ") and self.topics & set(line[6:].decode().split()):
                time.sleep(max(0, last + 1 - time.monotonic()))
                last = time.monotonic()
                self.fetch()

    def wait_for(self, text):
        with self.changed:
            return self.changed.wait_for(lambda: text in self.text, timeout=30)

    def close(self):
        self.over = True
        # A change ends the read of the stream.
        node.post("/v1/queues/other/pause", {})
        node.post("/v1/queues/other/resume", {})
        self.thread.join()
        self.stream.close()


def show_delay():
    page, times = Page("/ui/tasks"), []
    for number in range(10):
        # Without a connection between this change and the one before.
        time.sleep(2.3)
        name = f"change-{number}"
        began = time.perf_counter()
        node.post("/v1/tasks", {"id": name, "kind": "k", "queue": "live", "delay": "720h"})
        if not page.wait_for(name):
            sys.exit(f"the page does not show {name} after 30 s")
        times.append((time.perf_counter() - began) * 1000)
    page.close()
    print(f"from a change to the page: median {statistics.median(times):.0f} ms, most {max(times):.0f} ms")


def server_seconds(server):
    """Seconds of processor time that the server has used."""
    with open(f"/proc/{server.pid}/stat") as stat:
        user, system = stat.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def throughput(rota, server):
    """Tasks a second, and microseconds of the server for each."""
    before = server_seconds(server)
    command = [rota, "bench", "throughput", "--url", node.URL, "--tasks", str(TASKS)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"tasks_per_second\s+([\d.]+)", text).group(1))
    return rate, (server_seconds(server) - before) * 1e6 / TASKS


def show_cost(rota, server):
    without, beside = [], []
    throughput(rota, server)
    for _ in range(ROUNDS):
        without.append(throughput(rota, server))
        pages = [Page(PAGES[number % len(PAGES)]) for number in range(20)]
        began, before = time.monotonic(), sum(page.fetched for page in pages)
        beside.append(throughput(rota, server))
        asked = (sum(page.fetched for page in pages) - before) / (time.monotonic() - began)
        print(
            "no page {:.0f} tasks/s, {:.1f} us each; ".format(*without[-1])
            + "twenty pages {:.0f} tasks/s, {:.1f} us each, ".format(*beside[-1])
            + f"{asked:.1f} answers/s",
            flush=True,
        )
        for page in pages:
            page.close()
    for at, what in enumerate(["throughput", "processor time of the server for a task"]):
        ratio = statistics.median(one[at] for one in beside) / statistics.median(one[at] for one in without)
        print(f"twenty open pages: {ratio:.3f} of the {what} without them")


def main():
    rota, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    with node.running(rota, number) as server:
        show_delay()
        show_cost(rota, server)


if __name__ == "__main__":
    main()
