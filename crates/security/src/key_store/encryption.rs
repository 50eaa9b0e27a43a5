//! How PKCS#12 and PKCS#8 encrypt: with a key that a hash was turned into again and again from a
//! password. PKCS#5's way (PBES2) is that of today; PKCS#12's own is of old stores.

use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipher, BlockDecryptMut, InnerIvInit, KeyInit, KeyIvInit};
use hmac::Hmac;
use hmac::digest::core_api::BlockSizeUser;
use hmac::digest::{Digest, FixedOutputReset, Mac, OutputSizeUser};
use pbkdf2::pbkdf2_hmac;
use rc2::Rc2;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::StoreError;
use crate::der::{Der, dotted, tag};

/// More rounds than this are no protection but a way to keep us busy. It is Java's limit too.
const ROUNDS_MAX: u32 = 5_000_000;

const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 0x0d];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 0x0c];
/// The head of PKCS#12's own ways.
const PKCS12: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 0x0c, 1];
const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2];
const TRIPLE_DES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 3, 7];
const AES: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1];
const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];

/// What a derived key of PKCS#12 is for.
#[derive(Clone, Copy)]
enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// Decrypts PKCS#8's `EncryptedPrivateKeyInfo`.
pub(super) fn decrypt_pkcs8(info: &[u8], password: &str) -> Result<Vec<u8>, StoreError> {
    let mut info = Der::new(info).sequence()?;
    let algorithm = info.sequence()?;
    decrypt(algorithm, info.take(tag::OCTETS)?, password)
}

/// Decrypts what `algorithm` has encrypted.
pub(super) fn decrypt(
    mut algorithm: Der<'_>,
    data: &[u8],
    password: &str,
) -> Result<Vec<u8>, StoreError> {
    let name = algorithm.take(tag::OID)?;
    if name == PBES2 {
        return pbes2(algorithm.sequence()?, data, password);
    }
    let Some(&[which]) = name.strip_prefix(PKCS12) else { return Err(unknown(name)) };
    let mut parameters = algorithm.sequence()?;
    let (salt, rounds) = (parameters.take(tag::OCTETS)?, rounds(&mut parameters)?);
    let password = utf16(password);
    let derived = |purpose, length| derive::<Sha1>(purpose, &password, salt, rounds, length);
    let iv = derived(Purpose::Iv, 8);
    let key = |length| derived(Purpose::Key, length);
    match which {
        3 => with_key::<des::TdesEde3>(&key(24), &iv, data),
        4 => with_key::<des::TdesEde2>(&key(16), &iv, data),
        5 => rc2(&key(16), &iv, data),
        6 => rc2(&key(5), &iv, data),
        _ => Err(unknown(name)),
    }
}

fn pbes2(mut parameters: Der<'_>, data: &[u8], password: &str) -> Result<Vec<u8>, StoreError> {
    let (mut derivation, mut encryption) = (parameters.sequence()?, parameters.sequence()?);
    let name = derivation.take(tag::OID)?;
    if name != PBKDF2 {
        return Err(unknown(name));
    }
    let mut derivation = derivation.sequence()?;
    let (salt, rounds) = (derivation.take(tag::OCTETS)?, rounds(&mut derivation)?);
    let _length = derivation.optional(tag::INTEGER)?;
    // Without a name it is the oldest.
    let function = derivation.optional(tag::SEQUENCE)?;
    let function = function.map(|function| Der::new(function).take(tag::OID)).transpose()?;
    let derive: fn(&[u8], &[u8], u32, &mut [u8]) =
        match function.map(|name| (name, name.strip_prefix(HMAC))) {
            None | Some((_, Some([7]))) => pbkdf2_hmac::<Sha1>,
            Some((_, Some([8]))) => pbkdf2_hmac::<Sha224>,
            Some((_, Some([9]))) => pbkdf2_hmac::<Sha256>,
            Some((_, Some([10]))) => pbkdf2_hmac::<Sha384>,
            Some((_, Some([11]))) => pbkdf2_hmac::<Sha512>,
            Some((name, _)) => return Err(unknown(name)),
        };
    let key = |length| {
        let mut key = vec![0; length];
        derive(password.as_bytes(), salt, rounds, &mut key);
        key
    };
    let name = encryption.take(tag::OID)?;
    let iv = encryption.take(tag::OCTETS)?;
    match name.strip_prefix(AES) {
        Some([0x02]) => with_key::<aes::Aes128>(&key(16), iv, data),
        Some([0x16]) => with_key::<aes::Aes192>(&key(24), iv, data),
        Some([0x2a]) => with_key::<aes::Aes256>(&key(32), iv, data),
        None if name == TRIPLE_DES => with_key::<des::TdesEde3>(&key(24), iv, data),
        _ => Err(unknown(name)),
    }
}

/// Compares the hash over a store, made with its password, with the one that it has.
pub(super) fn check_mac(
    mut mac: Der<'_>,
    content: &[u8],
    password: &str,
) -> Result<(), StoreError> {
    let mut expected = mac.sequence()?;
    let name = expected.sequence()?.take(tag::OID)?;
    let expected = expected.take(tag::OCTETS)?;
    let salt = mac.take(tag::OCTETS)?;
    // Where it is left out it is one.
    let rounds = if mac.is_empty() { 1 } else { rounds(&mut mac)? };
    let password = utf16(password);
    let is_right = match name.strip_prefix(SHA2) {
        Some([4]) => has_mac::<Hmac<Sha224>, Sha224>(&password, salt, rounds, content, expected),
        Some([1]) => has_mac::<Hmac<Sha256>, Sha256>(&password, salt, rounds, content, expected),
        Some([2]) => has_mac::<Hmac<Sha384>, Sha384>(&password, salt, rounds, content, expected),
        Some([3]) => has_mac::<Hmac<Sha512>, Sha512>(&password, salt, rounds, content, expected),
        None if name == SHA1 => {
            has_mac::<Hmac<Sha1>, Sha1>(&password, salt, rounds, content, expected)
        }
        _ => return Err(unknown(name)),
    };
    if is_right { Ok(()) } else { Err(StoreError::WrongPassword) }
}

fn has_mac<M: Mac + KeyInit, D: Digest + BlockSizeUser + FixedOutputReset>(
    password: &[u8],
    salt: &[u8],
    rounds: u32,
    content: &[u8],
    expected: &[u8],
) -> bool {
    let key =
        derive::<D>(Purpose::Mac, password, salt, rounds, <D as OutputSizeUser>::output_size());
    // Keys of all lengths do.
    let mac = <M as Mac>::new_from_slice(&key);
    mac.is_ok_and(|mac| mac.chain_update(content).verify_slice(expected).is_ok())
}

/// PKCS#12's way from a password to bytes (RFC 7292, appendix B).
fn derive<D: Digest + BlockSizeUser + FixedOutputReset>(
    purpose: Purpose,
    password: &[u8],
    salt: &[u8],
    rounds: u32,
    length: usize,
) -> Vec<u8> {
    let block = <D as BlockSizeUser>::block_size();
    let fill = |bytes: &[u8]| -> Vec<u8> {
        bytes.iter().copied().cycle().take(bytes.len().div_ceil(block) * block).collect()
    };
    let mut input = [fill(salt), fill(password)].concat();
    let mut derived = Vec::new();
    while derived.len() < length {
        let mut hash =
            D::new().chain_update(vec![purpose as u8; block]).chain_update(&input).finalize();
        for _ in 1..rounds {
            hash = D::digest(&hash);
        }
        derived.extend_from_slice(&hash);
        // Each block of the input grows by the hash and one, as a number.
        let grow: Vec<u8> = hash.iter().copied().cycle().take(block).collect();
        for part in input.chunks_mut(block) {
            let mut carry = 1;
            for (byte, grow) in part.iter_mut().zip(&grow).rev() {
                carry += u16::from(*byte) + u16::from(*grow);
                *byte = (carry & 0xff) as u8;
                carry >>= 8;
            }
        }
    }
    derived.truncate(length);
    derived
}

fn with_key<C>(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, StoreError>
where
    C: BlockDecryptMut + BlockCipher + KeyInit,
    Decryptor<C>: KeyIvInit + BlockDecryptMut,
{
    let decryptor = <Decryptor<C> as KeyIvInit>::new_from_slices(key, iv);
    unpadded(decryptor.map_err(|_| StoreError::Malformed)?, data)
}

/// RC2 counts its strength apart from the length of its key; here both are the same.
fn rc2(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, StoreError> {
    let cipher = Rc2::new_with_eff_key_len(key, key.len() * 8);
    let decryptor = Decryptor::<Rc2>::inner_iv_slice_init(cipher, iv);
    unpadded(decryptor.map_err(|_| StoreError::Malformed)?, data)
}

/// What comes out without its padding is of another password, or damaged.
fn unpadded(decryptor: impl BlockDecryptMut, data: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut data = data.to_vec();
    let plain = decryptor.decrypt_padded_mut::<Pkcs7>(&mut data);
    plain.map(<[u8]>::to_vec).map_err(|_| StoreError::WrongPassword)
}

fn rounds(parameters: &mut Der<'_>) -> Result<u32, StoreError> {
    match parameters.u32()? {
        0 => Err(StoreError::Malformed),
        rounds if rounds > ROUNDS_MAX => {
            Err(StoreError::Unsupported(format!("it is encrypted in {rounds} rounds")))
        }
        rounds => Ok(rounds),
    }
}

fn unknown(name: &[u8]) -> StoreError {
    StoreError::Unsupported(format!(
        "it is encrypted by an algorithm that is not known ({})",
        dotted(name)
    ))
}

/// PKCS#12 takes a password as Java keeps text, with a zero at its end.
fn utf16(password: &str) -> Vec<u8> {
    password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect()
}
