//! `vouch specimen`: writes documents that do not exist, and photographs of them, to try an integration with.
//!
//! Called by `cli`. Needs no daemon; all drawing is done in [`crate::specimen`]. The same command writes the same bytes, so files that are
//! there already are written again without asking. What is on a picture, and where, is written beside it as JSON
//! ([`crate::specimen::truth`]).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _};

use super::connect::{self, Failure};
use crate::imaging::Image;
use crate::imaging::decode::{DecodeOptions, decode};
use crate::specimen::canvas::Canvas;
use crate::specimen::document::{Kind, MAX_DPI, MIN_DPI, Options, specimen};
use crate::specimen::photograph::{MAX_SIDE_PX, MIN_SIDE_PX, Shot, photograph};
use crate::specimen::truth::{DocumentTruth, FileTruth};

/// A cell of the sheet of all pictures.
const CELL_PX: [f32; 2] = [480.0, 340.0];

/// The sheet has at most so many cells; pictures beyond them are left out.
const MAX_CELLS: usize = 400;

#[derive(Debug, Args)]
pub struct SpecimenArgs {
    /// td1, td2, td3, mrv-a, mrv-b, licence, letter, or all of them
    #[arg(long, value_name = "KIND", default_value = "td3", value_parser = parse_kinds)]
    kind: Kinds,
    /// Number that decides over everything drawn; the documents of one seed have one holder
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Documents to draw, with this seed and those after it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Write photographs instead of pages, from 0 (a scan) over 2 (what people send in) to 4 (just readable)
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=4))]
    photo: Option<u8>,
    /// Size of photographs in pixels
    #[arg(long, value_name = "WxH", default_value = "1280x720", value_parser = parse_size)]
    size: [u32; 2],
    /// A picture of a face in place of the drawn portrait
    #[arg(long, value_name = "FILE")]
    portrait: Option<PathBuf>,
    /// Dots to an inch of pages
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(i64::from(MIN_DPI)..=i64::from(MAX_DPI)))]
    dpi: u32,
    /// Write one picture that shows them all, the first 400, beside
    #[arg(long)]
    sheet: bool,
    /// Folder to write to; made if it is not there
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// What `--kind` stands for.
#[derive(Debug, Clone)]
struct Kinds(Vec<Kind>);

/// Writes documents and prints the names of the files.
///
/// # Errors
/// [`Failure::File`] or [`Failure::BadInput`] if the portrait cannot be read, [`Failure::Output`] if a file cannot be written.
pub fn run(args: &SpecimenArgs) -> Result<u8, Failure> {
    let portrait = args.portrait.as_deref().map(read_portrait).transpose()?;
    let options = Options { portrait, dpi: args.dpi };
    std::fs::create_dir_all(&args.out).map_err(|error| unwritten(&args.out, &error))?;
    let mut cells: Vec<Image> = Vec::new();
    for seed in (args.seed..=u64::MAX).take(args.count as usize) {
        for kind in &args.kind.0 {
            let made = specimen(*kind, seed, &options);
            let level = args.photo.map_or(String::new(), |level| format!("-photo{level}"));
            let mut files = Vec::new();
            for page in &made.pages {
                let side = if made.pages.len() > 1 { format!("-{}", page.truth.side) } else { String::new() };
                let stem = format!("{}-{seed}{level}{side}", kind.name());
                let (file, bytes, truth, image) = match args.photo {
                    Some(level) => {
                        let taken = photograph(page, &Shot { seed, level, size_px: args.size });
                        let image = if args.sheet { taken.image() } else { page.image.clone() };
                        (format!("{stem}.jpg"), taken.jpeg, taken.truth, image)
                    }
                    None => (format!("{stem}.png"), png(&page.image), page.truth.clone(), page.image.clone()),
                };
                write(&args.out, &file, &bytes)?;
                if args.sheet && cells.len() < MAX_CELLS {
                    cells.push(cell(&image));
                }
                files.push(FileTruth { file, page: truth });
            }
            let truth = DocumentTruth { kind: kind.name(), seed, pages: files };
            // Texts, numbers and nothing else.
            let text = serde_json::to_string_pretty(&truth).expect("the truth can be written");
            write(&args.out, &format!("{}-{seed}{level}.json", kind.name()), format!("{text}\n").as_bytes())?;
        }
    }
    if args.sheet {
        write(&args.out, "sheet.png", &png(&sheet(&cells)))?;
    }
    Ok(0)
}

fn read_portrait(path: &Path) -> Result<Image, Failure> {
    let data = connect::read_picture(path)?;
    let picture = decode(&data, &DecodeOptions::default());
    Ok(picture.map_err(|error| Failure::BadInput(format!("{}: {error}", path.display())))?.image)
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Output(std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Writes a file and prints its name.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).map_err(|error| unwritten(&path, &error))?;
    writeln!(std::io::stdout(), "{}", path.display())?;
    Ok(())
}

fn png(image: &Image) -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::Adaptive);
    // The bytes fill the size, and memory takes any file.
    encoder
        .write_image(&image.rgb, image.width, image.height, ExtendedColorType::Rgb8)
        .expect("a picture fits into a PNG");
    file
}

/// A picture made small enough for the sheet.
fn cell(image: &Image) -> Image {
    let [width, height] = [image.width, image.height].map(|side| side as f32);
    let scale = (CELL_PX[0] / width).min(CELL_PX[1] / height);
    let mut canvas = Canvas::new(CELL_PX, 1.0, [70, 70, 74]);
    let [width, height] = [width * scale - 6.0, height * scale - 6.0];
    canvas.picture(image, [(CELL_PX[0] - width) / 2.0, (CELL_PX[1] - height) / 2.0, width, height], 1.0);
    canvas.into_image()
}

/// All cells in about as many rows as columns.
fn sheet(cells: &[Image]) -> Image {
    let columns = (1..).find(|columns| columns * columns >= cells.len()).unwrap_or(1).max(1);
    let rows = cells.len().div_ceil(columns).max(1);
    let [width, height] = CELL_PX.map(|side| side as usize);
    Image::build((columns * width) as u32, (rows * height) as u32, |rgb| {
        for (index, cell) in cells.iter().enumerate() {
            let (left, top) = (index % columns * width, index / columns * height);
            for (row, line) in cell.rgb.chunks_exact(width * 3).enumerate() {
                let at = ((top + row) * columns * width + left) * 3;
                rgb[at..at + width * 3].copy_from_slice(line);
            }
        }
    })
}

fn parse_kinds(text: &str) -> Result<Kinds, String> {
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| text == "all" || text == kind.name()).collect();
    if kinds.is_empty() {
        return Err(format!("not one of all, {}", Kind::ALL.map(Kind::name).join(", ")));
    }
    Ok(Kinds(kinds))
}

/// `1280x720`.
fn parse_size(text: &str) -> Result<[u32; 2], String> {
    let side = |text: &str| text.parse().ok().filter(|side| (MIN_SIDE_PX..=MAX_SIDE_PX).contains(side));
    let parts = text.split_once('x').and_then(|(width, height)| Some([side(width)?, side(height)?]));
    parts.ok_or_else(|| format!("not a size in the form 1280x720, with sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_kinds_are_read_or_refused() {
        assert_eq!(parse_size("1280x720"), Ok([1280, 720]));
        for wrong in ["1280", "1280x", "0x720", "1280x9000", "-5x20", "12 x 30"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_kinds("mrv-b").unwrap().0, [Kind::MrvB]);
        assert_eq!(parse_kinds("all").unwrap().0, Kind::ALL);
        assert!(parse_kinds("td4").is_err());
    }

    #[test]
    fn the_sheet_has_a_cell_for_each_picture() {
        let grey = cell(&Image::build(200, 100, |rgb| rgb.fill(130)));
        let all = sheet(&vec![grey; 5]);
        assert_eq!([all.width, all.height], [3 * 480, 2 * 340]);
        assert_eq!((all.pixel(240, 170), all.pixel(480 * 2 + 240, 340 + 170)), ([130; 3], [0; 3]));
        assert_eq!(sheet(&[]).width, 480);
    }
}
