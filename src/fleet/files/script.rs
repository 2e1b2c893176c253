//! What a member's `sh` does for a transfer: nothing to install, all by standard
//! input, every name quoted.
//!
//! A script enters a folder with `cd -P` and compares where that led with where
//! it should have led. From then on the folder is a handle (`.`): swapped or
//! renamed, it stays the one that was checked. What arrives is put together in a
//! folder of ours outside the work folder, is hashed there, and `mv` renames it
//! into `.`, which replaces a link and never follows one.

use super::error::{TransferError, shown};
use super::plan::{OWN, Plan, PlannedFile};

/// Before every line of ours: a login shell may say anything.
const BEGIN: &str = "fleetd-files:";

/// Days after which the parts of a transfer that nobody went on with are removed.
const KEPT_DAYS: u32 = 7;

const HEAD: &str = r#"PATH="$PATH:/usr/bin:/bin:/usr/sbin:/sbin"
LC_ALL=C; export LC_ALL
say() { printf 'fleetd-files:%s\n' "$1"; }
die() { say "$1"; exit 0; }
root=/; enter() {
  want="${root%/}${1:+/$1}"; want="${want:-/}"
  cd -P -- "$want" 2>/dev/null && [ "$PWD" = "$want" ]
}
if [ -n "$fast" ] && openssl dgst -sha256 -r /dev/null >/dev/null 2>&1; then
  sums() { openssl dgst -sha256 -r "$@"; }
elif command -v sha256sum >/dev/null 2>&1; then sums() { sha256sum "$@"; }
else sums() { shasum -a 256 "$@"; }; fi
"#;

/// Files of one folder with the hashes they should have: put in their place
/// together, in one call.
#[derive(Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Number of the folder.
    dir: usize,
    pub files: Vec<(&'a PlannedFile, &'a str)>,
}

/// Calls of at most so many files: a command line holds them.
const CALL: usize = 100;

/// What has to be put in its place, call by call.
pub fn calls<'a>(files: impl Iterator<Item = (&'a PlannedFile, &'a str)>) -> Vec<Call<'a>> {
    let mut calls: Vec<Call<'a>> = Vec::new();
    for (file, hash) in files {
        let joins = |call: &&mut Call<'a>| {
            call.dir == file.dir
                && call.files.len() < CALL
                && !is_odd(&file.name)
                && !call.files.iter().any(|(other, _)| is_odd(&other.name))
        };
        match calls.last_mut().filter(joins) {
            Some(call) => call.files.push((file, hash)),
            None => calls.push(Call { dir: file.dir, files: vec![(file, hash)] }),
        }
    }
    calls
}

/// From here on `openssl` is worth its start: it uses the processor's own
/// instructions, and is four times as fast as the `sha256sum` of many systems.
const FAST: u64 = 16 * 1024 * 1024;

/// What every script begins with; `bytes` is what it will hash.
fn head(bytes: u64) -> String {
    format!("fast={}\n{HEAD}", if bytes >= FAST { "1" } else { "" })
}

/// One word of a shell, whatever is in it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Whether `sha256sum` writes this name as it is.
fn is_odd(name: &str) -> bool {
    name.contains('\\') || name.chars().any(char::is_control)
}

fn enter_root(root: &str) -> String {
    let root = quoted(root);
    format!("cd -P -- {root} 2>/dev/null || die missing=root\nroot=$PWD\n")
}

/// Finds the root, makes the stage of `key`, and removes old ones.
pub fn prepare(root: &str, key: &str) -> String {
    format!(
        r#"{head}{root}mask=$(umask); umask 077
stage="$HOME/.fleetd/incoming"
mkdir -p -- "$stage" || die "error=cannot make $stage"
place() {{ df -P -- "$1" | tail -n 1 | tr -s ' ' | cut -d ' ' -f 1,6; }}
if [ "$(place "$stage")" = "$(place "${{root:-/}}")" ]; then
  (cd -P -- "$stage" && find . ! -name . -prune -mtime +{KEPT_DAYS} -exec rm -rf -- {{}} +) 2>/dev/null
  stage="$stage/{key}"
else stage="${{root%/}}/{OWN}{key}"; fi
[ ! -h "$stage" ] && mkdir -p -- "$stage" || die "error=cannot make $stage"
say "root=$root"; say "stage=$stage"
"#,
        head = head(0),
        root = enter_root(root),
    )
}

/// Makes folders, and a folder of the stage for each; parents come first.
pub fn make_dirs(root: &str, stage: &str, dirs: &[(usize, &str)]) -> String {
    let mut script = format!(
        r#"{head}{root}
make() {{
  enter "$1" || die "outside=$1"
  [ -d "./$2" ] || mkdir -- "./$2" || die "error=cannot make the folder $2"
  enter "$1${{1:+/}}$2" || die "outside=$2"
}}
stage() {{ [ -d "$1" ] || (umask 077; mkdir -p -- "$1") || die "error=cannot make $1"; }}
"#,
        head = head(0),
        root = enter_root(root),
    );
    for (number, dir) in dirs {
        let (parent, name) = super::folder::split(dir);
        if !name.is_empty() {
            script.push_str(&format!("make {} {}\n", quoted(parent), quoted(name)));
        }
        script.push_str(&format!("stage {}\n", quoted(&format!("{stage}/{number}"))));
    }
    script.push_str("say done=1\n");
    script
}

/// Compares the hashes of what lies in the stage and puts it in its place. All
/// of a call, or none of it.
///
/// With the last of them the stage is removed.
pub fn place(root: &str, stage: &str, plan: &Plan, calls: &[Call<'_>], last: bool) -> String {
    let files = calls.iter().flat_map(|call| &call.files);
    let mut script = format!(
        r#"{head}{root}stage={stage}
place() {{
  i=$1 dir=$2 want=$3; shift 3
  cd -P -- "$stage/$i" 2>/dev/null || die "error=the files are gone from $stage"
  got=$(sum "$@") || die "error=cannot compute hashes"
  [ "$got" = "$want" ] || {{ say mismatch=1; for sum in $got; do say "sum=$sum"; done; exit 0; }}
  enter "$dir" || die "outside=$dir"
  for n do if [ -d "./$n" ] && [ ! -h "./$n" ]; then die "error=$n is a folder there"; fi; done
  for n do set -- "$@" "$stage/$i/$n"; shift; done
  mv -f -- "$@" ./ || die "error=cannot put it in its place"
  say placed=1
}}
"#,
        head = head(files.map(|(file, _)| file.bytes).sum()),
        root = enter_root(root),
        stage = quoted(stage),
    );
    for call in calls {
        let dir = plan.dirs.get(call.dir).map_or("", String::as_str);
        let (sum, names) = summed(call.files.iter().map(|(file, _)| file.name.as_str()));
        let want: Vec<_> = call.files.iter().map(|(_, hash)| *hash).collect();
        let (dir, want) = (quoted(dir), quoted(&want.join("\n")));
        script.push_str(&format!("{sum}place {} {dir} {want}{names}\n", call.dir));
    }
    if last {
        script.push_str("cd / && rm -rf -- \"$stage\"\n");
    }
    script.push_str("say done=1\n");
    script
}

/// A definition of `sum` that prints one hash a line, and the names as arguments.
fn summed<'a>(names: impl Iterator<Item = &'a str>) -> (&'static str, String) {
    let names: Vec<_> = names.collect();
    let odd = names.iter().any(|name| is_odd(name));
    let sum = if odd {
        "sum() { sums <\"./$1\" | cut -c 1-64; }\n"
    } else {
        "sum() { for n do set -- \"$@\" \"./$n\"; shift; done; sums \"$@\" | cut -c 1-64; }\n"
    };
    (sum, names.iter().map(|name| format!(" {}", quoted(name))).collect())
}

/// The hashes of files below the root, one line each.
pub fn hashes(root: &str, files: &[&PlannedFile]) -> String {
    let mut script = format!(
        r#"{head}{root}
hash() {{
  enter "$1" || die "outside=$1"; shift
  for n do [ ! -h "./$n" ] && [ -f "./$n" ] || die "changed=$n"; done
  got=$(sum "$@") || die "error=cannot compute hashes"
  for sum in $got; do say "sum=$sum"; done
}}
"#,
        head = head(files.iter().map(|file| file.bytes).sum()),
        root = enter_root(root),
    );
    let mut rest = files;
    while let Some(first) = rest.first() {
        let (dir, name) = super::folder::split(&first.from);
        let alike = |file: &&&PlannedFile| {
            let (of, other) = super::folder::split(&file.from);
            of == dir && !is_odd(other)
        };
        let count = if is_odd(name) { 1 } else { rest.iter().take_while(alike).count() };
        let (group, after) = rest.split_at(count.max(1));
        let names = group.iter().map(|file| super::folder::split(&file.from).1);
        let (sum, names) = summed(names);
        script.push_str(&format!("{sum}hash {}{names}\n", quoted(dir)));
        rest = after;
    }
    script.push_str("say done=1\n");
    script
}

/// The hash of the first `bytes` bytes of one file.
pub fn prefix(path: &str, bytes: u64) -> String {
    let (head, path) = (head(bytes), quoted(path));
    format!(
        "{head}sum=$(head -c {bytes} <{path} | sums | cut -c 1-64)\nsay \"sum=$sum\"\nsay done=1\n"
    )
}

/// Removes a stage.
pub fn clear(stage: &str) -> String {
    format!("{}rm -rf -- {}\nsay done=1\n", head(0), quoted(stage))
}

/// What a script said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub root: Option<String>,
    pub stage: Option<String>,
    pub sums: Vec<String>,
    /// Calls of [`place`] that came to their end.
    pub placed: usize,
    /// The hashes of the next one are `sums`, and not what they should be.
    pub mismatch: bool,
}

/// Reads it. Foreign text.
///
/// # Errors
/// What the script itself complained of; [`TransferError::Shell`] if it did not
/// come to its end.
pub fn read(stdout: &[u8]) -> Result<Said, TransferError> {
    let mut said = Said::default();
    let mut ended = false;
    for line in String::from_utf8_lossy(stdout).lines() {
        let Some((word, value)) = line.strip_prefix(BEGIN).and_then(|line| line.split_once('='))
        else {
            continue;
        };
        match word {
            "root" => said.root = Some(value.to_owned()),
            "stage" => {
                said.stage = Some(value.to_owned());
                ended = true;
            }
            "sum" if value.len() == 64 => said.sums.push(value.to_owned()),
            "mismatch" => {
                said.mismatch = true;
                ended = true;
            }
            "placed" => said.placed += 1,
            "done" => ended = true,
            "missing" => {
                return Err(TransferError::NotFound(String::from("the member's work folder")));
            }
            "outside" => return Err(TransferError::Outside(shown(value))),
            "changed" => return Err(TransferError::Changed(shown(value))),
            "error" => return Err(TransferError::Shell(shown(value))),
            _ => {}
        }
    }
    if ended { Ok(said) } else { Err(TransferError::Shell(String::from("it gave no answer"))) }
}
