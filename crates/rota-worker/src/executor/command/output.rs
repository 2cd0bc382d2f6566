//! The output of a program: its beginning is the result, and all of it is output of the attempt.

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::context::TaskContext;

/// Maximum bytes of standard output in the result. As JSON they can become six times as many, and the result
/// must stay below the default limit of servers (1 MiB).
const STDOUT_BYTES: usize = 160 << 10;

/// The beginning of an output.
#[derive(Default)]
pub(super) struct OutputHead {
    pub(super) bytes: Vec<u8>,
    pub(super) truncated: bool,
}

impl OutputHead {
    fn add(&mut self, more: &[u8]) {
        let room = STDOUT_BYTES - self.bytes.len();
        self.bytes.extend_from_slice(&more[..more.len().min(room)]);
        self.truncated |= more.len() > room;
    }
}

/// Reads an output to its end.
pub(super) async fn copy(
    output: Option<impl AsyncRead + Unpin>,
    context: &TaskContext,
    mut head: Option<&mut OutputHead>,
) {
    let Some(mut output) = output else { return };
    let mut buffer = vec![0; 16 << 10];
    // A broken pipe ends the output. The exit code tells the rest.
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        context.write(&buffer[..count]);
        if let Some(head) = head.as_deref_mut() {
            head.add(&buffer[..count]);
        }
    }
}
