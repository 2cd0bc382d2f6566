#!/usr/bin/env python3
"""Measures what open pages of the dashboard cost, and how soon they show a change: `bench/dashboard/open.py ROTA [TASKS]`.

Starts the program ROTA with an empty embedded store that holds TASKS live and as many ended tasks (100000 by default).
Each page here is a thread that does what the script of the dashboard does: it listens to the stream of changes, and asks
for its page when the page shows what has changed, at most once a second.

1. Ten times, creates a task while one page is open, and prints how long it took until the page had it.
2. In turns, measures the throughput with no page and with twenty open pages, and prints both and the ratio of their sums;
   and the processor time of the server for each task. The clients that stand for browsers and for workers share the
   machine with the server, so its own time says better what pages cost it.
3. While 1,000 tasks a second are created and run, measures the processor time of the server without and with twenty open
   pages, and prints the difference: what pages cost, without the noise of a machine that has no time left.
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

ROUNDS = 10
TASKS = 100_000
STEADY, STEADY_ROUNDS = 10, 4
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
    # Of all rounds together: throughput is tasks for the time that they took.
    for at, what, mean in [
        (0, "throughput", statistics.harmonic_mean),
        (1, "processor time of the server for a task", statistics.mean),
    ]:
        ratio = mean([one[at] for one in beside]) / mean([one[at] for one in without])
        print(f"twenty open pages: {ratio:.3f} of the {what} without them")


def share_of_time(server):
    """Processors that the server keeps busy."""
    began, before = time.monotonic(), server_seconds(server)
    time.sleep(STEADY)
    return (server_seconds(server) - before) / (time.monotonic() - began)


def show_steady_cost(rota, server):
    command = [rota, "bench", "latency", "--url", node.URL, "--rate", "1000", "--duration", "1h"]
    load = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(2)
        without, beside, asked = [], [], []
        for _ in range(STEADY_ROUNDS):
            without.append(share_of_time(server))
            pages = [Page(PAGES[number % len(PAGES)]) for number in range(20)]
            before = sum(page.fetched for page in pages)
            beside.append(share_of_time(server))
            asked.append((sum(page.fetched for page in pages) - before) / STEADY)
            for page in pages:
                page.close()
    finally:
        load.terminate()
        load.wait()
    without, beside, asked = (statistics.mean(each) for each in (without, beside, asked))
    share, processors = beside - without, os.cpu_count()
    print(
        f"1000 tasks/s: the server uses {without:.3f} processors, with twenty open pages {beside:.3f}; "
        f"{asked:.1f} answers/s, {share / asked * 1000:.2f} ms each, {share / processors:.1%} of {processors} processors"
    )


def main():
    rota, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    with node.running(rota, number) as server:
        show_delay()
        show_cost(rota, server)
        show_steady_cost(rota, server)


if __name__ == "__main__":
    main()
