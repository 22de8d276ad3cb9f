//! What is on a drawn page or photograph and where, as JSON beside the picture.
//!
//! Made by `document`, moved into the perspective of a photograph by `photograph`, written by `vouch specimen`. The keys are stable. Every
//! quadrilateral has its corners clockwise from the top left of what it bounds as a reader sees it, in *pixel areas* of the picture
//! beside it, origin top left; of a document that lies upside down the first corner is therefore near the bottom right.

use serde::Serialize;

use crate::document::locate::Quad;
use crate::imaging::warp::Perspective;

/// A document of one or two pages, as its file says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentTruth {
    /// `td1`, `td2`, `td3`, `mrv-a`, `mrv-b`, `licence` or `letter`.
    pub kind: &'static str,
    pub seed: u64,
    /// Front first.
    pub pages: Vec<FileTruth>,
}

/// A page and the file that shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileTruth {
    /// Name of the picture, in the same folder.
    pub file: String,
    #[serde(flatten)]
    pub page: PageTruth,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PageTruth {
    /// `front` or `back`.
    pub side: &'static str,
    pub size_px: [u32; 2],
    /// Outline of the document; for round corners the corners of the rectangle around it. Of a photograph, corners may lie outside.
    pub document_quad: Quad,
    /// What is printed for people to read, from top to bottom.
    pub fields: Vec<FieldTruth>,
    pub mrz: Option<MrzTruth>,
    pub barcode: Option<BarcodeTruth>,
    /// The place of the portrait, without the small second one.
    pub portrait_quad: Option<Quad>,
    /// `null` for a page as it was drawn.
    pub capture: Option<CaptureTruth>,
}

/// A printed value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldTruth {
    /// As the fields that `vouch document` reads, such as `birth_date`.
    pub name: &'static str,
    /// Dates as `YYYY-MM-DD`, States as codes of three letters, sex as `M`, `F` or `X`.
    pub value: String,
    /// Letter by letter as printed.
    pub printed: String,
    /// From the top of the capitals to the baseline.
    pub quad: Quad,
}

/// The machine-readable zone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MrzTruth {
    /// `TD1`, `TD2`, `TD3`, `MRV-A` or `MRV-B`.
    pub format: &'static str,
    pub lines: Vec<String>,
    /// One for each line, from the left of the first character's cell to the right of the last one's; cells of a line have one width.
    pub quads: Vec<Quad>,
}

/// A barcode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BarcodeTruth {
    /// `PDF417`.
    pub symbology: &'static str,
    pub text: String,
    /// Of the symbol without its quiet zone.
    pub quad: Quad,
}

/// How a photograph was taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaptureTruth {
    /// 0 to 4.
    pub level: u8,
    /// How far the top of the document is turned clockwise.
    pub angle_deg: f64,
    /// Share of the picture's area that is covered by the document.
    pub coverage: f64,
    /// Of the four corners of the document those that are in the picture.
    pub corners_inside: u8,
    /// Height of the capitals of the MRZ, about.
    pub mrz_capital_px: f64,
    pub blur_px: f64,
    pub motion_px: f64,
    /// Deviation at mid-grey, in grey steps.
    pub noise: f64,
    pub jpeg_quality: u8,
    /// A picture of a screen that shows the document.
    pub is_screen: bool,
    pub fingers: u8,
    pub creases: u8,
}

/// To hundredths of a pixel: more would be noise in the file.
pub fn rounded(quad: Quad) -> Quad {
    quad.map(|corner| corner.map(|part| (part * 100.0).round() / 100.0))
}

impl PageTruth {
    /// The same page seen through a map from its pixel areas to those of a picture.
    pub fn seen(&self, map: &Perspective, size_px: [u32; 2], capture: CaptureTruth) -> Self {
        let through = |quad: &Quad| rounded(quad.map(|corner| map.apply(corner)));
        let mut seen = self.clone();
        seen.size_px = size_px;
        seen.document_quad = through(&self.document_quad);
        seen.fields.iter_mut().for_each(|field| field.quad = through(&field.quad));
        if let Some(mrz) = &mut seen.mrz {
            mrz.quads.iter_mut().for_each(|quad| *quad = through(quad));
        }
        if let Some(barcode) = &mut seen.barcode {
            barcode.quad = through(&barcode.quad);
        }
        seen.portrait_quad = self.portrait_quad.as_ref().map(through);
        seen.capture = Some(capture);
        seen
    }

    /// Every quadrilateral, with what it bounds.
    pub fn quads(&self) -> impl Iterator<Item = (&'static str, &Quad)> {
        let lines = self.mrz.iter().flat_map(|mrz| &mrz.quads).map(|quad| ("mrz", quad));
        std::iter::once(("document", &self.document_quad))
            .chain(self.fields.iter().map(|field| (field.name, &field.quad)))
            .chain(lines)
            .chain(self.barcode.iter().map(|barcode| ("barcode", &barcode.quad)))
            .chain(self.portrait_quad.iter().map(|quad| ("portrait", quad)))
    }
}
