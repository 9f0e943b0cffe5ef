//! What the linker wrote down about this program.

use core::ffi::{c_int, c_void};
use core::slice;

/// The type of the note that holds a build id.
const NT_GNU_BUILD_ID: u32 = 3;

/// The program's build id, if the linker gave it one: equal bytes mean the same program.
pub(crate) fn build_id() -> Option<Vec<u8>> {
    let mut found: Option<Vec<u8>> = None;
    // SAFETY: `visit` gets a pointer to `found`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// Looks at the first object, which is the program itself, and stops.
extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
    // SAFETY: the loader's description, valid during the call.
    let info = unsafe { &*info };
    // SAFETY: `build_id` passes it, and waits.
    let found = unsafe { &mut *found.cast::<Option<Vec<u8>>>() };
    // SAFETY: the loader says how many headers there are.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_NOTE) {
        let (Ok(start), Ok(len)) = (usize::try_from(info.dlpi_addr + header.p_vaddr), usize::try_from(header.p_memsz))
        else {
            continue;
        };
        let start = core::ptr::with_exposed_provenance::<u8>(start);
        // SAFETY: a segment that the loader mapped, for as long as the program runs.
        let notes = unsafe { slice::from_raw_parts(start, len) };
        if let Some(id) = build_id_in(notes) {
            *found = Some(id.to_vec());
            break;
        }
    }
    1
}

/// Walks notes: three words (length of the name, of the content, type), then both, each padded to four bytes.
fn build_id_in(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let word = |at: usize| Some(u32::from_ne_bytes(notes.get(at..at + 4)?.try_into().ok()?));
        let (name_len, len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let content = 12 + name_len.next_multiple_of(4);
        if kind == NT_GNU_BUILD_ID && notes.get(12..12 + name_len)? == b"GNU\0" {
            return notes.get(content..content + len);
        }
        notes = notes.get(content + len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::build_id_in;

    #[test]
    fn a_build_id_is_found_behind_other_notes_and_nothing_in_rubbish() {
        let note = |name: &[u8], kind: u32, content: &[u8]| {
            let mut bytes = Vec::new();
            for word in [u32::try_from(name.len()).unwrap(), u32::try_from(content.len()).unwrap(), kind] {
                bytes.extend(word.to_ne_bytes());
            }
            for part in [name, content] {
                bytes.extend(part);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            bytes
        };
        let mut notes = note(b"CORE\0", 3, b"12345");
        notes.extend(note(b"GNU\0", 3, b"abcde"));
        assert_eq!(build_id_in(&notes), Some(b"abcde".as_slice()));
        assert_eq!(build_id_in(&notes[..notes.len() - 4]), None, "cut off");
        assert_eq!(build_id_in(&[0xff; 40]), None);
        assert_eq!(build_id_in(&[]), None);
    }
}
