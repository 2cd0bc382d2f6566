//! Reads whole numbers in every JSON notation: `2`, `2.0` and `2e0` are the same integer.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// Above this, floating-point numbers cannot represent every whole number.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A whole number from 0 to the largest of `T`.
struct Whole<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 0 that fits {} bits", size_of::<T>() * 8)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        let wrong = |_| E::invalid_value(Unexpected::Unsigned(number), &self);
        T::try_from(number).map_err(wrong)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        if number.fract() != 0.0 || !(0.0..=EXACT_MAX).contains(&number) {
            return Err(E::invalid_value(Unexpected::Float(number), &self));
        }
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        #[expect(clippy::cast_sign_loss, reason = "the range was checked")]
        let number = number as u64;
        self.visit_u64(number)
    }
}

struct Number<T>(T);

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        de.deserialize_u64(Whole(PhantomData)).map(Self)
    }
}

pub(crate) fn number<'de, T: TryFrom<u64>, D: Deserializer<'de>>(de: D) -> Result<T, D::Error> {
    Number::deserialize(de).map(|Number(number)| number)
}

pub(crate) fn optional<'de, T: TryFrom<u64>, D: Deserializer<'de>>(
    de: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Number<T>>::deserialize(de)?.map(|Number(number)| number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_may_be_written_with_a_fraction_of_nothing() {
        let read = |text| serde_json::from_str::<Number<u32>>(text).map(|Number(number)| number);
        for (text, number) in
            [("2", 2), ("2.0", 2), ("20e-1", 2), ("0.0", 0), ("4294967295.0", u32::MAX)]
        {
            assert_eq!(read(text).ok(), Some(number), "{text}");
        }
        for text in ["2.5", "-1", "-1.0", "1e10", "4294967296", "\"2\"", "null", "1e400"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_of_64_bits_is_never_rounded() {
        let read = |text| serde_json::from_str::<Number<u64>>(text).map(|Number(number)| number);
        assert_eq!(read("18446744073709551615").ok(), Some(u64::MAX));
        assert_eq!(read("9007199254740992.0").ok(), Some(1 << 53));
        assert!(read("9007199254740994.0").is_err());
    }
}
