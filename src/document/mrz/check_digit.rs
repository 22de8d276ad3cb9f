//! The alphabet of the MRZ and its check digit.
//!
//! Called by every other file of the module. Source: ICAO Doc 9303 part 3, sections 4.3 (alphabet) and 4.9 (check digits).

/// The filler `<`.
pub const FILLER: u8 = b'<';

/// Stands for a character outside the alphabet; no check digit over it can be valid.
pub const UNREADABLE: u8 = b'?';

/// Weights of the check digit, repeated over the checked characters (part 3, section 4.9).
pub const WEIGHTS: [u32; 3] = [7, 3, 1];

/// The value of a character: 0 to 9 for digits, 10 to 35 for letters, 0 for the filler. `None` outside the alphabet.
pub fn value(symbol: u8) -> Option<u32> {
    match symbol {
        b'0'..=b'9' => Some(u32::from(symbol - b'0')),
        b'A'..=b'Z' => Some(u32::from(symbol - b'A') + 10),
        FILLER => Some(0),
        _ => None,
    }
}

/// The check digit, `b'0'` to `b'9'`, over characters of the alphabet. `None` if one of them lies outside it.
pub fn check_digit(symbols: impl IntoIterator<Item = u8>) -> Option<u8> {
    let mut sum = 0;
    for (symbol, weight) in symbols.into_iter().zip(WEIGHTS.into_iter().cycle()) {
        // Reduced at once, so that no length overflows.
        sum = (sum + value(symbol)? * weight) % 10;
    }
    u8::try_from(sum).ok().map(|digit| b'0' + digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_examples_of_part_3() {
        // Section 4.9: the date 27 July 1952 gives 3, the number AB2134 gives 5.
        assert_eq!(check_digit(*b"520727"), Some(b'3'));
        assert_eq!(check_digit(*b"AB2134<<<"), Some(b'5'));
        // Appendix A: the composite of the TD1 example and of the TD3 and TD2 examples.
        let td1 = b"D231458907<<<<<<<<<<<<<<<34071279507122<<<<<<<<<<<";
        assert_eq!(check_digit(*td1), Some(b'2'));
        assert_eq!(check_digit(*b"HA672242<658022549601086<<<<<<<<<<<<<<0"), Some(b'8'));
        assert_eq!(check_digit(*b"HA672242<658022549601086<<<<<<<"), Some(b'8'));
    }

    #[test]
    fn characters_outside_the_alphabet_have_no_check_digit() {
        assert_eq!(check_digit(*b"12?"), None);
        assert_eq!(check_digit(*b"abc"), None);
        assert_eq!(check_digit([]), Some(b'0'));
    }
}
