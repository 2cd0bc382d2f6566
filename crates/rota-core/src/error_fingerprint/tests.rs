//! A table of real messages, and properties of all messages.

use proptest::{collection::vec, prelude::*};

use super::*;

/// Messages as they occur, and what is left of them.
const GOLDEN: &[(&str, &str)] = &[
    ("connection refused", "connection refused"),
    (
        "dial tcp 10.0.3.17:5432: connect: connection refused",
        "dial tcp <ip>:<n>: connect: connection refused",
    ),
    ("dial tcp [fe80::1%eth0]:443: i/o timeout", "dial tcp [<ip>]:<n>: i/o timeout"),
    (
        "dial tcp [::1]:8080: connect: connection refused",
        "dial tcp [<ip>]:<n>: connect: connection refused",
    ),
    (
        "read tcp 10.1.2.3:51234->10.9.8.7:443: read: connection reset by peer",
        "read tcp <ip>:<n>-><ip>:<n>: read: connection reset by peer",
    ),
    (
        "Get \"https://api.example.com/v1/users/42?token=abc\": context deadline exceeded",
        "Get \"<str>\": context deadline exceeded",
    ),
    (
        "error sending request for url (https://api.example.com/users/42?page=3&q=x)",
        "error sending request for url (https://api.example.com/users/<n>?<query>)",
    ),
    (
        "HTTPSConnectionPool(host='api.example.com', port=443): Max retries exceeded with url: /v1/items/981",
        "HTTPSConnectionPool(host='<str>', port=<n>): Max retries exceeded with url: /v<n>/items/<n>",
    ),
    ("HTTP 503 Service Unavailable", "HTTP <n> Service Unavailable"),
    ("got status 429, retry after 1.5s", "got status <n>, retry after <n>"),
    ("timed out after 1m30s", "timed out after <n>"),
    ("timed out after 45s", "timed out after <n>"),
    ("Task timed out after 300.00 seconds", "Task timed out after <n> seconds"),
    ("KeyError: 'user_id'", "KeyError: '<str>'"),
    ("can't open file 'report.csv': No such file", "can't open file '<str>': No such file"),
    (
        "[Errno 2] No such file or directory: '/data/in/2026-01-31/part-0007.csv'",
        "[Errno <n>] No such file or directory: '<str>'",
    ),
    (
        "open /data/in/part-0007.csv: no such file or directory",
        "open /data/in/part-<n>.csv: no such file or directory",
    ),
    ("open /tmp/tmpab_xyz/out: permission denied", "open /tmp/<path>: permission denied"),
    (
        "ENOENT: no such file or directory, open '/srv/app/a.json'",
        "ENOENT: no such file or directory, open '<str>'",
    ),
    (
        "ERROR: duplicate key value violates unique constraint \"users_email_key\" (SQLSTATE 23505)",
        "ERROR: duplicate key value violates unique constraint \"<str>\" (SQLSTATE <n>)",
    ),
    ("Key (id)=(8123) already exists.", "Key (id)=(<n>) already exists."),
    ("pq: deadlock detected", "pq: deadlock detected"),
    (
        "deadlock: process 4711 waits for ShareLock on transaction 99812; blocked by process 4712.",
        "deadlock: process <n> waits for ShareLock on transaction <n>; blocked by process <n>.",
    ),
    ("(1205, 'Lock wait timeout exceeded; try restarting transaction')", "(<n>, '<str>')"),
    (
        "java.lang.NullPointerException: Cannot invoke \"Order.id()\" because \"order\" is null\n\tat A.b(A.java:17)",
        "java.lang.NullPointerException: Cannot invoke \"<str>\" because \"<str>\" is null",
    ),
    ("at com.example.Job$3.run(Job.java:118)", "at com.example.Job$<n>.run(Job.java:<n>)"),
    ("object at 0x7f3a5c0012d8 is not callable", "object at <hex> is not callable"),
    (
        "Segmentation fault (core dumped) at 0x00000000deadbeef",
        "Segmentation fault (core dumped) at <hex>",
    ),
    ("order 550e8400-e29b-41d4-a716-446655440000 not found", "order <uuid> not found"),
    ("order 550E8400-E29B-41D4-A716-446655440000 not found", "order <uuid> not found"),
    ("task t_0h8v3k2m9qwer is already running", "task <id> is already running"),
    ("No such charge: ch_3MmlLrLkdIwHu7ix0snN0B15", "No such charge: ch_<id>"),
    ("pod web-7d9f8b6c5d-x2k9z was evicted", "pod web-<hex>-<id> was evicted"),
    ("commit 3f786850e387550fdab836ed7e6dc881de23001b not found", "commit <hex> not found"),
    (
        "checksum mismatch: expected 9e107d9d372bb6826bd81d3542a419d6, got e4d909c290d0fb1ca068ffaddf22cbd0",
        "checksum mismatch: expected <hex>, got <hex>",
    ),
    ("certificate expired on 2026-01-31T12:00:00Z", "certificate expired on <time>"),
    (
        "2026-01-31 12:00:00,123 ERROR worker-3: out of memory",
        "<time> ERROR worker-<n>: out of memory",
    ),
    ("[12:00:01.5] lost connection", "[<time>] lost connection"),
    ("no data for 2026-01-31", "no data for <time>"),
    ("token expired at 2026-01-31T12:00:00.123456+01:00!", "token expired at <time>!"),
    (
        "cannot send mail to jo.doe+x@mail.example.org: mailbox full",
        "cannot send mail to <email>: mailbox full",
    ),
    ("exit code 137", "exit code <n>"),
    ("exit status: -9", "exit status: <n>"),
    ("used 1.5GB of 2GB", "used <n>GB of <n>GB"),
    ("used 1,234,567 of 2_000_000 bytes", "used <n> of <n> bytes"),
    ("balance is -12.50 after 1e-9", "balance is <n> after <n>"),
    (
        "index out of bounds: the len is 3 but the index is 7",
        "index out of bounds: the len is <n> but the index is <n>",
    ),
    (
        "thread 'main' panicked at src/main.rs:10:5:\nindex out of bounds",
        "thread '<str>' panicked at src/main.rs:<n>:<n>:",
    ),
    (
        "called `Result::unwrap()` on an `Err` value: Os { code: 2 }",
        "called `<str>` on an `<str>` value: Os { code: <n> }",
    ),
    ("unexpected token < in JSON at position 0", "unexpected token < in JSON at position <n>"),
    (r#"{"code":42,"message":"bad"}"#, r#"{"<str>":<n>,"<str>":"<str>"}"#),
    (r#"{\"code\":42}"#, r#"{\"<str>":<n>}"#),
    ("bad value “a b” for «c»", "bad value “<str>” for «<str>»"),
    ("it's 5 o'clock", "it's <n> o'clock"),
    ("worker12 of utf8 and x86_64", "worker<n> of utf<n> and x<n>_<n>"),
    ("worker web-a.eu sent no heartbeat for 30s", "worker <id> sent no heartbeat for <n>"),
    ("worker dev closed its session", "worker <id> closed its session"),
    ("worker pool is empty", "worker pool is empty"),
    ("std::bad_alloc", "std::bad_alloc"),
    ("unterminated \"text of 5", "unterminated \"text of <n>"),
    ("\n\n  two\t\twords  \nmore", "two words"),
    ("Ошибка 5: файл не найден", "Ошибка <n>: файл не найден"),
    ("", ""),
];

#[test]
fn real_messages_are_folded() {
    for (message, folded) in GOLDEN {
        assert_eq!(fold_error(message), *folded, "{message}");
    }
}

#[test]
fn a_fingerprint_depends_on_the_kind_and_the_folded_message() {
    let one = ErrorFingerprint::of("mail", "user 1 not found");
    assert_eq!(one, ErrorFingerprint::of("mail", "user 22 not found\nand a trace"));
    assert_ne!(one, ErrorFingerprint::of("sms", "user 1 not found"));
    assert_ne!(one, ErrorFingerprint::of("mail", "order 1 not found"));
    assert_ne!(ErrorFingerprint::of("a", "b"), ErrorFingerprint::of("ab", ""));
    // Links to a group must stay valid.
    assert_eq!(one.to_string(), "b06407f5b84ce4e8");
}

#[test]
fn only_16_digits_are_a_fingerprint() {
    assert!("00000000000000ff".parse::<ErrorFingerprint>().is_ok());
    for text in
        ["", "ff", "00000000000000FF", "+0000000000000ff", "000000000000000ff", "0000000000000000é"]
    {
        assert!(text.parse::<ErrorFingerprint>().is_err(), "{text}");
    }
}

/// The message with each number of the list in its places.
fn filled(parts: &[(String, bool)], numbers: &[u64]) -> String {
    let mut message = String::new();
    for ((text, in_brackets), number) in parts.iter().zip(numbers) {
        let number = if *in_brackets { format!("({number})") } else { number.to_string() };
        message.push_str(&format!("{text} {number} "));
    }
    message
}

proptest! {
    #[test]
    fn every_message_can_be_folded(message in any::<String>()) {
        let folded = fold_error(&message);
        prop_assert!(folded.chars().count() <= FOLDED_CHARS_MAX);
        prop_assert!(!folded.contains(char::is_control));
        prop_assert!(!folded.contains("  "));
    }

    #[test]
    fn messages_of_hard_parts_can_be_folded(
        parts in vec(r#"[0-9a-f:.%@+_ \-]{0,12}|["'`“”\\?]|://|/tmp/|0x|t_|µs|é|日本|\r?\n"#, 0..60),
    ) {
        let folded = fold_error(&parts.concat());
        prop_assert!(folded.chars().count() <= FOLDED_CHARS_MAX);
    }

    #[test]
    fn a_long_message_takes_a_moment(part in r#"["'`a0:.@/ ]{1,3}"#) {
        let folded = fold_error(&part.repeat(100_000));
        prop_assert!(folded.chars().count() <= FOLDED_CHARS_MAX);
    }

    #[test]
    fn other_numbers_change_nothing(
        parts in vec(("[a-z]{1,9}( [A-Z][a-z]{1,9}:)?", any::<bool>()), 1..9),
        one in vec(any::<u64>(), 9),
        other in vec(0u64..100, 9),
    ) {
        let (one, other) = (filled(&parts, &one), filled(&parts, &other));
        prop_assert_eq!(fold_error(&one), fold_error(&other));
        prop_assert_eq!(ErrorFingerprint::of("k", &one), ErrorFingerprint::of("k", &other));
    }

    #[test]
    fn a_fingerprint_is_read_back(kind in "[a-z]{1,9}", message in any::<String>()) {
        let fingerprint = ErrorFingerprint::of(&kind, &message);
        prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        prop_assert_eq!(fingerprint, ErrorFingerprint::of_folded(&kind, &fold_error(&message)));
    }
}
