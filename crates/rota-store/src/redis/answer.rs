//! Takes answers of Redis apart.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use super::fault::{Fault, unexpected};

/// The elements of a list.
pub(super) fn list(value: Value) -> Result<Vec<Value>, Fault> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        other => Err(unexpected(other)),
    }
}

/// A list of exactly so many elements.
pub(super) fn exactly<const N: usize>(value: Value) -> Result<[Value; N], Fault> {
    list(value)?.try_into().map_err(unexpected)
}

/// Bytes, or nothing.
pub(super) fn bytes(value: Value) -> Result<Option<Bytes>, Fault> {
    match value {
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        Value::SimpleString(text) => Ok(Some(text.into())),
        Value::Nil => Ok(None),
        other => Err(unexpected(other)),
    }
}

/// Text; nothing counts as empty.
pub(super) fn text(value: Value) -> Result<String, Fault> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(unexpected),
        Value::SimpleString(text) => Ok(text),
        Value::Int(number) => Ok(number.to_string()),
        Value::Okay => Ok("OK".to_owned()),
        Value::Nil => Ok(String::new()),
        other => Err(unexpected(other)),
    }
}

/// A number that is not negative.
pub(super) fn number(value: Value) -> Result<u64, Fault> {
    let text = text(value)?;
    text.parse().map_err(|_| unexpected(text))
}

/// A time to live in milliseconds; none where there is none.
pub(super) fn time_left(value: Value) -> Result<Duration, Fault> {
    let text = text(value)?;
    let millis: i64 = text.parse().map_err(|_| unexpected(text))?;
    Ok(Duration::from_millis(millis.try_into().unwrap_or(0)))
}

/// A list of names and values, as of a hash.
pub(super) fn pairs(value: Value) -> Result<Vec<(String, Value)>, Fault> {
    if let Value::Map(pairs) = value {
        return pairs.into_iter().map(|(name, value)| Ok((text(name)?, value))).collect();
    }
    let mut values = list(value)?.into_iter();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        pairs.push((text(name)?, value));
    }
    Ok(pairs)
}
