//! Translates field names in errors: operations use the names of the messages, and REST renames some of them.

use crate::failure::{Failure, Reason, Violation};

/// Fields of messages, and their names in REST.
const RENAMED: [(&str, &str); 2] = [("page_size", "limit"), ("page_token", "cursor")];
/// The part of a message that query parameters fill in.
const IN_QUERY: &str = "filter.";

/// A failure with the names of body members.
pub(crate) fn in_body(failure: Failure) -> Failure {
    rename(failure, |field| match field.as_str() {
        "filter.statuses" => "filter.status".to_owned(),
        "filter.priorities" => "filter.priority".to_owned(),
        _ => of_body(&field),
    })
}

/// A failure with the names of query parameters.
pub(crate) fn in_query(failure: Failure) -> Failure {
    rename(failure, |field| {
        let field = field.strip_prefix(IN_QUERY).unwrap_or(&field);
        // A list is a parameter that can be repeated.
        for (list, parameter) in [("tasks[", "task"), ("types[", "type")] {
            if field.starts_with(list) {
                return parameter.to_owned();
            }
        }
        match field {
            "tasks" => return "task".to_owned(),
            "types" => return "type".to_owned(),
            "statuses" => return "status".to_owned(),
            "priorities" => return "priority".to_owned(),
            _ => {}
        }
        // Each label is its own parameter.
        if field.split('.').next() == Some("labels") {
            return "label".to_owned();
        }
        of_body(field)
    })
}

fn of_body(field: &str) -> String {
    let renamed = RENAMED.iter().find(|(message, _)| *message == field);
    renamed.map_or(field, |(_, rest)| rest).to_owned()
}

fn rename(failure: Failure, name: impl Fn(String) -> String) -> Failure {
    if failure.reason != Reason::Invalid {
        return failure;
    }
    let renamed = |violation: Violation| Violation { field: name(violation.field), ..violation };
    Failure::invalid(failure.violations.into_iter().map(renamed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_names_of_rest() {
        let body = |field| in_body(Failure::field(field, "is wrong"));
        let query = |field| in_query(Failure::field(field, "is wrong"));
        assert_eq!(body("page_token").detail, "cursor is wrong");
        assert_eq!(body("filter.labels.a").violations[0].field, "filter.labels.a");
        assert_eq!(body("filter.priorities").violations[0].field, "filter.priority");
        for (message, rest) in [
            ("page_size", "limit"),
            ("page_token", "cursor"),
            ("filter.labels.a.b", "label"),
            ("filter.labels", "label"),
            ("filter.created_from", "created_from"),
            ("filter.priorities", "priority"),
            ("time_limit", "time_limit"),
            ("id", "id"),
        ] {
            let failure = query(message);
            assert_eq!(failure.violations[0].field, rest);
            assert_eq!(failure.detail, format!("{rest} is wrong"));
        }
        let other = Failure::new(Reason::Unavailable, "page_token is wrong");
        assert_eq!(in_query(other.clone()), other);
    }
}
