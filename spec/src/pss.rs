//! RSA-PSS verification with any salt length: the one place that calls AWS-LC below its safe API.
//!
//! Node signs with the longest salt (478 bytes for 4096 bits), browsers with 32, bundlers with 0.
//! The safe APIs pin 32, so this file asks AWS-LC to recover the length (`salt_len` of -2).
#![allow(unsafe_code, reason = "the safe API takes one salt length only")]

use std::ptr::{null, null_mut};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_sys as lc;

/// Recover the salt length from the signature (`RSA_PSS_SALTLEN_AUTO`).
const SALT_LEN_AUTO: i32 = -2;
/// The public exponent of every Arweave key.
const EXPONENT: u64 = 65537;

/// An RSA public key that frees itself.
struct Key(*mut lc::RSA);

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `RSA_new_public_key` and is freed only here.
        unsafe { lc::RSA_free(self.0) }
    }
}

impl Key {
    fn new(modulus: &[u8]) -> Option<Key> {
        // SAFETY: the numbers are copied from a live slice and owned here until freed below; a
        // null result of any call is passed on only to functions that take null.
        unsafe {
            let n = lc::BN_bin2bn(modulus.as_ptr(), modulus.len(), null_mut());
            let e = lc::BN_new();
            let made = !n.is_null() && !e.is_null() && lc::BN_set_u64(e, EXPONENT) == 1;
            let rsa = if made {
                lc::RSA_new_public_key(n, e)
            } else {
                null_mut()
            };
            lc::BN_free(n);
            lc::BN_free(e);
            (!rsa.is_null()).then_some(Key(rsa))
        }
    }

    fn verify(&self, signature: &[u8], hash: &[u8]) -> bool {
        // SAFETY: both slices outlive the call, lengths are theirs, the key is live, and a null
        // MGF1 digest stands for "the same as the message's".
        let ok = unsafe {
            lc::RSA_verify_pss_mgf1(
                self.0,
                hash.as_ptr(),
                hash.len(),
                lc::EVP_sha256(),
                null(),
                SALT_LEN_AUTO,
                signature.as_ptr(),
                signature.len(),
            )
        };
        ok == 1
    }
}

/// Whether `signature` is a PSS signature of `message` (SHA-256, MGF1 with SHA-256, any salt) by
/// the key with this modulus.
pub(crate) fn verify(modulus: &[u8], signature: &[u8], message: &[u8]) -> bool {
    let hash = digest(&SHA256, message);
    // Keeping prepared keys was measured to save a twelfth of the time: not worth a cache.
    let ok = Key::new(modulus).is_some_and(|key| key.verify(signature, hash.as_ref()));
    if !ok {
        // SAFETY: clears this thread's error queue, or a refusal's reasons would stay in it.
        unsafe { lc::ERR_clear_error() }
    }
    ok
}
