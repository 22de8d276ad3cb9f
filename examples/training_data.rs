//! Writes what the models of `models/mrz` are trained on to standard output, without end unless told otherwise.
//!
//! `cargo run --release --example training_data -- strips --seed SEED [--count COUNT] [--font FILE]...`: lines of zones, in records of
//! one size: 48 bytes of text padded with zeros, a byte for the level of degradation, two bytes (little-endian) for the width of the
//! strip, 32 rows of 640 grey bytes of which the first so many are the strip and the others zero. `-- sheet FILE --seed SEED`: 40 of
//! them in a picture, to look at.
//!
//! `-- thumbnails --seed SEED [--count COUNT]`: small photographs of documents, in records of 136 bytes and the picture: width and height
//! (two bytes each, little-endian), a byte each for the level of degradation, the framing, whether there is a document, and the number of
//! lines of its zone; 32 little-endian floats of four bytes, the corners of the document and of up to three lines; red, green and blue,
//! row by row. `-- thumbnail-sheet FILE --seed SEED`: 40 of them, with their corners and lines.

use std::io::{BufWriter, ErrorKind, Write};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use vouch::document::ocr::strip::{HEIGHT_PX, MAX_WIDTH_PX};
use vouch::document::page_locator::LONG_SIDE_PX;
use vouch::imaging::Image;
use vouch::specimen::font::Font;
use vouch::specimen::photograph::thumbnails::{Thumbnail, Thumbnails};
use vouch::specimen::strips::{Sample, Strips};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Lines of machine-readable zones
    Strips {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        count: Option<usize>,
        /// A font beside OCR-B, repeatable
        #[arg(long)]
        font: Vec<std::path::PathBuf>,
    },
    /// 40 lines in one picture
    Sheet {
        file: std::path::PathBuf,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        font: Vec<std::path::PathBuf>,
    },
    /// Small photographs of documents
    Thumbnails {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        count: Option<usize>,
    },
    /// 40 small photographs in one picture
    ThumbnailSheet {
        file: std::path::PathBuf,
        #[arg(long)]
        seed: u64,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().what {
        What::Strips { seed, count, font } => {
            write(Strips::new(seed, fonts(&font)?).map(|strip| record(&strip)), count)
        }
        What::Sheet { file, seed, font } => sheet(&file, Strips::new(seed, fonts(&font)?)),
        What::Thumbnails { seed, count } => write(Thumbnails::new(seed).map(|small| thumbnail_record(&small)), count),
        What::ThumbnailSheet { file, seed } => thumbnail_sheet(&file, Thumbnails::new(seed)),
    }
}

fn fonts(files: &[std::path::PathBuf]) -> anyhow::Result<Vec<Font>> {
    let read = |file: &std::path::PathBuf| {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Font::parse(&bytes).with_context(|| format!("{} is no font", file.display()))
    };
    files.iter().map(read).collect()
}

fn write(records: impl Iterator<Item = Vec<u8>>, count: Option<usize>) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    for record in records.take(count.unwrap_or(usize::MAX)) {
        match out.write_all(&record) {
            // Whoever trains has had enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
    }
    Ok(out.flush()?)
}

fn record(sample: &Sample) -> Vec<u8> {
    let mut record = vec![0; 48 + 1 + 2];
    record[..sample.text.len()].copy_from_slice(sample.text.as_bytes());
    record[48] = sample.level;
    record[49..].copy_from_slice(&(sample.strip.width as u16).to_le_bytes());
    for row in sample.strip.grey.chunks_exact(sample.strip.width) {
        record.extend(row);
        record.extend(std::iter::repeat_n(0, MAX_WIDTH_PX - row.len()));
    }
    record
}

fn sheet(file: &std::path::Path, strips: Strips) -> anyhow::Result<()> {
    let mut grey = vec![0u8; MAX_WIDTH_PX * 40 * (HEIGHT_PX + 4)];
    for (index, sample) in strips.take(40).enumerate() {
        println!("{index:2} level {} {}", sample.level, sample.text);
        for (row, pixels) in sample.strip.grey.chunks_exact(sample.strip.width).enumerate() {
            let at = (index * (HEIGHT_PX + 4) + row) * MAX_WIDTH_PX;
            grey[at..at + pixels.len()].copy_from_slice(pixels);
        }
    }
    let Some(picture) = image::GrayImage::from_raw(MAX_WIDTH_PX as u32, 40 * (HEIGHT_PX as u32 + 4), grey) else {
        bail!("the sheet has the wrong size");
    };
    Ok(picture.save(file)?)
}

fn thumbnail_record(small: &Thumbnail) -> Vec<u8> {
    const LINES: usize = 3;
    let mut record = Vec::with_capacity(136 + small.image.rgb.len());
    record.extend((small.image.width as u16).to_le_bytes());
    record.extend((small.image.height as u16).to_le_bytes());
    let lines = small.lines.len().min(LINES);
    record.extend([small.level, small.framing as u8, u8::from(small.document.is_some()), lines as u8]);
    let quads = small.document.iter().chain(&small.lines[..lines]);
    record.extend(quads.flatten().flatten().flat_map(|&part| (part as f32).to_le_bytes()));
    // Without a document there are no lines either: what is missing is at the end.
    record.resize(8 + (1 + LINES) * 32, 0);
    record.extend(&*small.image.rgb);
    record
}

fn thumbnail_sheet(file: &std::path::Path, thumbnails: Thumbnails) -> anyhow::Result<()> {
    const COLUMNS: u32 = 8;
    let side = LONG_SIDE_PX;
    let mut sheet = image::RgbImage::new(COLUMNS * side, 5 * side);
    for (index, small) in (0..40).zip(thumbnails) {
        println!("{index:2} level {} {:?}", small.level, small.framing);
        let at = [index % COLUMNS * side, index / COLUMNS * side];
        let Image { width, height, .. } = small.image;
        for (y, row) in (0..height).zip(small.image.rgb.chunks_exact(width as usize * 3)) {
            for (x, pixel) in (0..width).zip(row.chunks_exact(3)) {
                sheet.put_pixel(at[0] + x, at[1] + y, image::Rgb([pixel[0], pixel[1], pixel[2]]));
            }
        }
        for (quad, rgb) in small
            .document
            .iter()
            .map(|quad| (quad, [255, 0, 0]))
            .chain(small.lines.iter().map(|quad| (quad, [0, 160, 0])))
        {
            for (corner, from) in quad.iter().enumerate() {
                let to = quad[(corner + 1) % 4];
                for step in 0..400 {
                    let share = f64::from(step) / 400.0;
                    let [x, y] = [0, 1].map(|axis: usize| from[axis] + (to[axis] - from[axis]) * share);
                    if (0.0..f64::from(width)).contains(&x) && (0.0..f64::from(height)).contains(&y) {
                        // The upper side is blue.
                        let rgb = if corner == 0 { [0, 0, 255] } else { rgb };
                        sheet.put_pixel(at[0] + x as u32, at[1] + y as u32, image::Rgb(rgb));
                    }
                }
            }
        }
    }
    Ok(sheet.save(file)?)
}
