//! What forms mean.

use super::*;

fn typed(query: &str) -> Pairs {
    Pairs::of(query)
}

#[test]
fn a_form_is_a_task() {
    let (task, faults) = read(&typed(
        "kind=+mail+&queue=q%2F1&payload=+%7B%22n%22%3A+1e400%7D%0D%0A&id=a%2Fb&priority=9&delay=10m\
         &labels=x%3D1%0D%0A%0D%0Ay%3Da%3Db&retry.max_attempts=3&retry.jitter=none&description=a%0D%0Ab&what=handler",
    ));
    assert_eq!(faults, Faults::default());
    assert_eq!((task.kind.as_str(), task.queue.as_deref()), ("mail", Some("q/1")));
    assert_eq!(task.payload, "{\"n\": 1e400}");
    assert_eq!(task.labels.get("y").map(String::as_str), Some("a=b"));
    assert_eq!(task.description.as_deref(), Some("a\nb"));
    let retry = task.retry.expect("a policy");
    assert_eq!((retry.max_attempts, retry.jitter()), (Some(3), Jitter::None));
    assert_eq!(read(&typed("kind=k")).0.retry, None, "the defaults are those of the server");
}

#[test]
fn each_fault_has_its_field() {
    let (_, faults) = read(&typed(
        "payload=%7B%27a%27%7D&priority=-1&delay=5&run_at=soon&labels=a&retry.multiplier=x&retry.jitter=some&timeout=1x",
    ));
    for field in
        ["payload", "priority", "delay", "run_at", "labels", "retry", "retry.jitter", "timeout"]
    {
        assert!(faults.of(field).next().is_some(), "{field}: {faults:?}");
    }
    assert!(faults.of("lab").next().is_none());
    let (_, faults) = read(&typed("payload=%22%5Cud800%22"));
    assert!(faults.of("payload").any(|why| why.contains("surrogate")), "{faults:?}");
}

#[test]
fn dates_without_a_zone_are_utc() {
    let noon: Date = "2026-01-31T12:00:00Z".parse().expect("a date");
    for text in [
        "2026-01-31T12:00:00Z",
        "2026-01-31 12:00",
        "2026-01-31T13:00:00+01:00",
        " 2026-01-31 12:00:00 ",
    ] {
        assert_eq!(date(text), Ok(noon), "{text}");
    }
    assert!(date("31.1.2026").expect_err("wrong").contains("is not a date"));
}

#[test]
fn a_command_has_its_arguments_as_they_are_written() {
    let (task, faults) =
        read(&typed("what=command&kind=other&argv=sh%0D%0A-c%0D%0Aecho+%22%24A%22+%0D%0A%0D%0A"));
    assert_eq!(faults, Faults::default());
    assert_eq!(task.kind, "command");
    assert_eq!(task.payload, r#"{"argv":["sh","-c","echo \"$A\" "]}"#);
    assert!(read(&typed("what=command&argv=")).1.of("argv").next().is_some());
}

#[test]
fn a_request_keeps_the_value_of_its_body() {
    let payload =
        |query: &str| read(&typed(&format!("what=http&url=https%3A%2F%2Fa.example%2F%22&{query}")));
    let (task, faults) =
        payload("method=PUT&headers=Accept%3A+a%2Fb%0D%0Ax%3A+y%3Az&body=%7B%22n%22%3A1e400%7D");
    assert_eq!(faults, Faults::default());
    assert_eq!(
        task.payload,
        r#"{"url":"https://a.example/\"","method":"PUT","headers":{"accept":"a/b","x":"y:z"},"body":{"n":1e400}}"#
    );
    assert_eq!(
        payload("body=%22a%22").0.payload,
        r#"{"url":"https://a.example/\"","body":"\"a\""}"#
    );
    assert_eq!(payload("body=hello").0.payload, r#"{"url":"https://a.example/\"","body":"hello"}"#);
    assert!(payload("method=GET&body=x").1.of("method").next().is_some());
    assert!(payload("headers=a+b").1.of("headers").next().is_some());
    assert!(read(&typed("what=http&url=javascript%3Aalert(1)")).1.of("url").next().is_some());
}

#[test]
fn a_task_fills_the_form_and_comes_back() {
    let task = Task {
        kind: "k".to_owned(),
        queue: "q".to_owned(),
        payload: Bytes::from_static(b"{\"n\":9007199254740993}"),
        labels: [("a".to_owned(), "b=c".to_owned())].into(),
        priority: 7,
        timeout: Some("90s".parse().expect("a span")),
        retry: Some(RetryPolicy {
            max_attempts: Some(3),
            multiplier: Some(1.5),
            jitter: Some(Jitter::None.into()),
            ..RetryPolicy::default()
        }),
        ..Task::default()
    };
    let (new, faults) = read(&of_task(&task));
    assert_eq!(faults, Faults::default());
    assert_eq!((&new.payload, &new.labels, new.retry), (&task.payload, &task.labels, task.retry));
    assert_eq!((new.timeout, new.priority, new.id), (task.timeout, Some(7), None));
    assert!(changed(&of_task(&task), &of_task(&task)).is_empty());
    assert!(!is_editable(&[0, 255]) && !is_editable(&[b'1'; EDITED + 1]) && is_editable(b""));
}

#[test]
fn the_direction_of_a_form_cannot_be_changed_by_a_payload() {
    let task = Task { payload: "{\"a\":\"x\u{202e}y\"}".into(), ..Task::default() };
    assert_eq!(of_task(&task).get("payload"), Some("{\"a\":\"x\\u202ey\"}"));
}

#[test]
fn what_is_typed_and_what_is_wrong_with_it_stand_apart() {
    let typed = Pairs::of("kind=%E2%80%AE&labels=a%E2%80%AE&retry.jitter=%E2%80%AE");
    let (_, mut faults) = read(&typed);
    let wrong = |name: &str| (name.to_owned(), "no\u{202e}".to_owned());
    faults.extend(vec![wrong("kind"), wrong("retry.jitter")]);
    for exists in [false, true] {
        let form = Form { typed: &typed, faults: &faults, exists, payload: None };
        crate::apart::assert_apart(&fields(&form).into_string());
    }
}
