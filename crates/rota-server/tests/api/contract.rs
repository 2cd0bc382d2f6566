//! The contract that is served is the contract that is kept.

use std::{collections::BTreeSet, time::Duration};

use prost::Message;
use rota_proto::operations::Operation;
use rota_server::Limits;
use serde_json::Value;

use crate::harness::Node;

#[tokio::test]
async fn the_contract_is_served_with_a_page_that_needs_nothing_else() {
    let node = Node::start().await;
    let answer = node.get("/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    let contract = answer.json();
    assert!(contract["openapi"].as_str().unwrap().starts_with("3.1"));
    let page = node.get("/docs").await;
    let own = [page, node.get("/docs/docs.js").await, node.get("/docs/docs.css").await];
    for answer in &own {
        assert_eq!(answer.status, 200);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains("http://") && !text.contains("https://"), "loads from elsewhere");
    }
    // The policy allows nothing but files of this server.
    let policy = own[0].header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, kind, encoding) in [
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8", "gzip"),
        ("swagger-ui.css", "text/css; charset=utf-8", "gzip"),
        ("favicon.svg", "image/svg+xml", ""),
    ] {
        let answer = node.get(&format!("/docs/{name}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{name}");
        assert_eq!(answer.header("content-encoding"), encoding, "{name}");
        assert!(String::from_utf8_lossy(&own[0].body).contains(name), "{name} is used");
    }
    assert_eq!(node.get("/docs/other.js").await.problem()["status"], 404);
    node.stop().await;
}

/// Each operation has examples of what it takes and gives, which fit its own schemas.
#[test]
fn examples_fit_their_schemas() {
    let contract: Value = serde_json::from_str(rota_server::openapi_json()).unwrap();
    let mut compiler = boon::Compiler::new();
    let mut schemas = boon::Schemas::new();
    compiler.set_default_draft(boon::Draft::V2020_12);
    compiler.add_resource("rota.json", contract.clone()).unwrap();
    let mut checked = 0;
    let escaped = |part: &str| {
        part.replace('~', "~0").replace('/', "~1").replace('{', "%7B").replace('}', "%7D")
    };
    for (verb, path, operation) in operations(&contract) {
        let at = format!("/paths/{}/{verb}", escaped(&path));
        let bodies = operation["requestBody"]["content"].as_object().into_iter().flatten();
        let bodies = bodies.map(|(kind, body)| (format!("{at}/requestBody"), kind, body));
        let answers = operation["responses"].as_object().into_iter().flatten();
        let answers = answers.filter(|(status, _)| status.starts_with('2'));
        let answers = answers.flat_map(|(status, answer)| {
            let content = answer["content"].as_object().into_iter().flatten();
            let place = format!("{at}/responses/{status}");
            content.map(move |(kind, body)| (place.clone(), kind, body))
        });
        for (at, kind, body) in bodies.chain(answers) {
            let example = &body["example"];
            // Bytes of clients have no example.
            if kind == "application/octet-stream" {
                continue;
            }
            assert!(!example.is_null(), "{verb} {path} has no example of {kind} at {at}");
            if !kind.ends_with("json") {
                assert!(example.is_string(), "{verb} {path} {kind}: {example}");
                continue;
            }
            let place =
                format!("rota.json#{at}/content/{}/schema", escaped(kind).replace('+', "%2B"));
            let schema = compiler
                .compile(&place, &mut schemas)
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            let fits = schemas.validate(example, schema);
            assert!(fits.is_ok(), "{verb} {path} {kind}: {}", fits.unwrap_err());
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked}");
    let stream = &contract["paths"]["/v1/events"]["get"]["responses"]["200"]["content"];
    assert!(
        stream["text/event-stream"]["example"].as_str().unwrap().contains("event: task.created")
    );
}

#[test]
fn tasks_come_first_and_every_group_has_its_place() {
    let contract: Value = serde_json::from_str(rota_server::openapi_json()).unwrap();
    let order: Vec<_> =
        contract["tags"].as_array().unwrap().iter().map(|tag| tag["name"].clone()).collect();
    assert_eq!(order[0], "tasks");
    for (verb, path, operation) in operations(&contract) {
        for tag in operation["tags"].as_array().unwrap() {
            assert!(order.contains(tag), "{verb} {path}: {tag} has no place");
        }
    }
}

fn operations(contract: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in contract["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            all.push((verb.clone(), path.clone(), operation.clone()));
        }
    }
    all
}

#[test]
fn every_operation_is_named_once_and_says_what_can_go_wrong() {
    let contract: Value = serde_json::from_str(rota_server::openapi_json()).unwrap();
    let mut names = Vec::new();
    for (verb, path, operation) in operations(&contract) {
        names.push(operation["operationId"].as_str().unwrap().to_owned());
        assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{verb} {path}");
        if path.starts_with("/v1/") {
            let answers = operation["responses"].as_object().unwrap();
            for status in ["400", "401", "403", "429", "503"] {
                let problem = &answers[status]["content"]["application/problem+json"]["schema"];
                assert_eq!(
                    problem["$ref"], "#/components/schemas/Problem",
                    "{verb} {path} {status}"
                );
            }
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let described = parameter["description"].as_str().unwrap_or_default();
            assert!(!described.is_empty(), "{verb} {path} {parameter}");
        }
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member {
                        Value::String(text) if name == "$ref" => found.push(text.clone()),
                        _ => references(member, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let contract: Value = serde_json::from_str(rota_server::openapi_json()).unwrap();
    let mut found = Vec::new();
    references(&contract, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let at = contract.pointer(reference.strip_prefix('#').unwrap());
        assert!(at.is_some(), "{reference}");
    }
}

#[test]
fn bodies_are_closed_to_unknown_members() {
    let contract: Value = serde_json::from_str(rota_server::openapi_json()).unwrap();
    for (verb, path, operation) in operations(&contract) {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let Some(reference) = body.as_str() else { continue };
        let schema = contract.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{verb} {path} {reference}");
    }
}

#[test]
fn what_is_refused_by_its_form_is_refused_by_the_contract() {
    let contract: Value = serde_json::from_str(rota_server::openapi_json()).unwrap();
    let at = |place: &str| contract.pointer(place).unwrap_or_else(|| panic!("{place}"));
    // Any JSON may be a result.
    let result = at("/paths/~1v1~1tasks~1{id}~1result/get/responses/200/content");
    assert_eq!(result["application/json"]["schema"].get("type"), None, "{result}");
    for (verb, path, operation) in operations(&contract) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let schema = &parameter["schema"];
            let name = parameter["name"].as_str().unwrap();
            let free = [
                "status",
                "priority",
                "limit",
                "wait",
                "time_limit",
                "created_from",
                "created_to",
                "follow",
                "brief",
            ];
            let of_schedules = ["state", "count", "from", "to"];
            let free = free.contains(&name)
                || of_schedules.contains(&name)
                || name.starts_with("run_at_")
                || name.starts_with("failed_");
            let text = schema.to_string();
            assert!(free || text.contains("pattern"), "{verb} {path} {name}: {schema}");
        }
    }
    let schema = |name: &str| at(&format!("/components/schemas/{name}")).clone();
    let task = schema("NewTask")["not"].to_string();
    assert!(task.contains(r#"["run_at","delay"]"#), "{task}");
    assert!(task.contains(r#"["payload","payload_base64"]"#), "{task}");
    assert!(schema("RescheduleRequest")["oneOf"].is_array());
    for bulk in ["BulkRequest", "BulkPauseRequest", "BulkResumeRequest"] {
        assert!(schema(bulk)["anyOf"].is_array(), "{bulk}");
    }
    let template = schema("TaskTemplate")["not"].to_string();
    assert!(template.contains(r#"["payload","payload_base64"]"#), "{template}");
    for request in ["CompleteRequest", "FailRequest", "LeaseTokenRequest", "ProgressRequest"] {
        let token = schema(request)["properties"]["lease_token"].clone();
        assert_eq!((&token["type"], &token["minimum"]), (&"integer".into(), &0.into()), "{token}");
        assert_eq!(token["maximum"], u64::MAX, "{token}");
    }
}

#[test]
fn each_member_is_described_in_words() {
    let contract: Value = serde_json::from_str(rota_server::openapi_json()).unwrap();
    for (name, schema) in contract["components"]["schemas"].as_object().unwrap() {
        for (member, property) in schema["properties"].as_object().into_iter().flatten() {
            let words =
                [property, &property["oneOf"][0]].map(|place| place["description"].as_str());
            let words = words.into_iter().flatten().next().unwrap_or_default();
            assert!(words.split_whitespace().count() > 1, "{name}.{member}: {property}");
        }
    }
}

#[test]
fn what_is_always_shown_is_required_and_enumerations_list_their_words() {
    let contract: Value = serde_json::from_str(rota_server::openapi_json()).unwrap();
    let schema = |name: &str| contract["components"]["schemas"][name].clone();
    let required = |name: &str| -> Vec<String> {
        serde_json::from_value(schema(name)["required"].clone()).unwrap()
    };
    let always = [
        "id",
        "queue",
        "kind",
        "status",
        "labels",
        "priority",
        "created_at",
        "run_at",
        "timeout",
        "retry",
        "attempt",
        "lost",
        "cancel_requested",
        "has_result",
        "failures",
        "snoozes",
        "version",
    ];
    assert_eq!(required("Task"), always);
    assert_eq!(required("NewTask"), ["kind"]);
    assert_eq!(required("TaskTemplate"), ["kind"]);
    assert_eq!(schema("ScheduleDefinition")["required"], Value::Null);
    assert_eq!(required("BulkRequest"), ["action", "filter"]);
    let shown = schema("Task")["properties"].clone();
    for member in ["payload", "payload_base64", "lease_token", "progress"] {
        assert!(shown[member].is_object(), "{member}");
    }
    assert_eq!(schema("WaitingReason")["enum"][1], "backing_off");
    assert_eq!(schema("TaskStatus")["enum"].as_array().unwrap().len(), 8);
}

#[test]
fn the_operations_are_these() {
    let contract: Value = serde_json::from_str(rota_server::openapi_json()).unwrap();
    let lines: Vec<String> = operations(&contract)
        .into_iter()
        .map(|(verb, path, operation)| {
            let answers = operation["responses"].as_object().unwrap();
            let answers: Vec<&str> = answers.keys().map(String::as_str).collect();
            let verb = verb.to_uppercase();
            format!("{verb} {path} {} -> {}", operation["operationId"], answers.join(" "))
        })
        .collect();
    insta::assert_snapshot!("operations", lines.join("\n"));
}

#[test]
fn the_contract_and_the_table_hold_the_same_operations() {
    let contract: Value = serde_json::from_str(rota_server::openapi_json()).unwrap();
    let described = operations(&contract).into_iter().map(|(verb, path, operation)| {
        let name = operation["operationId"].as_str().unwrap().to_owned();
        assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{name}");
        (name, verb, path, operation["tags"][0].as_str().unwrap().to_owned())
    });
    let rows = Operation::ALL.iter().filter_map(|operation| {
        let (tag, http) = (operation.tag()?, operation.http()?);
        let verb = format!("{:?}", http.method).to_lowercase();
        Some((operation.name().to_owned(), verb, http.path.to_owned(), tag.to_owned()))
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), described.collect::<BTreeSet<_>>());
}

#[test]
fn the_table_holds_the_services_around_the_contract() {
    let mut described = BTreeSet::new();
    for set in [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        for file in prost_types::FileDescriptorSet::decode(set).unwrap().file {
            for service in &file.service {
                let path = |name: &str| format!("/{}.{}/{name}", file.package(), service.name());
                described.extend(service.method.iter().map(|method| path(method.name())));
            }
        }
    }
    let rows = Operation::ALL.iter().filter_map(|operation| operation.grpc());
    let rows = rows.filter(|path| path.starts_with("/grpc.")).map(str::to_owned);
    assert_eq!(rows.collect::<BTreeSet<_>>(), described);
}

/// Every number that a document tells, in a constraint or in words, with its place.
fn numbers(value: &Value, place: &str, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| {
                !["pattern", "format", "example", "examples", "info"].contains(&name.as_str())
            })
            .for_each(|(name, member)| numbers(member, &format!("{place}/{name}"), found)),
        Value::Array(items) => {
            items.iter().for_each(|item| numbers(item, &format!("{place}/*"), found));
        }
        Value::Number(number) => drop(found.insert((number.to_string(), place.to_owned()))),
        Value::String(text) => {
            let text = text.replace("1,000", "1000");
            for word in text.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty()) {
                found.insert((word.to_owned(), place.to_owned()));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

#[tokio::test]
async fn the_contract_that_a_server_gives_out_shows_its_own_limits() {
    let limits = Limits {
        batch: 701,
        labels: 17,
        label_value_bytes: 703,
        page_size: 709,
        wait: Duration::from_secs(41),
        name_characters: 101,
        idempotency_key_bytes: 211,
        ..Limits::default()
    };
    let node = Node::start_limited(limits).await;
    let own = node.get("/openapi.json").await.json();
    node.stop().await;
    let common: Value = serde_json::from_str(rota_server::openapi_json()).unwrap();
    assert_eq!(operations(&own).len(), operations(&common).len());

    let (mut of_own, mut of_common) = (BTreeSet::new(), BTreeSet::new());
    numbers(&own, "", &mut of_own);
    numbers(&common, "", &mut of_common);
    let changed: Vec<&(String, String)> = of_common.difference(&of_own).collect();
    let counts = |number: &str| changed.iter().filter(|(found, _)| found == number).count();
    for (default, own) in [
        ("1000", "709"),
        ("32", "17"),
        ("1024", "703"),
        ("128", "101"),
        ("256", "211"),
        ("60", "41"),
    ] {
        let shown = of_own.iter().filter(|(found, _)| found == own).count();
        assert!(shown > 0, "{own}");
        assert!(counts(default) > 0, "{default}: {changed:?}");
    }
    assert!(of_own.iter().any(|(found, _)| found == "701"));

    // What still tells a default is bounded by something else, always.
    let fixed = [
        // The names of what exists, which may be older than the limit.
        ("128", "/components/schemas/TaskFilter"),
        ("128", "/components/schemas/BulkFilter"),
        ("128", "/components/schemas/TransferRequest"),
        ("128", "/components/schemas/LeaseRequest/properties/queues"),
        ("128", "/components/schemas/LeaseRequest/properties/kinds"),
        ("128", "/paths/"),
        ("128", "/components/schemas/CalendarRule"),
        ("128", "/components/schemas/ScheduleFilter"),
        ("128", "/components/schemas/PauseRequest"),
        ("128", "/components/schemas/BulkPauseRequest"),
        ("128", "/components/schemas/PauseQueueRequest"),
        ("256", "/components/schemas/TaskFilter/properties/search"),
        ("256", "/paths//v1/tasks/get/"),
        ("256", "/components/schemas/PauseRequest"),
        ("256", "/components/schemas/BulkPauseRequest"),
        ("256", "/components/schemas/PauseQueueRequest"),
        ("256", "/components/schemas/CalendarContent"),
        ("256", "/components/schemas/TaskTemplate/properties/description"),
        ("256", "/components/schemas/ScheduleDefinition/properties/description"),
        ("1000", "/components/schemas/ScheduleDefinition"),
        // Names that a worker serves, tasks that are shown of a worker, and the policy of retries.
        ("1000", "/components/schemas/LeaseRequest/properties/queues"),
        ("1000", "/components/schemas/LeaseRequest/properties/kinds"),
        ("1000", "/components/schemas/Worker/"),
        ("1000", "/components/schemas/RetryPolicy"),
        ("256", "/components/schemas/NewTask/properties/description"),
        ("256", "/components/schemas/TaskChange/properties/description"),
        ("1024", "/components/schemas/ProgressRequest"),
        ("1024", "/components/schemas/FailureGroup/properties/sample"),
        ("1024", "/components/schemas/LogFilterRequest"),
        ("60", "/components/schemas/LeaseRequest/properties/ttl"),
    ];
    let stale: Vec<_> = of_own
        .iter()
        .filter(|(number, _)| ["1000", "32", "1024", "128", "256", "60"].contains(&number.as_str()))
        .filter(|(number, place)| {
            !fixed.iter().any(|(known, at)| known == number && place.starts_with(at))
        })
        .collect();
    assert!(stale.is_empty(), "{stale:#?}");
}
