//! Writes what the models of `models/mrz` are trained on to standard output, without end unless told otherwise.
//!
//! `cargo run --release --example training_data -- strips --seed SEED [--count COUNT] [--font FILE]...`: lines of zones, in records of
//! one size: 48 bytes of text padded with zeros, a byte for the level of degradation, two bytes (little-endian) for the width of the
//! strip, 32 rows of 640 grey bytes of which the first so many are the strip and the others zero. `-- sheet FILE --seed SEED`: 40 of
//! them in a picture, to look at.

use std::io::{BufWriter, ErrorKind, Write};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use vouch::document::ocr::strip::{HEIGHT_PX, MAX_WIDTH_PX};
use vouch::specimen::font::Font;
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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().what {
        What::Strips { seed, count, font } => strips(Strips::new(seed, fonts(&font)?), count),
        What::Sheet { file, seed, font } => sheet(&file, Strips::new(seed, fonts(&font)?)),
    }
}

fn fonts(files: &[std::path::PathBuf]) -> anyhow::Result<Vec<Font>> {
    let read = |file: &std::path::PathBuf| {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Font::parse(&bytes).with_context(|| format!("{} is no font", file.display()))
    };
    files.iter().map(read).collect()
}

fn strips(strips: Strips, count: Option<usize>) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    for sample in strips.take(count.unwrap_or(usize::MAX)) {
        match out.write_all(&record(&sample)) {
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
