//! A file without a name for the rows of a huge transaction: it is gone with the process, however that ends.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use crate::mapping::spool::Spool;

/// In the folder for temporary files (`TMPDIR`); made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct FileSpool {
    file: Option<File>,
    length: u64,
}

impl Spool for FileSpool {
    fn put(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        let place = self.length;
        file.seek(SeekFrom::Start(place))?;
        file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(place)
    }

    fn get(&mut self, place: u64, length: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        into.resize(length, 0);
        file.seek(SeekFrom::Start(place))?;
        file.read_exact(into)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.length = 0;
        match &self.file {
            Some(file) => file.set_len(0),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_away_is_read_again_in_any_order_and_forgotten() {
        let mut spool = FileSpool::default();
        let places = ["one", "", "three"].map(|text| spool.put(text.as_bytes()).unwrap());
        let mut read = Vec::new();
        for (place, text) in [(places[2], "three"), (places[0], "one"), (places[1], "")] {
            spool.get(place, text.len(), &mut read).unwrap();
            assert_eq!(read, text.as_bytes());
        }
        spool.clear().unwrap();
        assert!(spool.get(places[2], 5, &mut read).is_err());
        assert_eq!(spool.put(b"again").unwrap(), 0);
    }
}
