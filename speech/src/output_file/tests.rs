//! What is replaced, what is written into, and what is refused before anything is written.

use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::*;

fn holds(text: &'static str) -> impl Fn(&mut dyn Write) -> io::Result<()> {
    move |out| out.write_all(text.as_bytes())
}

fn fails(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"half")?;
    Err(ErrorKind::StorageFull.into())
}

/// The names in a folder, sorted; hidden ones too.
fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_file_is_replaced_whole_and_keeps_its_permissions() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a");
    write(&path, &holds("first")).unwrap();
    let fresh = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_ne!(fresh, 0o600, "a new file is one that others may read");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    write(&path, &holds("second")).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "second");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    let error = write(&path, &fails).unwrap_err();
    assert_eq!(error.class(), Class::Infrastructure);
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot write {}: ", path.display())),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "second");
    assert_eq!(names(&folder), ["a"]);
}

#[test]
fn a_symbolic_link_stays_and_its_file_is_written() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("far")).unwrap();
    fs::write(at("far/real"), "old").unwrap();
    symlink("far/real", at("near")).unwrap();
    symlink("near", at("link")).unwrap();
    symlink("far/absent", at("dangling")).unwrap();
    for (link, real) in [("link", "far/real"), ("dangling", "far/absent")] {
        write(&at(link), &holds("new")).unwrap();
        assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink());
        assert!(fs::symlink_metadata(at(real)).unwrap().is_file());
        assert_eq!(fs::read_to_string(at(real)).unwrap(), "new");
    }
    symlink("round", at("round")).unwrap();
    assert!(write(&at("round"), &holds("new")).is_err());
}

#[test]
fn a_pipe_and_a_device_are_written_into() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pipe");
    pipe(&path);
    let reader = {
        let path = path.clone();
        thread::spawn(move || fs::read_to_string(path).unwrap())
    };
    write(&path, &holds("through")).unwrap();
    assert_eq!(reader.join().unwrap(), "through");
    assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
    // Any number of outputs may be thrown away.
    let null = Path::new("/dev/null");
    let planned = OutputFiles::plan([null, null], []).unwrap();
    planned.write(&[&holds("a"), &holds("b")]).unwrap();
    assert!(
        fs::metadata(null).unwrap().file_type().is_char_device(),
        "the device is still one"
    );
    assert!(!planned.on_standard_output());
    let stdout = OutputFiles::plan([Path::new("/dev/stdout")], []).unwrap();
    assert!(stdout.on_standard_output());
}

#[test]
fn what_cannot_be_an_output_is_named_before_anything_is_written() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("there"), "old").unwrap();
    symlink("there", at("link")).unwrap();
    fs::hard_link(at("there"), at("twin")).unwrap();
    pipe(&at("pipe"));
    let told = |paths: &[&str], inputs: &[&str]| {
        let paths: Vec<PathBuf> = paths.iter().map(|name| at(name)).collect();
        let inputs: Vec<PathBuf> = inputs.iter().map(|name| at(name)).collect();
        let planned = OutputFiles::plan(
            paths.iter().map(PathBuf::as_path),
            inputs.iter().map(PathBuf::as_path),
        );
        let error = planned.unwrap_err();
        assert_eq!(error.class(), Class::Usage, "{error}");
        let root = format!("{}/", folder.path().display());
        error.to_string().replace(&root, "")
    };
    for second in ["new", "./new", "folder/../new"] {
        assert_eq!(
            told(&["new", second], &[]),
            format!(
                "two outputs would be written to one file: new and {second}; give each a file of its own"
            )
        );
    }
    for (first, second) in [
        ("there", "there"),
        ("there", "link"),
        ("link", "there"),
        ("there", "twin"),
        ("pipe", "pipe"),
    ] {
        assert!(told(&["new", first, second], &[]).starts_with("two outputs"));
    }
    assert_eq!(
        told(&["new", "folder"], &[]),
        "folder is a folder: name a file in it"
    );
    assert_eq!(told(&["new/"], &[]), "new/ is a folder: name a file in it");
    assert_eq!(
        told(&["no/such/file"], &[]),
        "cannot write no/such/file: there is no folder no/such: make it first"
    );
    assert!(told(&["there/file"], &[]).starts_with("cannot write there/file: "));
    for input in ["there", "link", "twin"] {
        assert_eq!(
            told(&["new", "there"], &["absent", input]),
            "there is read by this command and would be overwritten: name another output"
        );
    }
    assert_eq!(names(&folder), ["folder", "link", "pipe", "there", "twin"]);
    assert_eq!(fs::read_to_string(at("there")).unwrap(), "old");
}

#[test]
fn several_files_appear_together_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("old"), "before").unwrap();
    let planned = OutputFiles::plan([at("old").as_path(), &at("new"), &at("last")], []).unwrap();
    assert!(planned.write(&[&holds("1"), &holds("2"), &fails]).is_err());
    assert_eq!(names(&folder), ["old"]);
    assert_eq!(fs::read_to_string(at("old")).unwrap(), "before");
    // What comes into the way after all was looked at.
    fs::create_dir(at("last")).unwrap();
    let error = planned
        .write(&[&holds("1"), &holds("2"), &holds("3")])
        .unwrap_err();
    assert!(error.to_string().contains("last"), "{error}");
    assert_eq!(names(&folder), ["last", "old"]);
    assert_eq!(fs::read_to_string(at("old")).unwrap(), "before");
    fs::remove_dir(at("last")).unwrap();
    planned
        .write(&[&holds("1"), &holds("2"), &holds("3")])
        .unwrap();
    assert_eq!(names(&folder), ["last", "new", "old"]);
    assert_eq!(fs::read_to_string(at("old")).unwrap(), "1");
}
