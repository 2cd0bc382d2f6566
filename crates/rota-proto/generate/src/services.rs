//! The calls of each gRPC service as a macro, so that a server names its calls only in the protobuf files.

use std::fmt::Write as _;

use prost_types::{FileDescriptorSet, MethodDescriptorProto};

/// A service that a server writes by hand: the methods of workers have shorter names than their operations.
const BY_HAND: [&str; 1] = ["WorkerService"];

/// The macro `calls_of`: it passes the calls of a service, which have one request and one answer, to another macro.
pub(crate) fn calls(files: &FileDescriptorSet) -> String {
    let mut text = String::from(
        "/// Passes the calls of a service to the macro `$with`, followed by the other arguments.\n\
         #[macro_export]\n\
         macro_rules! calls_of {\n",
    );
    for file in &files.file {
        for service in &file.service {
            let mut calls = service.method.iter().filter(|method| !is_stream(method)).peekable();
            if BY_HAND.contains(&service.name()) || calls.peek().is_none() {
                continue;
            }
            let name = service.name();
            let _ = write!(
                text,
                "    ({name}, $with:ident $($more:tt)*) => {{\n        $with! {{\n            {name} {{\n"
            );
            for method in calls {
                let (call, request) = (snake(method.name()), path(method.input_type()));
                let answer = path(method.output_type());
                let _ = writeln!(text, "                {call}({request}) -> {answer};");
            }
            text.push_str("            }\n            $($more)*\n        }\n    };\n");
        }
    }
    text.push_str("}\n");
    text
}

fn is_stream(method: &MethodDescriptorProto) -> bool {
    method.client_streaming() || method.server_streaming()
}

/// The name of the Rust method for a method of a service.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// The path of the Rust type of a message.
///
/// # Panics
/// When it is in no package of the contract.
fn path(message: &str) -> String {
    let modules = [(".rota.v1.", "v1"), (".rota.node.v1.", "node_v1")];
    let found = modules.iter().find_map(|(package, module)| {
        Some(format!("$crate::{module}::{}", message.strip_prefix(package)?))
    });
    found.unwrap_or_else(|| panic!("{message} is not of the contract"))
}
