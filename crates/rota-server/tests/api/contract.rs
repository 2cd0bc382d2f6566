//! The contract that is served is the contract that is kept.

use std::collections::BTreeSet;

use prost::Message;
use rota_proto::operations::Operation;
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
    let script = node.get("/docs/docs.js").await;
    for answer in [&page, &script] {
        assert_eq!(answer.status, 200);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains("http://") && !text.contains("https://"), "loads from elsewhere");
    }
    assert!(page.header("content-security-policy").contains("default-src 'self'"));
    node.stop().await;
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
            let free = ["status", "limit", "wait", "created_from", "created_to"];
            let free = free.contains(&name) || name.starts_with("run_at_");
            let text = schema.to_string();
            assert!(free || text.contains("pattern"), "{verb} {path} {name}: {schema}");
        }
    }
    let schema = |name: &str| at(&format!("/components/schemas/{name}")).clone();
    let task = schema("NewTask")["not"].to_string();
    assert!(task.contains(r#"["run_at","delay"]"#), "{task}");
    assert!(task.contains(r#"["payload","payload_base64"]"#), "{task}");
    assert!(schema("RescheduleRequest")["oneOf"].is_array());
    assert!(schema("BulkRequest")["anyOf"].is_array());
    for request in ["CompleteRequest", "FailRequest", "LeaseTokenRequest", "ProgressRequest"] {
        let token = schema(request)["properties"]["lease_token"].clone();
        assert_eq!((&token["type"], &token["minimum"]), (&"integer".into(), &0.into()), "{token}");
        assert_eq!(token["maximum"], u64::MAX, "{token}");
    }
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
