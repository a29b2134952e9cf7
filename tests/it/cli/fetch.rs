//! `models` and `fetch`, against servers on this machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde_json::Value;

use super::hub::{Reply, Request, Server};
use super::{Outcome, Scratch};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const VAE: &str = "/Wan-AI/Wan2.1-T2V-1.3B/resolve/main/Wan2.1_VAE.pth";
/// The same at the commit that the hub tells: what is downloaded is of that one, whatever is the newest by then.
const VAE_AT: &str =
    "/Wan-AI/Wan2.1-T2V-1.3B/resolve/0123456789abcdef0123456789abcdef01234567/Wan2.1_VAE.pth";
const REPO: &str = "hub/models--Wan-AI--Wan2.1-T2V-1.3B";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// A sound checkpoint that stands for the decoder's file.
fn checkpoint() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/selfforcing/pickle/zip_long_keys.pt");
    fs::read(path).unwrap()
}

/// The hub's answer for a large file: what it is, and where its bytes are.
fn large(body: &[u8], at: &str) -> Reply {
    Reply::new(302)
        .with("X-Repo-Commit", COMMIT)
        .with("X-Linked-Etag", format!("\"{}\"", sha256(body)))
        .with("X-Linked-Size", body.len().to_string())
        .with("Location", at)
}

/// A store of large files, and the hub before it, for the decoder's file.
fn hub(store: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> (Server, Server) {
    let store = Server::start(store);
    let at = format!("{}/vae", store.url);
    let hub = Server::start(move |request, _| match request.path.as_str() {
        VAE if request.method == "HEAD" => large(&checkpoint(), &at),
        VAE_AT if request.method == "GET" => large(&checkpoint(), &at),
        _ => Reply::new(404),
    });
    (hub, store)
}

impl Scratch {
    /// A command line with this folder as everybody's cache.
    fn fetch(&self, hub: &str, line: &str) -> Outcome {
        self.fetch_with(hub, line, &[])
    }

    fn fetch_with(&self, hub: &str, line: &str, env: &[(&str, &str)]) -> Outcome {
        let mut command = self.command(line.split_whitespace());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if text.starts_with("hf_") || text.contains("proxy") {
                command.env_remove(name);
            }
        }
        command
            .env("HF_HOME", &self.0)
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("HF_ENDPOINT", hub)
            .env("LONGTAKE_GITHUB_ENDPOINT", hub)
            .env("HF_TOKEN", "secret")
            .envs(env.iter().copied());
        Outcome::of(command.output().unwrap())
    }

    fn blob(&self, body: &[u8]) -> PathBuf {
        self.path(REPO).join("blobs").join(sha256(body))
    }

    fn incomplete(&self, body: &[u8]) -> PathBuf {
        let blob = self.blob(body);
        blob.with_file_name(format!("{}.incomplete", sha256(body)))
    }
}

const FETCH_VAE: &str = "fetch self-forcing --parts vae --yes";

#[test]
fn a_download_lands_in_the_hubs_own_layout_and_is_not_repeated() {
    let scratch = Scratch::new();
    let (hub, store) = hub(|request, _| Reply::file(request, &checkpoint()));
    let run = scratch.fetch(&hub.url, FETCH_VAE);
    assert_eq!(run.code, Some(0), "{run:?}");
    let snapshot = scratch
        .path(REPO)
        .join("snapshots")
        .join(COMMIT)
        .join("Wan2.1_VAE.pth");
    assert_eq!(run.out.trim(), snapshot.to_string_lossy());
    assert_eq!(fs::read(&snapshot).unwrap(), checkpoint());
    assert_eq!(fs::read(scratch.blob(&checkpoint())).unwrap(), checkpoint());
    assert_eq!(
        fs::read_to_string(scratch.path(REPO).join("refs/main")).unwrap(),
        COMMIT
    );
    assert!(!scratch.incomplete(&checkpoint()).exists());
    #[cfg(unix)]
    assert!(fs::read_link(&snapshot).unwrap().starts_with("../../blobs"));
    // The size and the licence were said.
    assert!(
        run.err.contains("B  in all") && run.err.contains("Apache-2.0"),
        "{}",
        run.err
    );
    // The token went to the hub and not to the host that it sends us to.
    for request in hub.seen() {
        assert_eq!(request.headers["authorization"], "Bearer secret");
    }
    assert!(!store.seen().is_empty());
    for request in store.seen() {
        assert!(
            !request.headers.contains_key("authorization"),
            "{request:?}"
        );
    }
    let asked = hub.seen().len() + store.seen().len();
    let again = scratch.fetch(&hub.url, FETCH_VAE);
    assert_eq!((again.code, again.out), (Some(0), run.out));
    assert_eq!(hub.seen().len() + store.seen().len(), asked);
    let offline = scratch.fetch_with(&hub.url, FETCH_VAE, &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(offline.code, Some(0), "{offline:?}");
}

#[test]
fn small_files_come_from_the_hub_itself_and_have_gits_checksum() {
    let scratch = Scratch::new();
    let hub = Server::start(|request, _| {
        let tokenizer = b"pieces".to_vec();
        let git = digest(&SHA1_FOR_LEGACY_USE_ONLY, b"blob 6\0pieces");
        match request.path.replace(COMMIT, "main").as_str() {
            "/Wan-AI/Wan2.1-T2V-1.3B/resolve/main/google/umt5-xxl/spiece.model" => Reply::new(307)
                .with("X-Repo-Commit", COMMIT)
                .with("Location", "/api/resolve-cache/spiece.model"),
            "/api/resolve-cache/spiece.model" => {
                Reply::file(request, &tokenizer).with("ETag", format!("\"{}\"", hex(git.as_ref())))
            }
            "/Wan-AI/Wan2.1-T2V-1.3B/resolve/main/models_t5_umt5-xxl-enc-bf16.pth" => {
                large(&checkpoint(), "/store/t5")
            }
            "/store/t5" => Reply::file(request, &checkpoint()),
            _ => Reply::new(404),
        }
    });
    let run = scratch.fetch(&hub.url, "fetch self-forcing --parts text --yes --json");
    assert_eq!(run.code, Some(0), "{run:?}");
    let told: Value = serde_json::from_str(&run.out).unwrap();
    let path = told["files"][1]["path"].as_str().unwrap();
    assert!(
        path.ends_with(&format!("snapshots/{COMMIT}/google/umt5-xxl/spiece.model")),
        "{path}"
    );
    assert_eq!(fs::read(path).unwrap(), b"pieces");
}

#[test]
fn without_a_yes_nothing_is_downloaded_where_nobody_can_be_asked() {
    let scratch = Scratch::new();
    let (hub, store) = hub(|request, _| Reply::file(request, &checkpoint()));
    let run = scratch.fetch(&hub.url, "fetch self-forcing --parts vae");
    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(
        run.err.contains("Apache-2.0") && run.err.contains("--yes"),
        "{}",
        run.err
    );
    assert!(store.seen().is_empty());
    let dry = scratch.fetch(&hub.url, "fetch self-forcing --parts vae --dry-run");
    assert_eq!((dry.code, dry.out.as_str()), (Some(0), ""), "{dry:?}");
    assert!(store.seen().is_empty());
    let offline = scratch.fetch_with(&hub.url, FETCH_VAE, &[("HF_HUB_OFFLINE", "true")]);
    assert_eq!(offline.code, Some(4), "{offline:?}");
    assert!(offline.err.contains("HF_HUB_OFFLINE"), "{}", offline.err);
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let scratch = Scratch::new();
    let (hub, store) = hub(|request, before| Reply {
        cut: (before == 0).then_some(10_000),
        ..Reply::file(request, &checkpoint())
    });
    let run = scratch.fetch(&hub.url, FETCH_VAE);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.err.contains("cut"), "{}", run.err);
    let starts: Vec<Option<usize>> = store.seen().iter().map(Request::start).collect();
    assert_eq!(starts, [None, Some(10_000)]);
    assert_eq!(fs::read(scratch.blob(&checkpoint())).unwrap(), checkpoint());
}

#[test]
fn an_earlier_runs_bytes_are_kept() {
    let whole = checkpoint();
    // A server that can continue, and one that always sends the whole.
    for can_continue in [true, false] {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.path(REPO).join("blobs")).unwrap();
        fs::write(scratch.incomplete(&whole), &whole[..7777]).unwrap();
        let (hub, store) = hub(move |request, _| match can_continue {
            true => Reply::file(request, &checkpoint()),
            false => Reply {
                body: checkpoint(),
                ..Reply::new(200)
            },
        });
        let run = scratch.fetch(&hub.url, FETCH_VAE);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(store.seen()[0].start(), Some(7777));
        assert_eq!(fs::read(scratch.blob(&whole)).unwrap(), whole);
    }
}

#[test]
fn damage_is_found_and_removed() {
    let scratch = Scratch::new();
    let (hub, _store) = hub(|request, _| {
        let mut body = checkpoint();
        body[12_345] ^= 1;
        Reply::file(request, &body)
    });
    let run = scratch.fetch(&hub.url, FETCH_VAE);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.err.contains("checksum") && run.err.contains("download it again"),
        "{}",
        run.err
    );
    assert!(!scratch.blob(&checkpoint()).exists() && !scratch.incomplete(&checkpoint()).exists());
}

#[test]
fn a_busy_server_is_given_its_pause() {
    let scratch = Scratch::new();
    let (hub, store) = hub(|request, before| match before {
        0 => Reply::new(429).with("Retry-After", "2"),
        1 => Reply::new(503).with("Retry-After", "0"),
        _ => Reply::file(request, &checkpoint()),
    });
    let begun = std::time::Instant::now();
    let run = scratch.fetch(&hub.url, FETCH_VAE);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(2 <= begun.elapsed().as_secs(), "{:?}", begun.elapsed());
    assert!(run.err.contains("429"), "{}", run.err);
    assert_eq!(store.seen().len(), 3);
}

#[test]
fn closed_doors_say_how_to_get_in() {
    let scratch = Scratch::new();
    let hub = Server::start(|_, _| Reply::new(401));
    let run = scratch.fetch_with(&hub.url, FETCH_VAE, &[("HF_TOKEN", "")]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.err.contains("set HF_TOKEN") && run.err.contains("accept its terms"),
        "{}",
        run.err
    );
    assert_eq!(hub.seen().len(), 1);
    assert!(!hub.seen()[0].headers.contains_key("authorization"));
    let run = scratch.fetch(&hub.url, FETCH_VAE);
    assert!(
        run.err.contains("check HF_TOKEN") && !run.err.contains("secret"),
        "{}",
        run.err
    );
    let gone = Server::start(|_, _| Reply::new(404));
    let run = scratch.fetch(&gone.url, FETCH_VAE);
    assert!(run.err.contains("Wan2.1_VAE.pth"), "{}", run.err);
    assert_eq!(run.code, Some(1));
}

#[test]
fn a_silent_server_is_named_with_what_to_check() {
    let run = Scratch::new().fetch("http://127.0.0.1:9", FETCH_VAE);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.err.contains("Wan2.1_VAE.pth") && run.err.contains("HF_ENDPOINT"),
        "{}",
        run.err
    );
}

#[test]
fn a_token_may_also_lie_in_a_file() {
    let scratch = Scratch::new();
    fs::write(scratch.path("token"), "from-a-file\n").unwrap();
    let hub = Server::start(|_, _| Reply::new(404));
    scratch.fetch_with(&hub.url, FETCH_VAE, &[("HF_TOKEN", "")]);
    assert_eq!(hub.seen()[0].headers["authorization"], "Bearer from-a-file");
}

#[test]
fn names_from_the_server_do_not_leave_the_cache() {
    for (commit, etag) in [("../../../up", "ab"), (COMMIT, "../../up")] {
        let scratch = Scratch::new();
        let hub = Server::start(move |_, _| {
            Reply::new(302)
                .with("X-Repo-Commit", commit)
                .with("X-Linked-Etag", etag)
                .with("X-Linked-Size", "4")
                .with("Location", "/x")
        });
        let run = scratch.fetch(&hub.url, FETCH_VAE);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.err.contains("HF_ENDPOINT"), "{}", run.err);
        assert!(!scratch.path("hub").exists());
    }
    let circle = Server::start(|_, _| Reply::new(302).with("Location", "/x"));
    let run = Scratch::new().fetch(&circle.url, FETCH_VAE);
    assert!(run.err.contains("in circles"), "{}", run.err);
}

#[test]
fn without_symbolic_links_the_file_itself_is_there() {
    let scratch = Scratch::new();
    let (hub, _store) = hub(|request, _| Reply::file(request, &checkpoint()));
    let run = scratch.fetch_with(&hub.url, FETCH_VAE, &[("HF_HUB_DISABLE_SYMLINKS", "1")]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let path = Path::new(run.out.trim());
    assert!(path.symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read(path).unwrap(), checkpoint());
}

#[test]
fn one_program_at_a_time_downloads_a_file() {
    let scratch = Scratch::new();
    let (hub, store) = hub(|request, _| Reply::file(request, &checkpoint()));
    let locks = scratch.path("hub/.locks/models--Wan-AI--Wan2.1-T2V-1.3B");
    fs::create_dir_all(&locks).unwrap();
    let lock = File::create(locks.join(format!("{}.lock", sha256(&checkpoint())))).unwrap();
    lock.lock().unwrap();
    let run = scratch.fetch(&hub.url, FETCH_VAE);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("another program"), "{}", run.err);
    assert!(store.seen().is_empty());
}

#[test]
fn what_the_disk_has_no_room_for_is_refused_before_the_first_byte() {
    let scratch = Scratch::new();
    let store = Server::start(|request, _| Reply::file(request, &checkpoint()));
    let at = format!("{}/vae", store.url);
    let hub = Server::start(move |_, _| {
        Reply::new(302)
            .with("X-Repo-Commit", COMMIT)
            .with("X-Linked-Etag", format!("\"{}\"", sha256(&checkpoint())))
            .with("X-Linked-Size", (1u64 << 60).to_string())
            .with("Location", &at)
    });
    let run = scratch.fetch(&hub.url, FETCH_VAE);
    if cfg!(unix) {
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(
            run.err.contains("are free") && run.err.contains("HF_HOME"),
            "{}",
            run.err
        );
        assert!(store.seen().is_empty() && !scratch.path(REPO).exists());
    }
}

#[test]
fn a_file_of_one_commit_is_held_to_its_own_checksum() {
    let scratch = Scratch::new();
    // As long as the true one, and asked for at the commit that this version knows.
    let other = vec![7; 22_642_902];
    let hub = Server::start(
        move |request, _| match request.path.contains("/raw/main/") {
            true => Reply::new(404),
            false => Reply::file(request, &other),
        },
    );
    let run = scratch.fetch(&hub.url, "fetch self-forcing --parts taehv --yes");
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.err
            .contains("04766eac0221b5390b985ae3fdcca652cbb4b1e8b82b28ea7ff89dfad1b1a93f"),
        "{}",
        run.err
    );
}

#[test]
fn a_replaced_file_without_a_checksum_is_refused() {
    let scratch = Scratch::new();
    let hub = Server::start(|request, _| Reply::file(request, b"something else"));
    let run = scratch.fetch(&hub.url, "fetch self-forcing --parts taehv --yes");
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("was replaced"), "{}", run.err);
}

#[test]
fn a_wrong_network_is_told_apart() {
    let scratch = Scratch::new();
    let hub = Server::start(
        |request, _| match request.path.replace(COMMIT, "main").as_str() {
            "/gdhe17/Self-Forcing/resolve/main/checkpoints/self_forcing_dmd.pt" => {
                large(&checkpoint(), "/store/generator")
            }
            _ => Reply::file(request, &checkpoint()),
        },
    );
    let run = scratch.fetch(&hub.url, "fetch self-forcing --parts generator --yes");
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(
        run.err.contains("UNCLEAR: Apache-2.0 or CC-BY-NC-SA-4.0"),
        "{}",
        run.err
    );
    assert!(run.err.contains("825 missing"), "{}", run.err);
}

#[test]
fn comfyuis_folders_count() {
    let scratch = Scratch::new();
    let vae = scratch.path("comfy/models/vae");
    fs::create_dir_all(&vae).unwrap();
    fs::write(vae.join("wan_2.1_vae.safetensors"), {
        let header = r#"{"conv2.bias":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}"#;
        [
            &(header.len() as u64).to_le_bytes(),
            header.as_bytes(),
            &[0, 0],
        ]
        .concat()
    })
    .unwrap();
    // Nobody listens there: a request would fail.
    let run = scratch.fetch(
        "http://127.0.0.1:9",
        &format!("{FETCH_VAE} --comfyui comfy"),
    );
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(
        run.out
            .trim()
            .ends_with("comfy/models/vae/wan_2.1_vae.safetensors"),
        "{}",
        run.out
    );
}

#[test]
fn models_lists_sizes_and_licences() {
    let scratch = Scratch::new();
    let run = scratch.fetch("http://127.0.0.1:9", "models");
    assert_eq!(run.code, Some(0), "{run:?}");
    let line = |name: &str| run.out.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(
        line("causvid-3step").contains("NON-COMMERCIAL"),
        "{}",
        run.out
    );
    assert!(line("self-forcing ").contains("UNCLEAR"), "{}", run.out);
    assert!(line("self-forcing ").contains("17.6 GB"), "{}", run.out);
    assert!(line("longlive ").contains("12, sink 3"), "{}", run.out);
    let json = scratch.fetch("http://127.0.0.1:9", "models --json");
    let told: Value = serde_json::from_str(&json.out).unwrap();
    let models = told["models"].as_array().unwrap();
    assert_eq!(models.len() + 2, run.out.lines().count());
    let pp = models
        .iter()
        .find(|m| m["name"] == "causal-forcing-pp-2step")
        .unwrap();
    assert_eq!(
        pp["first_chunk_steps"],
        serde_json::json!([1000, 750, 500, 250])
    );
    assert_eq!(pp["files"][0]["bytes"], 5_676_220_819_u64);
    assert!(pp["files"][0]["path"].is_null());
    let one = scratch.fetch("http://127.0.0.1:9", "models causvid-3step");
    assert!(
        one.out.contains("CC-BY-NC-SA-4.0") && one.out.contains("not here"),
        "{}",
        one.out
    );
    let none = scratch.fetch("http://127.0.0.1:9", "models sora");
    assert_eq!(none.code, Some(4), "{none:?}");
    assert!(none.err.contains("self-forcing, "), "{}", none.err);
}

#[test]
fn a_file_is_held_to_a_presets_network() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("folder")).unwrap();
    fs::write(scratch.path("folder/some.pt"), checkpoint()).unwrap();
    for path in ["folder", "folder/some.pt"] {
        let run = scratch.fetch(
            "http://127.0.0.1:9",
            &format!("models longlive --check {path}"),
        );
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(
            run.err.contains("825 missing") && run.err.contains("some.pt"),
            "{}",
            run.err
        );
    }
    fs::write(scratch.path("folder/more.pt"), checkpoint()).unwrap();
    let run = scratch.fetch("http://127.0.0.1:9", "models longlive --check folder");
    assert!(run.err.contains("name the file itself"), "{}", run.err);
}
