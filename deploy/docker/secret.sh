#!/bin/sh
# Makes the secrets that compose.yaml hands to its containers. rota.toml: a random token, which opens the
# API (api_tokens) and which clients show (token), and one that opens /metrics alone. metrics-token: the
# latter, for Prometheus. grafana-password: of Grafana's admin. What is there is left alone.
set -eu
cd "$(dirname "$0")"
if [ -e secret/rota.toml ]; then
    echo "deploy/docker/secret/rota.toml is there already."
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
# Outside of swarm, compose mounts the files as they are here, whatever it says of their owner: the
# users of the containers must be able to read them. The directory keeps everybody else on this machine
# out.
chmod 0644 secret/*
echo "Made rota.toml, metrics-token and grafana-password in deploy/docker/secret."
