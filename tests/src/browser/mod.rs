//! A browser that tests drive page by page, over the DevTools protocol: it opens pages, presses, types, and says what is
//! shown. And a door between it and a server, which can be slow or broken ([`Door`]).
//!
//! The protocol runs through two pipes, so that no port and no WebSocket is needed. Waiting is asking again: a page is
//! asked with scripts of one line, and never watched.

mod door;

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
    time::{interval, timeout},
};

pub use self::door::{Door, State};
use crate::process::{LOOK, PATIENCE};

/// Puts the pipes of the protocol where Chromium expects them, and nothing in the place of its standard streams.
const THROUGH_PIPES: &str =
    "exec chromium --remote-debugging-pipe \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// Time between two presses of somebody in haste. With none, a browser makes one of them.
const BETWEEN: Duration = Duration::from_millis(300);

/// A browser without windows. It ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    pipes: Mutex<Pipes>,
    _child: Child,
    _profile: TempDir,
}

#[derive(Debug)]
struct Pipes {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    last: u64,
}

/// A page of a browser, in a window of its own, so that it counts as seen.
#[derive(Debug)]
pub struct Page {
    browser: Arc<Browser>,
    target: String,
    session: String,
}

impl Browser {
    /// Starts a browser, which can reach this machine and the hosts of tests alone.
    ///
    /// # Panics
    /// When Chromium is missing.
    #[must_use]
    pub fn start() -> Arc<Self> {
        let profile = tempfile::tempdir().expect("a directory");
        let mut child = Command::new("sh")
            .args(["-c", THROUGH_PIPES, "sh"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--hide-scrollbars"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.*, EXCLUDE 10.*")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let to = child.stdin.take().expect("it was piped");
        let from = BufReader::new(child.stdout.take().expect("it was piped"));
        let pipes = Mutex::new(Pipes { to, from, last: 0 });
        Arc::new(Self { pipes, _child: child, _profile: profile })
    }

    /// Opens a page.
    ///
    /// # Panics
    /// When the browser does not answer.
    pub async fn open(self: &Arc<Self>, url: &str) -> Page {
        let made = self
            .call(None, "Target.createTarget", json!({"url": "about:blank", "newWindow": true}))
            .await;
        let target = made["targetId"].as_str().expect("a page").to_owned();
        let seen = json!({"targetId": target, "flatten": true});
        let attached = self.call(None, "Target.attachToTarget", seen).await;
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let page = Page { browser: self.clone(), target, session };
        page.call("Page.enable", json!({})).await;
        page.size(1440, 900).await;
        page.go(url).await;
        page
    }

    async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let answer = self.ask_in_time(session, method, params).await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn ask_in_time(
        &self,
        session: Option<&str>,
        method: &str,
        params: Value,
    ) -> Result<Value, Value> {
        let answer = timeout(PATIENCE, self.ask(session, method, params)).await;
        answer.unwrap_or_else(|_| panic!("the browser does not answer {method}"))
    }

    /// The result of a call, or its error.
    async fn ask(
        &self,
        session: Option<&str>,
        method: &str,
        params: Value,
    ) -> Result<Value, Value> {
        let mut pipes = self.pipes.lock().await;
        let id = pipes.send(session, method, params).await;
        loop {
            let mut answer = Vec::new();
            pipes.from.read_until(0, &mut answer).await.expect("the browser runs");
            assert_eq!(answer.pop(), Some(0), "the browser ended: is chromium installed?");
            let mut answer: Value = serde_json::from_slice(&answer).expect("JSON");
            // Everything else is an event, or the answer to what nobody waits for.
            if answer["id"] == id {
                return match answer.get_mut("error") {
                    Some(error) => Err(error.take()),
                    None => Ok(answer["result"].take()),
                };
            }
        }
    }
}

impl Pipes {
    async fn send(&mut self, session: Option<&str>, method: &str, params: Value) -> u64 {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = serde_json::to_vec(&message).expect("JSON");
        bytes.push(0);
        self.to.write_all(&bytes).await.expect("the browser runs: is chromium installed?");
        self.last
    }
}

impl Page {
    async fn call(&self, method: &str, params: Value) -> Value {
        self.browser.call(Some(&self.session), method, params).await
    }

    /// Goes to an address, and waits until its page is whole.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn go(&self, url: &str) {
        let gone = self.call("Page.navigate", json!({"url": url})).await;
        assert!(gone.get("errorText").is_none(), "{url}: {gone}");
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'").await;
    }

    /// The value of an expression, awaited if it is a promise.
    ///
    /// # Panics
    /// When it throws.
    pub async fn value(&self, expression: &str) -> Value {
        let asked = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true,
        });
        let mut answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// The text of the first element that matches a selector, or nothing.
    pub async fn text(&self, selector: &str) -> String {
        let text = format!("document.querySelector({})?.innerText ?? ''", json!(selector));
        self.value(&text).await.as_str().unwrap_or_default().trim().to_owned()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// When it is not in time: with what is shown instead.
    pub async fn until(&self, expression: &str) {
        let started = Instant::now();
        let guarded = format!("try {{ !!({expression}) }} catch {{ false }}");
        let mut look = interval(LOOK);
        loop {
            look.tick().await;
            let asked = json!({"expression": guarded, "returnByValue": true});
            let session = Some(self.session.as_str());
            let answer = self.browser.ask_in_time(session, "Runtime.evaluate", asked).await;
            match answer {
                Ok(answer) if answer["result"]["value"] == true => return,
                Ok(_) => {}
                // A page that is being replaced has nothing to say.
                Err(error) => {
                    let why = error["message"].as_str().unwrap_or_default();
                    let is_replaced =
                        ["navigated", "context"].iter().any(|word| why.contains(word));
                    assert!(is_replaced, "{expression}: {error}");
                }
            }
            if started.elapsed() > PATIENCE / 2 {
                let shown = self.value("location.href + '\\n' + document.body.innerText").await;
                panic!("never true: {expression}\n{}", shown.as_str().unwrap_or_default());
            }
        }
    }

    /// Presses the first element that matches a selector, with the mouse, `times` times in haste. What that does may come
    /// later ([`until`](Self::until)).
    ///
    /// # Panics
    /// When there is none.
    pub async fn press(&self, selector: &str, times: u32) {
        // A pointer is on a row before it presses, so that the row stays.
        self.point_at(selector).await;
        let (x, y) = self.point(selector).await;
        let mut haste = interval(BETWEEN);
        for _ in 0..times {
            haste.tick().await;
            for kind in ["mousePressed", "mouseReleased"] {
                let event =
                    json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
                // Nobody waits for its answer: a press that leads away is answered when the other page has come.
                let mut pipes = self.browser.pipes.lock().await;
                pipes.send(Some(&self.session), "Input.dispatchMouseEvent", event).await;
            }
        }
    }

    /// Puts the pointer onto the first element that matches a selector, or with an empty one into the corner.
    ///
    /// # Panics
    /// When there is none.
    pub async fn point_at(&self, selector: &str) {
        let (x, y) = if selector.is_empty() { (1.0, 1.0) } else { self.point(selector).await };
        let event = json!({"type": "mouseMoved", "x": x, "y": y});
        self.call("Input.dispatchMouseEvent", event).await;
    }

    /// The middle of an element, which is scrolled to.
    async fn point(&self, selector: &str) -> (f64, f64) {
        let place = format!(
            "(() => {{ const one = document.querySelector({}); if (!one) return null; \
             one.scrollIntoView({{ block: 'nearest' }}); const box = one.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()",
            json!(selector)
        );
        let place = self.value(&place).await;
        match (place[0].as_f64(), place[1].as_f64()) {
            (Some(x), Some(y)) => (x, y),
            _ => panic!("there is no {selector}:\n{}", self.text("body").await),
        }
    }

    /// Presses a key that has no other meaning than its letter.
    pub async fn key(&self, letter: char) {
        for kind in ["keyDown", "keyUp"] {
            let event =
                json!({"type": kind, "key": letter.to_string(), "text": letter.to_string()});
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Types into the first element that matches a selector.
    pub async fn write(&self, selector: &str, text: &str) {
        self.press(selector, 1).await;
        // A press is not waited for, and text goes to whatever has the focus.
        self.until(&format!("document.activeElement.matches({})", json!(selector))).await;
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// Pastes what was copied into the first element that matches a selector.
    pub async fn paste(&self, selector: &str) {
        self.press(selector, 1).await;
        self.until(&format!("document.activeElement.matches({})", json!(selector))).await;
        let event =
            json!({"type": "rawKeyDown", "key": "v", "modifiers": 2, "commands": ["paste"]});
        self.call("Input.dispatchKeyEvent", event).await;
    }

    /// Gives its window this size. Below 500 pixels it is that of a telephone.
    pub async fn size(&self, width: u32, height: u32) {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Runs no script of pages from the next page on, or runs them again.
    pub async fn without_scripts(&self, without: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": without})).await;
    }

    /// Closes it.
    pub async fn close(self) {
        let target = json!({"targetId": self.target});
        self.browser.call(None, "Target.closeTarget", target).await;
    }
}
