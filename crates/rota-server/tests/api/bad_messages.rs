//! What nobody should send over gRPC: each gets its code, and the server goes on serving.

use bytes::{Buf, BufMut, Bytes};
use rota_proto::v1;
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use crate::{grpc::told, harness::Node};

/// Sends bytes as they are.
#[derive(Debug, Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn send(
    channel: &Channel,
    path: &'static str,
    bytes: impl Into<Bytes>,
) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    let answer = client.unary(Request::new(bytes.into()), path, Raw).await?;
    Ok(answer.into_inner())
}

const CREATE: &str = "/rota.v1.TaskService/CreateTask";

#[tokio::test]
async fn messages_that_cannot_be_read_name_the_field() {
    let node = Node::start().await;
    let channel = node.channel().await;
    // A group within a group, and so on: a field that this message does not know.
    let endless = vec![0x7b; 200];
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("cut off", vec![0x0a, 100, 0x1a, 2, b'k'], "task"),
        (
            "a length without end",
            vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            "task",
        ),
        ("another type", vec![0x08, 1], "task"),
        ("no UTF-8", vec![0x0a, 4, 0x1a, 2, 0xff, 0xff], "task.kind"),
        ("field 0", vec![0x00, 0x00], "message"),
        ("nested without end", endless, "message"),
    ];
    for (name, bytes, field) in cases {
        let status = send(&channel, CREATE, bytes).await.unwrap_err();
        let expected = (Code::InvalidArgument, "invalid".to_owned(), vec![field.to_owned()]);
        assert_eq!(told(&status), expected, "{name}: {status:?}");
    }
    assert_eq!(told(&send(&channel, CREATE, Bytes::new()).await.unwrap_err()).2, ["task"]);
    assert!(send(&channel, CREATE, vec![0x0a, 3, 0x1a, 1, b'k']).await.is_ok());
    drop(channel);
    node.stop().await;
}

#[tokio::test]
async fn a_message_above_the_limit_names_the_limit() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let status = send(&channel, CREATE, vec![0; (16 << 20) + 1]).await.unwrap_err();
    assert_eq!(told(&status).0, Code::InvalidArgument);
    assert!(status.message().contains("request_bytes"), "{status:?}");
    drop(channel);
    node.stop().await;
}

#[tokio::test]
async fn methods_that_do_not_exist_are_unimplemented() {
    let node = Node::start().await;
    let channel = node.channel().await;
    for path in ["/rota.v1.TaskService/Nothing", "/rota.v2.TaskService/CreateTask", "/"] {
        let status = send(&channel, path, Bytes::new()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
    drop(channel);
    node.stop().await;
}

#[tokio::test]
async fn compressed_messages_are_not_taken() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = Request::new(Bytes::from_static(&[0x0a, 3, 0x1a, 1, b'k']));
    request.metadata_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    let path = http::uri::PathAndQuery::from_static(CREATE);
    let status = client.unary(request, path, Raw).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    drop((client, channel));
    node.stop().await;
}

#[tokio::test]
async fn ids_and_names_are_checked_as_in_rest() {
    use rota_proto::v1::{
        queue_service_client::QueueServiceClient, task_service_client::TaskServiceClient,
    };
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut tasks = TaskServiceClient::new(channel.clone());
    for id in ["", "a b", "\0", "\u{202e}", &"a".repeat(129), "../\n"] {
        let request = v1::TaskRequest { id: id.to_owned() };
        let status = tasks.cancel_task(request).await.unwrap_err();
        assert_eq!(told(&status).2, ["id"], "{id:?}: {status:?}");
    }
    let bulk = v1::BulkTasksRequest { action: 9, ..Default::default() };
    assert_eq!(told(&tasks.bulk_tasks(bulk).await.unwrap_err()).2, ["action"]);
    let filter =
        v1::TaskFilter { statuses: vec![0, 99], kind: Some("?".to_owned()), ..Default::default() };
    let list = v1::ListTasksRequest { filter: Some(filter), ..Default::default() };
    let fields = told(&tasks.list_tasks(list).await.unwrap_err()).2;
    assert_eq!(fields, ["filter.kind", "filter.statuses", "filter.statuses"]);
    let list = v1::ListTasksRequest { page_size: 1001, ..Default::default() };
    assert_eq!(told(&tasks.list_tasks(list).await.unwrap_err()).2, ["page_size"]);
    let wait = Some(rota_proto::TimeSpan { seconds: 61, nanos: 0 });
    let get = v1::GetTaskRequest { id: "x".to_owned(), wait };
    assert_eq!(told(&tasks.get_task(get).await.unwrap_err()).2, ["wait"]);
    let mut queues = QueueServiceClient::new(channel);
    let pause = v1::PauseQueueRequest { queue: "..".to_owned(), ..Default::default() };
    assert_eq!(told(&queues.pause_queue(pause).await.unwrap_err()).2, ["queue"]);
    drop((tasks, queues));
    node.stop().await;
}
