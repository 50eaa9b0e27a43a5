//! The zigzag varints of records (those of protocol buffers' `sint32` and `sint64`).

/// Why no varint could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarintError {
    /// The bytes end within it.
    Truncated,
    /// It does not fit its type.
    Overflow,
}

/// Takes a 32-bit varint off the front of `bytes`.
#[inline]
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<i32, VarintError> {
    let raw = take_unsigned(bytes, u64::from(u32::MAX))? as u32;
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Takes a 64-bit varint off the front of `bytes`.
#[inline]
pub(crate) fn take_varlong(bytes: &mut &[u8]) -> Result<i64, VarintError> {
    let raw = take_unsigned(bytes, u64::MAX)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

#[inline]
fn take_unsigned(bytes: &mut &[u8], max: u64) -> Result<u64, VarintError> {
    // Nearly all numbers of a record take one byte or two.
    match **bytes {
        [low @ 0..0x80, ref rest @ ..] => {
            *bytes = rest;
            Ok(u64::from(low))
        }
        [low, high @ 0..0x80, ref rest @ ..] => {
            *bytes = rest;
            Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
        }
        _ => take_long(bytes, max),
    }
}

#[inline(never)]
fn take_long(bytes: &mut &[u8], max: u64) -> Result<u64, VarintError> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * i as u32;
        // The bits must lie below `max`, which is all ones.
        if shift >= 64 || bits > max >> shift {
            return Err(VarintError::Overflow);
        }
        value |= bits << shift;
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Ok(value);
        }
    }
    Err(VarintError::Truncated)
}

/// Appends a 32-bit varint: 1–5 bytes. It is the same as that of the widened number.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

/// Appends a 64-bit varint: 1–10 bytes.
pub(crate) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = zigzag(value);
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// How many bytes [`put_varlong`] appends.
pub(crate) fn varlong_bytes(value: i64) -> usize {
    (64 - (zigzag(value) | 1).leading_zeros() as usize).div_ceil(7)
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varlong(&mut out, value);
        out
    }

    #[test]
    fn numbers_come_back_from_as_many_bytes_as_foretold() {
        let edges = (0..63).flat_map(|bit| [(1i64 << bit) - 1, 1 << bit]);
        for value in edges.flat_map(|v| [v, -v, -v - 1]).chain([i64::MIN, i64::MAX]) {
            let bytes = bytes(value);
            assert_eq!(bytes.len(), varlong_bytes(value), "{value}");
            let mut rest = &bytes[..];
            assert_eq!(take_varlong(&mut rest), Ok(value));
            assert!(rest.is_empty());
            if let Ok(value) = i32::try_from(value) {
                assert_eq!(take_varint(&mut &bytes[..]), Ok(value));
            } else {
                assert_eq!(take_varint(&mut &bytes[..]), Err(VarintError::Overflow), "{value}");
            }
            let cut = &bytes[..bytes.len() - 1];
            assert_eq!(take_varlong(&mut &cut[..]), Err(VarintError::Truncated));
        }
    }

    #[test]
    fn the_encoding_is_kafkas() {
        assert_eq!(bytes(0), [0x00]);
        assert_eq!(bytes(-1), [0x01]);
        assert_eq!(bytes(1), [0x02]);
        assert_eq!(bytes(63), [0x7e]);
        assert_eq!(bytes(-64), [0x7f]);
        assert_eq!(bytes(64), [0x80, 0x01]);
        assert_eq!(bytes(i64::from(i32::MIN)), [0xff, 0xff, 0xff, 0xff, 0x0f]);
    }

    #[test]
    fn surplus_bits_are_refused() {
        assert_eq!(
            take_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]),
            Err(VarintError::Overflow)
        );
        let eleven = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0x00];
        assert_eq!(take_varlong(&mut &eleven[..]), Err(VarintError::Overflow));
    }
}
