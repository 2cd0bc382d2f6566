#!/usr/bin/env python3
"""Times pages of the dashboard beside many tasks: `bench/dashboard/pages.py ROTA [TASKS [RATE]]`.

Starts the program ROTA with an empty embedded store, creates TASKS tasks and cancels them, creates as many that wait, and
asks for each page 400 times, one after the other. Meanwhile, RATE tasks are created, run and completed in each second.
Prints the time from the request to the end of the answer (half of them were faster, 99 in 100 were, and the slowest),
and the compressed size. TASKS is 1000000 by default, and RATE
is 0.
"""

import subprocess
import sys

import node

ROUNDS = 400
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


def main():
    rota, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    rate = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    with node.running(rota, number):
        print(f"{rate} tasks/s run meanwhile; {ROUNDS} requests for each page")
        load = None
        if rate:
            command = [rota, "bench", "latency", "--url", node.URL, "--rate", str(rate), "--duration", "1h"]
            load = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            for path in PAGES:
                answers = [node.get_page(path) for _ in range(ROUNDS)]
                times, size = sorted(time for _, time in answers), max(len(body) for body, _ in answers)
                p50, p99 = times[ROUNDS // 2], times[ROUNDS * 99 // 100 - 1]
                shown = f"p50 {p50:7.1f} ms   p99 {p99:7.1f} ms   most {times[-1]:7.1f} ms"
                print(f"{path:34} {shown}   {size:6} bytes", flush=True)
            if load and load.poll() is not None:
                sys.exit("the tasks that run meanwhile ended too early")
        finally:
            if load:
                load.kill()
                load.wait()


if __name__ == "__main__":
    main()
