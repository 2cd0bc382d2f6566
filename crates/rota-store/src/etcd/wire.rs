//! The used part of etcd's API, generated from `proto/etcd.proto`, and constructors for the requests of the
//! store.

use bytes::Bytes;

pub(super) use generated::{
    AuthenticateRequest, CompactionRequest, Compare, Event, KeyValue, LeaseGrantRequest,
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, StatusRequest, StatusResponse,
    TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
    auth_client::AuthClient, event::EventType, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, range_request::SortOrder, watch_client::WatchClient,
};
use generated::{
    DeleteRangeRequest, PutRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
    watch_request::RequestUnion,
};

mod generated {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::needless_pass_by_value,
        clippy::semicolon_if_nothing_returned,
        clippy::wildcard_imports,
        reason = "generated code"
    )]
    tonic::include_proto!("etcdserverpb");
}

/// An operation that sets a key. `lease` is 0 for a key without a lease.
pub(super) fn put(key: &Bytes, value: impl Into<Bytes>, lease: i64) -> RequestOp {
    let put = PutRequest { key: key.clone(), value: value.into(), lease };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

/// An operation that removes a key.
pub(super) fn delete(key: &Bytes) -> RequestOp {
    let delete = DeleteRangeRequest { key: key.clone() };
    RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

/// An operation that performs these operations: a nested transaction.
pub(super) fn nested(operations: Vec<RequestOp>) -> RequestOp {
    let nested = TxnRequest { success: operations, ..TxnRequest::default() };
    RequestOp { request: Some(Request::RequestTxn(nested)) }
}

/// An operation that reads a key at this revision, or with 0 at the newest.
pub(super) fn get(key: &Bytes, revision: i64) -> RequestOp {
    let range = RangeRequest { key: key.clone(), revision, ..RangeRequest::default() };
    RequestOp { request: Some(Request::RequestRange(range)) }
}

/// The condition that a key was created by this revision. 0 means that it must not exist.
pub(super) fn created_at(key: &Bytes, revision: i64) -> Compare {
    compare(key, CompareResult::Equal, TargetUnion::CreateRevision(revision))
}

/// The condition that a key exists.
pub(super) fn exists(key: &Bytes) -> Compare {
    compare(key, CompareResult::Greater, TargetUnion::CreateRevision(0))
}

/// The condition that a key was last changed by this revision. 0 means that it must not exist.
pub(super) fn changed_at(key: &Bytes, revision: i64) -> Compare {
    compare(key, CompareResult::Equal, TargetUnion::ModRevision(revision))
}

fn compare(key: &Bytes, result: CompareResult, union: TargetUnion) -> Compare {
    let target = match union {
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key: key.clone(),
        target_union: Some(union),
    }
}

/// A watch from this revision on.
pub(super) fn watch(create: WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// The results of a transaction's reads, in order, without other operations.
pub(super) fn found(answer: TxnResponse) -> impl Iterator<Item = Option<KeyValue>> {
    answer.responses.into_iter().map(|answer| match answer.response {
        Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    })
}

/// The revision at which etcd answered.
pub(super) fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}
