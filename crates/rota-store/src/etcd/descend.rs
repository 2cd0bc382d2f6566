//! Finding the upper end of a range without reading the range.
//!
//! For descending order, etcd fetches all values of the range, so one entry at the end of a million would
//! cost a million. But it counts cheaply, from its index. So the range is halved by the bytes of the keys
//! until the rest has little more than the wanted entries. Each request also returns the first key after the
//! cut. Continuing from there, the search skips the common prefix of all keys.

use bytes::Bytes;

use super::{
    fault::Fault,
    layout,
    snapshot::{EtcdSnapshot, Show},
};
use crate::model::Direction;

/// Maximum number of entries to sort directly.
const FEW: usize = 64;

/// A start within the range after which there are at least `wanted` entries, if the range has as many, and
/// not many more; and the number of entries of the whole range.
pub(super) async fn narrow(
    snapshot: &EtcdSnapshot,
    (start, end): (Bytes, Bytes),
    wanted: usize,
) -> Result<(Bytes, usize), Fault> {
    let enough = wanted.saturating_mul(2).max(FEW);
    let count = async |from: &Bytes| {
        let found = snapshot.range((from, &end), Direction::Ascending, 1, Show::KeysAlone).await?;
        let count = usize::try_from(layout::unsigned(found.count)).unwrap_or(usize::MAX);
        Ok::<_, Fault>((found.kvs.into_iter().next().map(|first| first.key), count))
    };
    let (first, all) = count(&start).await?;
    let Some(mut low) = first else { return Ok((start, 0)) };
    let (mut high, mut left) = (end.clone(), all);
    while left > enough {
        let Some(middle) = between(&low, &high) else { break };
        match count(&middle).await? {
            (Some(first), found) if found >= wanted => (low, left) = (first, found),
            _ => high = middle,
        }
    }
    Ok((low, all))
}

/// A key about halfway between `low` and `high`, if there is one. Keys are interpreted as fractions with base
/// 256.
fn between(low: &[u8], high: &[u8]) -> Option<Bytes> {
    let length = low.len().max(high.len()) + 1;
    let digit = |key: &[u8], index: usize| u16::from(key.get(index).copied().unwrap_or(0));
    let mut sum = vec![0_u16; length];
    let mut carry = 0;
    for index in (0..length).rev() {
        let digits = digit(low, index) + digit(high, index) + carry;
        (sum[index], carry) = (digits % 256, digits / 256);
    }
    let mut middle = Vec::with_capacity(length);
    for digit in sum {
        let digits = carry * 256 + digit;
        carry = digits % 2;
        // A carry is worth at most half of the next digit's range, so this is less than 256.
        middle.push(u8::try_from(digits / 2).unwrap_or(u8::MAX));
    }
    while middle.len() > 1 && middle.last() == Some(&0) {
        middle.pop();
    }
    (&middle[..] > low && &middle[..] < high).then(|| middle.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assume, proptest};

    use super::*;

    #[test]
    fn half_way_is_half_way() {
        for (low, high, middle) in [
            (&b"a"[..], &b"c"[..], &b"b"[..]),
            (b"a", b"b", b"a\x80"),
            (b"a/1", b"a/3", b"a/2"),
            (b"", b"\x02", b"\x01"),
            (b"\xff", b"\xff\xff", b"\xff\x7f\x80"),
        ] {
            assert_eq!(between(low, high).as_deref(), Some(middle), "{low:?} {high:?}");
        }
        assert_eq!(between(b"a", b"a\0"), None);
    }

    proptest! {
        #[test]
        fn what_is_between_is_between(low: Vec<u8>, high: Vec<u8>, steps in any::<[bool; 16]>()) {
            prop_assume!(low < high);
            let (mut low, mut high) = (Bytes::from(low), Bytes::from(high));
            for up in steps {
                let Some(middle) = between(&low, &high) else { break };
                prop_assert!(low < middle && middle < high);
                if up { low = middle } else { high = middle }
            }
        }
    }
}
