//! What the fuzz targets start from and what they found, through the same functions.

#[allow(unreachable_pub, reason = "a library of its own there")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

/// Hands every file of a target's corpus to its function, which panics where a promise is broken.
#[expect(clippy::print_stdout, reason = "names the file that a panic is about")]
fn run(target: &str, one: fn(&[u8])) {
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the target has a corpus")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    assert!(files.len() > 5, "{folder} is nearly empty");
    for file in files {
        println!("{}", file.display());
        one(&std::fs::read(&file).expect("a file that can be read"));
    }
}

#[test]
fn pgoutput() {
    run("pgoutput", fuzz::pgoutput::one);
}

#[test]
fn text_values() {
    run("text_values", fuzz::text_values::one);
}

#[test]
fn mapping_files() {
    run("mapping_files", fuzz::mapping_files::one);
}

#[test]
fn expressions() {
    run("expressions", fuzz::expressions::one);
}

#[test]
fn change_json() {
    run("change_json", fuzz::change_json::one);
}

#[test]
fn debezium_json() {
    run("debezium_json", fuzz::debezium_json::one);
}
