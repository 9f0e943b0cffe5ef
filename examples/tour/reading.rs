//! Reads a text piece by piece into one buffer, and finds the words in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a reading buffer.
pub(crate) const BUFFER: usize = 64 * 1024;

/// The most bytes of a word; what is longer is no word that anybody looks up.
const LONGEST: usize = 64;

/// Hands the first `most` bytes of a file to `each`, in pieces that end between words (unless a buffer has nothing but
/// one endless word).
pub(crate) fn pieces(path: &Path, most: u64, buffer: &mut [u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = File::open(path)?.take(most);
    let mut filled = 0;
    loop {
        let got = match file.read(&mut buffer[filled..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            got => got?,
        };
        filled += got;
        if got == 0 {
            each(&buffer[..filled]);
            return Ok(());
        }
        let end = match buffer[..filled].iter().rposition(u8::is_ascii_whitespace) {
            Some(last) => last + 1,
            None if filled == buffer.len() => filled,
            None => continue,
        };
        each(&buffer[..end]);
        buffer.copy_within(end..filled, 0);
        filled -= end;
    }
}

/// The words of a text: two or more letters, digits and underscores, of which the first is no digit.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| (2..=LONGEST).contains(&word.len()) && !word.starts_with(char::is_numeric))
}
