//! The account of a signer as people and processes see it.
//!
//! Ethereum accounts read as `0x…` with the EIP-55 checksum, all others as base64url of the
//! SHA-256 of the key. Text on purpose: at the evaluator owners are text (invariant 18).

use std::fmt;

use crate::signature::{address, ethereum_address, hex, keccak256};

/// An account's text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SignerText(String);

impl SignerText {
    /// The account of a public key.
    pub fn of(owner: &[u8]) -> SignerText {
        match <&[u8; 65]>::try_from(owner) {
            Ok(key) => SignerText(checksummed(&ethereum_address(key))),
            // Type 7 carries the address itself; what is none has never verified.
            Err(_) => SignerText(from_address_text(owner).unwrap_or_else(|| address(owner).to_string())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SignerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<SignerText> for String {
    fn from(text: SignerText) -> String {
        text.0
    }
}

fn from_address_text(owner: &[u8]) -> Option<String> {
    let digits = owner.strip_prefix(b"0x").filter(|digits| digits.len() == 40)?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
    Some(checksum_text(&text.to_ascii_lowercase()))
}

/// `0x…` with capitals as EIP-55 sets them.
fn checksummed(address: &[u8; 20]) -> String {
    checksum_text(&hex(address))
}

fn checksum_text(lower: &str) -> String {
    let hash = hex(&keccak256(lower.as_bytes()));
    let cased = lower.chars().zip(hash.chars()).map(|(digit, h)| match h {
        '8'..='9' | 'a'..='f' => digit.to_ascii_uppercase(),
        _ => digit,
    });
    "0x".chars().chain(cased).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksum_matches_the_standards_example() {
        let lower = "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed";
        assert_eq!(
            super::checksum_text(lower),
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
        );
    }
}
