//! Reads from a certificate when it expires. `rustls` checks the date only of certificates of the other end.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use yasna::{ASN1Result, BERReader, Tag, models::UTCTime};

/// The instant after which the certificate is not valid (RFC 5280, section 4.1). `None` if it is not a certificate.
pub(crate) fn expiry(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let seconds = yasna::parse_der(certificate, |reader| {
        reader.read_sequence(|reader| {
            let not_after = reader.next().read_sequence(|reader| {
                reader.read_optional(|reader| reader.read_tagged(Tag::context(0), skip))?;
                // Serial number, algorithm, issuer.
                for _ in 0..3 {
                    skip(reader.next())?;
                }
                let not_after = reader.next().read_sequence(|reader| {
                    skip(reader.next())?;
                    time(reader.next())
                })?;
                // Subject, key, and extensions if there are any.
                skip(reader.next())?;
                skip(reader.next())?;
                while reader.read_optional(skip)?.is_some() {}
                Ok(not_after)
            })?;
            skip(reader.next())?;
            skip(reader.next())?;
            Ok(not_after)
        })
    });
    let seconds = u64::try_from(seconds.ok()?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn skip(reader: BERReader<'_, '_>) -> ASN1Result<()> {
    reader.read_der().map(drop)
}

/// Dates from 2050 on are in another format than earlier ones.
fn time(reader: BERReader<'_, '_>) -> ASN1Result<i64> {
    let is_utc = reader.lookahead_tag()? == yasna::tags::TAG_UTCTIME;
    if is_utc {
        return reader.read_utctime().map(|time: UTCTime| time.datetime().unix_timestamp());
    }
    reader.read_generalized_time().map(|time| time.datetime().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms_of_dates() {
        for (year, seconds) in [(2027, 1_798_761_600), (2055, 2_682_374_400), (1999, 915_148_800)] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(1990, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let made = params.self_signed(&key).unwrap();
            let end = expiry(made.der()).unwrap();
            assert_eq!(end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), seconds);
        }
        assert_eq!(expiry(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])), None);
    }
}
