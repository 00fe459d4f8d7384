//! Keys that sign: RSA (JWK), Ed25519 and Ethereum.
//!
//! Secrets come in as bytes and never leave: no `Debug`, no text form but the file's own. Making a
//! key takes its random bytes as an argument; only RSA-PSS draws a salt inside the crypto library.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PSS_SHA256};
use zeroize::Zeroizing;

use crate::chunks;
use crate::deep_hash::DeepHash;
use crate::ids::{Address, base64url, from_base64url};
use crate::signature::{self, SignatureType, eip191};
use crate::transaction::Owner;

/// Why a key file is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the JSON of a key. Holds only the place: the text is a secret.
    #[error("the key is not a JSON Web Key: {0}")]
    NotJson(String),
    /// A kind of key that cannot sign items.
    #[error(
        "keys of kind `{0}` cannot sign data items; use RSA (4096 bits), OKP (Ed25519) or EC (secp256k1)"
    )]
    Kind(String),
    /// A field is missing or malformed.
    #[error("the key's field `{0}` is missing or malformed")]
    Field(&'static str),
    /// RSA of another size than items carry.
    #[error("the RSA key has {0} bits; data items carry keys of 4096 bits")]
    RsaSize(usize),
}

/// A key that signs data items.
pub struct Signer {
    key: Key,
    owner: Vec<u8>,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
    Ethereum(secp256k1::SecretKey),
}

/// The fields of a JSON Web Key that we use.
#[derive(serde::Serialize, serde::Deserialize, Default)]
struct Jwk {
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    q: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dq: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qi: Option<String>,
}

impl Signer {
    /// An Ed25519 key from its 32 secret bytes.
    pub fn ed25519(seed: &[u8; 32]) -> Signer {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("every 32 bytes are a seed");
        let owner = pair.public_key().as_ref().to_vec();
        Signer {
            key: Key::Ed25519(pair),
            owner,
        }
    }

    /// An Ethereum key from its 32 secret bytes.
    ///
    /// # Errors
    /// The one in 2^128 values that are no key.
    pub fn ethereum(secret: &[u8; 32]) -> Result<Signer, KeyError> {
        let key = secp256k1::SecretKey::from_byte_array(*secret).map_err(|_| KeyError::Field("d"))?;
        let owner = key
            .public_key(secp256k1::SECP256K1)
            .serialize_uncompressed()
            .to_vec();
        Ok(Signer {
            key: Key::Ethereum(key),
            owner,
        })
    }

    /// An RSA key from its PKCS#1 or PKCS#8 DER bytes.
    pub fn rsa_der(der: &[u8]) -> Result<Signer, KeyError> {
        let pair = RsaKeyPair::from_der(der).or_else(|_| RsaKeyPair::from_pkcs8(der));
        let pair = pair.map_err(|_| KeyError::Field("d"))?;
        let (owner, exponent) = rsa_numbers(pair.public_key().as_ref()).ok_or(KeyError::Field("n"))?;
        if owner.len() != SignatureType::Arweave.owner_len() {
            return Err(KeyError::RsaSize(owner.len() * 8));
        }
        // Items carry the modulus only; every verifier takes this exponent.
        if exponent != [1, 0, 1] {
            return Err(KeyError::Field("e"));
        }
        Ok(Signer {
            key: Key::Rsa(Box::new(pair)),
            owner,
        })
    }

    /// Reads a key from the JSON of a wallet file (a JSON Web Key).
    pub fn from_jwk(json: &str) -> Result<Signer, KeyError> {
        let jwk: Jwk = serde_json::from_str(json).map_err(|error| KeyError::NotJson(place(&error)))?;
        match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Signer::rsa_der(&rsa_der(&jwk)?),
            ("OKP", Some("Ed25519")) => {
                let signer = Signer::ed25519(&*secret32(&jwk)?);
                signer.check_public(&[("x", &jwk.x, 0)])?;
                Ok(signer)
            }
            ("EC", Some("secp256k1")) => {
                let signer = Signer::ethereum(&*secret32(&jwk)?)?;
                signer.check_public(&[("x", &jwk.x, 1), ("y", &jwk.y, 33)])?;
                Ok(signer)
            }
            (kty, crv) => Err(KeyError::Kind(
                crv.map_or(kty.into(), |crv| format!("{kty} {crv}")),
            )),
        }
    }

    /// A file whose public half is not its secret's would sign under another account than it names.
    fn check_public(&self, fields: &[(&'static str, &Option<String>, usize)]) -> Result<(), KeyError> {
        for (name, value, at) in fields {
            let Some(text) = value else { continue };
            if from_base64url(text).as_deref() != self.owner.get(*at..*at + 32) {
                return Err(KeyError::Field(name));
            }
        }
        Ok(())
    }

    /// The wallet file's text for an Ed25519 key of these secret bytes.
    pub fn ed25519_jwk(seed: &[u8; 32]) -> Zeroizing<String> {
        let signer = Signer::ed25519(seed);
        let jwk = Jwk {
            kty: "OKP".into(),
            crv: Some("Ed25519".into()),
            x: Some(base64url(&signer.owner)),
            d: Some(base64url(seed)),
            ..Jwk::default()
        };
        Zeroizing::new(serde_json::to_string_pretty(&jwk).expect("texts only"))
    }

    /// A new RSA key of 4096 bits, as a wallet file's text. Takes seconds; the randomness is the
    /// crypto library's own.
    pub fn generate_rsa_jwk() -> Result<Zeroizing<String>, KeyError> {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
        let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa4096);
        let pair = pair.map_err(|_| KeyError::Field("n"))?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::Field("d"))?;
        let numbers = pkcs8_numbers(der.as_ref()).ok_or(KeyError::Field("d"))?;
        let text = |i: usize| Some(base64url(numbers[i]));
        let jwk = Jwk {
            kty: "RSA".into(),
            n: text(1),
            e: text(2),
            d: text(3),
            p: text(4),
            q: text(5),
            dp: text(6),
            dq: text(7),
            qi: text(8),
            ..Jwk::default()
        };
        Ok(Zeroizing::new(
            serde_json::to_string_pretty(&jwk).expect("texts only"),
        ))
    }

    /// The type of the signatures it makes.
    pub fn signature_type(&self) -> SignatureType {
        match self.key {
            Key::Rsa(_) => SignatureType::Arweave,
            Key::Ed25519(_) => SignatureType::Ed25519,
            Key::Ethereum(_) => SignatureType::Ethereum,
        }
    }

    /// The public key, as items carry it.
    pub fn owner(&self) -> &[u8] {
        &self.owner
    }

    /// The account.
    pub fn address(&self) -> Address {
        signature::address(&self.owner)
    }

    /// Whether signing the same content twice gives the same id (RSA-PSS does not).
    pub fn is_deterministic(&self) -> bool {
        !matches!(self.key, Key::Rsa(_))
    }

    /// Signs a base-layer transaction's deep hash: RSA, or secp256k1 with the key left to be recovered.
    ///
    /// # Errors
    /// The base layer knows no Ed25519 accounts.
    pub fn sign_transaction(&self, hash: &DeepHash) -> Result<Vec<u8>, String> {
        match &self.key {
            Key::Rsa(_) => self.sign(hash),
            Key::Ed25519(_) => Err("the base layer takes RSA and secp256k1 keys, this one is Ed25519".into()),
            Key::Ethereum(key) => {
                let message = secp256k1::Message::from_digest(chunks::sha256(&[hash]));
                let signature = secp256k1::SECP256K1.sign_ecdsa_recoverable(message, key);
                let (id, compact) = signature.serialize_compact();
                let mut bytes = compact.to_vec();
                bytes.push(i32::from(id) as u8);
                Ok(bytes)
            }
        }
    }

    /// Who owns the base-layer transactions it signs; `None` for a key that signs none.
    pub fn transaction_owner(&self) -> Option<Owner> {
        match &self.key {
            Key::Rsa(_) => Some(Owner::Rsa(self.owner.clone().into())),
            Key::Ed25519(_) => None,
            Key::Ethereum(key) => Some(Owner::Secp256k1(key.public_key(secp256k1::SECP256K1).serialize())),
        }
    }

    /// Signs a deep hash by the rule of the key's type.
    pub fn sign(&self, hash: &DeepHash) -> Result<Vec<u8>, String> {
        match &self.key {
            Key::Ed25519(pair) => Ok(pair.sign(hash).as_ref().to_vec()),
            Key::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let done = pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), hash, &mut signature);
                done.map_err(|_| "RSA signing failed".to_string())?;
                Ok(signature)
            }
            Key::Ethereum(key) => {
                let message = secp256k1::Message::from_digest(eip191(hash));
                let signature = secp256k1::SECP256K1.sign_ecdsa_recoverable(message, key);
                let (id, compact) = signature.serialize_compact();
                let mut bytes = compact.to_vec();
                bytes.push(27 + i32::from(id) as u8);
                Ok(bytes)
            }
        }
    }
}

/// Where reading stopped. The library's own words may quote the text, which is a secret.
fn place(error: &serde_json::Error) -> String {
    format!(
        "{:?} error at line {} column {}",
        error.classify(),
        error.line(),
        error.column()
    )
}

fn secret32(jwk: &Jwk) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let bytes = jwk.d.as_deref().and_then(from_base64url).map(Zeroizing::new);
    let bytes = bytes.ok_or(KeyError::Field("d"))?;
    let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Field("d"))?;
    Ok(Zeroizing::new(bytes))
}

/// The PKCS#1 form of an RSA JWK.
fn rsa_der(jwk: &Jwk) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let fields = [
        ("n", &jwk.n),
        ("e", &jwk.e),
        ("d", &jwk.d),
        ("p", &jwk.p),
        ("q", &jwk.q),
        ("dp", &jwk.dp),
        ("dq", &jwk.dq),
        ("qi", &jwk.qi),
    ];
    let mut body = Zeroizing::new(vec![0x02, 0x01, 0x00]);
    for (name, value) in fields {
        let number = value.as_deref().and_then(from_base64url).map(Zeroizing::new);
        let number = number.filter(|n| !n.is_empty()).ok_or(KeyError::Field(name))?;
        der_integer(&mut body, &number);
    }
    let mut der = Zeroizing::new(vec![0x30]);
    der_length(&mut der, body.len());
    der.extend_from_slice(&body);
    Ok(der)
}

fn der_integer(out: &mut Vec<u8>, number: &[u8]) {
    let zeros = number
        .iter()
        .take_while(|b| **b == 0)
        .count()
        .min(number.len() - 1);
    let number = &number[zeros..];
    let pad = usize::from(number[0] & 0x80 != 0);
    out.push(0x02);
    der_length(out, number.len() + pad);
    out.resize(out.len() + pad, 0);
    out.extend_from_slice(number);
}

fn der_length(out: &mut Vec<u8>, len: usize) {
    let bytes = len.to_be_bytes();
    let significant = &bytes[bytes.iter().take_while(|b| **b == 0).count().min(7)..];
    if len >= 0x80 {
        out.push(0x80 | significant.len() as u8);
    }
    out.extend_from_slice(significant);
}

/// The modulus and the exponent inside a PKCS#1 public key.
fn rsa_numbers(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, body, _) = der_element(der)?;
    let (_, modulus, rest) = der_element(body)?;
    let (_, exponent, _) = der_element(rest)?;
    let plain = |number: &[u8]| number.strip_prefix(&[0]).unwrap_or(number).to_vec();
    Some((plain(modulus), plain(exponent)))
}

/// The nine numbers (version, n, e, d, p, q, dp, dq, qi) inside a PKCS#8 RSA key.
fn pkcs8_numbers(der: &[u8]) -> Option<Vec<&[u8]>> {
    let (_, outer, _) = der_element(der)?;
    let (_, _, rest) = der_element(outer)?;
    let (_, _, rest) = der_element(rest)?;
    let (tag, octets, _) = der_element(rest)?;
    let (_, mut body, _) = der_element(octets).filter(|_| tag == 0x04)?;
    let mut numbers = Vec::new();
    while !body.is_empty() {
        let (_, number, rest) = der_element(body)?;
        let zeros = number
            .iter()
            .take_while(|b| **b == 0)
            .count()
            .min(number.len().saturating_sub(1));
        numbers.push(&number[zeros..]);
        body = rest;
    }
    (numbers.len() == 9).then_some(numbers)
}

/// Splits off one DER element: tag, content, rest.
fn der_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |len, b| len << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// The compressed form of a secp256k1 key; `None` if it is no point of the curve in its long form.
pub fn compressed(key: &[u8]) -> Option<[u8; 33]> {
    let point = secp256k1::PublicKey::from_slice(key).ok()?;
    // The long form has other spellings, with the parity in its first byte.
    (point.serialize_uncompressed() == *key).then(|| point.serialize())
}
