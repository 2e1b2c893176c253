//! What the process may do, and what others may see of it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

/// Sets what has to hold before the first file is made. Everything but the
/// umask is best effort: a system that refuses it is no worse than before.
/// Returns the umask that was found, for the commands that people start.
pub fn harden() -> u32 {
    // Whatever the caller's umask was: what we make is ours alone (S05).
    let found = umask(Mode::S_IRWXG | Mode::S_IRWXO);
    // No core file with tokens in it, and no reading of our memory by others (S11).
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
    // Ten thousand subscribers need as many descriptors.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    #[allow(clippy::useless_conversion, reason = "a conversion on some systems only")]
    u32::from(found.bits())
}

/// Runs `make` so that what it makes is 0600 from its first moment, a socket
/// included, whose mode nothing but the umask sets. Directories that others
/// make meanwhile could not be entered, so this is for the start only.
pub fn with_private_files<T>(make: impl FnOnce() -> T) -> T {
    let usual = umask(Mode::S_IXUSR | Mode::S_IRWXG | Mode::S_IRWXO);
    let made = make();
    umask(usual);
    made
}

/// How many file descriptors this process may have now.
pub fn descriptors() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// Our own user.
pub fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}
