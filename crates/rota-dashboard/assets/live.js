// One stream of changes for all tabs of a browser: a browser opens few connections to a server. A tab says whether it
// is seen; while no tab is, there is no stream.
"use strict";

const ports = new Map();
const RECENT = 3000;
let stream = null;
let state = "off";
let recent = [];

function tell(message) {
  for (const [port, seen] of ports) if (seen) port.postMessage(message);
}

function say(next) {
  state = next;
  tell({ state });
}

function open() {
  stream = new EventSource(new URL("../../live", self.location));
  stream.onopen = () => say("on");
  stream.onerror = () => {
    say("lost");
    // A refused stream is not opened again by itself.
    if (stream && stream.readyState === EventSource.CLOSED) {
      stream = null;
      setTimeout(check, 5000);
    }
  };
  stream.onmessage = (event) => {
    const now = Date.now();
    recent = recent.filter((one) => now - one.at < RECENT);
    recent.push({ at: now, topics: event.data });
    tell({ topics: event.data });
  };
}

function check() {
  const wanted = [...ports.values()].some((seen) => seen);
  if (wanted && !stream) open();
  if (!wanted && stream) {
    stream.close();
    stream = null;
    state = "off";
    recent = [];
  }
}

self.onconnect = (event) => {
  const port = event.ports[0];
  port.onmessage = ({ data }) => {
    if (data === "gone") ports.delete(port);
    else {
      const was = ports.get(port);
      ports.set(port, data === "seen");
      if (data === "seen" && !was && stream) {
        port.postMessage({ state });
        // The page may be older than what was told since it was made.
        const now = Date.now();
        for (const one of recent) if (now - one.at < RECENT) port.postMessage({ topics: one.topics });
      }
    }
    check();
  };
};
