//! Finds the texts to index: files named on the command line, or sources here and in the local cargo registry.
//!
//! Each is read once, so that no run has to wait for a disk, and what cannot be indexed is known beforehand.

use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::TourError;
use crate::options::Options;
use crate::reading::{self, BUFFER};
use crate::table::count;

/// A text, and how much of it is indexed.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub(crate) texts: Vec<Text>,
    pub(crate) bytes: u64,
    /// Files that hold a zero byte.
    binary: usize,
    /// Files and directories that cannot be read.
    unreadable: usize,
    /// Files with bytes that are not UTF-8: indexed without them.
    not_utf8: usize,
    /// Whether the limit left something out.
    cut: bool,
}

/// Which files of a directory are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    All,
    Sources,
    Rust,
}

impl Kind {
    fn has(self, path: &Path) -> bool {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match self {
            Self::All => true,
            Self::Sources => ["rs", "md", "toml", "c", "h", "py", "txt"].contains(&ending),
            Self::Rust => ending == "rs",
        }
    }
}

impl Texts {
    /// Finds and reads what the options ask for.
    pub(crate) fn gather(options: &Options) -> Result<Self, TourError> {
        let mut found = Self::default();
        let most = options.most_bytes();
        let mut buffer = vec![0; BUFFER];
        if options.paths.is_empty() {
            found.directory(Path::new("."), Kind::Sources, most, &mut buffer);
            if let Some(registry) = registry() {
                found.directory(&registry, Kind::Rust, most, &mut buffer);
            }
        }
        for path in &options.paths {
            let unreadable = |error| TourError::Unreadable { path: path.clone(), error };
            let about = fs::metadata(path).map_err(unreadable)?;
            if about.is_dir() {
                fs::read_dir(path).map_err(unreadable)?;
                found.directory(path, Kind::All, most, &mut buffer);
            } else if about.is_file() {
                fs::File::open(path).map_err(unreadable)?;
                found.file(path, about.len(), most, &mut buffer);
            } else {
                return Err(TourError::NoText { path: path.clone() });
            }
        }
        if found.bytes == 0 {
            return Err(TourError::NothingToRead { skipped: found.left_out() });
        }
        Ok(found)
    }

    /// Everything below a directory in the order of names, except what is hidden or built. Links are not followed.
    fn directory(&mut self, path: &Path, kind: Kind, most: u64, buffer: &mut [u8]) {
        let Ok(entries) = fs::read_dir(path) else {
            self.unreadable += usize::from(path.exists());
            return;
        };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if self.cut {
                return;
            }
            let (name, path) = (entry.file_name(), entry.path());
            let Ok(about) = entry.metadata() else {
                self.unreadable += 1;
                continue;
            };
            let passed_by = name.as_bytes().starts_with(b".") || name == "target" || name == "node_modules";
            if about.is_dir() && !passed_by {
                self.directory(&path, kind, most, buffer);
            } else if about.is_file() && kind.has(&path) {
                self.file(&path, about.len(), most, buffer);
            }
        }
    }

    fn file(&mut self, path: &Path, len: u64, most: u64, buffer: &mut [u8]) {
        let bytes = len.min(most - self.bytes);
        self.cut |= bytes < len;
        if bytes == 0 {
            return;
        }
        let (mut binary, mut utf8) = (false, true);
        let looked = reading::pieces(path, bytes, buffer, |piece| {
            binary |= piece.contains(&0);
            utf8 &= std::str::from_utf8(piece).is_ok();
        });
        match looked {
            Err(_) => self.unreadable += 1,
            Ok(()) if binary => self.binary += 1,
            Ok(()) => {
                self.not_utf8 += usize::from(!utf8);
                self.bytes += bytes;
                self.texts.push(Text { path: path.to_path_buf(), bytes });
            }
        }
    }

    /// What was left out or read only in part, as the end of a sentence.
    pub(crate) fn left_out(&self) -> String {
        let mut out = String::new();
        for (files, what) in [
            (self.binary, "skipped as binary"),
            (self.unreadable, "skipped as unreadable"),
            (self.not_utf8, "not all in UTF-8, the rest passed over"),
        ] {
            if files > 0 {
                out += &format!("; {} {what}", count(files, "file"));
            }
        }
        if self.cut {
            out += "; there is more (see --limit)";
        }
        out
    }

    /// Writes the list for a child process: a size, a space, a path, a zero byte.
    pub(crate) fn send(&self, mut to: impl Write) -> io::Result<()> {
        for text in &self.texts {
            write!(to, "{} ", text.bytes)?;
            to.write_all(text.path.as_os_str().as_bytes())?;
            to.write_all(&[0])?;
        }
        to.flush()
    }
}

/// Reads what [`Texts::send`] wrote.
pub(crate) fn receive(from: impl BufRead) -> io::Result<Vec<Text>> {
    let text = |entry: io::Result<Vec<u8>>| {
        let entry = entry?;
        let space = entry.iter().position(|&byte| byte == b' ').unwrap_or(entry.len());
        let (size, path) = entry.split_at(space);
        let bytes = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok());
        match (bytes, path.get(1..)) {
            (Some(bytes), Some(path)) => {
                Ok(Text { path: PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())), bytes })
            }
            _ => Err(io::Error::other("the list of texts is garbled")),
        }
    };
    from.split(0).map(text).collect()
}

/// Where cargo keeps the sources of dependencies.
fn registry() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))?;
    Some(home.join("registry/src")).filter(|sources| sources.is_dir())
}
