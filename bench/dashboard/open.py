#!/usr/bin/env python3
"""Measures what open pages of the dashboard cost, and how soon they show a change: `bench/dashboard/open.py ROTA [TASKS]`.

Starts the program ROTA with an empty embedded store that holds TASKS live and as many ended tasks (100000 by default).
Each page here is a thread that does what the script of the dashboard does: it listens to the stream of changes, and asks
for its page when the page shows what has changed, at most once a second.

1. Ten times, creates a task while one page is open, and prints how long it took until the page had it.
2. Beside one load that is as large as the machine takes, measures windows of four seconds with no page and with twenty open
   pages, in turns. Prints what is left of the throughput, and the processor time of the server for each task. The
   compaction of the store comes in bursts that pages have no part in, so its threads are not in that time. The pages here and
   the workers share the machine with the server. The ratios are means of pairs, with two standard errors.
3. While 1,000 tasks a second are created and run, measures the processor time of the server without and with twenty open
   pages, and prints the difference: what pages cost, without the noise of a machine that has no time left.
"""

import contextlib
import glob
import gzip
import math
import os
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

import node

PAIRS, WINDOW = 50, 4
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


def close(pages):
    for page in pages:
        page.over = True
    # A change ends the reads of the streams.
    node.post("/v1/queues/other/pause", {})
    node.post("/v1/queues/other/resume", {})
    for page in pages:
        page.thread.join()
        page.stream.close()


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
    close([page])
    print(f"from a change to the page: median {statistics.median(times):.0f} ms, most {max(times):.0f} ms")


def server_seconds(server):
    """Seconds of processor time that the server has used, and those of them that its store compacted its files."""
    times = {True: 0, False: 0}
    for thread in glob.glob(f"/proc/{server.pid}/task/*"):
        # A thread can end meanwhile.
        with contextlib.suppress(OSError), open(f"{thread}/comm") as comm, open(f"{thread}/schedstat") as used:
            times[comm.read().startswith("fjall")] += int(used.read().split()[0]) / 1e9
    return times[True] + times[False], times[True]


def open_pages():
    return [Page(PAGES[number % len(PAGES)]) for number in range(20)]


def window(server):
    """Tasks a second, and microseconds of the server for each."""
    completed = lambda: sum(queue["completed_total"] for queue in node.get("/v1/queues")["queues"])
    (all_before, compacting_before), before, began = server_seconds(server), completed(), time.monotonic()
    time.sleep(WINDOW)
    tasks, took = completed() - before, time.monotonic() - began
    all_after, compacting_after = server_seconds(server)
    used = (all_after - all_before) - (compacting_after - compacting_before)
    return tasks / took, used * 1e6 / tasks


def show_ratio(what, without, beside):
    ratios = [math.log(with_pages / none) for none, with_pages in zip(without, beside)]
    mean, error = statistics.mean(ratios), statistics.stdev(ratios) / len(ratios) ** 0.5
    low, middle, high = (math.exp(mean + errors * error) for errors in (-2, 0, 2))
    print(f"twenty open pages: {middle:.3f} ({low:.3f} to {high:.3f}) of the {what} without them")


def show_cost(rota, server):
    command = [rota, "bench", "throughput", "--url", node.URL, "--tasks", "1000000000"]
    load = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(10)
        without, beside, asked = [], [], 0
        for pair in range(PAIRS):
            # What comes first changes, because the store grows.
            for has_pages in [False, True] if pair % 2 == 0 else [True, False]:
                if has_pages:
                    pages = open_pages()
                    # All pages ask at the beginning.
                    time.sleep(1.5)
                    asked -= sum(page.fetched for page in pages)
                    beside.append(window(server))
                    asked += sum(page.fetched for page in pages)
                    close(pages)
                else:
                    without.append(window(server))
    finally:
        load.terminate()
        load.wait()
    for at, what in enumerate(["throughput", "processor time of the server for a task"]):
        print(f"without pages: {statistics.mean(one[at] for one in without):.1f} {['tasks/s', 'us'][at]}")
        show_ratio(what, [one[at] for one in without], [one[at] for one in beside])
    print(f"{asked / PAIRS / WINDOW:.1f} answers/s", flush=True)


def share_of_time(server):
    """Processors that the server keeps busy."""
    began, before = time.monotonic(), server_seconds(server)[0]
    time.sleep(STEADY)
    return (server_seconds(server)[0] - before) / (time.monotonic() - began)


def show_steady_cost(rota, server):
    command = [rota, "bench", "latency", "--url", node.URL, "--rate", "1000", "--duration", "1h"]
    load = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(2)
        without, beside, asked = [], [], []
        for _ in range(STEADY_ROUNDS):
            without.append(share_of_time(server))
            pages = open_pages()
            before = sum(page.fetched for page in pages)
            beside.append(share_of_time(server))
            asked.append((sum(page.fetched for page in pages) - before) / STEADY)
            close(pages)
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
