#!/bin/sh
# Makes the settings that compose.yaml hands to all containers as a secret: a random token, which opens
# the API (api_tokens) and which clients show (token). What is there is left alone.
set -eu
cd "$(dirname "$0")"
file=secret/rota.toml
if [ -e "$file" ]; then
    echo "deploy/docker/$file is there already."
    exit
fi
mkdir -p secret
chmod 0700 secret
token=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
umask 077
cat >"$file" <<END
url = ["http://127.0.0.1:7420", "http://127.0.0.1:7421", "http://127.0.0.1:7422"]
api_tokens = ["$token"]
token = "$token"
END
# Outside of swarm, compose mounts the file as it is here, whatever it says of its owner: the user of
# the containers must be able to read it. The directory keeps everybody else on this machine out.
chmod 0644 "$file"
echo "Made deploy/docker/$file."
