//! Cuts a stream of JPEG pictures that follow one another without any frame around them, as `ffmpeg` writes them into a pipe.
//!
//! Called by `media`. Follows the markers of ITU-T T.81 Annex B, so that a thumbnail inside an application segment ends no picture. Leaves
//! out decoding: what is between the markers is not looked at.

use bytes::Bytes;

use crate::cli::connect::MAX_MESSAGE_BYTES;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// Takes bytes as they come and gives back whole pictures.
#[derive(Debug, Default)]
pub struct Splitter {
    /// From the start of the picture that is not complete yet.
    buffer: Vec<u8>,
    /// What lies before is understood.
    at: usize,
    place: Place,
}

#[derive(Debug, Default, Clone, Copy)]
enum Place {
    /// Looking for the start of a picture.
    #[default]
    Between,
    /// At a marker.
    Marker,
    /// In the coded data of a scan, in which 0xff is followed by 0, a restart marker, or the marker that ends the scan.
    Scan,
}

/// A picture is larger than a message may be, so it cannot be sent.
#[derive(Debug, PartialEq)]
pub struct TooLarge;

impl Splitter {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole picture, or nothing until more bytes have come. A picture that another one interrupts is left out.
    ///
    /// # Errors
    /// [`TooLarge`], once more than [`MAX_MESSAGE_BYTES`] have come without an end.
    pub fn next(&mut self) -> Result<Option<Bytes>, TooLarge> {
        let picture = self.scan();
        if picture.is_none() && self.buffer.len() > MAX_MESSAGE_BYTES {
            return Err(TooLarge);
        }
        Ok(picture)
    }

    fn scan(&mut self) -> Option<Bytes> {
        loop {
            match self.place {
                Place::Between => {
                    let Some(start) = self.buffer.windows(2).position(|pair| pair == [0xff, START_OF_IMAGE]) else {
                        // The last byte may be the first half of a marker.
                        let kept = self.buffer.len().saturating_sub(1);
                        self.buffer.drain(..kept);
                        return None;
                    };
                    self.buffer.drain(..start);
                    (self.at, self.place) = (2, Place::Marker);
                }
                Place::Marker => match *self.buffer.get(self.at..self.at + 2)? {
                    [0xff, END_OF_IMAGE] => {
                        let rest = self.buffer.split_off(self.at + 2);
                        self.place = Place::Between;
                        return Some(std::mem::replace(&mut self.buffer, rest).into());
                    }
                    // The picture before was cut off.
                    [0xff, START_OF_IMAGE] => self.give_up(),
                    // A fill byte before a marker.
                    [0xff, 0xff] => self.at += 1,
                    // Markers without a segment.
                    [0xff, 0x01 | 0xd0..=0xd7] => self.at += 2,
                    [0xff, marker] => {
                        let length = self.buffer.get(self.at + 2..self.at + 4)?;
                        self.at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                        if marker == START_OF_SCAN {
                            self.place = Place::Scan;
                        }
                    }
                    _ => self.give_up(),
                },
                Place::Scan => {
                    let unread = self.buffer.get(self.at..)?;
                    let Some(offset) = unread.iter().position(|&byte| byte == 0xff) else {
                        self.at = self.buffer.len();
                        return None;
                    };
                    self.at += offset;
                    match *self.buffer.get(self.at + 1)? {
                        0 | 0xd0..=0xd7 => self.at += 2,
                        0xff => self.at += 1,
                        _ => self.place = Place::Marker,
                    }
                }
            }
        }
    }

    /// Leaves out what came so far and looks for the next start from here on.
    fn give_up(&mut self) {
        self.buffer.drain(..self.at);
        self.place = Place::Between;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An application segment with a whole thumbnail in it, a scan with a stuffed byte and a restart marker, a second scan, the end.
    fn picture(number: u8) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1, 0, 8, 0xff, 0xd8, 0xff, 0xd9, number, 0];
        bytes.extend([0xff, 0xda, 0, 4, 1, 2, 7, 0xff, 0, 0xff, 0xd3, 9]);
        bytes.extend([0xff, 0xff, 0xc4, 0, 3, 5, 0xff, 0xda, 0, 3, 1, 0xff, 0, number, 0xff, 0xd9]);
        bytes
    }

    fn split(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
        let (mut splitter, mut found) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(&chunk);
            while let Some(picture) = splitter.next().unwrap() {
                found.push(picture.to_vec());
            }
        }
        found
    }

    #[test]
    fn pictures_are_cut_wherever_the_borders_of_the_chunks_lie() {
        let pictures: Vec<Vec<u8>> = (0..5).map(picture).collect();
        let stream = pictures.concat();
        for size in 1..=stream.len() {
            assert_eq!(split(stream.chunks(size).map(<[u8]>::to_vec)), pictures, "chunks of {size}");
        }
    }

    #[test]
    fn bytes_between_pictures_and_a_picture_that_is_cut_off_are_left_out() {
        let mut stream = vec![0, 1, 0xff, 2];
        stream.extend(picture(1));
        stream.extend([0, 0, 0xff]);
        // Cut off within its scan.
        stream.extend(&picture(2)[..22]);
        stream.extend(picture(3));
        stream.extend(&picture(4)[..30]);
        for size in [1, 7, stream.len()] {
            assert_eq!(split(stream.chunks(size).map(<[u8]>::to_vec)), [picture(1), picture(3)], "chunks of {size}");
        }
    }

    #[test]
    fn a_picture_without_end_is_refused_when_no_message_could_hold_it() {
        let mut splitter = Splitter::default();
        splitter.push(&[0xff, 0xd8, 0xff, 0xda, 0, 2]);
        splitter.push(&vec![1; MAX_MESSAGE_BYTES - 6]);
        assert_eq!(splitter.next(), Ok(None));
        splitter.push(&[1]);
        assert_eq!(splitter.next(), Err(TooLarge));
    }

    #[test]
    fn bytes_that_are_no_pictures_are_not_kept() {
        let mut splitter = Splitter::default();
        for _ in 0..100 {
            splitter.push(&[7; 1000]);
            assert_eq!(splitter.next(), Ok(None));
        }
        assert!(splitter.buffer.len() <= 1);
    }
}
