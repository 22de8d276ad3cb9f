//! Pieces of pixels that touch each other.
//!
//! Called by the finders of text.

/// Visits the pixels of `open`, rows of `width`, piece by piece; those of one piece touch each other, diagonally too. `visit` gets the number of the piece,
/// from 0 on in the order of their first pixels, and the pixel's index; the first of a piece lies in its top row. Closes what it visits;
/// each pixel is looked at a fixed number of times.
pub fn connected(open: &mut [bool], width: usize, mut visit: impl FnMut(usize, usize)) {
    let height = open.len().checked_div(width).unwrap_or(0);
    let mut pieces = 0;
    let mut stack = Vec::new();
    for start in 0..width * height {
        if !std::mem::take(&mut open[start]) {
            continue;
        }
        stack.push(start);
        while let Some(at) = stack.pop() {
            visit(pieces, at);
            let (x, y) = (at % width, at / width);
            for neighbour_y in y.saturating_sub(1)..(y + 2).min(height) {
                for neighbour_x in x.saturating_sub(1)..(x + 2).min(width) {
                    let neighbour = neighbour_y * width + neighbour_x;
                    if std::mem::take(&mut open[neighbour]) {
                        stack.push(neighbour);
                    }
                }
            }
        }
        pieces += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_that_touch_are_one_piece_and_the_border_does_not_wrap() {
        let picture = ["#..#", ".#..", "....", "#..#"];
        let mut open: Vec<bool> = picture.concat().chars().map(|pixel| pixel == '#').collect();
        let mut seen = Vec::new();
        connected(&mut open, 4, |piece, index| seen.push((piece, index)));
        // The first two touch by a corner; the others are pieces of their own, also those that follow each other in memory.
        assert_eq!(seen, [(0, 0), (0, 5), (1, 3), (2, 12), (3, 15)]);
        assert!(open.iter().all(|open| !open));
        connected(&mut [], 0, |_, _| unreachable!());
    }
}
