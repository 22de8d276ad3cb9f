//! Whether this host has a GPU that models can run on, and the libraries for it.
//!
//! Called by `registry` at start when the configuration asks for a GPU. The libraries are a folder of their own beside the pack's (`make gpu` makes it): ONNX Runtime
//! built for GPUs with its providers, and NVIDIA's CUDA, cuDNN and, if wanted, TensorRT. They name each other without saying where they are, so all of the
//! folder are loaded before ONNX Runtime looks for its providers. The driver (`libcuda.so.1`) is the host's own.

use std::ffi::{c_int, c_uint};
use std::fs;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};

/// The host's driver.
const DRIVER: &str = "libcuda.so.1";

/// Name that ONNX Runtime's own library begins with, and those of its providers.
const RUNTIME: &str = "libonnxruntime.so";
const PROVIDERS: &str = "libonnxruntime_providers_";

/// Number of GPUs that the driver offers to this process.
///
/// # Errors
/// Why there is none, for the operator.
pub fn devices() -> Result<usize, String> {
    devices_of(DRIVER)
}

fn devices_of(driver: &str) -> Result<usize, String> {
    // SAFETY: loading the host's driver runs its initialisers, as every use of a GPU does.
    let library = unsafe { Library::open(Some(driver), RTLD_LAZY) }
        .map_err(|_| format!("there is no NVIDIA driver ({driver}) on this host"))?;
    let missing = |_| format!("{driver} is no NVIDIA driver");
    // SAFETY: the signatures of the driver's API (cuda.h), unchanged since its first version.
    let (init, count) = unsafe {
        let init: libloading::os::unix::Symbol<unsafe extern "C" fn(c_uint) -> c_int> =
            library.get(b"cuInit\0").map_err(missing)?;
        let count: libloading::os::unix::Symbol<unsafe extern "C" fn(*mut c_int) -> c_int> =
            library.get(b"cuDeviceGetCount\0").map_err(missing)?;
        (init, count)
    };
    let mut found: c_int = 0;
    // SAFETY: the library is open, and `found` outlives the call.
    let (begun, counted) = unsafe { (init(0), count(&raw mut found)) };
    // The driver is needed as long as the process runs, and does not like to be unloaded.
    std::mem::forget(library);
    match (begun, counted, usize::try_from(found).unwrap_or(0)) {
        (0, 0, found @ 1..) => Ok(found),
        (0, 0, _) => Err("the NVIDIA driver shows no GPU to this process".into()),
        (0, code, _) | (code, ..) => Err(format!("the NVIDIA driver refuses with error {code}")),
    }
}

/// ONNX Runtime's library in a folder.
///
/// # Errors
/// If there is none.
pub fn runtime_in(folder: &Path) -> Result<PathBuf, String> {
    let mut found: Vec<PathBuf> = libraries(folder)?.into_iter().filter(|path| is_named(path, RUNTIME)).collect();
    found.sort();
    found
        .pop()
        .ok_or_else(|| format!("there is no ONNX Runtime for GPUs in {}; `make gpu` fetches it", folder.display()))
}

/// Loads what the providers need, in whatever order works: a library comes after those that it names.
///
/// # Errors
/// The first library that cannot be loaded although nothing that it waits for is left.
pub fn preload(folder: &Path) -> Result<(), String> {
    let mut waiting = libraries(folder)?;
    // ONNX Runtime loads its own.
    waiting.retain(|path| !is_named(path, RUNTIME) && !is_named(path, PROVIDERS));
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut reason = String::new();
        waiting.retain(|path| {
            // SAFETY: these are libraries that the operator put there for being loaded; loading runs their initialisers.
            match unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_GLOBAL) } {
                Ok(library) => {
                    std::mem::forget(library);
                    false
                }
                Err(error) => {
                    // The dynamic linker's own words are the error's source.
                    let cause =
                        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                    reason = format!("{}: {cause}", path.display());
                    true
                }
            }
        });
        if waiting.len() == before {
            return Err(reason);
        }
    }
    Ok(())
}

fn libraries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("no libraries for GPUs in {}: {error}; `make gpu` fetches them", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"))).collect())
}

fn is_named(path: &Path, beginning: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_driver_and_a_driver_that_is_none_are_told() {
        assert!(devices_of("libno-such-driver.so.1").unwrap_err().contains("no NVIDIA driver"));
        assert!(devices_of("libc.so.6").unwrap_err().contains("is no NVIDIA driver"));
    }

    #[test]
    fn a_folder_without_libraries_says_how_to_get_them() {
        let folder = tempfile::tempdir().unwrap();
        assert!(runtime_in(&folder.path().join("none")).unwrap_err().contains("make gpu"));
        assert!(runtime_in(folder.path()).unwrap_err().contains("make gpu"));
        let library = folder.path().join("libonnxruntime.so.1.31.1");
        fs::write(&library, "").unwrap();
        fs::write(folder.path().join("libonnxruntime_providers_cuda.so"), "").unwrap();
        assert_eq!(runtime_in(folder.path()).unwrap(), library);
        // Nothing else is there to be loaded.
        preload(folder.path()).unwrap();
        fs::write(folder.path().join("libcudart.so.13"), "no library").unwrap();
        assert!(preload(folder.path()).unwrap_err().contains("libcudart.so.13"));
    }
}
