//! Standard Webhooks signatures, as Loops makes them (Loops docs, "Webhooks": "Verify requests";
//! standardwebhooks.com, "Signature scheme").
//!
//! A request arrives as an [`UnverifiedWebhook`]; only [`UnverifiedWebhook::verify`] makes a [`VerifiedWebhook`], and only
//! that can be parsed as an event. A handler that forgets to verify does not compile.
//!
//! See docs/adr/0010-signatures.md.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use secrecy::SecretSlice;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::error::{ErrorCode, RequestError};
use crate::secret::{ExposeSecret as _, MIN_SECRET_BYTES};

/// Name of the header with the id of the message, which is the only identity of a Loops webhook.
pub const ID_HEADER: &str = "webhook-id";
/// Name of the header with the time of the request, in Unix seconds.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Name of the header with the signatures, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

const MAX_ID_LEN: usize = 256;
const MAX_TIMESTAMP_DIGITS: usize = 15;

const OPTIONAL_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// The last bits of a secret do not matter, as in most decoders.
const SECRET_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, OPTIONAL_PADDING.with_decode_allow_trailing_bits(true));
/// A signature has one spelling, padding apart: a changed character is a changed signature.
const SIGNATURE_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, OPTIONAL_PADDING);

/// A signing secret, decoded.
#[derive(Debug, Clone)]
pub struct SigningSecret(SecretSlice<u8>);

/// Why a text is no signing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningSecretError {
    /// It is not the base64 of anything.
    #[error("the signing secret is not base64, with or without whsec_ before it")]
    NotBase64,
    /// It has fewer than [`MIN_SECRET_BYTES`], so that it could be guessed.
    #[error("the signing secret is shorter than {MIN_SECRET_BYTES} bytes")]
    TooShort,
}

impl SigningSecret {
    /// Parses a secret as Loops shows it: base64 with or without padding, with or without `whsec_` before it.
    ///
    /// # Errors
    /// If it is not base64, or short enough to be guessed: whoever has the key can sign.
    pub fn parse(text: &str) -> Result<Self, SigningSecretError> {
        let text = text.trim();
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        match SECRET_BASE64.decode(encoded) {
            Ok(key) if key.len() >= MIN_SECRET_BYTES => Ok(Self(key.into())),
            Ok(_) => Err(SigningSecretError::TooShort),
            Err(_) => Err(SigningSecretError::NotBase64),
        }
    }

    /// Returns the signature entry (`v1,…`) of a message.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        format!("v1,{}", SIGNATURE_BASE64.encode(self.mac(id, timestamp, body)))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
        // HMAC takes a key of any length (RFC 2104 §2), so this does not fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.expose_secret()) else { return Vec::new() };
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac.finalize().into_bytes().to_vec()
    }
}

/// Maximum seconds between the time of a signed request and now, in both directions. With none, any time is accepted.
pub type Tolerance = Option<NonZeroU32>;

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// None of the secrets made any of the signatures: forged, or signed with a secret that the relay does not have (yet).
    #[error("no signature matches")]
    NoMatch,
    /// Signed by Loops, this many seconds ago (or, below zero, ahead).
    #[error("signed {0} seconds ago")]
    TimestampOutOfRange(i64),
}

/// The head of a request on the webhook route, before its signature is verified.
#[derive(Debug, Clone)]
pub struct UnverifiedWebhook {
    id: String,
    timestamp: String,
    signatures: String,
}

impl UnverifiedWebhook {
    /// Creates a request from the three headers, verbatim.
    ///
    /// # Errors
    /// [`ErrorCode::MissingHeader`] and [`ErrorCode::MalformedHeader`], with the header as field.
    pub fn new(id: Option<&[u8]>, timestamp: Option<&[u8]>, signatures: Option<&[u8]>) -> Result<Self, RequestError> {
        let id = parse_header(ID_HEADER, id)?;
        let timestamp = parse_header(TIMESTAMP_HEADER, timestamp)?;
        let signatures = parse_header(SIGNATURE_HEADER, signatures)?;
        if id.is_empty() || id.chars().count() > MAX_ID_LEN {
            return Err(malformed_header(ID_HEADER, "must have 1 to 256 characters"));
        }
        let all_digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits || !(1..=MAX_TIMESTAMP_DIGITS).contains(&timestamp.len()) {
            return Err(malformed_header(TIMESTAMP_HEADER, "must be Unix seconds, 1 to 15 digits"));
        }
        Ok(Self { id, timestamp, signatures })
    }

    /// Verifies the request with its body against every secret and every `v1` signature, in constant time, then its age.
    ///
    /// # Errors
    /// [`SignatureError::NoMatch`] if nothing matches; [`SignatureError::TimestampOutOfRange`] if the request is older, or further
    /// ahead, than `tolerance` (exactly that far is accepted).
    pub fn verify(
        &self,
        body: &Bytes,
        secrets: &[SigningSecret],
        now: Timestamp,
        tolerance: Tolerance,
    ) -> Result<VerifiedWebhook, SignatureError> {
        let decode = |entry: &str| SIGNATURE_BASE64.decode(entry.strip_prefix("v1,")?).ok();
        let signatures: Vec<Vec<u8>> = self.signatures.split(' ').filter_map(decode).collect();
        let mut matched = subtle::Choice::from(0);
        for secret in secrets {
            let expected = secret.mac(&self.id, &self.timestamp, body);
            for signature in &signatures {
                matched |= expected.ct_eq(signature);
            }
        }
        if !bool::from(matched) {
            return Err(SignatureError::NoMatch);
        }
        let signed_at: i64 = self.timestamp.parse().map_err(|_| SignatureError::NoMatch)?;
        let age = now.as_second() - signed_at;
        if tolerance.is_some_and(|limit| age.unsigned_abs() > u64::from(limit.get())) {
            return Err(SignatureError::TimestampOutOfRange(age));
        }
        Ok(VerifiedWebhook { id: self.id.clone(), body: body.clone() })
    }
}

/// A request that Loops signed. Only [`UnverifiedWebhook::verify`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedWebhook {
    id: String,
    body: Bytes,
}

impl VerifiedWebhook {
    /// Id of the message, the same on every attempt.
    pub(crate) fn webhook_id(&self) -> &str {
        &self.id
    }

    /// The bytes that were signed.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }
}

fn parse_header(name: &str, value: Option<&[u8]>) -> Result<String, RequestError> {
    let Some(value) = value else {
        let message = format!("The header {name} is missing: only Loops' signed webhooks are taken here.");
        return Err(RequestError::new(ErrorCode::MissingHeader, message).with_field(name));
    };
    std::str::from_utf8(value).map(str::to_owned).map_err(|_| malformed_header(name, "must be UTF-8"))
}

fn malformed_header(name: &str, requirement: &str) -> RequestError {
    let message = format!("The header {name} {requirement}: send the webhook exactly as Loops made it.");
    RequestError::new(ErrorCode::MalformedHeader, message).with_field(name)
}

#[cfg(test)]
mod tests;
