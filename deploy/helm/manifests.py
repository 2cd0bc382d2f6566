"""Renders the manifests in deploy/kubernetes from the chart, and checks both.

    manifests.py write            write deploy/kubernetes/*.yaml
    manifests.py check            check the chart, the manifests, and that they agree
    manifests.py package DIR      write the chart as an archive, and manifests with rules and dashboards

It uses Helm's own engine, as the library `helm-python-sdk`; the program `helm` is not needed. Nothing here talks to a
cluster. `make manifests` runs it.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import yaml

HERE = Path(__file__).resolve().parent
# A copy, because Helm notes each link to rules and dashboards. It lives as long as this program.
SCRATCH = tempfile.TemporaryDirectory()
CHART = Path(SCRATCH.name, "rota")
shutil.copytree(HERE / "rota", CHART)
PLAIN = HERE.parent / "kubernetes"
# The versions of Kubernetes that the chart supports: the oldest (kubeVersion) and the newest that the schemas have.
KUBERNETES = ("1.25", kubernetes_validate.latest_version())
SETS = ("single", "cluster")
# Everything that the defaults leave out.
EVERYTHING = {
    "monitoring": {
        "serviceMonitor": True,
        "prometheusRule": True,
        "labels": {"release": "prometheus"},
        "rulesConfigMap": True,
        "dashboards": True,
        "annotations": False,
    },
    "store": {"url": "redis://redis:6379/0", "existingSecret": "rota-store"},
    "worker": {
        "queues": ["mail", "images"],
        "image": {"repository": "registry.example.com/programs", "tag": "7"},
        "config": "allow_command = true\n",
    },
    "imagePullSecrets": [{"name": "registry"}],
    "service": {"annotations": {"example.com/a": "b"}},
    "node": {
        "config": 'leader_ttl = "8s"\n',
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "rota", "operator": "Exists"}],
        "podAnnotations": {"example.com/a": "b"},
    },
}
ENCRYPTED = {**EVERYTHING, "tls": {"existingSecret": "rota-tls"}}
# Values that the schema of the chart must refuse.
REFUSED = (
    {"store": {"url": "mysql://db"}},
    {"auth": {"existingSecret": ""}},
    {"node": {"replica": 3}},
    {"worker": {"slots": 0}},
)
# Kinds of the Prometheus Operator. Kubernetes has no schemas for them; promtool checks the rules.
FOREIGN = ("ServiceMonitor", "PrometheusRule")


def values(name):
    return yaml.safe_load((PLAIN / f"{name}-values.yaml").read_text())


def render(given, chart=CHART):
    """The manifests of the chart with these values: in the order of the templates, without notes."""
    with helm.Chart.load(str(chart)) as loaded:
        loaded.validate_schema(given)
        files = loaded.render(given, name="rota", namespace="rota")
    parts = [
        text.strip("\n-").strip()
        for path, text in sorted(files.items())
        if path.endswith(".yaml") and text.strip()
    ]
    return "\n---\n".join(part for part in parts if part) + "\n"


def plain(name):
    head = (
        f"# Rendered from the chart in deploy/helm/rota with {name}-values.yaml by `make manifests`. Do not edit.\n"
        "# First: kubectl create namespace rota, and the Secret rota-tokens as docs/kubernetes.md describes.\n"
    )
    # Helm does not manage these objects.
    return head + re.sub(r" *(app.kubernetes.io/managed-by|helm.sh/chart): .*\n", "", render(values(name)))


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def validate(text, what):
    """Validates every object, and refuses names that occur twice."""
    seen = set()
    for document in documents(text):
        kind, name = document["kind"], document["metadata"]["name"]
        if (kind, name) in seen:
            raise SystemExit(f"error: {what}: {kind} {name} occurs twice")
        seen.add((kind, name))
        if kind in FOREIGN:
            continue
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                raise SystemExit(
                    f"error: {what}: {kind} {name} is invalid for Kubernetes {version} at {list(error.path)}: {error.message}"
                ) from error
    return len(seen)


def check_references(text, what):
    """What a selector or a volume names must exist among the manifests."""
    found = documents(text)
    names = {(document["kind"], document["metadata"]["name"]) for document in found}
    pods = [d for d in found if d["kind"] in ("Deployment", "StatefulSet")]
    for pod in pods:
        template = pod["spec"]["template"]
        for volume in template["spec"].get("volumes", []):
            config = volume.get("configMap")
            if config and ("ConfigMap", config["name"]) not in names:
                raise SystemExit(f"error: {what}: no ConfigMap {config['name']}")
    labels = [pod["spec"]["template"]["metadata"]["labels"] for pod in pods]
    for document in found:
        selector = {
            "Service": lambda d: d["spec"]["selector"],
            "PodDisruptionBudget": lambda d: d["spec"]["selector"]["matchLabels"],
            "NetworkPolicy": lambda d: d["spec"]["podSelector"]["matchLabels"],
            "Deployment": lambda d: d["spec"]["selector"]["matchLabels"],
            "StatefulSet": lambda d: d["spec"]["selector"]["matchLabels"],
        }.get(document["kind"])
        if selector and not any(selector(document).items() <= own.items() for own in labels):
            raise SystemExit(f"error: {what}: {document['kind']} {document['metadata']['name']} selects no pod")


def check_monitoring(text):
    """Rules and dashboards in the chart are those of deploy/prometheus and deploy/grafana."""
    found = documents(text)
    rules = [d for d in found if d["kind"] == "PrometheusRule"]
    for path in sorted((HERE.parent / "prometheus/rules").glob("*.yml")):
        wanted = yaml.safe_load(path.read_text())
        if not any(rule["spec"] == wanted for rule in rules):
            raise SystemExit(f"error: no PrometheusRule has the rules of {path}")
    boards = {
        key: json.loads(board)
        for d in found
        if d["kind"] == "ConfigMap"
        for key, board in d["data"].items()
        if key.endswith(".json")
    }
    for path in sorted((HERE.parent / "grafana/dashboards").glob("*.json")):
        if boards.get(path.name) != json.loads(path.read_text()):
            raise SystemExit(f"error: no ConfigMap has the dashboard {path}")
    with tempfile.TemporaryDirectory() as scratch:
        for number, rule in enumerate(rules):
            file = Path(scratch, f"{number}.yml")
            file.write_text(yaml.safe_dump(rule["spec"]))
            try:
                subprocess.run(["promtool", "check", "rules", str(file)], check=True, capture_output=True)
            except FileNotFoundError:
                print("promtool is not installed; the rules were not checked")
                break
    monitors = [d for d in found if d["kind"] == "ServiceMonitor"]
    jobs = {r["replacement"] for m in monitors for r in m["spec"]["endpoints"][0]["relabelings"] if r.get("targetLabel") == "job"}
    if jobs != {"rota-nodes", "rota-workers"}:
        raise SystemExit(f"error: the rules need the jobs rota-nodes and rota-workers, not {sorted(jobs)}")


def check():
    found = helm.lint(str(CHART))
    # 1 is a note, such as a missing icon.
    faults = found["errors"] + [each for each in found["messages"] if each["severity"] > 1]
    if faults:
        raise SystemExit(f"error: helm lint: {faults}")
    print(f"Helm {helm.helm_sdk_version()} finds no faults in the chart.")
    for given in REFUSED:
        try:
            render(given)
        except helm.HelmError:
            continue
        raise SystemExit(f"error: the chart accepts {given}")
    total = 0
    for name in SETS:
        text = plain(name)
        file = PLAIN / f"{name}.yaml"
        if not file.exists() or file.read_text() != text:
            raise SystemExit(f"error: {file} is not what the chart renders; run `make manifests`")
        total += validate(text, str(file))
        check_references(text, str(file))
    single = {"tls": {"existingSecret": "rota-tls"}}
    for given, what in ((EVERYTHING, "everything"), (ENCRYPTED, "TLS"), (single, "TLS and an embedded store")):
        text = render(given)
        total += validate(text, f"the chart with {what}")
        check_references(text, f"the chart with {what}")
    check_monitoring(render(EVERYTHING))
    print(f"{total} objects are valid for Kubernetes {' and '.join(KUBERNETES)}, and the manifests match the chart.")


def package(directory):
    directory.mkdir(parents=True, exist_ok=True)
    helm.package(str(CHART), destination=str(directory))
    for name in SETS:
        (directory / f"rota-{name}.yaml").write_text(plain(name))
    monitored = {"monitoring": {**EVERYTHING["monitoring"], "labels": {}, "rulesConfigMap": False}}
    kinds = ("ServiceMonitor", "PrometheusRule")
    chosen = [
        document
        for document in documents(render(monitored))
        if document["kind"] in kinds or "dashboard" in document["metadata"]["name"]
    ]
    (directory / "rota-monitoring.yaml").write_text(yaml.safe_dump_all(chosen, sort_keys=False, width=120))
    # The archive renders the same as the directory.
    archive = next(directory.glob("rota-*.tgz"))
    for given in [*map(values, SETS), EVERYTHING, ENCRYPTED]:
        if render(given, archive) != render(given):
            raise SystemExit(f"error: {archive} renders something else than {CHART}")


def main(arguments):
    match arguments:
        case ["write"]:
            for name in SETS:
                (PLAIN / f"{name}.yaml").write_text(plain(name))
        case ["check"]:
            check()
        case ["package", directory]:
            package(Path(directory))
        case _:
            raise SystemExit(__doc__)


main(sys.argv[1:])
