//! HEIC through the host's libheif, if there is one.
//!
//! Called by `decode`. HEVC decoders are not shipped with vouch (patents, LGPL), so the library is looked for when the first
//! HEIC file arrives, in a decoder process before (`decoders`), and its absence is an ordinary error. Only the primary picture is read, as 8-bit RGB; libheif itself
//! applies the file's rotation and mirroring, so the EXIF orientation of a HEIC file must not be applied again. The few
//! functions used have kept their C interface since libheif 1.4 (`libheif/heif.h`); tested with Debian 12's 1.15.1.
//!
//! What is left out: the size is checked as the file declares it. A hostile HEVC stream may hold a larger frame than declared;
//! libde265 then takes memory for that frame before the difference is noticed.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::Image;
use super::decode::{DecodeError, Format, Found, Limit};

/// Names under which the library is looked for, in the dynamic linker's way.
const LIBRARY: &str = "libheif.so.1";

// Values of libheif's enumerations.
const COLORSPACE_RGB: c_int = 1;
const CHROMA_INTERLEAVED_RGB: c_int = 10;
const CHANNEL_INTERLEAVED: c_int = 10;
const ERROR_UNSUPPORTED_FILETYPE: c_int = 3;
const ERROR_UNSUPPORTED_FEATURE: c_int = 4;
const ERROR_MEMORY: c_int = 6;
const SUBERROR_END_OF_DATA: c_int = 100;
const SUBERROR_SECURITY_LIMIT_EXCEEDED: c_int = 1000;

/// `struct heif_error`.
#[repr(C)]
struct HeifError {
    code: c_int,
    subcode: c_int,
    message: *const c_char,
}

type Opaque = *mut c_void;

/// The functions used, with the library that keeps them valid.
struct LibHeif {
    context_alloc: unsafe extern "C" fn() -> Opaque,
    context_free: unsafe extern "C" fn(Opaque),
    set_max_decoding_threads: unsafe extern "C" fn(Opaque, c_int),
    read_from_memory: unsafe extern "C" fn(Opaque, *const c_void, usize, *const c_void) -> HeifError,
    get_primary_image_handle: unsafe extern "C" fn(Opaque, *mut Opaque) -> HeifError,
    handle_release: unsafe extern "C" fn(Opaque),
    handle_get_width: unsafe extern "C" fn(Opaque) -> c_int,
    handle_get_height: unsafe extern "C" fn(Opaque) -> c_int,
    decode_image: unsafe extern "C" fn(Opaque, *mut Opaque, c_int, c_int, *const c_void) -> HeifError,
    image_release: unsafe extern "C" fn(Opaque),
    image_get_width: unsafe extern "C" fn(Opaque, c_int) -> c_int,
    image_get_height: unsafe extern "C" fn(Opaque, c_int) -> c_int,
    image_get_bits: unsafe extern "C" fn(Opaque, c_int) -> c_int,
    image_get_plane: unsafe extern "C" fn(Opaque, c_int, *mut c_int) -> *const u8,
    /// Never unloaded: libheif and its plug-ins keep thread-local state.
    _library: Library,
}

impl LibHeif {
    fn load() -> Option<Self> {
        // SAFETY: loading runs the initialisers of the host's own library, the same as linking to it would. Each symbol is
        // given the type that `libheif/heif.h` declares for it.
        unsafe {
            let library = Library::open(Some(LIBRARY), RTLD_NOW | RTLD_LOCAL).ok()?;
            macro_rules! function {
                ($name:literal) => {
                    *library.get($name).ok()?
                };
            }
            Some(Self {
                context_alloc: function!(b"heif_context_alloc\0"),
                context_free: function!(b"heif_context_free\0"),
                set_max_decoding_threads: function!(b"heif_context_set_max_decoding_threads\0"),
                read_from_memory: function!(b"heif_context_read_from_memory_without_copy\0"),
                get_primary_image_handle: function!(b"heif_context_get_primary_image_handle\0"),
                handle_release: function!(b"heif_image_handle_release\0"),
                handle_get_width: function!(b"heif_image_handle_get_width\0"),
                handle_get_height: function!(b"heif_image_handle_get_height\0"),
                decode_image: function!(b"heif_decode_image\0"),
                image_release: function!(b"heif_image_release\0"),
                image_get_width: function!(b"heif_image_get_width\0"),
                image_get_height: function!(b"heif_image_get_height\0"),
                image_get_bits: function!(b"heif_image_get_bits_per_pixel_range\0"),
                image_get_plane: function!(b"heif_image_get_plane_readonly\0"),
                _library: library,
            })
        }
    }
}

/// The library, looked for once per process.
fn libheif() -> Option<&'static LibHeif> {
    static LIBHEIF: OnceLock<Option<LibHeif>> = OnceLock::new();
    LIBHEIF.get_or_init(LibHeif::load).as_ref()
}

/// True if HEIC files can be read on this host.
pub fn is_available() -> bool {
    libheif().is_some()
}

/// Loads the library with its plug-ins, for a process that can open nothing later. True if HEIC files can be read.
pub fn warm_up() -> bool {
    let Some(heif) = libheif() else { return false };
    // libheif loads its plug-ins with the first context.
    // SAFETY: made and released at once, in the order that heif.h asks for.
    drop(Owned { object: unsafe { (heif.context_alloc)() }, release: heif.context_free });
    true
}

/// A libheif object, released when it goes out of scope.
struct Owned {
    object: Opaque,
    release: unsafe extern "C" fn(Opaque),
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: `object` came from the allocating counterpart of `release` and is released only here. Null is allowed.
        unsafe { (self.release)(self.object) }
    }
}

/// Decodes the primary picture of a HEIC file, upright. `check_size` is asked with width and height before it is decoded.
///
/// # Errors
/// `UnsupportedFormat` without libheif or for a file that it cannot read, whatever `check_size` returns, `Truncated`, `Corrupt`.
pub fn decode(bytes: &[u8], check_size: impl Fn(u32, u32) -> Result<(), DecodeError>) -> Result<Image, DecodeError> {
    let heif = libheif().ok_or(DecodeError::UnsupportedFormat { found: Found::HeicWithoutLibrary })?;
    let corrupt = DecodeError::Corrupt(Format::Heic);

    // SAFETY (all blocks of this function): the objects are used between their creation and their release, in the order that
    // heif.h asks for, on one thread; `bytes` outlives the context, which is dropped at the end of the function. Locals are
    // dropped in reverse order, so the picture goes before its handle and the handle before the context.
    let context = Owned { object: unsafe { (heif.context_alloc)() }, release: heif.context_free };
    if context.object.is_null() {
        return Err(corrupt);
    }
    // No threads of its own: how many cores a request may use is not libheif's to decide.
    unsafe { (heif.set_max_decoding_threads)(context.object, 0) };
    check(unsafe { (heif.read_from_memory)(context.object, bytes.as_ptr().cast(), bytes.len(), null()) })?;

    let mut object = null_mut();
    check(unsafe { (heif.get_primary_image_handle)(context.object, &mut object) })?;
    let handle = Owned { object, release: heif.handle_release };
    let width = u32::try_from(unsafe { (heif.handle_get_width)(handle.object) }).map_err(|_| corrupt)?;
    let height = u32::try_from(unsafe { (heif.handle_get_height)(handle.object) }).map_err(|_| corrupt)?;
    check_size(width, height)?;

    let mut object = null_mut();
    let decoded =
        unsafe { (heif.decode_image)(handle.object, &mut object, COLORSPACE_RGB, CHROMA_INTERLEAVED_RGB, null()) };
    check(decoded)?;
    let picture = Owned { object, release: heif.image_release };
    let real_width = u32::try_from(unsafe { (heif.image_get_width)(picture.object, CHANNEL_INTERLEAVED) });
    let real_height = u32::try_from(unsafe { (heif.image_get_height)(picture.object, CHANNEL_INTERLEAVED) });
    let (Ok(width), Ok(height)) = (real_width, real_height) else {
        return Err(corrupt);
    };
    check_size(width, height)?;

    let mut stride: c_int = 0;
    let plane = unsafe { (heif.image_get_plane)(picture.object, CHANNEL_INTERLEAVED, &mut stride) };
    let bits = unsafe { (heif.image_get_bits)(picture.object, CHANNEL_INTERLEAVED) };
    let stride = usize::try_from(stride).map_err(|_| corrupt)?;
    let row_bytes = width as usize * 3;
    if plane.is_null() || bits != 8 || stride < row_bytes || width == 0 || height == 0 {
        return Err(corrupt);
    }
    Ok(Image::build(width, height, |rgb| {
        for (y, row) in rgb.chunks_exact_mut(row_bytes).enumerate() {
            // SAFETY: the plane has `height` rows that lie `stride` bytes apart and hold at least `row_bytes` bytes each.
            row.copy_from_slice(unsafe { std::slice::from_raw_parts(plane.add(y * stride), row_bytes) });
        }
    }))
}

fn check(error: HeifError) -> Result<(), DecodeError> {
    match (error.code, error.subcode) {
        (0, _) => Ok(()),
        (_, SUBERROR_END_OF_DATA) => Err(DecodeError::Truncated(Format::Heic)),
        // libheif's own limits lie above ours; it does not tell which one was hit.
        (_, SUBERROR_SECURITY_LIMIT_EXCEEDED) => Err(DecodeError::TooLarge { limit: Limit::SidePx, allowed: 32_768 }),
        (ERROR_UNSUPPORTED_FILETYPE | ERROR_UNSUPPORTED_FEATURE, _) => {
            Err(DecodeError::UnsupportedFormat { found: Found::HeicOfOtherKind })
        }
        (ERROR_MEMORY, _) => Err(DecodeError::OutOfMemory),
        _ => Err(DecodeError::Corrupt(Format::Heic)),
    }
}
