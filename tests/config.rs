//! The layers of the configuration, its errors, the sample file, and what the real `vouchd` makes of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use vouch::config::{Config, ConfigError, Flags, LogLevel, Principal, Rpc, load};
use vouch::inference::Priority;
use vouch::inference::provider::Device;

fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vouch.toml");
    std::fs::write(&file, text).unwrap();
    (directory, file)
}

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn problems(file: Option<&Path>, variables: &[(&str, &str)], flags: &Flags) -> Vec<String> {
    match load(file, environment(variables), flags) {
        Err(ConfigError::Invalid(problems)) => problems,
        other => panic!("expected problems, found {other:?}"),
    }
}

#[test]
fn without_layers_there_are_the_defaults() {
    let loaded = load(None, [], &Flags::default()).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.origins.is_empty());
}

#[test]
fn the_later_layer_wins_and_is_named_as_the_origin() {
    let (_directory, file) = write(
        "drain_seconds = 1\n[socket]\npath = '/file'\n[limits]\nmax_running = 1\nmax_waiting = 1\n[log]\nlevel = 'warn'\n",
    );
    let variables = [("VOUCH_SOCKET", "/variable"), ("VOUCH_LIMITS__MAX_RUNNING", "2"), ("VOUCH_LOG", "debug")];
    let flags = Flags { socket: Some("/flag".into()), ..Flags::default() };
    let loaded = load(Some(&file), environment(&variables), &flags).unwrap();

    assert_eq!(loaded.config.socket.path, Path::new("/flag"));
    assert_eq!(loaded.config.limits.max_running, 2);
    assert_eq!(loaded.config.limits.max_waiting, 1);
    assert_eq!(loaded.config.log.level, LogLevel::Debug);
    assert_eq!(loaded.config.drain_seconds, 1);
    assert_eq!(loaded.config.limits.max_connections, Config::default().limits.max_connections);

    assert_eq!(loaded.origins["socket.path"], "flag --socket");
    assert_eq!(loaded.origins["limits.max_running"], "environment variable VOUCH_LIMITS__MAX_RUNNING");
    assert_eq!(loaded.origins["limits.max_waiting"], format!("file {}", file.display()));
    assert_eq!(loaded.origins["log.level"], "environment variable VOUCH_LOG");
    assert!(!loaded.origins.contains_key("limits.max_connections"));
}

#[test]
fn every_flag_reaches_its_setting() {
    let flags = Flags {
        socket: Some("/s".into()),
        pack: Some("/p".into()),
        calibration: Some("/c".into()),
        device: Some("preferred".into()),
        log: Some("trace".into()),
    };
    let config = load(None, [], &flags).unwrap().config;
    assert_eq!(config.socket.path, Path::new("/s"));
    assert_eq!(config.models.pack_dir.as_deref(), Some(Path::new("/p")));
    assert_eq!(config.calibration.dir.as_deref(), Some(Path::new("/c")));
    assert_eq!(config.inference.device, Device::Preferred);
    assert_eq!(config.log.level, LogLevel::Trace);
}

#[test]
fn text_in_the_environment_is_taken_as_it_stands() {
    let variables = [
        ("VOUCH_SOCKET__MODE", "0640"),
        ("VOUCH_SOCKET__GROUP", "4"),
        ("VOUCH_PACK_DIR", "/1"),
        ("VOUCH_SOCKET__ALLOWED_USERS", "kyc, 1001,"),
        ("VOUCH_DRAIN_SECONDS", "5"),
        ("HOME", "/not/ours"),
    ];
    let config = load(None, environment(&variables), &Flags::default()).unwrap().config;
    assert_eq!(config.socket.mode_bits(), Some(0o640));
    assert_eq!(config.socket.group.as_deref(), Some("4"));
    assert_eq!(config.models.pack_dir.as_deref(), Some(Path::new("/1")));
    assert_eq!(config.socket.allowed_users, [Principal::Name("kyc".into()), Principal::Name("1001".into())]);
    assert_eq!(config.drain_seconds, 5);
}

#[test]
fn switches_in_the_environment_are_true_or_false() {
    let config = load(None, environment(&[("VOUCH_AUDIT__SCORES", "true")]), &Flags::default()).unwrap().config;
    assert!(config.audit.scores);
    let found = problems(None, &[("VOUCH_AUDIT__SCORES", "yes")], &Flags::default());
    assert!(found[0].starts_with("audit.scores (from environment variable VOUCH_AUDIT__SCORES)"), "{found:?}");
}

#[test]
fn the_hash_of_the_settings_does_not_ask_where_they_come_from() {
    let (_directory, file) = write("[limits]\nmax_running = 3\n");
    let of_file = load(Some(&file), [], &Flags::default()).unwrap();
    let of_environment = load(None, environment(&[("VOUCH_LIMITS__MAX_RUNNING", "3")]), &Flags::default()).unwrap();
    assert_eq!(of_file.config.sha256(), of_environment.config.sha256());
    assert_ne!(of_file.config.sha256(), Config::default().sha256());
    assert!(of_file.to_string().starts_with(&format!("# config_sha256 = {}\n", of_file.config.sha256())));
}

#[test]
fn principals_are_names_or_numbers() {
    let (_directory, file) = write("[socket]\nallowed_users = ['kyc', 1001]\n");
    let config = load(Some(&file), [], &Flags::default()).unwrap().config;
    assert_eq!(config.socket.allowed_users, [Principal::Name("kyc".into()), Principal::Id(1001)]);
}

#[test]
fn all_unknown_keys_of_all_layers_are_named_at_once() {
    let (_directory, file) = write("drain_second = 1\n[socket]\npathh = 'x'\n[sockets]\npath = 'x'\n");
    let variables = [("VOUCH_LIMIT__MAX_RUNNING", "2"), ("VOUCH_SOCKET__PATHH", "x")];
    let text = problems(Some(&file), &variables, &Flags::default()).join("\n");
    for key in ["drain_second;", "socket.pathh;", "sockets;", "VOUCH_LIMIT__MAX_RUNNING", "VOUCH_SOCKET__PATHH"] {
        assert!(text.contains(key), "{key} is not named in:\n{text}");
    }
    assert!(text.contains(&file.display().to_string()), "{text}");
}

#[test]
fn all_values_out_of_range_are_named_at_once_with_value_range_and_origin() {
    let (_directory, file) = write("drain_seconds = 9999\n[limits]\nmax_image_bytes = 99000000\n");
    let variables = [("VOUCH_SOCKET", "relative"), ("VOUCH_SOCKET__MODE", "0888")];
    let found = problems(Some(&file), &variables, &Flags::default());
    assert_eq!(found.len(), 4, "{found:#?}");
    let file = file.display();
    assert_eq!(found[0], format!("drain_seconds = 9999 (from file {file}): must be in 0..=3600"));
    assert_eq!(found[1], format!("limits.max_image_bytes = 99000000 (from file {file}): must be in 65536..=33554432"));
    assert!(found[2].starts_with("socket.path = \"relative\" (from environment variable VOUCH_SOCKET): must be"));
    assert!(found[3].starts_with("socket.mode = \"0888\""));
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_origin() {
    let found = problems(None, &[("VOUCH_LIMITS__MAX_RUNNING", "many")], &Flags::default());
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("limits.max_running (from environment variable VOUCH_LIMITS__MAX_RUNNING): "),
        "{found:?}"
    );

    let flags = Flags { device: Some("gpu".into()), ..Flags::default() };
    let found = problems(None, &[], &flags);
    assert_eq!(found, ["inference.device (from flag --device): \"gpu\" is none of cpu, preferred, required"]);

    // A section given as a plain value must not pass as if it had been left out.
    let (_directory, file) = write("socket = 3\n");
    assert!(problems(Some(&file), &[], &Flags::default())[0].contains("socket"));
}

#[test]
fn two_variables_for_one_setting_are_an_error() {
    let variables = [("VOUCH_SOCKET", "/a"), ("VOUCH_SOCKET__PATH", "/b")];
    let found = problems(None, &variables, &Flags::default());
    assert!(found[0].contains("VOUCH_SOCKET ") && found[0].contains("VOUCH_SOCKET__PATH"), "{found:?}");
}

#[test]
fn a_syntax_error_names_file_and_line() {
    let (_directory, file) = write("drain_seconds = 1\n[socket\n");
    let found = problems(Some(&file), &[], &Flags::default());
    assert!(found[0].starts_with(&format!("file {}, line 2: ", file.display())), "{found:?}");
    assert!(!found[0].contains('\n'));
}

#[test]
fn socket_paths_up_to_the_limit_of_the_kernel_are_taken() {
    let path =
        |length: usize| Flags { socket: Some(format!("/{}", "s".repeat(length - 1)).into()), ..Flags::default() };
    assert!(load(None, [], &path(103)).is_ok());
    assert_eq!(problems(None, &[], &path(104)).len(), 1);
}

#[test]
fn what_check_config_prints_is_a_configuration_that_gives_the_same() {
    let variables = [("VOUCH_SOCKET__ALLOWED_GROUPS", "a,b"), ("VOUCH_PACK_DIR", "/pack \"quoted\"")];
    let loaded = load(None, environment(&variables), &Flags::default()).unwrap();
    let (_directory, file) = write(&loaded.to_string());
    assert_eq!(load(Some(&file), [], &Flags::default()).unwrap().config, loaded.config);
}

const POLICIES: &str = "[[callers]]\nname = 'kiosk'\nusers = ['root']\nrpcs = ['VerifyLive', 'GetStatus']\npriority = 'low'\n\
    max_concurrent = 2\n[[callers]]\nname = 'all'\nrequests_per_minute = 600\n";

#[test]
fn policies_of_callers_are_read_in_order_with_the_defaults_of_what_they_leave_out() {
    let (_directory, file) = write(POLICIES);
    let loaded = load(Some(&file), [], &Flags::default()).unwrap();
    let [kiosk, all] = loaded.config.callers.as_slice() else { panic!("{:?}", loaded.config.callers) };
    assert_eq!(kiosk.users, [Principal::Name("root".into())]);
    assert_eq!((kiosk.rpcs.as_slice(), kiosk.priority), (&[Rpc::VerifyLive, Rpc::GetStatus][..], Priority::Low));
    assert_eq!((kiosk.max_concurrent, kiosk.requests_per_minute, kiosk.malformed_burst), (2, 0, 64));
    assert_eq!((all.requests_per_minute, all.burst, all.rpcs.len()), (600, 10, Rpc::ALL.len()));
    assert_eq!(loaded.config.differences(&Config::default()), ["callers"]);
    // What `--check-config` prints can be read again.
    let (_directory, file) = write(&loaded.to_string());
    assert_eq!(load(Some(&file), [], &Flags::default()).unwrap().config, loaded.config);
}

#[test]
fn what_is_wrong_with_policies_is_said_and_where() {
    for (text, said) in [
        ("[[callers]]\nusers = [1]\n", "different names"),
        ("[[callers]]\nname = 'A b'\nusers = [1]\n", "names of 1 to 32"),
        ("[[callers]]\nname = 'a'\nusers = [1]\n[[callers]]\nname = 'a'\n", "different names"),
        ("[[callers]]\nname = 'a'\n[[callers]]\nname = 'b'\n", "only the last is for everybody"),
        ("[[callers]]\nname = 'a'\nburst = 0\n", "burst in 1..=65536"),
        ("[[callers]]\nname = 'a'\nrpcs = ['Verfy']\n", "none of Verify, DetectFaces"),
        ("[[callers]]\nname = 'a'\npriority = 'highest'\n", "none of high, normal, low"),
        ("[[callers]]\nname = 'a'\nmax_request = 3\n", "max_request"),
    ] {
        let (_directory, file) = write(text);
        let found = problems(Some(&file), &[], &Flags::default());
        assert!(found.len() == 1 && found[0].contains(said) && found[0].contains("callers"), "{text}: {found:?}");
        assert!(found[0].contains("vouch.toml"), "{found:?}");
    }
}

/// The sample shows the defaults of the system service, and all of them.
#[test]
fn the_sample_with_its_settings_uncommented_is_the_defaults() {
    let sample = include_str!("../systemd/vouch.toml");
    let is_setting =
        |line: &str| line.starts_with('#') && line[1..].starts_with(|first: char| first.is_ascii_lowercase());
    let uncommented: String =
        sample.lines().map(|line| if is_setting(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n");
    let (_directory, file) = write(&uncommented);
    let mut defaults = Config::default();
    defaults.socket.path = "/run/vouch/vouch.sock".into();
    let loaded = load(Some(&file), [], &Flags::default()).unwrap();
    assert_eq!(loaded.config, defaults);

    // Uncommenting has named every key that has a default; those that have none are named as examples.
    let table = toml::Table::try_from(&defaults).unwrap();
    let keys = table.iter().flat_map(|(section, values)| match values.as_table() {
        Some(values) => values.keys().map(|key| format!("{section}.{key}")).collect(),
        None => vec![section.clone()],
    });
    for key in keys {
        assert!(loaded.origins.contains_key(&key), "the sample does not show {key}");
    }
    let examples: String = sample
        .lines()
        .filter(|line| !is_setting(line))
        .map(|line| line.strip_prefix("# Example: ").unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n");
    let (_directory, file) = write(&examples);
    let config = load(Some(&file), [], &Flags::default()).unwrap().config;
    assert!(config.socket.group.is_some() && config.calibration.dir.is_some());
    assert!(config.metrics.socket.is_some() && config.metrics.group.is_some() && config.metrics.listen.is_some());
    assert!(config.models.pack_dir.is_some() && config.models.overrides.is_some() && config.models.cache_dir.is_some());
}

#[test]
fn metrics_are_for_the_daemons_own_user_or_a_group_that_is_named() {
    let mode = |more: &[(&str, &str)]| {
        let variables = [&[("VOUCH_METRICS__SOCKET", "/m")], more].concat();
        load(None, environment(&variables), &Flags::default()).unwrap().config.metrics.own_socket().unwrap().mode_bits()
    };
    let group = ("VOUCH_METRICS__GROUP", "adm");
    assert_eq!([mode(&[]), mode(&[group])], [Some(0o600), Some(0o660)]);
    assert_eq!(mode(&[group, ("VOUCH_METRICS__MODE", "0620")]), Some(0o620));
    let found = problems(None, &[("VOUCH_METRICS__MODE", "rw")], &Flags::default());
    assert!(found.len() == 1 && found[0].starts_with("metrics.mode = \"rw\""), "{found:?}");
}

#[test]
fn a_collector_of_traces_is_one_of_this_host_unless_another_is_allowed() {
    let endpoint = |value| ("VOUCH_TRACES__ENDPOINT", value);
    for value in ["unix:/run/otelcol/otlp.sock", "http://127.0.0.1:4317"] {
        load(None, environment(&[endpoint(value), ("VOUCH_TRACES__SAMPLE_RATIO", "1")]), &Flags::default()).unwrap();
    }
    let far = endpoint("http://10.0.0.7:4317");
    let found = problems(None, &[far, ("VOUCH_TRACES__SAMPLE_RATIO", "1.5")], &Flags::default());
    assert!(found[0].starts_with("traces.endpoint = \"http://10.0.0.7:4317\""), "{found:?}");
    assert!(found[1].starts_with("traces.sample_ratio = 1.5"), "{found:?}");
    load(None, environment(&[far, ("VOUCH_TRACES__ALLOW_NETWORK", "true")]), &Flags::default()).unwrap();
    assert_eq!(problems(None, &[endpoint("https://127.0.0.1:4317")], &Flags::default()).len(), 1);
}

// ---------------------------------------------------------------- the real binary

#[test]
#[cfg(not(feature = "otlp"))]
fn vouchd_without_the_feature_refuses_a_collector_with_78() {
    let refused = vouchd(&["--check-config"], &[("VOUCH_TRACES__ENDPOINT", "unix:/run/otelcol/otlp.sock")]);
    assert_eq!(refused.status.code(), Some(78));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("traces.endpoint (from environment variable") && words.contains("without the feature otlp"));
}

fn vouchd(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vouchd"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VOUCH_")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn vouchd_refuses_an_unknown_key_with_78_and_names_it() {
    let (_directory, file) = write("[limits]\nmax_runing = 3\n");
    let output = vouchd(&["--config", file.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(78));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("limits.max_runing") && stderr.contains("max_running"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn vouchd_refuses_an_unknown_variable_with_78() {
    let output = vouchd(&["--check-config"], &[("VOUCH_SOCKETT", "/x")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8(output.stderr).unwrap().contains("VOUCH_SOCKETT"));
    assert!(output.stdout.is_empty());
}

#[test]
fn vouchd_says_that_the_file_is_missing_with_66() {
    let output = vouchd(&[], &[("VOUCH_CONFIG", "/nonexistent/vouch.toml")]);
    assert_eq!(output.status.code(), Some(66));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nonexistent/vouch.toml"));
}

#[test]
fn vouchd_refuses_a_user_that_does_not_exist_with_78() {
    let (_directory, file) = write("[[callers]]\nname = 'a'\nusers = ['no-such-user-here']\n");
    let output = vouchd(&["--check-config", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8(output.stderr).unwrap().contains("callers.users"));
    let output = vouchd(&["--check-config"], &[("VOUCH_SOCKET__ALLOWED_USERS", "no-such-user-here")]);
    assert_eq!(output.status.code(), Some(78));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("socket.allowed_users") && stderr.contains("no-such-user-here"), "{stderr}");
    let output = vouchd(&["--check-config"], &[("VOUCH_METRICS__GROUP", "no-such-group-here")]);
    assert_eq!(output.status.code(), Some(78));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("metrics.group") && stderr.contains("no-such-group-here"), "{stderr}");
}

#[test]
fn check_config_prints_the_effective_settings_with_their_origin() {
    let output = vouchd(&["--check-config", "--socket", "/x/y.sock"], &[("VOUCH_LIMITS__MAX_WAITING", "7")]);
    assert_eq!(output.status.code(), Some(0));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("path = \"/x/y.sock\"  # flag --socket\n"), "{stdout}");
    assert!(stdout.contains("max_waiting = 7  # environment variable VOUCH_LIMITS__MAX_WAITING\n"), "{stdout}");
    assert!(stdout.contains("max_connections = 256\n"), "{stdout}");
    assert!(!Path::new("/x").exists());
}
