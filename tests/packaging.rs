//! What the package installs, judged by systemd's own tools, which `make test` installs: without them these tests fail and say so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn systemd_analyze(arguments: &[&str], units: &[PathBuf]) -> Output {
    let output = Command::new("systemd-analyze").args(arguments).args(units).env("LC_ALL", "C.UTF-8").output();
    output.unwrap_or_else(|error| panic!("systemd-analyze: {error}; run `make test-tools`"))
}

/// The units in a folder of their own, with a daemon that is there.
fn units(with_gpu: bool) -> (tempfile::TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str| {
        let text = fs::read_to_string(root().join("systemd").join(name)).unwrap();
        let there = text.replace("/usr/bin/vouchd", "/bin/true").replace("/usr/bin/nvidia-modprobe", "/bin/true");
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, there).unwrap();
        path
    };
    if with_gpu {
        put("vouchd.service.d/gpu.conf");
    }
    let paths = ["vouchd.service", "vouchd.socket"].map(put);
    (folder, paths)
}

#[test]
fn systemd_understands_every_line_of_the_units() {
    for with_gpu in [false, true] {
        let (_folder, units) = units(with_gpu);
        let output = systemd_analyze(&["verify", "--man=no"], &units);
        // It ends with 0 also where it ignores a line, and says so on standard error.
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "with the drop-in: {with_gpu}");
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn systemd_finds_what_is_wrong_in_a_unit() {
    let (_folder, units) = units(false);
    fs::write(&units[0], "[Service]\nExecStart=/bin/true\nProtectEverything=yes\n").unwrap();
    let output = systemd_analyze(&["verify", "--man=no"], &units);
    assert!(String::from_utf8_lossy(&output.stderr).contains("ProtectEverything"), "{output:?}");
}

/// As measured with systemd 252; later ones may ask for more.
#[test]
fn the_service_is_exposed_as_little_as_the_docs_say() {
    // Tenths; a drop-in beside the unit is taken in.
    for (with_gpu, most) in [(false, 6), (true, 8)] {
        let (_folder, [service, _]) = units(with_gpu);
        let threshold = format!("--threshold={most}");
        let output = systemd_analyze(&["security", "--offline=yes", &threshold, "--no-pager"], &[service]);
        let report = String::from_utf8_lossy(&output.stdout);
        let said = format!("Overall exposure level for vouchd.service: 0.{most} ");
        assert!(output.status.success() && report.contains(&said), "with the drop-in: {with_gpu}\n{report}");
    }
}

#[test]
fn the_debian_changelog_begins_with_the_version_of_the_crate() {
    let changelog = fs::read_to_string(root().join("packaging/debian/changelog")).unwrap();
    let first = changelog.lines().next().unwrap();
    assert!(first.starts_with(&format!("vouch ({}-", env!("CARGO_PKG_VERSION"))), "{first}");
}
