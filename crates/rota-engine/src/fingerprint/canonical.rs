//! Canonical JSON: keys sorted and no white space, so that two texts of the same value have the same hash.
//! [`super::scalar`] writes numbers and strings.

use std::borrow::Cow;

use super::scalar;

/// Maximum depth of nested values.
const DEPTH_MAX: usize = 64;

/// How numbers and strings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalars {
    /// Unchanged, as in an earlier version.
    AsWritten,
    /// By value: `2.50` is `2.5`, and `"\u0061"` is `"a"`.
    ByValue,
}

/// The canonical form of a JSON text. `None` if it is not valid JSON, or nested too deeply. Then its bytes
/// count.
pub(super) fn canonical(text: &[u8], scalars: Scalars) -> Option<Vec<u8>> {
    let mut reader = Reader { text, at: 0, scalars };
    let mut out = Vec::with_capacity(text.len());
    reader.value(&mut out, DEPTH_MAX)?;
    reader.space();
    (reader.at == text.len()).then_some(out)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    scalars: Scalars,
}

impl<'a> Reader<'a> {
    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(out, depth.checked_sub(1)?),
            b'[' => self.array(out, depth.checked_sub(1)?),
            b'"' => {
                out.extend_from_slice(&self.canonical_string()?);
                Some(())
            }
            _ => {
                let token = self.scalar()?;
                match self.scalars {
                    Scalars::AsWritten => out.extend_from_slice(token),
                    Scalars::ByValue => out.extend_from_slice(&scalar::number(token)),
                }
                Some(())
            }
        }
    }

    fn object(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.at += 1;
        let mut members: Vec<(Cow<'a, [u8]>, Vec<u8>)> = Vec::new();
        let mut is_over = self.take(b'}');
        while !is_over {
            self.space();
            let key = self.canonical_string()?;
            self.take(b':').then_some(())?;
            let mut value = Vec::new();
            self.value(&mut value, depth)?;
            members.push((key, value));
            is_over = self.take(b'}');
            (is_over || self.take(b',')).then_some(())?;
        }
        // Repeated keys keep their order.
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        out.push(b'{');
        for (at, (key, value)) in members.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            out.push(b':');
            out.extend_from_slice(value);
        }
        out.push(b'}');
        Some(())
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.at += 1;
        out.push(b'[');
        let mut is_over = self.take(b']');
        while !is_over {
            self.value(out, depth)?;
            is_over = self.take(b']');
            if !is_over {
                self.take(b',').then_some(())?;
                out.push(b',');
            }
        }
        out.push(b']');
        Some(())
    }

    /// Writes a string with its quotes, in canonical form.
    fn canonical_string(&mut self) -> Option<Cow<'a, [u8]>> {
        let string = self.string()?;
        match self.scalars {
            Scalars::AsWritten => Some(Cow::Borrowed(string)),
            Scalars::ByValue => scalar::string(string),
        }
    }

    /// Reads a string with its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        if self.text.get(self.at) != Some(&b'"') {
            return None;
        }
        self.at += 1;
        loop {
            match self.text.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return self.text.get(start..self.at);
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    /// Reads a number or a literal.
    fn scalar(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        self.at += self.text[start..].iter().take_while(is_part).count();
        self.text.get(start..self.at).filter(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        canonical(text.as_bytes(), Scalars::ByValue)
            .map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn neither_order_nor_white_space_counts() {
        let one = shown(r#" {"b": [1, {"y":2,"x" : "a b"}], "a":null} "#);
        assert_eq!(one.as_deref(), Some(r#"{"a":null,"b":[1,{"x":"a b","y":2}]}"#));
        assert_eq!(shown(r#"{"a":null,"b":[1,{"x":"a b","y":2}]}"#), one);
        assert_ne!(shown(r#"{"a":[2,1]}"#), shown(r#"{"a":[1,2]}"#), "that of an array does");
        assert_ne!(shown(r#"{"a":1,"a":2}"#), shown(r#"{"a":2,"a":1}"#));
        assert_eq!(shown(r#""\"{ ""#).as_deref(), Some(r#""\"{ ""#));
        assert_eq!((shown("[]").as_deref(), shown("{ }").as_deref()), (Some("[]"), Some("{}")));
    }

    #[test]
    fn what_is_no_json_is_left_alone() {
        let texts =
            ["", " ", "1 2", "[1 2]", "{1:2}", r#"{"a"}"#, r#"{"a":1,}"#, "[1,]", "\"a", "a\"b"];
        for text in texts {
            assert_eq!(shown(text), None, "{text}");
        }
        assert_eq!(canonical("[".repeat(100_000).as_bytes(), Scalars::ByValue), None);
        assert_eq!(canonical(&[0xff, 0xfe], Scalars::ByValue), None);
    }
}
