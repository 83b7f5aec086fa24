//! A mapping that hashes: refused without a key, and nothing leaves in the clear with one.

use super::{SpoiltPack, rowbridge, stderr, stdout};

const CANARY: &str = "canary@example.com";

fn hashing() -> SpoiltPack {
    let pack = SpoiltPack::new();
    pack.replace(
        "mapping.toml",
        "\"booking.contact_email\" = \"clear\"",
        "\"booking.contact_email\" = \"hash\"\n\"booking.total_amount\" = \"mask\"",
    );
    // What is protected does not leave in an event of other rows.
    pack.replace(
        "mapping.toml",
        "total_amount            = \"$.booking.row.total_amount\"",
        "total_amount            = { const = \"changed\" }",
    );
    pack
}

fn config(pack: &SpoiltPack, more: &str) -> String {
    let path = pack.file("rowbridge.toml");
    let text = format!(
        "pipeline = \"p\"\nmapping = \".\"\n[source.postgres]\nurl = \"postgres://rowbridge@127.0.0.1:1/db\"\n[sink.stdout]\n{more}"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A booking that goes out, and one that is set aside.
fn changes() -> Vec<u8> {
    let line = |pnr: &str, total: &str, currency: &str| {
        format!(
            r#"{{"op":"insert","table":"booking","after":{{"pnr":"{pnr}","status":"HELD","sales_channel":"web","contact_email":"{CANARY}","currency":{currency},"total_amount":"{total}","created_at":"2026-11-20T08:55:00Z","updated_at":"2026-11-20T08:55:00Z"}}}}"#
        )
    };
    let lines = [
        line("QX4RTZ", "4711.17", "\"GBP\""),
        line("QX4RTY", "4711.17", "null"),
    ];
    lines.join("\n").into_bytes()
}

#[test]
fn without_a_key_every_command_refuses_and_says_what_to_write() {
    let pack = hashing();
    let config = config(&pack, "");
    for arguments in [
        &["run", "-c", &config][..],
        &["check", "--offline", "-c", &config],
        &["dry-run", "-c", &config, "--mapping", pack.path()],
        &["dry-run", "-c", &config],
    ] {
        let output = rowbridge(arguments, &changes());
        let told = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        for part in [
            "the mapping hashes booking.contact_email, and no key is configured",
            "[privacy]\n",
            "hash_key_id = \"k1\"\n",
            "hash_key_file = \"hash.key\"\n",
        ] {
            assert!(told.contains(part), "{arguments:?}: {told}");
        }
    }
}

#[test]
fn with_a_key_nothing_is_printed_in_the_clear() {
    let pack = hashing();
    let secret = "0123456789abcdef0123456789abcdef-canary";
    std::fs::write(pack.file("hash.key"), format!("{secret}\n")).unwrap();
    let privacy = "[privacy]\nhash_key_id = \"k1\"\nhash_key_file = \"hash.key\"\n";
    let config = config(&pack, privacy);
    let output = rowbridge(&["check", "--offline", "-c", &config], b"");
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    for form in [&["--json", "--explain"][..], &["--explain"]] {
        let arguments = [&["dry-run", "-c", &config, "--mapping", pack.path()], form].concat();
        let output = rowbridge(&arguments, &changes());
        let told = stdout(&output) + &stderr(&output);
        assert!(told.contains("2 changes"), "{told}");
        assert!(told.contains("k1:"), "{told}");
        assert!(told.contains("*******"), "{told}");
        assert!(told.contains("quarantine"), "{told}");
        for canary in ["canary", "4711", secret] {
            assert!(!told.contains(canary), "{told}");
        }
    }
}

#[test]
fn a_key_that_is_none_is_refused_and_not_shown() {
    let pack = hashing();
    for (more, problem) in [
        (
            "hash_key_id = \"k1\"\nhash_key = \"canary-short\"",
            "needs at least 32",
        ),
        (
            "hash_key_id = \"k:1\"\nhash_key = \"canary-0123456789abcdef0123456789\"",
            "the key's id",
        ),
        ("hash_key_id = \"k1\"", "without a key"),
        ("hash_key = \"canary-short\"", "hash_key_id` is missing"),
        (
            "hash_key_id = \"k1\"\nhash_key = \"canary\"\nhash_key_file = \"x\"",
            "two keys",
        ),
        (
            "hash_key_id = \"k1\"\nhash_key_file = \"none.key\"",
            "none.key",
        ),
    ] {
        let config = config(&pack, &format!("[privacy]\n{more}\n"));
        let output = rowbridge(&["check", "--offline", "-c", &config], b"");
        let told = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(problem), "{problem}: {told}");
        assert!(!told.contains("canary"), "{told}");
    }
}
