//! Finds regions that look like a PDF417 symbol.
//!
//! Called by the ladder of attempts beside it when the decoder has found no PDF417 by itself. A symbol is an area dense with edges
//! of which those across the bars outweigh those between rows about three to one, so its structure tensor is strong, of one
//! direction, and coherent; text, matrix codes and pictures are less of at least one of these. Source of the tensor: Bigun and
//! Granlund, "Optimal orientation detection of linear symmetry", ICCV 1987. Whether a region is a symbol is for the decoder to say.

use super::Luma;

/// Side of the squares over which gradients are summed, in pixels. Two to four modules of a symbol at a usual resolution.
const BLOCK_PX: usize = 8;

/// Pictures are searched at no more than this length of their longer side, in pixels: at 2000 a card that fills a 12-megapixel
/// photograph still has modules of more than two pixels.
const MAX_SIDE_PX: f64 = 2000.0;

/// Least mean squared gradient of a block, in squared grey values. Below it is noise, not print.
const MIN_ENERGY: f64 = 40.0;

/// Least energy of a block as a share of the energy that the strongest twentieth of the blocks exceeds.
const MIN_RELATIVE_ENERGY: f64 = 0.12;

/// Least coherence of a block, 0 for no direction and 1 for a single one. An ideal symbol has about 0.5, a matrix code 0.
const MIN_COHERENCE: f64 = 0.15;

/// Neighbouring blocks whose directions differ by more (cosine of twice the angle, here 25°) are of different things.
const MIN_AGREEMENT: f64 = 0.64;

/// Fewest blocks of a region.
const MIN_BLOCKS: usize = 12;

/// Most regions returned: a document has one or two symbols, and every region costs several runs of the decoder.
const MAX_REGIONS: usize = 3;

/// A turned rectangle in pixels of the picture searched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Region {
    pub center: [f64; 2],
    /// Direction of the rows, in radians, from −π/2 to π/2; y points down.
    pub angle: f64,
    /// Half the length along the rows and across them.
    pub half: [f64; 2],
}

/// Sums of squared gradients.
#[derive(Debug, Clone, Copy, Default)]
struct Tensor {
    xx: f64,
    yy: f64,
    xy: f64,
}

impl Tensor {
    fn add(&mut self, other: &Self) {
        self.xx += other.xx;
        self.yy += other.yy;
        self.xy += other.xy;
    }

    fn energy(&self) -> f64 {
        self.xx + self.yy
    }

    /// Coherence times the cosine and the sine of twice the direction.
    fn direction(&self) -> [f64; 2] {
        let energy = self.energy().max(f64::MIN_POSITIVE);
        [(self.xx - self.yy) / energy, 2.0 * self.xy / energy]
    }

    fn coherence(&self) -> f64 {
        let [cos, sin] = self.direction();
        cos.hypot(sin)
    }
}

/// Regions of a picture that may be PDF417 symbols, the strongest first.
pub(super) fn regions(picture: &Luma) -> Vec<Region> {
    let longest = f64::from(picture.width().max(picture.height()));
    let shrink = (MAX_SIDE_PX / longest).min(1.0);
    let shrunk;
    let searched = if shrink < 1.0 {
        shrunk = picture.scaled(shrink);
        &shrunk
    } else {
        picture
    };
    let (columns, rows) = (searched.width() as usize / BLOCK_PX, searched.height() as usize / BLOCK_PX);
    if columns < 2 || rows < 2 {
        return Vec::new();
    }
    let blocks = smooth(&tensors(searched, columns, rows), columns, rows);
    let mut energies: Vec<f64> = blocks.iter().map(Tensor::energy).collect();
    energies.sort_by(f64::total_cmp);
    let strong = energies.get(energies.len() * 19 / 20).copied().unwrap_or(0.0);
    let least = (strong * MIN_RELATIVE_ENERGY).max(MIN_ENERGY);
    let dense =
        |at: usize| blocks.get(at).is_some_and(|block| block.energy() > least && block.coherence() > MIN_COHERENCE);
    let mut seen: Vec<bool> = (0..blocks.len()).map(|at| !dense(at)).collect();
    let mut found: Vec<(f64, Region)> = Vec::new();
    for start in 0..blocks.len() {
        if seen[start] {
            continue;
        }
        let members = grow(&blocks, &mut seen, start, columns);
        if members.len() >= MIN_BLOCKS {
            found.push(enclose(&blocks, &members, columns, 1.0 / shrink));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.into_iter().take(MAX_REGIONS).map(|(_, region)| region).collect()
}

/// Mean gradient tensor of every block, by rows.
fn tensors(picture: &Luma, columns: usize, rows: usize) -> Vec<Tensor> {
    let (width, pixels) = (picture.width() as usize, picture.pixels());
    let mut blocks = vec![Tensor::default(); columns * rows];
    // Lines are read three at a time; the last line and column of pixels have no neighbour and are left out.
    for (y, lines) in pixels.windows(3 * width).step_by(width).enumerate() {
        let (above, line, below) = (&lines[..width], &lines[width..2 * width], &lines[2 * width..]);
        let row = (y + 1) / BLOCK_PX;
        if row >= rows {
            break;
        }
        for column in 0..columns {
            let block = &mut blocks[row * columns + column];
            let (mut xx, mut yy, mut xy) = (0i32, 0i32, 0i32);
            let start = (column * BLOCK_PX).max(1);
            for x in start..((column + 1) * BLOCK_PX).min(width - 1) {
                let gx = i32::from(line[x + 1]) - i32::from(line[x - 1]);
                let gy = i32::from(below[x]) - i32::from(above[x]);
                (xx, yy, xy) = (xx + gx * gx, yy + gy * gy, xy + gx * gy);
            }
            let share = 1.0 / (BLOCK_PX * BLOCK_PX) as f64;
            block.add(&Tensor { xx: f64::from(xx) * share, yy: f64::from(yy) * share, xy: f64::from(xy) * share });
        }
    }
    blocks
}

/// Mean over the three by three blocks around each.
fn smooth(blocks: &[Tensor], columns: usize, rows: usize) -> Vec<Tensor> {
    let mut smoothed = vec![Tensor::default(); blocks.len()];
    for row in 0..rows {
        for column in 0..columns {
            let (mut sum, mut count) = (Tensor::default(), 0.0);
            for y in row.saturating_sub(1)..(row + 2).min(rows) {
                for block in &blocks[y * columns + column.saturating_sub(1)..y * columns + (column + 2).min(columns)] {
                    sum.add(block);
                    count += 1.0;
                }
            }
            smoothed[row * columns + column] = Tensor { xx: sum.xx / count, yy: sum.yy / count, xy: sum.xy / count };
        }
    }
    smoothed
}

/// Collects the blocks connected with a first one whose directions change slowly.
fn grow(blocks: &[Tensor], seen: &mut [bool], start: usize, columns: usize) -> Vec<usize> {
    let mut members = vec![start];
    seen[start] = true;
    let mut next = 0;
    while let Some(&at) = members.get(next) {
        next += 1;
        let column = at % columns;
        let neighbours = [
            (column > 0).then(|| at - 1),
            (column + 1 < columns).then_some(at + 1),
            at.checked_sub(columns),
            Some(at + columns).filter(|below| *below < blocks.len()),
        ];
        let [cos, sin] = blocks[at].direction();
        for neighbour in neighbours.into_iter().flatten() {
            let [other_cos, other_sin] = blocks[neighbour].direction();
            let agreement = cos * other_cos + sin * other_sin;
            let length = blocks[at].coherence() * blocks[neighbour].coherence();
            if !seen[neighbour] && agreement >= MIN_AGREEMENT * length {
                seen[neighbour] = true;
                members.push(neighbour);
            }
        }
    }
    members
}

/// The rectangle around blocks in the direction of their common tensor, and its strength.
fn enclose(blocks: &[Tensor], members: &[usize], columns: usize, scale: f64) -> (f64, Region) {
    let mut sum = Tensor::default();
    for block in members.iter().filter_map(|at| blocks.get(*at)) {
        sum.add(block);
    }
    let [cos, sin] = sum.direction();
    let angle = sin.atan2(cos) / 2.0;
    let (along, down) = ([angle.cos(), angle.sin()], [-angle.sin(), angle.cos()]);
    let block = BLOCK_PX as f64 * scale;
    let extent = |axis: [f64; 2]| {
        let place = |at: &usize| {
            let (column, row) = (at % columns, at / columns);
            ((column as f64 + 0.5) * axis[0] + (row as f64 + 0.5) * axis[1]) * block
        };
        let mut places: Vec<f64> = members.iter().map(place).collect();
        places.sort_by(f64::total_cmp);
        // A few blocks that stick out are print next to the symbol.
        let cut = places.len() / 100;
        let low = places.get(cut).copied().unwrap_or(0.0);
        let high = places.get(places.len() - 1 - cut).copied().unwrap_or(0.0);
        ((low + high) / 2.0, (high - low) / 2.0 + block)
    };
    let ((u, half_u), (v, half_v)) = (extent(along), extent(down));
    let center = [u * along[0] + v * down[0], u * along[1] + v * down[1]];
    (sum.energy() * sum.coherence(), Region { center, angle, half: [half_u, half_v] })
}
