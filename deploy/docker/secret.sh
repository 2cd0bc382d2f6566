#!/bin/sh
# Creates the secrets for the containers of compose.yaml, unless they exist:
# - rota.toml: a random API token (api_tokens for nodes, token for clients), and a token for /metrics
# - metrics-token: the token for /metrics, for Prometheus
# - grafana-password: the password of the Grafana user admin
set -eu
cd "$(dirname "$0")"
if [ -e secret/rota.toml ]; then
    echo "deploy/docker/secret/rota.toml already exists."
    exit
fi
random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}
mkdir -p secret
chmod 0700 secret
token=$(random)
metrics_token=$(random)
umask 077
printf '%s' "$metrics_token" >secret/metrics-token
random >secret/grafana-password
cat >secret/rota.toml <<END
url = ["http://127.0.0.1:7420", "http://127.0.0.1:7421", "http://127.0.0.1:7422"]
api_tokens = ["$token"]
metrics_tokens = ["$metrics_token"]
token = "$token"
END
# Outside of swarm mode, compose ignores the owner and mode set in compose.yaml and mounts the files as
# they are. So the files are readable for all users of the containers, and the mode of the directory
# keeps other users of this machine out.
chmod 0644 secret/*
echo "Created rota.toml, metrics-token and grafana-password in deploy/docker/secret."
