"""Writes the dashboards into a directory, or with `--check` compares them with the files there."""

import json
import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from . import cluster, overview, queues, schedules, workers

DASHBOARDS = {
    "overview": overview.dashboard,
    "queues": queues.dashboard,
    "schedules": schedules.dashboard,
    "workers": workers.dashboard,
    "cluster": cluster.dashboard,
}


def main() -> int:
    """Returns the exit code."""
    check = "--check" in sys.argv[1:]
    (directory,) = (pathlib.Path(word) for word in sys.argv[1:] if word != "--check")
    stale = []
    for name, build in DASHBOARDS.items():
        text = json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        path = directory / f"{name}.json"
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(str(path))
    for path in stale:
        print(f"{path} does not match the code; run `make dashboards`", file=sys.stderr)
    return 1 if stale else 0


sys.exit(main())
