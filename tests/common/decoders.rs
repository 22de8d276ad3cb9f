//! Processes that decode for a daemon, seen from outside, and a file that costs them much.

use std::fs;
use std::io::Write as _;

use bytes::Bytes;

/// Processes whose parent is this one and that decode.
pub fn decoders_of(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let Some(pid) = entry.unwrap().file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may be gone by now.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        if field(&status, "PPid") == parent.to_string() && field(&status, "Name") == "vouch-decoder" {
            found.push(pid);
        }
    }
    found
}

pub fn is_alive(pid: u32) -> bool {
    // What nobody has waited for yet is a zombie, and dead.
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !field(&status, "State").starts_with('Z'))
}

/// Resident memory of all that decode for this one, in bytes.
pub fn resident_of_decoders(parent: u32) -> u64 {
    decoders_of(parent).into_iter().filter_map(resident_of).sum()
}

/// Resident memory in bytes; `None` if the process has ended.
pub fn resident_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    field(&status, "VmRSS").trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// The value of a line of `/proc/PID/status`; empty if there is none.
pub fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim)
}

/// A small file of many deep pixels: 8 bytes each in memory, which no decoder can do without.
pub fn deep_png() -> Bytes {
    let (width, height) = (7000u32, 7000u32);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8], data: &[u8]| {
        let mut sum = flate2::Crc::new();
        sum.update(kind);
        sum.update(data);
        file.extend((data.len() as u32).to_be_bytes());
        file.extend([kind, data, &sum.sum().to_be_bytes()].concat());
    };
    // 16 bits of red, green, blue and alpha.
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[16, 6, 0, 0, 0]].concat());
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let row = vec![0; 1 + width as usize * 8];
    for _ in 0..height {
        packed.write_all(&row).unwrap();
    }
    chunk(b"IDAT", &packed.finish().unwrap());
    chunk(b"IEND", b"");
    file.into()
}
