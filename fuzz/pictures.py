#!/usr/bin/env python3
"""Writes small pictures and PDF files as first inputs for the fuzz targets: pictures.py FOLDER, beside what `fuzz_seeds` writes.

Needs Pillow, and for HEIC pillow-heif. All is drawn here; no file shows a person.
"""

import io
import struct
import sys
import zlib
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 40, 24


def quadrants(mode="RGB"):
    """Four even fields: red, green, blue, yellow; a gradient in what is grey."""
    image = Image.new("RGB", (WIDTH, HEIGHT))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            field = (x >= WIDTH // 2, y >= HEIGHT // 2)
            colours = {(False, False): (220, 30, 30), (True, False): (30, 200, 40), (False, True): (20, 40, 210), (True, True): (230, 220, 20)}
            image.putpixel((x, y), colours[field])
    return image.convert(mode)


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(extra):
    """A PNG with further chunks behind its header."""
    png = encoded(quadrants(), format="PNG")
    return png[:33] + extra + png[33:]


def pictures():
    rgb = quadrants()
    yield "jpeg-420", encoded(rgb, format="JPEG", quality=85)
    yield "jpeg-444", encoded(rgb, format="JPEG", quality=85, subsampling=0)
    yield "jpeg-progressive", encoded(rgb, format="JPEG", quality=85, progressive=True)
    yield "jpeg-restart", encoded(rgb, format="JPEG", quality=85, restart_marker_blocks=2)
    yield "jpeg-grey", encoded(quadrants("L"), format="JPEG", quality=85)
    yield "jpeg-cmyk", encoded(quadrants("CMYK"), format="JPEG", quality=85)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "jpeg-exif", encoded(rgb, format="JPEG", quality=85, exif=exif)
    for mode in ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"]:
        yield f"png-{mode.replace(';', '-')}", encoded(rgb.convert("I").convert(mode) if mode == "I;16" else quadrants(mode), format="PNG")
    yield "png-exif", encoded(rgb, format="PNG", exif=exif)
    # What a reader may expand: a profile and a text of much more than they are long.
    yield "png-profile", png_with(chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(200_000), 9)))
    yield "png-text", png_with(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000), 9)))
    yield "png-international", png_with(chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(200_000), 9)))
    header = b"IHDR" + struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 1)
    passes = b"".join(b"\0" + bytes(3 * columns) for columns, rows in [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)] for _ in range(rows))
    interlaced = chunk(header[:4], header[4:]) + chunk(b"IDAT", zlib.compress(passes)) + chunk(b"IEND", b"")
    yield "png-interlaced", b"\x89PNG\r\n\x1a\n" + interlaced
    yield "webp-lossy", encoded(rgb, format="WEBP", quality=60)
    yield "webp-lossless", encoded(rgb, format="WEBP", lossless=True)
    yield "webp-alpha", encoded(quadrants("RGBA"), format="WEBP", quality=60)
    yield "webp-exif", encoded(rgb, format="WEBP", quality=60, exif=exif)
    yield "webp-animated", encoded(rgb, format="WEBP", save_all=True, append_images=[rgb.rotate(180)])
    for compression in ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "group4"]:
        image = quadrants("1") if compression == "group4" else rgb
        yield f"tiff-{compression}", encoded(image, format="TIFF", compression=compression)
    for mode in ["L", "RGBA", "CMYK", "P", "F", "I;16"]:
        image = rgb.convert("I").convert(mode) if mode == "I;16" else quadrants(mode)
        yield f"tiff-{mode.replace(';', '-')}", encoded(image, format="TIFF")
    yield "tiff-strips", encoded(rgb, format="TIFF", compression="tiff_lzw", strip_size=240)
    yield "tiff-tiles", tiled_tiff()


def tiled_tiff():
    """Two tiles of 16 × 16 pixels without compression, which Pillow reads but does not write."""
    tile = bytes(range(256)) * 3
    tags = [(256, 4, 32), (257, 4, 16), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1), (322, 3, 16), (323, 3, 16)]
    offset = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = [struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags]
    entries.append(struct.pack("<HHII", 324, 4, 2, offset))
    entries.append(struct.pack("<HHII", 325, 4, 2, offset + 8))
    first = offset + 16
    values = struct.pack("<IIII", first, first + 256, 256, 256)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + values + tile[:512]


def stream(entries, data):
    return f"<< {entries} /Length {len(data)} >>\nstream\n".encode() + data + b"\nendstream"


def pdf(objects):
    out = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    return bytes(out) + f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()


def page(resources, content, *more, box="[0 0 72 48]", pages=1):
    kids = "3 0 R " * pages
    head = [b"<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>".encode()]
    body = f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents 4 0 R /Resources << {resources} >> >>".encode()
    return pdf([*head, body, content if isinstance(content, bytes) and content.startswith(b"<<") else stream("", content), *more])


def object_stream_pdf():
    """The page tree lies in an object stream, the places in a cross-reference stream."""
    out = bytearray(b"%PDF-1.7\n")
    tree = b"4 0 << /Type /Pages /Count 1 /Kids [<< /Type /Page /MediaBox [0 0 9 9] >>] >>"
    offsets = []
    packed = stream("/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode", zlib.compress(tree))
    for number, body in enumerate([b"<< /Type /Catalog /Pages 4 0 R >>", packed], 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    table = [(0, 0, 0), (1, offsets[0], 0), (1, offsets[1], 0), (1, start, 0), (2, 2, 0)]
    packed = b"".join(struct.pack(">BIB", *entry) for entry in table)
    out += b"3 0 obj\n" + stream("/Type /XRef /Size 5 /W [1 4 1] /Root 1 0 R", packed)
    return bytes(out) + f"\nendobj\nstartxref\n{start}\n%%EOF\n".encode()


def pdfs():
    image = "/Type /XObject /Subtype /Image /Width {0} /Height {1} /ColorSpace /{2} /BitsPerComponent {3}"
    whole, show = "/XObject << /I 5 0 R >>", b"72 0 0 48 0 0 cm /I Do"
    colour = image.format(WIDTH, HEIGHT, "DeviceRGB", 8)
    yield "jpeg", page(whole, show, stream(f"{colour} /Filter /DCTDecode", encoded(quadrants(), format="JPEG", quality=60)))
    flate = zlib.compress(quadrants().tobytes())
    yield "flate", page(whole, show, stream(f"{colour} /Filter /FlateDecode", flate))
    predicted = zlib.compress(b"".join(b"\2" + row for row in [quadrants().tobytes()[at:at + 120] for at in range(0, 2880, 120)]))
    yield "predictor", page(whole, show, stream(f"{colour} /Filter /FlateDecode /DecodeParms << /Predictor 15 /Colors 3 /Columns {WIDTH} >>", predicted))
    bits = image.format(WIDTH, HEIGHT, "DeviceGray", 1)
    fax = bytes([0x26, 0xA0, 0xD4, 0x35, 0x91, 0x77, 0x0F, 0x00, 0x10, 0x01])
    yield "fax", page(whole, show, stream(f"{bits} /Filter /CCITTFaxDecode /DecodeParms << /K -1 /Columns {WIDTH} >>", fax))
    run = bytes([129, 0]) * 8
    yield "run-length", page(whole, show, stream(f"{image.format(16, 16, 'DeviceGray', 8)} /Filter /RunLengthDecode", run + b"\x80"))
    yield "lzw", page(whole, show, stream(f"{image.format(3, 3, 'DeviceGray', 8)} /Filter /LZWDecode", bytes([0x80, 0x0B, 0x60, 0x50, 0x22, 0x0C, 0x0C, 0x85, 0x01])))
    yield "ascii-85", page(whole, show, stream(f"{image.format(4, 1, 'DeviceGray', 8)} /Filter [/ASCII85Decode]", b"87cUR~>"))
    yield "jpeg-2000", page(whole, show, stream("/Type /XObject /Subtype /Image /Width 40 /Height 24 /Filter /JPXDecode", jpeg_2000()))
    jbig2 = b"\0\0\0\0\x30\x00\x01\x00\x00\x00\x13" + struct.pack(">II", 9, 9) + bytes(11)
    yield "jbig2", page(whole, show, stream(f"{image.format(9, 9, 'DeviceGray', 1)} /Filter /JBIG2Decode", jbig2))
    yield "inline", page("", b"72 0 0 48 0 0 cm BI /W 2 /H 2 /CS /RGB /BPC 8 ID 123456789012 EI")
    fonts = "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Courier >> >>"
    shading = "/Shading << /S << /ShadingType 2 /ColorSpace /DeviceRGB /Coords [0 0 72 48] /Function << /FunctionType 2 /Domain [0 1] /C0 [0 0 0] /C1 [1 0 1] /N 1 >> >> >>"
    drawn = b"q 1 0 0 1 3 3 cm /S sh BT /F1 12 Tf 3 9 Td (Text) Tj ET [3 1] 0 d 2 w 0 0 m 9 40 30 60 70 40 c B /Pattern cs /P scn 5 5 40 20 re f Q"
    pattern = stream("/PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 9 9] /XStep 9 /YStep 9 /Resources << >>", b"1 0 0 rg 0 0 5 5 re f")
    yield "drawn", page(f"{fonts} {shading} /Pattern << /P 5 0 R >>", drawn, pattern)
    yield "flate-content", page(f"{fonts} {shading} /Pattern << /P 5 0 R >>", stream("/Filter /FlateDecode", zlib.compress(drawn)), pattern)
    form = stream("/Type /XObject /Subtype /Form /BBox [0 0 72 48] /Group << /S /Transparency >>", b"0 0 1 rg 3 3 9 9 re f")
    state = "/ExtGState << /G << /ca 0.5 /SMask << /S /Luminosity /G 5 0 R >> >> >> /XObject << /N 5 0 R >>"
    yield "groups", page(state, b"/G gs /N Do 0 0 72 48 re f", form)
    mesh = stream("/ShadingType 4 /ColorSpace /DeviceRGB /BitsPerCoordinate 8 /BitsPerComponent 8 /BitsPerFlag 8 /Decode [0 72 0 48 0 1 0 1 0 1]", bytes([0, 0, 0, 9, 9, 9, 0, 255, 0, 9, 9, 9, 0, 0, 255, 9, 9, 9]))
    yield "mesh", page("/Shading << /S 5 0 R >>", b"/S sh", mesh)
    calculator = stream("/FunctionType 4 /Domain [0 1] /Range [0 1]", b"{ dup mul 1 exch sub }")
    separation = "/ColorSpace << /C [/Separation /A /DeviceGray 5 0 R] >>"
    yield "calculator", page(separation, b"/C cs 0.5 scn 0 0 50 40 re f", calculator)
    indexed = f"/Type /XObject /Subtype /Image /Width 4 /Height 2 /ColorSpace [/Indexed /DeviceRGB 1 <ff0000 00ff00>] /BitsPerComponent 1 /Mask [0 0]"
    yield "indexed", page(whole, show, stream(indexed, bytes([0x50, 0xA0])))
    yield "two-pages", page("", b"1 0 0 rg 0 0 72 48 re f", pages=2)
    yield "object-stream", object_stream_pdf()


def jpeg_2000():
    return encoded(quadrants(), format="JPEG2000", no_jp2=True, num_resolutions=2)


def heics():
    try:
        import pillow_heif
    except ImportError:
        print("no HEIC: pillow-heif is missing", file=sys.stderr)
        return
    pillow_heif.register_heif_opener()
    image = quadrants().resize((64, 64))
    yield "heic", encoded(image, format="HEIF", quality=50)
    yield "heic-grey", encoded(image.convert("L"), format="HEIF", quality=50)
    yield "heic-alpha", encoded(image.convert("RGBA"), format="HEIF", quality=50)


def main():
    folder = Path(sys.argv[1])
    for target, files in [("decode", pictures), ("pdf", pdfs), ("heic", heics)]:
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, data in files():
            (folder / target / name).write_bytes(data)


main()
