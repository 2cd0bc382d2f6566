//! W3C trace context: the headers `traceparent` and `tracestate`.

/// Maximum bytes of `tracestate`: the minimum that every implementation must support.
const STATE_BYTES_MAX: usize = 512;
/// Maximum number of its members.
const STATE_MEMBERS_MAX: usize = 32;
/// The flags of version 00: sampled, and random trace id.
pub(crate) const FLAGS_KNOWN: u8 = 0b11;

/// A trace context: the parent of further spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub(crate) trace: u128,
    pub(crate) span: u64,
    pub(crate) flags: u8,
    pub(crate) state: Box<str>,
}

impl TraceContext {
    /// Parses the headers `traceparent` and `tracestate`, or the equivalent fields. `None` if there is no
    /// context, or one that the standard tells to ignore. An invalid state, or one of more than 512 bytes, is
    /// omitted.
    #[must_use]
    pub fn parse(parent: &str, state: &str) -> Option<Self> {
        let version = number(parent.get(..2)?)?;
        let known = version == 0 && parent.len() == 55;
        // Later versions can append fields.
        let later = (1..255).contains(&version)
            && (parent.len() == 55 || parent.as_bytes().get(55) == Some(&b'-'));
        if !known && !later {
            return None;
        }
        let mut parts = parent.get(3..55)?.split('-');
        let dash = parent.as_bytes()[2] == b'-';
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        if !dash || (trace.len(), span.len(), flags.len()) != (32, 16, 2) || parts.next().is_some()
        {
            return None;
        }
        let (high, low) = (number(&trace[..16])?, number(&trace[16..])?);
        let trace = u128::from(high) << 64 | u128::from(low);
        let span = number(span)?;
        let flags = u8::try_from(number(flags)?).ok()? & FLAGS_KNOWN;
        (trace != 0 && span != 0).then(|| Self { trace, span, flags, state: checked(state) })
    }

    /// The header `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }

    /// The header `tracestate`. Empty for none.
    #[must_use]
    pub fn tracestate(&self) -> &str {
        &self.state
    }
}

/// Parses lower-case hexadecimal digits, as the standard requires.
fn number(digits: &str) -> Option<u64> {
    let lower = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(digits, 16).ok().filter(|_| lower)
}

/// The state, if it is valid.
pub(crate) fn checked(state: &str) -> Box<str> {
    let state = state.trim();
    let members = || state.split(',').map(str::trim).filter(|member| !member.is_empty());
    let fits = state.len() <= STATE_BYTES_MAX
        && state.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
        && members().count() <= STATE_MEMBERS_MAX
        && members().all(|member| member.split_once('=').is_some_and(|(key, _)| !key.is_empty()));
    if fits { state.into() } else { "".into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_a_context_comes_out_as_it_went_in() {
        let context = TraceContext::parse(PARENT, "vendor=1,other=x").expect("a context");
        assert_eq!(context.traceparent(), PARENT);
        assert_eq!(context.tracestate(), "vendor=1,other=x");
    }

    #[test]
    fn what_is_none_is_ignored() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let upper = PARENT.to_uppercase();
        let long = format!("{PARENT}-00");
        let version = PARENT.replacen("00", "ff", 1);
        let short = &PARENT[..54];
        let dashes = PARENT.replacen('-', "_", 1);
        let sign = "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for wrong in
            ["", "00", "é", zero_trace, zero_span, &upper, &long, &version, short, &dashes, sign]
        {
            assert_eq!(TraceContext::parse(wrong, ""), None, "{wrong}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("{}-more", PARENT.replacen("00", "01", 1).replace("-01", "-ff"));
        let context = TraceContext::parse(&later, "").expect("a context");
        assert_eq!(context.traceparent(), PARENT.replace("-01", "-03"));
    }

    #[test]
    fn a_state_that_is_not_one_is_left_out_and_the_rest_stays() {
        let long = format!("k={}", "v".repeat(STATE_BYTES_MAX));
        let many = "k=v,".repeat(33);
        for wrong in ["novalue", "=v", "k=\u{e9}", "k=\nx", &long, &many] {
            let context = TraceContext::parse(PARENT, wrong).expect("a context");
            assert_eq!(context.tracestate(), "", "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_does_harm(parent in ".{0,80}", state in ".{0,600}") {
            if let Some(context) = TraceContext::parse(&parent, &state) {
                let again = TraceContext::parse(&context.traceparent(), context.tracestate());
                prop_assert_eq!(again, Some(context));
            }
        }

        #[test]
        fn any_context_survives(trace in 1u128.., span in 1u64.., flags in 0u8..4) {
            let text = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
            let context = TraceContext::parse(&text, "").expect("a context");
            prop_assert_eq!(context.traceparent(), text);
            #[cfg(feature = "spans")]
            prop_assert_eq!(TraceContext::of(&context.remote()), context);
        }
    }
}
