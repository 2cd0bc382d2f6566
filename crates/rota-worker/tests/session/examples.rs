//! The examples do what they say.

use crate::{in_time, node::Node};

macro_rules! example {
    ($name:ident, $path:literal) => {
        #[allow(dead_code, reason = "its main is for those who run it by itself")]
        #[path = $path]
        mod $name;
    };
}

example!(errors, "../../examples/errors.rs");
example!(fencing, "../../examples/fencing.rs");
example!(progress_and_cancellation, "../../examples/progress_and_cancellation.rs");
example!(middleware, "../../examples/middleware.rs");
example!(typed_job, "../../examples/typed_job.rs");
example!(idempotent_batch, "../../../rota-client/examples/idempotent_batch.rs");

#[tokio::test(flavor = "multi_thread")]
async fn they_run_to_their_end() {
    let node = Node::start().await;
    let client = node.client();
    let server = client.addresses();
    in_time(async {
        errors::run(server).await.unwrap();
        fencing::run(server).await.unwrap();
        progress_and_cancellation::run(server).await.unwrap();
        middleware::run(server).await.unwrap();
        typed_job::run(server).await.unwrap();
        idempotent_batch::run(server).await.unwrap();
    })
    .await;
    node.stop().await;
}
