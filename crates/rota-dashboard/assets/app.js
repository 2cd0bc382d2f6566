// What makes the pages pleasant. Everything can be read and done without it.
"use strict";

(() => {
  const own = document.currentScript;
  const root = document.documentElement;
  const at = (id) => document.getElementById(id);
  const kept = {
    get: (name, other) => { try { return localStorage.getItem("rota-" + name) ?? other; } catch { return other; } },
    set: (name, value) => { try { localStorage.setItem("rota-" + name, value); } catch { /* private window */ } },
  };
  root.classList.add("js");

  // ---- Times: the server writes UTC.
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const relative = (date) => {
    const seconds = Math.round((date - Date.now()) / 1000);
    const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS[3];
    return words.format(Math.trunc(seconds / size), unit);
  };
  const showTimes = (within) => {
    const how = kept.get("times", "relative");
    for (const time of within.querySelectorAll("time[datetime]")) {
      const date = new Date(time.dateTime);
      if (isNaN(date)) continue;
      const utc = time.dateTime.slice(0, 19).replace("T", " ") + " UTC";
      const text = { utc, local: local.format(date), relative: relative(date) }[how] ?? utc;
      if (time.textContent !== text) time.textContent = text;
      time.title = how === "utc" ? local.format(date) : utc + " · " + local.format(date);
    }
  };

  // ---- Live regions: elements with an id and `data-live`, the topics that they show.
  const regions = () => [...document.querySelectorAll("[data-live][id]")];
  const isHeld = (region) => {
    const selection = getSelection();
    return region.querySelector("tr:hover, li:hover, input:checked, input:focus, select:focus, textarea:focus, details[open]:not([data-open])") !== null
      || (selection && !selection.isCollapsed && region.contains(selection.anchorNode))
      || region.querySelector("form[data-sent]") !== null
      || document.querySelector("dialog[open]") !== null;
  };
  let interval = kept.get("interval", "live");
  let waiting = new Set(), held = 0, busy = false, timer = 0, last = 0;
  // The stream: off, on or lost. And why this page cannot be refreshed, if so, and from when it is.
  let stream = "off", stale = null, asOf = Date.now();
  const RETRY = 2000;
  const STALE = {
    unreachable: (then) => `No connection to this node. The page is from ${then}, and goes on by itself.`,
    failing: (then) => `The cluster does not answer. The page is from ${then}, and goes on by itself.`,
    gone: (then) => `This does not exist any more. The page is from ${then}.`,
  };

  const show = () => {
    if (!at("dot")) return;
    at("dot").dataset.state = interval === "paused" ? "off" : stale ? "lost" : stream;
    at("pending").textContent = held > 0 ? held + (held === 1 ? " update" : " updates") + ", press r to refresh" : "";
    const text = stale ? STALE[stale](new Date(asOf).toLocaleTimeString()) : "";
    // Written only when it differs, so that screen readers say it once.
    if (at("stale").textContent !== text) at("stale").textContent = text;
  };

  // What a person looks at stays where it is: the row that the keys chose, and the first row in a window that is scrolled.
  const keyOf = (row) => (row.querySelector(".id a") ?? row.querySelector("a"))?.getAttribute("href");
  const rowOf = (region, key) => key ? [...region.querySelectorAll("tbody tr")].find((row) => keyOf(row) === key) : undefined;
  function put(region, next) {
    const focus = document.activeElement;
    const address = region.contains(focus) ? focus.getAttribute("href") : null;
    const current = region.querySelector("tr[data-current]");
    const top = scrollY > 0 ? [...region.querySelectorAll("tbody tr")].find((row) => row.getBoundingClientRect().top >= 0) : undefined;
    const [key, seen] = top ? [keyOf(top), top.getBoundingClientRect().top] : [];
    region.replaceChildren(...document.importNode(next, true).childNodes);
    if (address) [...region.querySelectorAll("a")].find((link) => link.getAttribute("href") === address)?.focus({ preventScroll: true });
    const chosen = current && rowOf(region, keyOf(current));
    if (chosen) chosen.dataset.current = "";
    const now = rowOf(region, key);
    if (now) scrollBy(0, now.getBoundingClientRect().top - seen);
  }

  // Fetches this page once, and puts what changed into its regions.
  async function refresh(force) {
    if (busy) return;
    busy = true;
    last = Date.now();
    waiting.clear();
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
      if (answer.redirected && new URL(answer.url).pathname.endsWith("/login")) {
        location.reload();
        return;
      }
      // A page that fails now is not shown instead of the last good one.
      // The page of a refused change has an address that can make no sense alone: then there is nothing to say.
      if (!answer.ok) {
        stale = answer.status === 404 ? "gone" : answer.status >= 500 || answer.status === 429 ? "failing" : null;
        return;
      }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const failing = (within) => within.querySelector(".trouble[data-passing]") !== null;
      stale = failing(fresh.getElementById("main")) ? "failing" : null;
      // A page that began with a failure has no regions to fill.
      if (!stale && failing(at("main")) && !isHeld(at("main"))) at("main").replaceChildren(...document.importNode(fresh.getElementById("main"), true).childNodes);
      if (!stale) asOf = Date.now();
      askAgain(fresh);
      let left = false;
      for (const region of regions()) {
        const next = fresh.getElementById(region.id);
        if (!next || failing(next)) continue;
        showTimes(next);
        // A region with a stamp is the same as long as the stamp is, whatever its reader has folded.
        const stamp = next.dataset.stamp;
        if (stamp !== undefined ? stamp === region.dataset.stamp : next.isEqualNode(region)) continue;
        if (!force && isHeld(region)) { left = true; continue; }
        put(region, next);
        if (stamp !== undefined) region.dataset.stamp = stamp;
      }
      held = left ? held + 1 : 0;
    } catch {
      stale = "unreachable";
    } finally {
      busy = false;
      show();
      retry();
    }
  }

  // A page that could not be refreshed asks again, because it may hear nothing meanwhile.
  let retrying = 0;
  function retry() {
    clearTimeout(retrying);
    if (!stale || stale === "gone") return;
    retrying = setTimeout(() => { if (interval !== "paused" && !document.hidden) refresh(false); }, RETRY);
  }

  const schedule = () => {
    if (timer || waiting.size === 0 || interval === "paused" || document.hidden) return;
    const pause = interval === "live" ? 1000 : Number(interval) * 1000;
    timer = setTimeout(() => { timer = 0; refresh(false).then(schedule); }, Math.max(0, last + pause - Date.now()));
  };
  const hear = (topics) => {
    const shown = new Set(regions().flatMap((region) => region.dataset.live.split(" ")));
    for (const topic of topics.split(" ")) if (shown.has(topic)) waiting.add(topic);
    schedule();
  };
  // Some answers of the node are shared by all pages, and may be older than what this page has heard.
  let older = 0;
  const askAgain = (page) => {
    clearTimeout(older);
    const after = page.getElementById("main").dataset.again;
    if (after) older = setTimeout(() => { waiting.add("again"); schedule(); }, Number(after));
  };
  const told = ({ state: next, topics }) => {
    if (next) {
      // What happened while the stream was broken was not heard. And one that broke may be the first sign of a lost node.
      if (stream === "lost" && next === "on") regions().forEach((region) => hear(region.dataset.live));
      if (stream !== "lost" && next === "lost") refresh(false);
      stream = next;
      show();
    }
    if (topics) hear(topics);
  };
  // A region that was held is brought up to date when the pointer leaves it.
  document.addEventListener("pointerout", (event) => {
    const region = event.target.closest?.("[data-live]");
    if (held > 0 && region && !region.contains(event.relatedTarget)) refresh(false);
  });

  // ---- The stream: one for all tabs in a worker where there is one, else one for this tab.
  let listen = () => {};
  if (regions().length > 0) {
    if (window.SharedWorker) {
      const worker = new SharedWorker(new URL(own.dataset.worker, location.href), "rota-live");
      worker.port.onmessage = ({ data }) => told(data);
      worker.port.start();
      listen = () => worker.port.postMessage(!document.hidden && interval !== "paused" ? "seen" : "hidden");
      addEventListener("pagehide", () => worker.port.postMessage("gone"));
      addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
    } else {
      let source = null;
      listen = () => {
        const wanted = !document.hidden && interval !== "paused";
        if (!wanted && source) { source.close(); source = null; }
        if (wanted && !source) {
          source = new EventSource("live");
          source.onopen = () => told({ state: "on" });
          source.onerror = () => {
            told({ state: "lost" });
            // A refused stream is not opened again by itself.
            if (source?.readyState === EventSource.CLOSED) { source = null; setTimeout(listen, 5000); }
          };
          source.onmessage = ({ data }) => told({ topics: data });
        }
      };
    }
    document.addEventListener("visibilitychange", () => {
      listen();
      if (!document.hidden && interval !== "paused") refresh(false);
    });
  }

  // ---- Choices
  const setInterval_ = (value) => {
    interval = value;
    kept.set("interval", value);
    if (at("interval")) at("interval").value = value;
    clearTimeout(timer);
    timer = 0;
    listen();
    if (value !== "paused") refresh(false);
    show();
  };
  if (at("interval")) {
    at("interval").value = interval;
    at("interval").addEventListener("change", (event) => setInterval_(event.target.value));
    at("theme").addEventListener("change", (event) => {
      root.dataset.theme = event.target.value;
      // Read by the server, so that the first paint has the right colours.
      document.cookie = "rota_theme=" + event.target.value + "; Max-Age=31536000; SameSite=Lax";
    });
    at("times").value = kept.get("times", "relative");
    at("times").addEventListener("change", (event) => { kept.set("times", event.target.value); showTimes(document); });
    listen();
    show();
    askAgain(document);
  }
  showTimes(document);
  setInterval(() => { if (!document.hidden && kept.get("times", "relative") === "relative") showTimes(document); }, 10000);

  // ---- Copying, over plain HTTP as well
  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* not over plain HTTP */ }
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "sr";
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (button && await copy(button.dataset.copy)) {
      button.dataset.done = "";
      setTimeout(() => delete button.dataset.done, 1500);
      button.focus();
    }
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });

  // ---- Forms: short addresses, one change for one press, and a question before what cannot be undone
  // After so long without an answer, a form can be sent again.
  const SENT = 15000;
  addEventListener("pageshow", () => { for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent; });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if ("clean" in form.dataset) {
      for (const field of form.elements) if (field.name && field.value === "") field.disabled = true;
      setTimeout(() => { for (const field of form.elements) field.disabled = false; });
    }
    // On a slow network, a second press would ask for a second change.
    if ("sent" in form.dataset) { event.preventDefault(); return; }
    const dialog = at("confirm"), question = form.dataset.confirm;
    if (!question || !dialog || form.elements.confirmed) {
      if (form.getAttribute("method") === "post") {
        form.dataset.sent = "";
        setTimeout(() => delete form.dataset.sent, SENT);
      }
      return;
    }
    event.preventDefault();
    at("confirm-text").textContent = question;
    dialog.returnValue = "no";
    dialog.onclose = () => {
      if (dialog.returnValue !== "yes") return;
      const field = Object.assign(document.createElement("input"), { type: "hidden", name: "confirmed", value: "yes" });
      form.append(field);
      form.requestSubmit(event.submitter);
    };
    dialog.showModal();
  });

  // ---- Many tasks: boxes of rows, and a form that goes on by itself
  const boxes = (name) => [...document.querySelectorAll(`input[type="checkbox"][name="id"][form="${name}"]`)];
  document.addEventListener("change", ({ target }) => {
    if (target.dataset?.all) for (const box of boxes(target.dataset.all)) box.checked = target.checked;
    if (!at("chosen")) return;
    const number = boxes("bulk").filter((box) => box.checked).length;
    const all = document.querySelector('[data-all="bulk"]');
    if (all) { all.checked = number > 0 && number === boxes("bulk").length; all.indeterminate = number > 0 && !all.checked; }
    at("chosen").textContent = number + " selected";
  });
  const auto = document.querySelector("form[data-auto]");
  if (auto) setTimeout(() => auto.requestSubmit(), 300);

  // ---- Keys
  const rows = () => [...document.querySelectorAll("table.rows tbody tr")];
  const move = (by) => {
    const all = rows(), now = all.findIndex((row) => "current" in row.dataset);
    const next = all[Math.min(all.length - 1, Math.max(0, now + by))];
    if (!next) return;
    if (now >= 0) delete all[now].dataset.current;
    next.dataset.current = "";
    next.scrollIntoView({ block: "nearest" });
  };
  let afterG = 0;
  document.addEventListener("keydown", (event) => {
    const into = event.target.closest?.("input, select, textarea, [contenteditable]");
    if (into && event.key === "Escape") into.blur();
    if (into || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (Date.now() - afterG < 1500) {
      afterG = 0;
      const link = document.querySelector(`nav.side [data-key="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); link.click(); }
      return;
    }
    const keys = {
      "/": () => at("search")?.select(),
      "?": () => at("help")?.showModal(),
      r: () => { held = 0; refresh(true); },
      ".": () => setInterval_(interval === "paused" ? "live" : "paused"),
      g: () => { afterG = Date.now(); },
      j: () => move(1),
      k: () => move(-1),
      x: () => document.querySelector("tr[data-current] td.check input")?.click(),
      Enter: () => document.querySelector("tr[data-current] .id a, tr[data-current] a")?.click(),
    };
    if (event.key === "Enter" && event.target !== document.body && event.target.id !== "main") return;
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
})();
