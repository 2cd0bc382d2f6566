#!/usr/bin/env python3
"""Measures how long a planned hand-over keeps clients waiting: `bench/handover/run.py ROTA`.

The program starts a cluster on this machine (etcd and three nodes of the given binary) with a backlog of live
tasks. A client creates one task after another through a follower. Each run sends SIGTERM to the leader, reports
the longest create, and starts the node again. All data is in a temporary directory that is removed afterwards.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

NODE_PORT = 23930
CLIENT_PORT = 23750
PEER_PORT = 23850
NODES = 3
BATCH = 1000
START_TIMEOUT = 60


class Cluster:
    def __init__(self, rota, members, directory):
        self.rota = rota
        self.directory = directory
        self.etcd = []
        self.nodes = [None] * NODES
        numbers = range(members)
        cluster = ",".join(f"e{i}=http://127.0.0.1:{PEER_PORT + i}" for i in numbers)
        self.endpoints = ",".join(f"127.0.0.1:{CLIENT_PORT + i}" for i in numbers)
        for i in numbers:
            client, peer = f"http://127.0.0.1:{CLIENT_PORT + i}", f"http://127.0.0.1:{PEER_PORT + i}"
            command = [
                "etcd", "--name", f"e{i}", "--data-dir", f"{directory}/e{i}", "--log-level", "error",
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", cluster,
            ]
            self.etcd.append(self.start(command, f"e{i}"))

    def start(self, command, name):
        log = open(f"{self.directory}/{name}.log", "ab")
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def start_node(self, number):
        address = f"127.0.0.1:{NODE_PORT + number}"
        command = [
            self.rota, "server", "--node", f"n{number}", "--listen", address,
            "--store", f"etcd://{self.endpoints}/bench",
        ]
        self.nodes[number] = self.start(command, f"n{number}")

    def wait_ready(self, number):
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            try:
                if call(number, "GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        sys.exit(f"node {number} did not become ready; see {self.directory}/n{number}.log")

    def leader(self):
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            for number in range(NODES):
                status, body = call(number, "GET", "/v1/cluster")
                leader = json.loads(body).get("leader") if status == 200 else None
                if leader:
                    name = leader if isinstance(leader, str) else leader["name"]
                    return int(name[1:])
            time.sleep(0.1)
        sys.exit("no node leads")

    def end(self):
        for processes in (self.nodes, self.etcd):
            started = [process for process in processes if process is not None]
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def call(number, method, path, body=None, connection=None):
    connection = connection or http.client.HTTPConnection("127.0.0.1", NODE_PORT + number, timeout=30)
    headers = {"content-type": "application/json"} if body is not None else {}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def fill(number, tasks):
    """Creates the backlog: half of the tasks wait for a worker, half are due tomorrow."""
    for first in range(0, tasks, BATCH):
        new = [
            {"kind": "nobody", "queue": "backlog", "payload": i, **({"delay": "24h"} if i % 2 else {})}
            for i in range(first, min(first + BATCH, tasks))
        ]
        status, body = call(number, "POST", "/v1/tasks/batch", json.dumps({"tasks": new}))
        if status >= 300:
            sys.exit(f"the backlog was refused: {status} {body[:300]}")


def create_until(number, stop, took):
    connection = http.client.HTTPConnection("127.0.0.1", NODE_PORT + number, timeout=30)
    body = json.dumps({"kind": "nobody", "queue": "probe", "payload": None})
    while not stop.is_set():
        began = time.monotonic()
        status, answer = call(number, "POST", "/v1/tasks", body, connection)
        took.append((time.monotonic() - began, began))
        if status >= 300:
            print(f"a create failed: {status} {answer[:300]}", flush=True)


def run_once(cluster):
    leader = cluster.leader()
    through = (leader + 1) % NODES
    stop, took = threading.Event(), []
    client = threading.Thread(target=create_until, args=(through, stop, took))
    client.start()
    time.sleep(1)
    process = cluster.nodes[leader]
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    stopped = time.monotonic() - told
    time.sleep(1)
    stop.set()
    client.join()
    longest = max(took)[0]
    usual = statistics.median(span for span, began in took if began < told)
    cluster.start_node(leader)
    cluster.wait_ready(leader)
    time.sleep(1)
    return longest, usual, stopped


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("rota", help="the binary to measure")
    arguments.add_argument("--runs", type=int, default=10, help="hand-overs [default: 10]")
    arguments.add_argument("--tasks", type=int, default=100_000, help="live tasks [default: 100000]")
    arguments.add_argument("--members", type=int, default=3, help="members of etcd [default: 3]")
    arguments.add_argument("--keep", action="store_true", help="keep the directory with the logs")
    options = arguments.parse_args()
    directory = tempfile.mkdtemp(prefix="rota-handover-")
    cluster = Cluster(os.path.abspath(options.rota), options.members, directory)
    try:
        for number in range(NODES):
            cluster.start_node(number)
        for number in range(NODES):
            cluster.wait_ready(number)
        fill(0, options.tasks)
        # Give the other nodes time to copy the backlog. Only their log shows when they are done.
        time.sleep(3)
        longest = []
        for run in range(options.runs):
            wait, usual, stopped = run_once(cluster)
            longest.append(wait * 1000)
            print(
                f"run {run + 1}: longest create {wait * 1000:.0f} ms, usual {usual * 1000:.1f} ms, "
                f"the leader ended after {stopped * 1000:.0f} ms",
                flush=True,
            )
        longest.sort()
        fast = sum(1 for wait in longest if wait <= 100)
        print(
            f"{options.tasks} live tasks, {len(longest)} hand-overs: median {statistics.median(longest):.0f} ms, "
            f"{longest[0]:.0f} to {longest[-1]:.0f} ms; {fast} within 100 ms"
        )
    finally:
        cluster.end()
        if options.keep:
            print(f"logs: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
