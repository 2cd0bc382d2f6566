//! Cuts a long ascending walk into short ranges.
//!
//! For each request, etcd walks its index over the whole rest of a range. Where values can be large, a request asks for
//! few entries, so a walk over a million of them would cost its square. So such a walk goes over ranges of at most
//! [`FEW`] keys, which are found by counting: the range of all keys that have one more byte in common with the first one,
//! until it is short. A range that was counted is counted again only when a part of it is done.

use bytes::Bytes;

use super::{
    fault::Fault,
    layout,
    snapshot::{EtcdSnapshot, Show},
};
use crate::model::Direction;

/// Maximum number of keys of a short range, unless they differ in nothing but their lengths.
const FEW: usize = 1024;

/// Where a walk is.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// Ranges around the present place, the narrowest last.
    around: Vec<Around>,
    /// The end of the present short range, while it has more entries.
    open: Option<Bytes>,
}

/// A range in which all keys have their first bytes in common.
#[derive(Debug)]
struct Around {
    end: Bytes,
    common: usize,
}

impl Segments {
    /// The next short range from `start` on. `None`: there is no key before `end`.
    pub(super) async fn next(
        &mut self,
        snapshot: &EtcdSnapshot,
        start: &Bytes,
        end: &Bytes,
    ) -> Result<Option<(Bytes, Bytes)>, Fault> {
        if let Some(open) = &self.open {
            return Ok(Some((start.clone(), open.clone())));
        }
        let mut start = start.clone();
        loop {
            self.around.retain(|around| start < around.end);
            let (around, common) = match self.around.last() {
                Some(around) => (around.end.clone(), around.common),
                None => (end.clone(), 0),
            };
            let found =
                snapshot.range((&start, &around), Direction::Ascending, 1, Show::KeysAlone).await?;
            let Some(first) = found.kvs.into_iter().next().map(|first| first.key) else {
                if around >= *end {
                    return Ok(None);
                }
                start = around;
                continue;
            };
            let count = usize::try_from(layout::unsigned(found.count)).unwrap_or(usize::MAX);
            if count <= FEW {
                self.open = Some(around.clone());
                return Ok(Some((first, around)));
            }
            let Some((narrower, common)) = narrower(&first, common, &around) else {
                self.open = Some(around.clone());
                return Ok(Some((first, around)));
            };
            start = first;
            self.around.push(Around { end: narrower, common });
        }
    }

    /// Takes note of whether the present short range has more entries after those that were read.
    pub(super) fn read(&mut self, more: bool) -> Option<Bytes> {
        if more { None } else { self.open.take() }
    }

    /// Whether the present short range has more entries.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

/// The end of the keys that have more bytes in common with `first` than those before `end` have, and how many bytes.
fn narrower(first: &[u8], common: usize, end: &Bytes) -> Option<(Bytes, usize)> {
    for index in common..first.len() {
        if first[index] == u8::MAX {
            continue;
        }
        let mut narrower = first[..=index].to_vec();
        narrower[index] += 1;
        if narrower[..] < end[..] {
            return Some((narrower.into(), index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrower_range_has_more_in_common() {
        let narrow = |first: &[u8], common, end: &'static [u8]| {
            narrower(first, common, &Bytes::from_static(end))
                .map(|(end, common)| (end.to_vec(), common))
        };
        assert_eq!(narrow(b"s/t_1a", 0, b"s0"), Some((b"s/u".to_vec(), 3)));
        assert_eq!(narrow(b"s/t_1a", 3, b"s/u"), Some((b"s/t`".to_vec(), 4)));
        assert_eq!(narrow(b"a\xff\xffb", 1, b"b"), Some((b"a\xff\xffc".to_vec(), 4)));
        assert_eq!(narrow(b"ab", 2, b"ac"), None);
    }
}
